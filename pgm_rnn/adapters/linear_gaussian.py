"""A linear-Gaussian state-space model as an estimator in the style of scikit-learn."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from pgm_rnn.adapters.estimator import Floats, SequenceEstimator, rows_of
from pgm_rnn.checks import check_counts
from pgm_rnn.inference import em, kalman
from pgm_rnn.models.linear_start import linear_start
from pgm_rnn.sequences import Sequences


class LinearGaussianEstimator(SequenceEstimator):
    """A linear-Gaussian state-space model, fitted by EM; predictions are means of the states.

    There is no `predict_proba`: the states are vectors, whose law `predict_covariances` completes. If there are no more
    sequences than dimensions, p(z_1) stays at its start, which is the law of the states over all steps.

    Args:
        latent_dim: D, number of entries of the state.
        num_iterations: largest number of iterations of EM.
        tolerance: stop when an iteration gains less than this, in nats per step.
        random_state: seed or generator of `sample`; the fit is deterministic.

    Example:
        >>> import numpy as np
        >>> from pgm_rnn.adapters import LinearGaussianEstimator
        >>> X = np.random.default_rng(0).normal(size=(50, 2)).cumsum(0)
        >>> LinearGaussianEstimator(latent_dim=1, num_iterations=5).fit(X).predict(X).shape
        (50, 1)
    """

    min_samples = 2

    def __init__(
        self,
        latent_dim: int = 1,
        *,
        num_iterations: int = 100,
        tolerance: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.num_iterations = num_iterations
        self.tolerance = tolerance
        self.random_state = random_state

    def predict(self, X: ArrayLike, lengths: Sequence[int] | None = None) -> Floats:
        """Smoothed means E[z_t | x_{1:T}] of the states, (n_samples, D).

        Args:
            X: as for `fit`.
            lengths: as for `fit`.

        Raises:
            NotFittedError: before `fit`.
            ValueError: observations or lengths that do not fit.
        """
        data = self._given(X, lengths)
        return rows_of(kalman.smooth(self.model_, data).smoothed_means, data.lengths)

    def predict_covariances(self, X: ArrayLike, lengths: Sequence[int] | None = None) -> Floats:
        """Smoothed covariances Cov[z_t | x_{1:T}] of the states, (n_samples, D, D).

        Args:
            X: as for `fit`.
            lengths: as for `fit`.

        Raises:
            NotFittedError, ValueError: as `predict`.
        """
        data = self._given(X, lengths)
        return rows_of(kalman.smooth(self.model_, data).smoothed_covs, data.lengths)

    def num_free_parameters(self) -> int:
        """Number of entries that were fitted, where a covariance counts its lower triangle.

        Changes of basis of z leave the likelihood as it is; the count does not deduct them.

        Raises:
            NotFittedError: before `fit`.
        """
        check_is_fitted(self)
        states, outputs = self.model_.latent_dim, self.n_features_in_
        first = 0 if self.keeps_initial_ else states + _triangle(states)
        return first + states**2 + _triangle(states) + outputs * states + _triangle(outputs)

    def _fitted(self, data: Sequences, seed: int) -> em.EmFit:
        check_counts(latent_dim=self.latent_dim)
        start = linear_start(data.x, data.lengths, latent_dim=self.latent_dim)
        self.keeps_initial_ = len(data.lengths) <= self.latent_dim
        return em.fit(
            start,
            data,
            num_iterations=self.num_iterations,
            tolerance=self.tolerance,
            frozen=("initial_mean", "initial_cov") if self.keeps_initial_ else (),
            progress=False,
        )


def _triangle(size: int) -> int:
    return size * (size + 1) // 2
