"""Laws as Pyro distributions: of whole sequences, of states, and of parameters, for priors.

    DiscreteHMM, GaussianHMM     replacements for the classes of the same names in `pyro.distributions`, hidden states
                                 summed out by the compiled recursions
    InverseWishart               a covariance matrix, which NUTS and automatic guides can move in
    ProductOfCategoricals        independent finite states as one number, for models of several chains
    Ordered                      increasing means or rates, so that states keep their labels
    RegimeNormal                 a regime and a normal vector whose law depends on it: the states of switching models
    StickyDirichlet              transition probabilities that favour staying

Time convention: the initial law is the law of z_1, the state of the first observation. In Pyro's classes it is the law
of the state one step earlier; with `initial_step=0` our classes take Pyro's parameters unchanged. Both then go through
`pyro.infer.reparam`, `pyro.contrib.timeseries` and `pyro.contrib.forecast`; a subclass stays one in every method.
"""

from typing import Any

from pgm_rnn import moved
from pgm_rnn.distributions import pyro_forecast  # noqa: F401  (tells Pyro of the laws)
from pgm_rnn.distributions.discrete_hmm import DiscreteHMM
from pgm_rnn.distributions.gaussian_hmm import GaussianHMM
from pgm_rnn.distributions.inverse_wishart import InverseWishart
from pgm_rnn.distributions.ordered import Ordered
from pgm_rnn.distributions.product_of_categoricals import ProductOfCategoricals
from pgm_rnn.distributions.regime_normal import RegimeNormal
from pgm_rnn.distributions.sticky_dirichlet import StickyDirichlet

__all__ = [
    "DiscreteHMM",
    "GaussianHMM",
    "InverseWishart",
    "Ordered",
    "ProductOfCategoricals",
    "RegimeNormal",
    "StickyDirichlet",
]


def __getattr__(name: str) -> Any:
    """Finds a law of 0.1.0 that has moved."""
    return moved.moved_name(__name__, name)
