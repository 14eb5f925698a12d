"""Positive definite matrices as parameters: a Cholesky factor whose diagonal is kept as logarithms.

    cov = L L',   L = strict lower triangle of raw + diag(exp(diagonal of raw))

Every raw matrix gives a positive definite matrix, so gradient steps always stay valid.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pgm_rnn.checks import check_covariance
from pgm_rnn.distributions.correlated_normal import Factor
from pgm_rnn.emissions.natural import Natural, of_covariance
from pgm_rnn.sequence_model.once import ComputedOnce


class Covariance(ComputedOnce[Factor]):
    """One covariance matrix as a parameter.

    Args:
        scale_tril: the Cholesky factor L of its initial value, (size, size).
    """

    def __init__(self, scale_tril: Tensor) -> None:
        super().__init__()
        self.raw = nn.Parameter(raw_of(scale_tril))

    def compute(self) -> Factor:
        """The factor, with the normalising constant of its density."""
        return Factor.of(factor_of(self.raw))

    def natural_views(self) -> Mapping[str, Natural]:
        """The covariance under each of its names in `pgm_rnn.emissions.natural.of_covariance`."""
        return of_covariance("raw", factor_of, lambda _, scale_tril: raw_of(scale_tril))

    @property
    def scale_tril(self) -> Tensor:
        """The lower triangular factor L with positive diagonal, at least 1.1e-19 in float32, 1.5e-154 in float64."""
        return factor_of(self.raw) if self.kept is None else self.kept.scale_tril

    @property
    def matrix(self) -> Tensor:
        """The covariance L L', (size, size)."""
        factor = self.scale_tril
        return factor @ factor.mT

    @torch.no_grad()
    def set(self, name: str, cov: Tensor) -> None:
        """Replace the matrix in place; `name` is for the error.

        Raises:
            ValueError: another shape, NaN, or a matrix that is not symmetric and positive definite.
        """
        self.raw.copy_(self.raw_of(name, cov))

    def raw_of(self, name: str, cov: Tensor) -> Tensor:
        """The raw matrix of another covariance of this size; `name` is for the error.

        Raises:
            ValueError: another shape, NaN, or a matrix that is not symmetric and positive definite.
        """
        return raw_of(check_covariance(name, cov, self.raw.shape[0]))


def factor_of(raw: Tensor) -> Tensor:
    """The Cholesky factor of a raw matrix, its diagonal bounded below."""
    least = torch.finfo(raw.dtype).tiny ** 0.5
    return raw.tril(-1) + raw.diagonal(dim1=-2, dim2=-1).exp().clamp(min=least).diag_embed()


def raw_of(scale_tril: Tensor) -> Tensor:
    """The raw matrix of a Cholesky factor."""
    return scale_tril.tril(-1) + scale_tril.diagonal(dim1=-2, dim2=-1).log().diag_embed()
