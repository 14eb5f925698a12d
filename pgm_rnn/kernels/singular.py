"""Singular covariances of a Gaussian chain: which variances are zero up to rounding, and inverses that leave them out.

The filter computes covariances by differences, so a variance that is zero comes out as rounding: a few units in the
last place of the variances that it was computed from. Those are at most the largest that the entry has had so far,

    u_i(t)^2 = max_{s <= t} Var(z_{s,i} | x_{1:s-1})

In units of u an eigenvalue below `THRESHOLD` times the size of the matrix, in rounding errors, counts as zero. Where
the noise covariance itself is positive definite, so is the covariance that it is added to, and nothing is decided.
"""

import torch
from torch import Tensor

from pgm_rnn.kernels.gaussian_chain import GaussianChain

THRESHOLD = 8
"""Rounding errors, per row of a matrix, up to which an eigenvalue counts as zero."""


def is_regular(noise: Tensor) -> bool:
    """Whether all covariances (..., N, N) are positive definite, and not only by rounding."""
    factor, failed = torch.linalg.cholesky_ex(noise)
    if bool(failed.any()):
        return False
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    least = noise.shape[-1] * torch.finfo(noise.dtype).eps * noise.diagonal(dim1=-2, dim2=-1)
    return bool((pivots > least).all())


def units(predicted_covs: Tensor) -> Tensor:
    """u_t, (G, T, D), from Cov(z_t | x_{1:t-1}), (G, T, D, D)."""
    return predicted_covs.diagonal(dim1=-2, dim2=-1).clamp(min=0).cummax(1).values.sqrt()


def generalised_inverse(cov: Tensor, unit: Tensor) -> Tensor:
    """A matrix G with cov G cov = cov for each covariance (..., D, D), in units (..., D); zero off its range."""
    unit = unit.where(unit > 0, 1.0)
    values, vectors = torch.linalg.eigh(cov / (unit[..., :, None] * unit[..., None, :]))
    kept = values > THRESHOLD * cov.shape[-1] * torch.finfo(cov.dtype).eps
    columns = vectors / unit[..., :, None] * (values.where(kept, 1.0).rsqrt() * kept)[..., None, :]
    return columns @ columns.mT


def determined(chain: GaussianChain, predicted_covs: Tensor) -> Tensor | None:
    """True where some combination of the entries of x_t is known before it is observed, (G, T); None if R is regular.

    There F_t = C Cov(z_t | x_{1:t-1}) C' + R is singular up to rounding, and x_t has no density. A sequence whose F_t
    overflows is not judged; its density is NaN.

    Args:
        chain: the chain with all its axes.
        predicted_covs: Cov(z_t | x_{1:t-1}), (G, T, D, D).
    """
    C, R = chain.emission_matrix, chain.emission_cov
    if is_regular(R):
        return None
    innovation = C @ predicted_covs @ C.mT + R
    size = (C.abs() @ units(predicted_covs)[..., None])[..., 0].square() + R.diagonal(dim1=-2, dim2=-1)
    unit = size.sqrt().where(size > 0, 1.0)  # (G, T, M)
    scaled = innovation / (unit[..., :, None] * unit[..., None, :])
    least = THRESHOLD * max(C.shape[-2:]) * torch.finfo(R.dtype).eps
    known = ~scaled.isfinite().all(-1).all(-1)
    overflows = predicted_covs.isinf().flatten(1).any(-1) | innovation.isinf().flatten(1).any(-1)  # (G,)
    values = torch.linalg.eigvalsh(scaled.where(~known[..., None, None], 0.0))
    return (known | (values[..., 0] <= least)) & ~overflows[:, None]
