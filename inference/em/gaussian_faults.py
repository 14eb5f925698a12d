"""Errors that explain why EM for a linear-Gaussian model reached covariances that are singular up to rounding."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pgm_rnn.inference.em.units import Units
from pgm_rnn.sequence_model.chains import CovarianceError

_SINGULAR: type[Exception] = torch.linalg.LinAlgError  # type: ignore[attr-defined]  # documented, but not exported
_FAR = 1e3
"""A size this many times larger than expected is named as the cause."""


class Faults:
    """The errors for one data set and one start.

    Args:
        x: observations in float64, NaN where one is missing or padding, (n, M).
        start: the parameters that EM starts from, by the names of the model's constructor.
        dtype: dtype of the model.
    """

    def __init__(self, x: Tensor, start: dict[str, Tensor], dtype: torch.dtype) -> None:
        self._units, self._dtype = Units.of(x), dtype
        self._largest = x.nan_to_num(nan=0.0).abs().amax(0)
        m, P, C, R = (start[name] for name in ("initial_mean", "initial_cov", "emission_matrix", "emission_cov"))
        self._expected = ((C @ P @ C.mT + R).diagonal() + (C @ m).square()).sqrt()

    @property
    def spread(self) -> Tensor:
        """The spread of each column, (M,)."""
        return self._units.spread

    def error(self, emission_cov: Tensor) -> CovarianceError:
        """The error with its cause, the column and the way out.

        Args:
            emission_cov: the present R, (M, M).
        """
        level, size = self._units.centre.abs() / self.spread, self._largest / self._expected
        far, large, low = (
            int(values.argmax()) for values in (level, size, -emission_cov.diagonal().sqrt() / self.spread)
        )
        wider = "" if self._dtype == torch.float64 else ", or use float64"
        if level[far] > _FAR:
            cause = (
                f"column {far} (counted from 0) lies near {float(self._units.centre[far]):.3g}, "
                f"{float(level[far]):.2g} times its spread from zero, and the model has no constant term: subtract its "
                f"median{wider}"
            )
        elif size[large] > _FAR:
            cause = (
                f"column {large} (counted from 0) has values up to {float(self._largest[large]):.3g}, "
                f"{float(size[large]):.2g} times what the parameters that EM starts from expect: begin with "
                "pgm_rnn.models.linear_start.linear_start(x, latent_dim=...), which estimates a start from the data, "
                "or divide each column by its standard deviation"
            )
        else:
            cause = (
                f"the least noise is that of column {low} (counted from 0): leave it out if it is constant, a line or "
                f"determined by others{wider}, or use a larger min_scale or fewer states"
            )
        return CovarianceError(
            f"expected predictions with positive definite covariances in {self._dtype}, got one that is not; {cause}"
        )

    @contextmanager
    def named(self, emission_cov: Tensor, kind: type[Exception] = _SINGULAR) -> Iterator[None]:
        """Turn an error of this kind, raised for a matrix that is not positive definite, into `error`.

        Raises:
            CovarianceError: the block raised an error of this kind.
        """
        try:
            yield
        except kind as error:
            raise self.error(emission_cov) from error
