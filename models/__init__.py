"""The zoo: models of sequences (`SequenceModel`), and `BidirectionalRNN` and `Tagger`, which are laws of labels."""

from pgm_rnn.emissions import Bernoulli, Categorical, FullGaussian, Gaussian, Joint, NadeBits, Pen, Poisson
from pgm_rnn.models.autoregressive_hmm import AutoregressiveHMM
from pgm_rnn.models.belief_rnn import BeliefRNN
from pgm_rnn.models.bidirectional_rnn import BidirectionalRNN
from pgm_rnn.models.deep_markov import DeepMarkovModel
from pgm_rnn.models.factorial_hmm import FactorialHMM
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.hsmm import HSMM
from pgm_rnn.models.input_hmm import InputHMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.markov_chain import MarkovChain
from pgm_rnn.models.multi_particle_rnn import MultiParticleRNN
from pgm_rnn.models.noisy_rnn import NoisyRNN
from pgm_rnn.models.particle_filter_rnn import ParticleFilterRNN
from pgm_rnn.models.recurrent_hmm import RecurrentHMM
from pgm_rnn.models.rnn import RNN
from pgm_rnn.models.stochastic_volatility import StochasticVolatility
from pgm_rnn.models.structural import StructuralSSM
from pgm_rnn.models.switching_linear import SwitchingLinearSSM
from pgm_rnn.models.switching_mean_ar import SwitchingMeanAR
from pgm_rnn.models.tagger import Tagger
from pgm_rnn.models.vrnn import VRNN

__all__ = [
    "HMM",
    "HSMM",
    "RNN",
    "VRNN",
    "AutoregressiveHMM",
    "BeliefRNN",
    "Bernoulli",
    "BidirectionalRNN",
    "Categorical",
    "DeepMarkovModel",
    "FactorialHMM",
    "FullGaussian",
    "Gaussian",
    "InputHMM",
    "Joint",
    "LinearGaussianSSM",
    "MarkovChain",
    "MultiParticleRNN",
    "NadeBits",
    "NoisyRNN",
    "ParticleFilterRNN",
    "Pen",
    "Poisson",
    "RecurrentHMM",
    "StochasticVolatility",
    "StructuralSSM",
    "SwitchingLinearSSM",
    "SwitchingMeanAR",
    "Tagger",
]
