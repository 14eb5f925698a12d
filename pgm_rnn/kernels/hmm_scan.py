"""A Markov chain with finitely many states by scans over time: O(log T) rounds in place of T steps, for a GPU.

    M_1(i, j) = p(z_1 = j) p(x_1 | j),   M_t(i, j) = p(z_t = j | z_{t-1} = i) p(x_t | j)
    (M_1 ... M_t)(i, j) = p(z_t = j, x_{1:t})   for every i,      sum_j (M_{t+1} ... M_T)(i, j) = p(x_{t+1:T} | z_t = i)

The products are those of matrices of logarithms, in float64, so that no state is lost to underflow. A round costs K^3
exponentials per element where the recursion costs K^2 products: on a CPU `pgm_rnn.kernels.hmm` is faster. Everything
is torch, which autograd differentiates; the gradient in a probability of zero is zero.

The best path takes the largest of the sums in place of the log of their exponentials. Each state's best predecessor is
a map from states to states, and the path is the composition of these maps from its end.

Hassan, Särkkä & García-Fernández (2021), in logarithms; arguments are those of `pgm_rnn.kernels.hmm`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels import doors
from pgm_rnn.kernels.hmm_losses import largest_future
from pgm_rnn.kernels.hmm_results import Backward, Forward
from pgm_rnn.kernels.hmm_tables import one_or_each, two_axes
from pgm_rnn.kernels.scan import Elements, associative_scan, with_identities
from pgm_rnn.sequences import length_mask

ZERO = -1e30
"""Stands for log 0, so that no difference of two of them is NaN."""
LARGEST_PRODUCT = 2**26
"""Numbers that a product of matrices of logarithms holds at once; more rows are multiplied in several parts."""


CHEAP = 2**25
"""Largest number of exponentials for a step of a scan that a GPU does in less time than it takes to start the few
operations of a step of the recursion, about 0.1 ms: reckoned from a throughput of 10^12 a second, not measured."""


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


def pays(log_emission: Tensor) -> bool:
    """Whether a scan is expected to take less time than the recursion: on CUDA, with few enough states."""
    batch, _, num_states = log_emission.shape
    return log_emission.device.type == "cuda" and batch * num_states**3 <= CHEAP


def smooth(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """p(z_t | x_{1:T}), (B, T, K), 0 in the padding and for an impossible sequence.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    doors.finite_chain(initial, transition, log_emission, lengths)
    log_emission = _read(log_emission, lengths)
    log_joint = _log_joint(initial, transition, log_emission)
    found = log_joint + _log_future(_moves(transition, log_emission), lengths)
    return _beliefs(found, lengths).to(log_emission.dtype)


def forward(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Forward:
    """The result of `hmm.forward`, by a scan; `hmm.backward` then takes one, too.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    found = filter(initial, transition, log_emission, lengths)
    log_emission = _read(log_emission, lengths)
    shift = log_emission.amax(-1)
    shift = shift.where(shift.abs() != torch.inf, 0.0)
    inside = length_mask(lengths, log_emission.shape[1])
    emission = (log_emission - shift[..., None]).exp().where(inside[..., None], 0.0)
    scale = (found.log_normalizers - shift).exp().where(inside, 0.0)
    return Forward(found.log_normalizers, found.filtered, emission, scale, scanned=True)


def backward(transition: Tensor, lengths: Tensor, result: Forward) -> Backward:
    """The result of `hmm.backward` after `forward`, by a scan.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    result = doors.finite_result(transition, lengths, result)
    dtype, inside = result.emission.dtype, length_mask(lengths, result.emission.shape[1])
    log_scale, log_emission = _log(result.scale.double()), _log(result.emission.double())
    log_emission = log_emission.where(inside[..., None], 0.0)
    log_scale = log_scale.where(inside & (result.scale > 0), 0.0)
    later = log_scale.flip(1).cumsum(1).flip(1) - log_scale  # log of the scales after a step
    log_beta = _log_future(_moves(transition, log_emission), lengths) - later[..., None]
    future = (log_emission + log_beta - log_scale[..., None]).exp().clamp(max=largest_future(dtype))
    smoothed = result.filtered * log_beta.exp()
    there = (inside & (result.scale > 0))[..., None]
    return Backward(smoothed.where(there, 0.0).to(dtype), future.where(there, 0.0).to(dtype))


def most_likely_states(
    log_initial: Tensor, log_transition: Tensor, log_emission: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """The result of `hmm.most_likely_states`, by scans; ties go to the lower state.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    doors.finite_chain(log_initial, log_transition, log_emission, lengths)
    batch, num_steps, num_states = log_emission.shape
    rows = _read(log_emission, lengths)
    moves = _logs(one_or_each(log_transition, batch)).expand(batch, num_steps - 1, -1, -1)
    elements = torch.cat([_first(_logs(two_axes(log_initial)), rows), _weighed(moves, rows)], 1)
    best = associative_scan(best_product, (elements,), 1)[0][:, :, 0]  # log of the best path to each state
    came_from = (best[:, :-1, :, None] + moves).argmax(-2)  # (B, T - 1, K)
    log_prob, last = best.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, num_states))[:, 0].max(-1)
    itself = torch.arange(num_states, device=rows.device)
    ends = itself.expand(batch, 1, -1)
    inside = length_mask(lengths, num_steps)
    maps = torch.cat([came_from.where(inside[:, 1:, None], itself), ends], 1)
    (back,) = associative_scan(composed, (maps,), 1, reverse=True)  # from the end of a sequence to step t
    states = back.gather(-1, last[:, None, None].expand(-1, num_steps, 1))[..., 0]
    log_prob = log_prob.where(log_prob > 0.5 * ZERO, -torch.inf)
    return states.where(inside, 0), log_prob.to(log_emission.dtype)


def best_product(earlier: Elements, later: Elements) -> Elements:
    """max_k a_ik + b_kj of matrices of logarithms (..., K, K), in parts as `log_product`."""
    return _product(earlier, later, torch.amax)


def _product(earlier: Elements, later: Elements, over: Callable[[Tensor, int], Tensor]) -> Elements:
    (a,), (b,) = earlier, later
    rows = max(1, LARGEST_PRODUCT // max(1, b.numel()))
    parts = [over(part[..., :, :, None] + b[..., None, :, :], -2) for part in a.split(rows, dim=-2)]
    return (torch.cat(parts, -2).clamp(min=ZERO),)


def composed(earlier: Elements, later: Elements) -> Elements:
    """Maps of states (..., K), the later one applied first: earlier[later[k]]."""
    (a,), (b,) = earlier, later
    return (a.gather(-1, b),)


def log_product(earlier: Elements, later: Elements) -> Elements:
    """log sum_k exp(a_ik + b_kj) of matrices of logarithms (..., K, K), a few rows i at a time where they are large."""
    return _product(earlier, later, torch.logsumexp)


def _log_joint(initial: Tensor, transition: Tensor, log_emission: Tensor) -> Tensor:
    """log p(z_t, x_{1:t}), (B, T, K), float64."""
    return associative_scan(log_product, (_elements(initial, transition, log_emission),), 1)[0][:, :, 0]


def _log_future(moves: Tensor, lengths: Tensor) -> Tensor:
    """log p(x_{t+1:T} | z_t), (B, T, K), from log M_2, ..., log M_T (B, T - 1, K, K); 0 for the last step."""
    last = moves.new_zeros(len(moves), 1, moves.shape[-1])
    if not moves.shape[1]:
        return last
    unit = torch.full(moves.shape[-2:], ZERO, dtype=moves.dtype, device=moves.device).fill_diagonal_(0.0)
    ended = (lengths - 1).clamp(min=0)
    (suffixes,) = associative_scan(log_product, with_identities((moves,), (unit,), ended, 1), 1, reverse=True)
    return torch.cat([suffixes.logsumexp(-1), last], 1)


def _moves(transition: Tensor, log_emission: Tensor) -> Tensor:
    """log M_2, ..., log M_T, (B, T - 1, K, K), float64."""
    batch, num_steps, _ = log_emission.shape
    moves = _log(one_or_each(transition, batch).double()).expand(batch, num_steps - 1, -1, -1)
    return _weighed(moves, log_emission)


def _elements(initial: Tensor, transition: Tensor, log_emission: Tensor) -> Tensor:
    """log M_t, (B, T, K, K), float64."""
    first = _first(_log(two_axes(initial).double()), log_emission)
    return torch.cat([first, _moves(transition, log_emission)], 1)


def _first(log_initial: Tensor, log_emission: Tensor) -> Tensor:
    """log M_1, (B, 1, K, K), from log p(z_1), (P, K)."""
    batch, _, num_states = log_emission.shape
    rows = log_initial.repeat(batch // len(log_initial), 1)[:, None, None].expand(-1, 1, num_states, -1)
    return (rows + _logs(log_emission)[:, :1, None]).clamp(min=ZERO)


def _weighed(moves: Tensor, log_emission: Tensor) -> Tensor:
    """log M_2, ..., log M_T from the logarithms of the moves, (B, T - 1, K, K)."""
    return (moves + _logs(log_emission)[:, 1:, None]).clamp(min=ZERO)


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
