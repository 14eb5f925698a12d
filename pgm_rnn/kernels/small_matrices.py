"""Cholesky factors and triangular systems of very many small matrices, each entry by one operation on all of them.

    S = L L',   L X = B,   L' X = B

Libraries factor one matrix at a time, which costs about a microsecond each, however small it is; here the loop is over
the entries. Matrices of more than `LARGEST` rows go to the library.
"""

import torch
from torch import Tensor

LARGEST = 4
"""Largest number of rows of matrices that are taken entry by entry."""


def cholesky(matrix: Tensor) -> Tensor:
    """The lower triangular L with L L' = S, for S (*batch, N, N); NaN where S is not positive definite."""
    size = matrix.shape[-1]
    if size > LARGEST:
        factor, failed = torch.linalg.cholesky_ex(matrix)
        return factor.where((failed == 0)[..., None, None], torch.nan)
    zero = torch.zeros_like(matrix[..., 0, 0])
    rows: list[list[Tensor]] = [[zero] * size for _ in range(size)]
    for j in range(size):
        pivot = matrix[..., j, j] - sum((rows[j][k].square() for k in range(j)), zero)
        rows[j][j] = pivot.where(pivot > 0, torch.nan).sqrt()
        for i in range(j + 1, size):
            rest = matrix[..., i, j] - sum((rows[i][k] * rows[j][k] for k in range(j)), zero)
            rows[i][j] = rest / rows[j][j]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def product(left: Tensor, right: Tensor) -> Tensor:
    """Products of matrices (*batch, N, K) and (*batch, K, M); batch axes broadcast."""
    size = left.shape[-1]
    if max(*left.shape[-2:], right.shape[-1]) > LARGEST:
        return left @ right
    return torch.stack(
        [
            torch.stack(
                [sum(left[..., i, k] * right[..., k, j] for k in range(size)) for j in range(right.shape[-1])],  # type: ignore[misc]
                dim=-1,
            )
            for i in range(left.shape[-2])
        ],
        dim=-2,
    )


def solve(factor: Tensor, right: Tensor) -> Tensor:
    """X with L X = B for lower triangular L (*batch, N, N) and B (*batch, N, M); batch axes broadcast."""
    size = factor.shape[-1]
    if size > LARGEST:
        return torch.linalg.solve_triangular(factor, right, upper=False)
    rows: list[Tensor] = []
    for i in range(size):
        known = sum((factor[..., i, k, None] * rows[k] for k in range(i)), torch.zeros_like(right[..., i, :]))
        rows.append((right[..., i, :] - known) / factor[..., i, i, None])
    return torch.stack(rows, dim=-2)


def solve_transposed(factor: Tensor, right: Tensor) -> Tensor:
    """X with L' X = B for lower triangular L (*batch, N, N) and B (*batch, N, M); batch axes broadcast."""
    if factor.shape[-1] > LARGEST:
        return torch.linalg.solve_triangular(factor.mT, right, upper=True)
    return solve(factor.mT.flip(-2, -1), right.flip(-2)).flip(-2)
