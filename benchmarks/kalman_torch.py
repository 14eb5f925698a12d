"""The Kalman filter of this package, its compiled recursions alone, and Pyro's GaussianHMM."""

from collections.abc import Callable

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from benchmarks.kalman_problem import Problem
from benchmarks.peers import Peer
from pgm_rnn.kernels import kalman


def ours(problem: Problem) -> Peer:
    """The kernels and what makes covariances of factors."""
    *parameters, x = _tensors(problem)
    x = x.detach()
    lengths = torch.full((len(x),), x.shape[1])
    return _peer(lambda: kalman.log_marginal_likelihood(_chain(*parameters), x, lengths).sum(), parameters)


def bare(problem: Problem) -> Peer:
    """The recursions alone, forward and backward: no autograd, and nothing made of their results but the value."""
    with torch.no_grad():
        *parameters, x = _tensors(problem)
        lengths = torch.full((len(x),), x.shape[1])
        chain = kalman.GaussianChain(*(part.contiguous() for part in _chain(*parameters) if part is not None))

    @torch.no_grad()
    def gradient() -> tuple[Tensor, ...]:
        result = kalman.filter(chain, x, lengths)
        return *kalman.scores(chain, lengths, result), *kalman.information(chain, lengths, result)

    value = torch.no_grad()(lambda: kalman.filter(chain, x, lengths).log_normalizers.sum())
    return Peer(value, gradient, arranged=lambda gradients: ())


def pyro(problem: Problem) -> Peer:
    """Pyro's own distribution, which scans in parallel over time."""
    *parameters, x = _tensors(problem)
    x = x.detach()
    mean, A, L, C, S = parameters
    state, output = (torch.zeros(size, dtype=x.dtype) for size in (len(A), len(S)))
    identity = torch.eye(len(A), dtype=x.dtype)

    def value() -> Tensor:
        noise = dist.MultivariateNormal(state, L @ L.mT), dist.MultivariateNormal(output, S @ S.mT)
        initial = dist.MultivariateNormal(mean, identity)
        return dist.GaussianHMM(initial, A.mT, noise[0], C.mT, noise[1], duration=x.shape[1]).log_prob(x).sum()

    return _peer(value, parameters)


def _chain(mean: Tensor, A: Tensor, L: Tensor, C: Tensor, S: Tensor) -> kalman.GaussianChain:
    Q = L @ L.mT
    return kalman.GaussianChain(A @ mean, A @ A.mT + Q, A, Q, C, S @ S.mT)


def _tensors(problem: Problem) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.array(array)).requires_grad_() for array in problem)


def _peer(value: Callable[[], Tensor], arguments: list[Tensor]) -> Peer:
    return Peer(torch.no_grad()(value), lambda: torch.autograd.grad(value(), arguments))
