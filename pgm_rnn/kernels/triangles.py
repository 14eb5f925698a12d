"""Triangular matrices: the factor of a matrix product, and lower ones as vectors.

A vector holds the diagonal first, then the entries below it, row by row.
"""

import torch
from torch import Tensor


def from_parts(diagonal: Tensor, below: Tensor) -> Tensor:
    """The matrices (..., D, D) with this diagonal (..., D) and these entries below it, (..., D (D - 1) / 2)."""
    size = diagonal.shape[-1]
    packed = torch.cat([diagonal, below, torch.zeros_like(diagonal[..., :1])], dim=-1)
    index = _places(size).to(diagonal.device).flatten()
    return packed.index_select(-1, index).unflatten(-1, (size, size))


def of_rows(rows: Tensor) -> Tensor:
    """U (..., D, D), upper triangular with U' U = rows' rows and no negative diagonal."""
    upper = torch.linalg.qr(rows).R
    signs = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(upper)
    return signs[..., None] * upper


def parts_of(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The diagonal (..., D) of matrices (..., D, D), and the entries below it, (..., D (D - 1) / 2)."""
    rows, columns = torch.tril_indices(matrix.shape[-2], matrix.shape[-1], offset=-1, device=matrix.device)
    return matrix.diagonal(dim1=-2, dim2=-1), matrix[..., rows, columns]


def _places(size: int) -> Tensor:
    """Index of each entry of the matrix in the vector (diagonal, below the diagonal, zero), (size, size)."""
    places = torch.full((size, size), size * (size + 1) // 2)
    places.diagonal().copy_(torch.arange(size))
    rows, columns = torch.tril_indices(size, size, offset=-1)
    places[rows, columns] = torch.arange(size, size + len(rows))
    return places
