"""Covariance matrices as parameters: a Cholesky factor whose diagonal is kept as logarithms.

    cov = L L',   L = strict lower triangle of raw + diag(exp(diagonal of raw))                positive definite
    cov = B L L' B',   B (D, r) a fixed orthonormal basis of its range, L (r, r) as above      of rank r

Every raw matrix gives a covariance of the same range, so gradient steps always stay valid: noise that does not reach
some direction never will.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.distributions.constraints import positive_semidefinite

from pgm_rnn.checks import check_covariance, check_symmetric
from pgm_rnn.distributions.correlated_normal import CorrelatedNormal, Factor
from pgm_rnn.distributions.singular_normal import SingularNormal
from pgm_rnn.emissions.natural import Natural, of_covariance
from pgm_rnn.sequence_model.once import ComputedOnce


class Covariance(ComputedOnce[Factor]):
    """One positive definite covariance as a parameter.

    Args:
        scale_tril: the Cholesky factor L of its initial value, (size, size).
    """

    def __init__(self, scale_tril: Tensor) -> None:
        super().__init__()
        self.raw = nn.Parameter(raw_of(scale_tril))

    def compute(self) -> Factor:
        """The factor, with the normalising constant of its density."""
        return Factor.of(factor_of(self.raw))

    @property
    def num_free(self) -> Mapping[str, int]:
        """Number of free entries of the raw matrix, those of its lower triangle."""
        return {"raw": _triangle(self.raw)}

    def natural_views(self) -> Mapping[str, Natural]:
        """The covariance under each of its names in `pgm_rnn.emissions.natural.of_covariance`."""
        return of_covariance("raw", factor_of, lambda _, scale_tril: raw_of(scale_tril))

    @property
    def scale_tril(self) -> Tensor:
        """The lower triangular factor L with positive diagonal, at least 1.1e-19 in float32, 1.5e-154 in float64."""
        return factor_of(self.raw) if self.kept is None else self.kept.scale_tril

    @property
    def root(self) -> Tensor:
        """A square root of the covariance, (size, size)."""
        return self.scale_tril

    @property
    def matrix(self) -> Tensor:
        """The covariance L L', (size, size)."""
        factor = self.scale_tril
        return factor @ factor.mT

    def law(self, mean: Tensor) -> TorchDistribution:
        """The normal law with this covariance around means (*batch, size)."""
        return CorrelatedNormal(mean, self.value)

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


class CovarianceTable(nn.Module):
    """One positive definite covariance for each of K regimes as a parameter.

    Args:
        scale_tril: the Cholesky factors L of their initial values, (K, size, size).
    """

    def __init__(self, scale_tril: Tensor) -> None:
        super().__init__()
        self.raw = nn.Parameter(raw_of(scale_tril))

    @property
    def num_free(self) -> Mapping[str, int]:
        """Number of free entries of the raw matrices, those of their lower triangles."""
        return {"raw": len(self.raw) * _triangle(self.raw)}

    def natural_views(self) -> Mapping[str, Natural]:
        """The covariances under each of their names in `pgm_rnn.emissions.natural.of_covariance`."""
        return of_covariance("raw", factor_of, lambda _, scale_tril: raw_of(scale_tril))

    @property
    def scale_tril(self) -> Tensor:
        """The lower triangular factors L with positive diagonals, (K, size, size)."""
        return factor_of(self.raw)

    @property
    def matrix(self) -> Tensor:
        """The covariances L L', (K, size, size)."""
        factor = self.scale_tril
        return factor @ factor.mT


class SingularCovariance(ComputedOnce[Tensor]):
    """One covariance of fixed range as a parameter.

    Args:
        basis: B, orthonormal columns that span its range, (size, rank).
        scale_tril: the Cholesky factor L of its initial value in that basis, (rank, rank).
    """

    def __init__(self, basis: Tensor, scale_tril: Tensor) -> None:
        super().__init__()
        self.basis: Tensor
        self.register_buffer("basis", basis)
        self.raw = nn.Parameter(raw_of(scale_tril))

    def compute(self) -> Tensor:
        """The root B L, (size, rank)."""
        return self.basis @ factor_of(self.raw)

    @property
    def num_free(self) -> Mapping[str, int]:
        """Number of free entries of the raw matrix, those of its lower triangle."""
        return {"raw": _triangle(self.raw)}

    def natural_views(self) -> Mapping[str, Natural]:
        """The covariance as "cov", of the same range."""

        def read(raw: Tensor) -> Tensor:
            root = self.basis @ factor_of(raw)
            return root @ root.mT

        values = "covariance matrices of the model's range"
        return {"cov": Natural("raw", read, lambda _, cov: self.raw_from(cov), positive_semidefinite, values)}

    @property
    def root(self) -> Tensor:
        """A square root of the covariance, (size, rank)."""
        return self.value

    @property
    def matrix(self) -> Tensor:
        """The covariance B L L' B', (size, size)."""
        return self.root @ self.root.mT

    def law(self, mean: Tensor) -> TorchDistribution:
        """The normal law with this covariance around means (*batch, size)."""
        return SingularNormal(mean, self.value)

    @torch.no_grad()
    def set(self, name: str, cov: Tensor) -> None:
        """Replace the matrix in place, within the same range; `name` is for the error.

        Raises:
            ValueError: as `raw_of`.
        """
        self.raw.copy_(self.raw_of(name, cov))

    def raw_of(self, name: str, cov: Tensor) -> Tensor:
        """The raw matrix of another covariance with the same range; `name` is for the error.

        Raises:
            ValueError: another shape, NaN, or a matrix that is not symmetric or has another range.
        """
        size, rank = self.basis.shape
        cov = check_symmetric(name, cov, size)
        basis = self.basis.to(cov.dtype)
        inner = basis.mT @ cov @ basis
        spread = cov.diagonal().clamp(min=0).sqrt()
        tolerance = torch.finfo(self.raw.dtype).eps ** 0.5 * spread[:, None] * spread
        if bool(((cov - basis @ inner @ basis.mT).abs() > tolerance).any()):
            raise ValueError(
                f"expected {name} with the same range as the model's singular covariance, of dimension {rank}, got "
                "another range, which a fit cannot reach; make a new model"
            )
        return raw_of(check_covariance(f"{name} in its range", inner, rank)) if rank else inner

    def raw_from(self, cov: Tensor) -> Tensor:
        """The raw matrix of a covariance (size, size) of this range, differentiable and without checks."""
        return raw_of(torch.linalg.cholesky(self.basis.mT @ cov @ self.basis))


class Range(NamedTuple):
    """A covariance in an orthonormal basis of its range.

    Attributes:
        basis: B, (size, rank).
        scale_tril: the Cholesky factor of B' cov B, (rank, rank).
    """

    basis: Tensor
    scale_tril: Tensor


def covariance_module(name: str, cov: Tensor, size: int) -> Covariance | SingularCovariance:
    """The module for a covariance, which keeps its range; `name` is for the error.

    Raises:
        ValueError: another shape, NaN, or a matrix that is not symmetric and positive semidefinite.
    """
    cov = check_symmetric(name, cov, size)
    factor, failed = torch.linalg.cholesky_ex(cov)
    if not int(failed) and float(_correlations(cov)[0][0]) > size * torch.finfo(cov.dtype).eps:
        return Covariance(factor)
    return SingularCovariance(*range_of(name, cov))


def range_of(name: str, cov: Tensor) -> Range:
    """The range of a singular symmetric matrix; entries without variance are left out of it exactly.

    Raises:
        ValueError: a matrix that is not positive semidefinite; `name` is for the message.
    """
    noisy = cov.diagonal() > 0
    unit = torch.eye(len(cov), dtype=cov.dtype, device=cov.device)[:, noisy]
    inner, eps = cov[noisy][:, noisy], torch.finfo(cov.dtype).eps
    values, vectors = _correlations(inner)
    least = 8 * len(cov) * eps
    lost = cov[~noisy].abs().sum() + (values.clamp(max=0).abs() > least).sum()
    if float(lost) > 0:
        raise ValueError(
            f"expected {name} to be positive semidefinite, got a smallest eigenvalue of "
            f"{float(torch.linalg.eigvalsh(cov)[0]):.3g}"
        )
    kept = values > least
    if bool(kept.all()):
        return Range(unit, torch.linalg.cholesky(inner))
    columns = inner.diagonal().sqrt()[:, None] * vectors[:, kept]
    basis = torch.linalg.qr(columns).Q
    return Range(unit @ basis, torch.linalg.cholesky(basis.mT @ inner @ basis))


def _correlations(cov: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors of a covariance in units of the entries' standard deviations."""
    spread = cov.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(cov / (spread[:, None] * spread))
    return values, vectors


def factor_of(raw: Tensor) -> Tensor:
    """The Cholesky factor of a raw matrix, its diagonal bounded below."""
    least = torch.finfo(raw.dtype).tiny ** 0.5
    return raw.tril(-1) + raw.diagonal(dim1=-2, dim2=-1).exp().clamp(min=least).diag_embed()


def raw_of(scale_tril: Tensor) -> Tensor:
    """The raw matrix of a Cholesky factor."""
    return scale_tril.tril(-1) + scale_tril.diagonal(dim1=-2, dim2=-1).log().diag_embed()


def _triangle(raw: Tensor) -> int:
    """Number of entries of the lower triangle of a square matrix."""
    size = raw.shape[-1]
    return size * (size + 1) // 2
