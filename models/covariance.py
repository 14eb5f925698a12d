"""Positive definite matrices as parameters: a Cholesky factor whose diagonal is kept as logarithms.

    cov = L L',   L = strict lower triangle of raw + diag(exp(diagonal of raw))

Every raw matrix is a covariance, so gradient steps cannot leave them.
"""

import torch
from torch import Tensor, nn


def check_covariance(name: str, cov: Tensor, size: int) -> Tensor:
    """Its Cholesky factor, (size, size).

    Raises:
        ValueError: another shape, NaN, not symmetric, or not positive definite.
    """
    if cov.shape != (size, size) or not cov.is_floating_point():
        raise ValueError(f"expected {name} of shape ({size}, {size}) and floating point, got {tuple(cov.shape)}")
    cov = cov.detach()
    largest = float(cov.abs().max())
    if not float((cov - cov.mT).abs().max()) <= 100 * torch.finfo(cov.dtype).eps * largest:
        raise ValueError(f"expected {name} to be a symmetric matrix of numbers; use (cov + cov.mT) / 2")
    factor, failed = torch.linalg.cholesky_ex(cov)
    if int(failed):
        smallest = float(torch.linalg.eigvalsh(cov)[0])
        raise ValueError(
            f"expected {name} to be positive definite, its smallest eigenvalue is {smallest:.3g}; "
            "add a small variance to its diagonal"
        )
    return factor


class Covariance(nn.Module):
    """One covariance matrix as a parameter.

    Args:
        scale_tril: its Cholesky factor, (size, size).
    """

    def __init__(self, scale_tril: Tensor) -> None:
        super().__init__()
        self.raw = nn.Parameter(raw_of(scale_tril))

    @property
    def scale_tril(self) -> Tensor:
        """The lower triangular factor L with positive diagonal."""
        return self.raw.tril(-1) + self.raw.diagonal().exp().diag_embed()

    @property
    def matrix(self) -> Tensor:
        """L L'."""
        factor = self.scale_tril
        return factor @ factor.mT

    @torch.no_grad()
    def set(self, name: str, cov: Tensor) -> None:
        """Replace the matrix, in place; `name` is for the error where it is not positive definite."""
        self.raw.copy_(raw_of(check_covariance(name, cov, self.raw.shape[0])))


def raw_of(scale_tril: Tensor) -> Tensor:
    """The raw matrix of a Cholesky factor."""
    return scale_tril.tril(-1) + scale_tril.diagonal().log().diag_embed()
