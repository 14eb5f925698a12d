"""Estimators in the style of scikit-learn, which the extra `sklearn` installs."""

from importlib.util import find_spec

if find_spec("sklearn") is None:
    raise ModuleNotFoundError("expected scikit-learn for pgm_rnn.adapters, got none; pip install 'pgm-rnn[sklearn]'")

from pgm_rnn.adapters.hmm import HMMEstimator
from pgm_rnn.adapters.linear_gaussian import LinearGaussianEstimator

__all__ = ["HMMEstimator", "LinearGaussianEstimator"]
