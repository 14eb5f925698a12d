"""Estimators in the style of scikit-learn, which the extra `sklearn` installs."""

from pgm_rnn.adapters.hmm import HMMEstimator
from pgm_rnn.adapters.linear_gaussian import LinearGaussianEstimator

__all__ = ["HMMEstimator", "LinearGaussianEstimator"]
