"""Families of observation laws p(x_t | parameters), from which a model's emission is made.

A family knows the shape of one observation, how many unconstrained numbers pick one member, and which observations are
valid. A network gets its parameters from a hidden vector, a model with finite states from a table:

    p(x_t | h_t) = family.head(width)(h_t)                  RNN(emission=Bernoulli(88))
    p(x_t | z_t = k) = family.distribution(params[k])       HMM(..., emission=Gaussian(2).table(loc=..., scale=...))

Sizes are None for a scalar observation (event shape ()) or a number n for a vector (event shape (n,)).
"""

from pgm_rnn.emissions.beta import Beta
from pgm_rnn.emissions.entries import Bernoulli, Gaussian, Poisson
from pgm_rnn.emissions.family import Emission, EmissionHead, EmissionTable
from pgm_rnn.emissions.full_gaussian import FullGaussian
from pgm_rnn.emissions.gamma import Gamma
from pgm_rnn.emissions.joint import Joint
from pgm_rnn.emissions.mixture import Mixture
from pgm_rnn.emissions.nade import NadeBits
from pgm_rnn.emissions.negative_binomial import NegativeBinomial
from pgm_rnn.emissions.pen import Pen
from pgm_rnn.emissions.spherical import SphericalGaussian
from pgm_rnn.emissions.student_t import StudentT
from pgm_rnn.emissions.symbols import Categorical, chosen_family
from pgm_rnn.emissions.tied import Tied
from pgm_rnn.emissions.von_mises import VonMises
from pgm_rnn.emissions.zero_inflated import ZeroInflated

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "Emission",
    "EmissionHead",
    "EmissionTable",
    "FullGaussian",
    "Gamma",
    "Gaussian",
    "Joint",
    "Mixture",
    "NadeBits",
    "NegativeBinomial",
    "Pen",
    "Poisson",
    "SphericalGaussian",
    "StudentT",
    "Tied",
    "VonMises",
    "ZeroInflated",
    "chosen_family",
]
