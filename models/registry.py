"""The one list of the models; contract tests and the command line walk it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pgm_rnn.checks import check_choice
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, FullGaussian, Gaussian, NadeBits, Pen, Poisson
from pgm_rnn.models.belief_rnn import BeliefRNN
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.deep_markov import DeepMarkovModel
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.markov_chain import MarkovChain
from pgm_rnn.models.multi_particle_rnn import MultiParticleRNN
from pgm_rnn.models.noisy_rnn import NoisyRNN
from pgm_rnn.models.particle_filter_rnn import ParticleFilterRNN
from pgm_rnn.models.rnn import RNN
from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel

LAW_OF_A_STATE: tuple[type[Emission], ...] = (Categorical, Bernoulli, Gaussian, FullGaussian, Poisson, Pen)
"""Families whose laws stand on their own, one for each state of a model if it likes."""
ANY_LAW: tuple[type[Emission], ...] = (*LAW_OF_A_STATE, NadeBits)
"""Families that a network takes, by `Emission.head`."""


@dataclass(frozen=True)
class ModelInfo:
    """An entry of the zoo.

    Attributes:
        name: what `get_model` calls it.
        make: its maker, called with sizes and options by keyword.
        memory: what h is, or "-".
        latent: what z is, or "-".
        source: the paper's object.
        smallest: options for an instance to look at.
        families: the families of observations that it takes; vectors only, where it takes one family only.
    """

    name: str
    make: Callable[..., SequenceModel]
    memory: str
    latent: str
    source: str
    smallest: Mapping[str, object]
    families: tuple[type[Emission], ...] = LAW_OF_A_STATE


def _rnn(cell: str) -> Callable[..., SequenceModel]:
    return lambda **options: RNN(cell=cell, **options)


_RNN_SOURCE = "Choe et al. sec. 3.1, fig. 3; Sohl-Dickstein & Kingma sec. 1"

_MODELS = {
    info.name: info
    for info in (
        *(
            ModelInfo(f"rnn-{cell}", _rnn(cell), "the hidden state", "-", _RNN_SOURCE, {"num_symbols": 2}, ANY_LAW)
            for cell in CELLS
        ),
        ModelInfo(
            "markov-chain",
            MarkovChain.random,
            "the observation before",
            "-",
            "Vidal, taxonomy",
            {"num_symbols": 2},
            (Categorical, Bernoulli),
        ),
        ModelInfo(
            "hmm",
            HMM.random,
            "-",
            "discrete, enumerated",
            "Choe et al. sec. 2.2, 3.2",
            {"num_states": 2, "num_symbols": 2},
        ),
        ModelInfo(
            "belief-rnn",
            BeliefRNN.random,
            "the HMM's belief state",
            "-",
            "Choe et al., Proposition 6",
            {"num_states": 2, "num_symbols": 2},
        ),
        ModelInfo(
            "particle-filter-rnn",
            ParticleFilterRNN.random,
            "the particles of an HMM's filter",
            "-",
            "Choe et al. sec. 3.3, fig. 4",
            {"num_states": 2, "num_symbols": 2, "num_particles": 10},
        ),
        ModelInfo(
            "multi-particle-rnn",
            MultiParticleRNN,
            "L hidden states and their weights",
            "-",
            "Sohl-Dickstein & Kingma sec. 3.1, app. A",
            {"num_symbols": 2, "num_particles": 2},
        ),
        ModelInfo(
            "lgssm",
            LinearGaussianSSM.random,
            "-",
            "Gaussian, linear",
            "Choe et al. sec. 2.2; Vidal, LDS",
            {"latent_dim": 1, "obs_dim": 1},
            (Gaussian,),
        ),
        ModelInfo(
            "dmm",
            DeepMarkovModel,
            "-",
            "Gaussian, gated transition",
            "Krishnan et al. (2017)",
            {"obs_dim": 2, "latent_dim": 1, "hidden_dim": 4},
            ANY_LAW,
        ),
        ModelInfo(
            "vrnn",
            VRNN,
            "the hidden state",
            "Gaussian, prior from h",
            "the VRNN note, sec. 3; Chung et al. (2015)",
            {"obs_dim": 2, "latent_dim": 1, "hidden_dim": 4},
            ANY_LAW,
        ),
        ModelInfo(
            "noisy-rnn",
            NoisyRNN.random,
            "-",
            "Gaussian, nonlinear",
            "Vidal, EKF for RNNs; Sohl-Dickstein & Kingma sec. 2.3",
            {"latent_dim": 1, "obs_dim": 1},
            (Gaussian,),
        ),
    )
}


def list_models(contains: str = "") -> list[str]:
    """Names of the models whose name contains a string."""
    return [name for name in _MODELS if contains in name]


def model_info(name: str) -> ModelInfo:
    """What the zoo knows of a model.

    Raises:
        ValueError: an unknown name; the closest one is suggested.
    """
    check_choice("model", name, _MODELS)
    return _MODELS[name]


def get_model(name: str, *, seed: int | None = None, **options: object) -> SequenceModel:
    """A fresh model of the zoo, for example `get_model("rnn-lstm", num_symbols=3)`.

    Args:
        name: one of `list_models()`.
        seed: makes its initial parameters reproducible; None uses torch's global generator.
        options: what the model's class takes; an unknown one is a TypeError.

    Raises:
        ValueError: an unknown name, or options that the model refuses.
    """
    with seeded(seed):
        return model_info(name).make(**options)
