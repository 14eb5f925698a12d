"""A Markov chain with finitely many states by scans over time: O(log T) rounds in place of T steps, for a GPU.

    M_1(i, j) = p(z_1 = j) p(x_1 | j),   M_t(i, j) = p(z_t = j | z_{t-1} = i) p(x_t | j)
    (M_1 ... M_t)(i, j) = p(z_t = j, x_{1:t})   for every i,      sum_j (M_{t+1} ... M_T)(i, j) = p(x_{t+1:T} | z_t = i)

The products are those of matrices of logarithms, in float64, so that no state is lost to underflow. A round costs K^3
exponentials per element where the recursion costs K^2 products: on a CPU `pgm_rnn.kernels.hmm` is faster. Everything
is torch, which autograd differentiates; the gradient in a probability of zero is zero.

Hassan, Särkkä & García-Fernández (2021), in logarithms; arguments are those of `pgm_rnn.kernels.hmm`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels import doors
from pgm_rnn.kernels.hmm_tables import one_or_each, two_axes
from pgm_rnn.kernels.scan import Elements, associative_scan, with_identities
from pgm_rnn.sequences import length_mask

ZERO = -1e30
"""Stands for log 0, so that no difference of two of them is NaN."""
LARGEST_PRODUCT = 2**26
"""Numbers that a product of matrices of logarithms holds at once; more rows are multiplied in several parts."""


class Filtered(NamedTuple):
    """Result of `filter`, 0 in the padding.

    Attributes:
        log_normalizers: log p(x_t | x_{1:t-1}), (B, T), nats.
        filtered: p(z_t | x_{1:t}), (B, T, K); 0 from the step on at which a sequence becomes impossible.
    """

    log_normalizers: Tensor
    filtered: Tensor


def log_marginal_likelihood(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """log p(x_{1:T}), (B,), nats, differentiable in the first three; an impossible sequence has -inf.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    doors.finite_chain(initial, transition, log_emission, lengths)
    return _last(_log_joint(initial, transition, _read(log_emission, lengths)), lengths).to(log_emission.dtype)


def filter(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Filtered:
    """Beliefs p(z_t | x_{1:t}) and normalisers of every step.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    doors.finite_chain(initial, transition, log_emission, lengths)
    log_emission = _read(log_emission, lengths)
    log_joint = _log_joint(initial, transition, log_emission)
    filtered = _beliefs(log_joint, lengths)
    tables = one_or_each(transition, len(log_emission)).double()
    moved = (filtered[:, :-1, None] @ tables)[..., 0, :]  # (B, T - 1, K)
    start = two_axes(initial).double().repeat(len(log_emission) // len(two_axes(initial)), 1)
    predicted = torch.cat([start[:, None], moved], 1)
    log_normalizers = (_log(predicted) + _logs(log_emission)).logsumexp(-1)
    log_normalizers = log_normalizers.where(log_normalizers > 0.5 * ZERO, -torch.inf)
    inside = length_mask(lengths, log_emission.shape[1])
    after = (filtered[:, :-1].sum(-1) == 0) & inside[:, 1:]  # steps after an impossible one
    inside = inside & ~torch.cat([torch.zeros_like(inside[:, :1]), after], 1)
    dtype = log_emission.dtype
    return Filtered(log_normalizers.where(inside, 0.0).to(dtype), filtered.to(dtype))


def smooth(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """p(z_t | x_{1:T}), (B, T, K), 0 in the padding and for an impossible sequence.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    doors.finite_chain(initial, transition, log_emission, lengths)
    log_emission = _read(log_emission, lengths)
    elements = _elements(initial, transition, log_emission)
    (prefixes,) = associative_scan(log_product, (elements,), 1)
    unit = torch.full(elements.shape[-2:], ZERO, dtype=elements.dtype, device=elements.device).fill_diagonal_(0.0)
    (suffixes,) = associative_scan(log_product, with_identities((elements,), (unit,), lengths, 1), 1, reverse=True)
    future = suffixes[:, 1:].logsumexp(-1)  # log p(x_{t+1:T} | z_t), t < T
    future = torch.cat([future, torch.zeros_like(elements[:, :1, 0])], 1)
    return _beliefs(prefixes[:, :, 0] + future, lengths).to(log_emission.dtype)


def log_product(earlier: Elements, later: Elements) -> Elements:
    """log sum_k exp(a_ik + b_kj) of matrices of logarithms (..., K, K), a few rows i at a time where they are large."""
    (a,), (b,) = earlier, later
    rows = max(1, LARGEST_PRODUCT // max(1, b.numel()))
    parts = [(part[..., :, :, None] + b[..., None, :, :]).logsumexp(-2) for part in a.split(rows, dim=-2)]
    return (torch.cat(parts, -2).clamp(min=ZERO),)


def _log_joint(initial: Tensor, transition: Tensor, log_emission: Tensor) -> Tensor:
    """log p(z_t, x_{1:t}), (B, T, K), float64."""
    return associative_scan(log_product, (_elements(initial, transition, log_emission),), 1)[0][:, :, 0]


def _elements(initial: Tensor, transition: Tensor, log_emission: Tensor) -> Tensor:
    """log M_t, (B, T, K, K), float64."""
    batch, num_steps, num_states = log_emission.shape
    start = _log(two_axes(initial).double())
    start = start.repeat(batch // len(start), 1)[:, None, None].expand(-1, 1, num_states, -1)
    moves = _log(one_or_each(transition, batch).double()).expand(batch, num_steps - 1, -1, -1)
    return (torch.cat([start, moves], 1) + _logs(log_emission)[:, :, None]).clamp(min=ZERO)


def _read(log_emission: Tensor, lengths: Tensor) -> Tensor:
    """log p(x_t | z_t) with 0 in the padding, whatever stands there."""
    return log_emission.where(length_mask(lengths, log_emission.shape[1])[..., None], 0.0)


def _beliefs(log_joint: Tensor, lengths: Tensor) -> Tensor:
    """Normalised over states, 0 in the padding and where all states are impossible."""
    possible = log_joint.amax(-1, keepdim=True) > 0.5 * ZERO
    inside = length_mask(lengths, log_joint.shape[1])[..., None]
    return log_joint.softmax(-1).where(possible & inside, 0.0)


def _last(log_joint: Tensor, lengths: Tensor) -> Tensor:
    last = log_joint.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, log_joint.shape[-1]))[:, 0].logsumexp(-1)
    return last.where(last > 0.5 * ZERO, -torch.inf)


def _log(probs: Tensor) -> Tensor:
    return probs.where(probs > 0, 1.0).log().where(probs > 0, ZERO)


def _logs(log_emission: Tensor) -> Tensor:
    """log p(x_t | z_t) in float64, `ZERO` in place of -inf."""
    return log_emission.double().clamp(min=ZERO)
