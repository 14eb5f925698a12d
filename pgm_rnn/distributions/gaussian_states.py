"""The states of a linear-Gaussian chain as a Markov chain of their own, before and given observations.

    z_1 ~ N(m, P),   z_t = A z_{t-1} + b_t + N(0, Q),   x_t = C z_t + N(0, R)

Given x_{1:T} the states still are a Markov chain. With p(x_{t:T} | z_t) proportional to exp(-z' N_t z / 2 + n_t' z),

    z_t | z_{t-1}, x ~ N(z_t; A~_t z_{t-1} + b~_t, Q~_t),     Q~_t = (Q^{-1} + N_t)^{-1},     A~_t = (I - Q~_t N_t) A,
    b~_t = b_t + Q~_t (n_t - N_t b_t),
    N_{t-1} = C' R^{-1} C + A~_t' (N_t + N_t Q N_t) A~_t,     n_{t-1} = C' R^{-1} x_{t-1} + A~_t' (n_t - N_t b_t).

This is the backward information filter, Särkkä (2013), sec. 10.3, written without an inverse of Q or N: with Q = L L',
Q~ = L (I + L' N L)^{-1} L'. The recursions are torch operations on any batch axes, so they keep gradients of any order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels.gaussian_chain import GaussianChain


class States(NamedTuple):
    """A linear-Gaussian Markov chain; batch axes broadcast, and a time axis has one entry if all steps share it.

    Attributes:
        mean: E(z_1), (*batch, D).
        root: a square root L of Cov(z_1) = L L', (*batch, D, D).
        matrix: A of steps 2..T, (*batch, 1 or T - 1, D, D).
        roots: square roots of Q of steps 2..T, (*batch, 1 or T - 1, D, D).
        offset: b of steps 2..T, (*batch, 1 or T - 1, D).
    """

    mean: Tensor
    root: Tensor
    matrix: Tensor
    roots: Tensor
    offset: Tensor

    def steps(self, num_steps: int) -> Sequence[tuple[Tensor, Tensor, Tensor]]:
        """A, L and b of each of the steps 2..T."""
        A, L, b = self.matrix.unbind(-3), self.roots.unbind(-3), self.offset.unbind(-2)
        return [(A[t % len(A)], L[t % len(L)], b[t % len(b)]) for t in range(num_steps - 1)]


def prior(chain: GaussianChain) -> States:
    """The states before any observation; all parameters but the initial ones have an axis of time.

    Raises:
        torch.linalg.LinAlgError: a covariance that is not positive definite.
    """
    assert chain.state_offset is not None  # the laws always give one
    root, roots = (torch.linalg.cholesky(cov) for cov in (chain.initial_cov, chain.transition_cov))
    return States(chain.initial_mean, root, chain.transition_matrix, roots, chain.state_offset)


def given(chain: GaussianChain, x: Tensor, observed: Tensor | None = None) -> States:
    """The states given x (*batch, T, M), where a step counts only if `observed` (*batch, T) is True.

    Raises:
        torch.linalg.LinAlgError: a covariance that is not positive definite.
    """
    before, C = prior(chain), chain.emission_matrix
    weighted = torch.cholesky_solve(C, torch.linalg.cholesky(chain.emission_cov))  # R^{-1} C
    information, vector = C.mT @ weighted, (x[..., None, :] @ weighted)[..., 0, :]
    if observed is not None:
        information, vector = information * observed[..., None, None], vector * observed[..., None]
    seen, found = (information.unbind(-3), vector.unbind(-2)), []
    N, n = seen[0][-1], seen[1][-1]
    for t, (A, L, b) in reversed(list(enumerate(before.steps(x.shape[-2])))):
        root, offset = _conditional(L, b, N, n)
        matrix = A - root @ (root.mT @ (N @ A))
        found.append((matrix, root, offset))
        noise, rest = L.mT @ N @ matrix, n - times(N, b)
        N = seen[0][t % len(seen[0])] + matrix.mT @ N @ matrix + noise.mT @ noise
        n = seen[1][t] + times(matrix.mT, rest)
    root, mean = _conditional(before.root, before.mean, N, n)
    if not found:
        return States(mean, root, before.matrix, before.roots, before.offset)
    matrices, roots, offsets = (torch.broadcast_tensors(*parts) for parts in zip(*reversed(found), strict=True))
    return States(mean, root, torch.stack(matrices, -3), torch.stack(roots, -3), torch.stack(offsets, -2))


def _conditional(L: Tensor, b: Tensor, N: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """A square root of (Q^{-1} + N)^{-1}, and that covariance times (Q^{-1} b + n)."""
    unit = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device)
    factor = torch.linalg.cholesky(unit + L.mT @ N @ L)
    root = torch.linalg.solve_triangular(factor, L.mT.expand(*factor.shape[:-2], -1, -1), upper=False).mT
    return root, b + times(root, times(root.mT, n - times(N, b)))


def draw(states: States, shape: Sequence[int], num_steps: int) -> Tensor:
    """Paths that follow their parameters, (*shape, T, D)."""
    noise = torch.randn(*shape, num_steps, states.mean.shape[-1], dtype=states.mean.dtype, device=states.mean.device)
    first, *later = noise.unbind(-2)
    path = [states.mean + times(states.root, first)]
    for (A, L, b), between in zip(states.steps(num_steps), later, strict=True):
        path.append(times(A, path[-1]) + b + times(L, between))
    return torch.stack(path, -2)


def last_moments(states: States, num_steps: int, observed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean (*batch, D) and covariance (*batch, D, D) of z_T, or of the last state whose step counts."""
    mean, cov = states.mean, states.root @ states.root.mT
    for t, (A, L, b) in enumerate(states.steps(num_steps), 1):
        next_mean, next_cov = times(A, mean) + b, A @ cov @ A.mT + L @ L.mT
        if observed is not None:
            inside = observed[..., t, None]
            next_mean, next_cov = next_mean.where(inside, mean), next_cov.where(inside[..., None], cov)
        mean, cov = next_mean, next_cov
    return mean, cov


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrices (*batch, N, M) times vectors (*sample, *batch, M), the matrices never copied for each sample."""
    if matrix.shape[:-2].numel() == 1:
        product = vector @ matrix.reshape(matrix.shape[-2:]).mT
        return product.reshape(*(1,) * (matrix.dim() - 1 - vector.dim()), *product.shape)
    sample = vector.shape[: max(vector.dim() + 1 - matrix.dim(), 0)]
    columns = vector.reshape(sample.numel(), *vector.shape[len(sample) :]).movedim(0, -1)  # (*batch, M, samples)
    product = (matrix @ columns).movedim(-1, 0)
    return product.reshape(*sample, *product.shape[1:])
