"""A hidden Markov model as an estimator in the style of scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pgm_rnn.adapters.estimator import Floats, SequenceEstimator, rows_of
from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.emissions.info import FamilyInfo
from pgm_rnn.emissions.registry import FAMILIES
from pgm_rnn.inference import em, forward_backward
from pgm_rnn.models import HMM
from pgm_rnn.sequence_model.criteria import num_free_parameters
from pgm_rnn.sequences import Sequences

OFFERED: dict[str, FamilyInfo] = {name: info for name, info in FAMILIES.items() if info.of_numbers is not None}
"""The families of observations by name, as `--emission` of the command line takes them."""


class HMMEstimator(SequenceEstimator):
    """A hidden Markov model, fitted by Baum-Welch; predictions are states.

    Args:
        num_states: K.
        emission: "gaussian" (independent features), "full-gaussian", "spherical-gaussian", "tied-gaussian",
            "tied-full-gaussian", "student-t" (outliers), "gamma" (positive numbers), "beta" (numbers between 0 and 1),
            "von-mises" (angles), "bernoulli" (bits), "poisson", "negative-binomial", "zero-inflated-poisson",
            "zero-inflated-negative-binomial" (counts), "gaussian-mixture", "full-gaussian-mixture", "poisson-mixture",
            or "categorical" (one feature of symbols 0, 1, ..., num_symbols - 1); or a family of vectors of all
            features, such as Mixture(StudentT(2), 3) or Joint([Gaussian(), Poisson()]).
        num_symbols: number of symbols; None for the largest one seen, plus one.
        num_components: number of components of a mixture that is named; None for 2.
        num_iterations: largest number of iterations of EM.
        tolerance: stop when an iteration gains less than this, in nats per step.
        num_restarts: number of starts: one from k-means, and random ones. The best on the training data is kept.
        pseudo_count: number added to every expected count.
        random_state: seed or generator of the starts, and of `sample`.

    Example:
        >>> import numpy as np
        >>> from pgm_rnn.adapters import HMMEstimator
        >>> X = np.repeat([0.0, 5.0, 0.0, 5.0], 10)[:, None] + np.random.default_rng(0).normal(size=(40, 1))
        >>> estimator = HMMEstimator(num_states=2, random_state=0).fit(X, lengths=[20, 20])
        >>> estimator.predict(X, lengths=[20, 20]).shape, estimator.predict_proba(X).shape
        ((40,), (40, 2))
    """

    def __init__(
        self,
        num_states: int = 2,
        *,
        emission: str | Emission = "gaussian",
        num_symbols: int | None = None,
        num_components: int | None = None,
        num_iterations: int = 100,
        tolerance: float = 1e-6,
        num_restarts: int = 1,
        pseudo_count: float = 0.0,
        random_state: Any = None,
    ) -> None:
        self.num_states = num_states
        self.emission = emission
        self.num_symbols = num_symbols
        self.num_components = num_components
        self.num_iterations = num_iterations
        self.tolerance = tolerance
        self.num_restarts = num_restarts
        self.pseudo_count = pseudo_count
        self.random_state = random_state

    def predict(self, X: ArrayLike, lengths: Sequence[int] | None = None) -> NDArray[np.int64]:
        """The most likely paths of states by the Viterbi algorithm, (n_samples,).

        Args:
            X: as for `fit`.
            lengths: as for `fit`.

        Raises:
            NotFittedError: before `fit`.
            ValueError: observations or lengths that do not fit.
        """
        data = self._given(X, lengths)
        found = forward_backward.most_likely_states(self.model_, data)
        return rows_of(found.states, data.lengths)

    def predict_proba(self, X: ArrayLike, lengths: Sequence[int] | None = None) -> Floats:
        """Smoothed probabilities p(z_t = k | x_{1:T}) of the states, (n_samples, K).

        Args:
            X: as for `fit`.
            lengths: as for `fit`.

        Raises:
            NotFittedError, ValueError: as `predict`.
        """
        data = self._given(X, lengths)
        found = forward_backward.smooth(self.model_, data)
        return rows_of(found.smoothed_probs, data.lengths)

    def num_free_parameters(self) -> int:
        """Number of free parameters: K - 1 per row of probabilities, and those of the laws.

        Raises:
            NotFittedError: before `fit`.
        """
        check_is_fitted(self)
        return num_free_parameters(self.model_)

    def _fitted(self, data: Sequences, seed: int) -> em.EmFit:
        check_counts(num_states=self.num_states)
        model = HMM.random(self.num_states, emission=self._family(data.x), seed=seed).double()
        return em.fit(
            model,
            data,
            num_iterations=self.num_iterations,
            tolerance=self.tolerance,
            num_restarts=self.num_restarts,
            pseudo_count=self.pseudo_count,
            start="data",
            seed=seed,
            progress=False,
        )

    def _family(self, x: Tensor) -> Emission:
        if isinstance(self.emission, Emission):
            return self.emission
        if self.emission == "categorical":
            return Categorical(int(x.max()) + 1 if self.num_symbols is None else self.num_symbols)
        info = OFFERED[self.emission]
        if self.num_components is not None and info.of_components is not None:
            return info.of_components(x, self.num_components)
        assert info.of_numbers is not None  # as for all that are offered
        return info.of_numbers(x)

    def _observations(self, rows: Tensor) -> Tensor:
        """Rows of numbers, or of symbols (n_samples,), where those that are missing are 0."""
        self._check_emission(rows.shape[1])
        if self.emission != "categorical":
            return rows
        symbols = rows.nan_to_num(0.0)
        if symbols.shape[1] != 1 or bool(((symbols < 0) | (symbols != symbols.floor())).any()):
            raise ValueError(
                f"expected one feature of symbols 0, 1, 2, ... for emission='categorical', got {rows.shape[1]} "
                "features or other numbers; number the symbols, or use emission='gaussian'"
            )
        return symbols[:, 0].to(torch.int64)

    def _check_emission(self, num_features: int) -> None:
        """Raise unless the emission is a name that is known, or a family of vectors of all features.

        Raises:
            ValueError: another name, a family of another size, or components of a family that has none.
        """
        if isinstance(self.emission, Emission):
            if self.emission.event_shape != (num_features,):
                raise ValueError(
                    f"expected emission as a family of vectors of {num_features} features, as X has, got "
                    f"{self.emission} of shape {tuple(self.emission.event_shape)}"
                )
        else:
            check_choice("emission", self.emission, OFFERED)
        of_components = None if isinstance(self.emission, Emission) else OFFERED[self.emission].of_components
        if self.num_components is not None and of_components is None:
            raise ValueError(
                f"expected num_components only with the name of a mixture, got {self.num_components} with "
                f"emission={self.emission!r}"
            )
