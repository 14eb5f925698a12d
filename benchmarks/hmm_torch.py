"""The HMM of this package and Pyro's DiscreteHMM, which scans in parallel over time by log-space products."""

from collections.abc import Callable

import numpy as np
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.hmm_problem import LOG_SQRT_2PI, Problem, Recursion
from benchmarks.peers import Peer
from pgm_rnn.kernels import hmm


def ours(problem: Problem) -> Peer:
    """The kernels between torch's softmax and densities."""
    start, moves, loc, x = _tensors(problem)
    x = x.detach()
    lengths = torch.full((len(x),), x.shape[1])

    def value() -> Tensor:
        transition = moves.softmax(-1)
        log_emission = _log_densities(x, loc)
        return hmm.log_marginal_likelihood(start.softmax(-1) @ transition, transition, log_emission, lengths).sum()

    return _peer(value, (start, moves, loc))


def _log_densities(x: Tensor, loc: Tensor) -> Tensor:
    """-(x - loc)^2 / 2 - log sqrt(2 pi) multiplied out, (B, T, K): one matrix product is torch's fastest way."""
    features = torch.stack([x, x.square()], dim=-1)  # (B, T, 2)
    table = torch.stack([loc, torch.full_like(loc, -0.5)], dim=-1)  # (K, 2)
    return F.linear(features, table, -0.5 * loc.square() - LOG_SQRT_2PI)


def ours_given_densities(given: Recursion) -> Peer:
    """The kernels alone."""
    tensors = _tensors(given)
    lengths = torch.full(tensors[-1].shape[:1], tensors[-1].shape[1])
    return _peer(lambda: hmm.log_marginal_likelihood(*tensors, lengths).sum(), tensors)


def pyro(problem: Problem) -> Peer:
    """Pyro's own distribution."""
    start, moves, loc, x = _tensors(problem)
    x = x.detach()

    def value() -> Tensor:
        return dist.DiscreteHMM(start, moves, dist.Normal(loc, 1.0), duration=x.shape[1]).log_prob(x).sum()

    return _peer(value, (start, moves, loc))


def _tensors(arrays: Problem | Recursion) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.array(array)).requires_grad_() for array in arrays)


def _peer(value: Callable[[], Tensor], arguments: tuple[Tensor, ...]) -> Peer:
    return Peer(torch.no_grad()(value), lambda: torch.autograd.grad(value(), arguments))
