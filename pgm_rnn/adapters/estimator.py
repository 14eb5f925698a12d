"""What the estimators share: rows of sequences in and out, and scores.

X holds the steps of all sequences one after another, (n_samples, n_features), NaN where a number is missing, and
`lengths` the number of steps of each sequence, as in hmmlearn; without lengths, X is one sequence.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from pgm_rnn.inference import em
from pgm_rnn.sequence_model.criteria import aic, bic
from pgm_rnn.sequences import Sequences, pad

Floats = NDArray[np.float64]

EXPECTED_FAILED_CHECKS = {
    "check_methods_sample_order_invariance": "rows are the steps of sequences, whose order matters",
    "check_methods_subset_invariance": "the states of a step depend on the steps before and after it",
}
"""The checks of `sklearn.utils.estimator_checks.check_estimator` that do not apply to sequences, with the reasons."""


class SequenceEstimator(DensityMixin, BaseEstimator, ABC):
    """A model of sequences with scikit-learn's verbs; a subclass says how it is made and fitted.

    Attributes:
        min_samples: the smallest number of rows that `fit` takes.
    """

    min_samples = 1
    random_state: Any
    model_: Any

    def fit(self, X: ArrayLike, y: object = None, lengths: Sequence[int] | None = None) -> Self:
        """Fit the model by EM.

        Args:
            X: steps of all sequences, (n_samples, n_features), NaN where a number is missing.
            y: ignored.
            lengths: number of steps of each sequence; None for one sequence.

        Returns:
            The estimator itself, with attributes `model_`, `num_iterations_`, `converged_` and `n_features_in_`.

        Raises:
            ValueError: observations or lengths that do not fit, or parameters out of range.
        """
        checks = {"dtype": np.float64, "ensure_all_finite": "allow-nan", "ensure_min_samples": self.min_samples}
        rows = validate_data(self, X, **checks)
        data = self._sequences(rows, lengths)
        found = self._fitted(data, int(check_random_state(self.random_state).randint(2**31 - 1)))
        self.model_ = found.model
        self.num_iterations_ = found.num_iterations
        self.converged_ = found.stopped_by == "tolerance"
        return self

    def score(self, X: ArrayLike, y: object = None, lengths: Sequence[int] | None = None) -> float:
        """The log likelihood log p(X), summed over sequences, in nats.

        Args:
            X: as for `fit`.
            y: ignored.
            lengths: as for `fit`.

        Raises:
            NotFittedError: before `fit`.
            ValueError: observations or lengths that do not fit.
        """
        data = self._given(X, lengths)
        with torch.no_grad():
            return float(self.model_.log_marginal_likelihood(data).sum())

    def aic(self, X: ArrayLike, lengths: Sequence[int] | None = None) -> float:
        """Akaike's information criterion, 2 k - 2 log p(X) for k free parameters; lower is better.

        Args:
            X: as for `fit`.
            lengths: as for `fit`.

        Raises:
            NotFittedError, ValueError: as `score`.
        """
        return aic(-self.score(X, lengths=lengths), self.num_free_parameters())

    def bic(self, X: ArrayLike, lengths: Sequence[int] | None = None) -> float:
        """The Bayesian information criterion, k log(n) - 2 log p(X) for k free parameters and n rows; lower is better.

        Args:
            X: as for `fit`.
            lengths: as for `fit`.

        Raises:
            NotFittedError, ValueError: as `score`.
        """
        return bic(-self.score(X, lengths=lengths), self.num_free_parameters(), len(np.asarray(X)))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[Floats, NDArray[Any]]:
        """Draw one sequence from the fitted model.

        Args:
            n_samples: number of steps.
            random_state: seed or generator, as everywhere in scikit-learn; None for the estimator's own.

        Returns:
            Observations (n_samples, n_features), and the states that gave them.

        Raises:
            NotFittedError: before `fit`.
            ValueError: n_samples below 1.
        """
        check_is_fitted(self)
        generator = check_random_state(self.random_state if random_state is None else random_state)
        drawn = self.model_.sample(1, n_samples, seed=int(generator.randint(2**31 - 1)))
        assert drawn.z is not None
        return drawn.x[0].reshape(n_samples, -1).double().numpy(), drawn.z[0].numpy()

    @abstractmethod
    def num_free_parameters(self) -> int:
        """Number of free parameters k of the fitted model, for `aic` and `bic`.

        Raises:
            NotFittedError: before `fit`.
        """

    @abstractmethod
    def _fitted(self, data: Sequences, seed: int) -> em.EmFit: ...

    def _observations(self, rows: Tensor) -> Tensor:
        """The form of rows (n_samples, n_features) in which the model takes them."""
        return rows

    def _given(self, X: ArrayLike, lengths: Sequence[int] | None) -> Sequences:
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        return self._sequences(rows, lengths)

    def _sequences(self, rows: Floats, lengths: Sequence[int] | None) -> Sequences:
        steps = _checked(lengths, len(rows))
        observed = torch.from_numpy(~np.isnan(rows))
        x = self._observations(torch.from_numpy(np.array(rows)))  # a copy, because X may be read-only
        seen = observed.reshape(len(rows), -1)[:, 0] if x.dim() == 1 else observed
        padded = pad(x.split(steps))
        mask = pad(seen.split(steps)).x
        return Sequences(padded.x, padded.lengths, None, None, mask)

    def __sklearn_tags__(self) -> Any:
        """NaN is a missing number."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _checked(lengths: Sequence[int] | None, num_rows: int) -> list[int]:
    """Lengths as a list of positive integers that add up to the number of rows."""
    if lengths is None:
        return [num_rows]
    steps = np.asarray(lengths)
    if steps.ndim != 1 or steps.dtype.kind not in "iu" or (steps < 1).any() or steps.sum() != num_rows:
        raise ValueError(
            f"expected lengths as positive integers that add up to n_samples = {num_rows}, got {lengths!r}; give the "
            "number of rows of each sequence"
        )
    return [int(length) for length in steps]


def rows_of(values: Tensor, lengths: Tensor) -> NDArray[Any]:
    """Values (batch, T, ...) without the padding, one row per step, (n_samples, ...)."""
    return np.concatenate([one[:length].numpy() for one, length in zip(values, lengths.tolist(), strict=True)])
