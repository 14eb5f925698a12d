"""Recursions of a hidden semi-Markov chain: scaled forward, backward, Viterbi, draws, and exact gradients.

A segment of state k lasts d steps with probability durations[k, d - 1], then another begins:

    a_t(k, r) = p(x_t | k) [a_{t-1}(k, r + 1) + e_t(k) p(d = r | k)] / c_t     r steps left, this one included
    e_t(k) = sum_i a_{t-1}(i, 1) p(k | i),   e_1 = p(z_1),   log p(x_{1:T}) = sum_t log c_t

That is O(T K (K + D)). The first segment begins at step 1. The last one may go on past the end: its duration is at
least the steps that are seen, so its factor is p(d >= steps). Sources: Yu (2010), the residual-time model; Guédon
(2003) for the last segment.

Gradients of log p(x_{1:T}) are expected counts, which one backward recursion gives. The recursions are scaled and run
in float64. What they lose by underflow is bounded: by the likelihood that any path could gain later, or by the backward
recursion. A sequence that exceeds the bound is computed in logarithms (`hsmm_differentiable`), as are all on
other devices than the CPU.

Arguments throughout:
    initial: p(z_1), (K,).
    transition: p(next state = j | state = i), (K, K).
    durations: p(d = 1), ..., p(d = D) in each state, (K, D).
    log_emission: log p(x_t | z_t = k), (B, T, K).
    lengths: steps of each sequence, (B,), int64, 1 <= lengths <= T.
"""

import math
from functools import cache, partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.kernels import doors, hsmm_differentiable, second_order, transforms
from pgm_rnn.kernels.threads import run_compiled
from pgm_rnn.sequences import length_mask

__all__ = [
    "Forward",
    "Posterior",
    "forward",
    "log_marginal_likelihood",
    "most_likely_states",
    "posterior",
    "sample_states",
    "survival",
]

_SAFE = 550.0
"""Nats that a path may gain on all others before something that underflowed, below 1e-300, could matter."""
_SAFE_VALUE = math.exp(_SAFE)


class Forward(NamedTuple):
    """Result of the forward recursion.

    Attributes:
        log_normalizers: log c_t = log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding, -inf for an impossible step.
        filtered: p(z_t | x_{1:t}), (B, T, K), 0 in the padding and from an impossible step on.
        predicted: p(z_t | x_{1:t-1}), (B, T, K), the same.
    """

    log_normalizers: Tensor
    filtered: Tensor
    predicted: Tensor


class Posterior(NamedTuple):
    """Expected counts given x_{1:T}, one set for each sequence.

    Attributes:
        log_prob: log p(x_{1:T}), (B,), nats.
        first: p(z_1 = k), (B, K).
        moves: expected number of segments of i that one of j follows within the data, (B, K, K).
        durations: expected number of segments of each duration, (B, K, D). The last one counts with the law of its
            whole duration, given that it lasts to the end of the data at least.
        states: p(z_t = k), (B, T, K), 0 in the padding.
    """

    log_prob: Tensor
    first: Tensor
    moves: Tensor
    durations: Tensor
    states: Tensor


def log_marginal_likelihood(
    initial: Tensor, transition: Tensor, durations: Tensor, log_emission: Tensor, lengths: Tensor
) -> Tensor:
    """log p(x_{1:T}) of each sequence, (B,), nats; differentiable in the first four arguments, any number of times.

    An impossible sequence has -inf and gradients of zero.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    arguments = (initial, transition, durations, log_emission)
    if transforms.is_transformed((*arguments, lengths)):
        return hsmm_differentiable.log_marginal_likelihood(*arguments, lengths)
    _check(*arguments, lengths)
    if log_emission.device.type != "cpu":
        return hsmm_differentiable.log_marginal_likelihood(*arguments, lengths)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments):
        value: Tensor = _LogMarginalLikelihood.apply(*arguments, lengths)
        return value
    tables = _Tables.of(*arguments)
    steps = _run_forward(tables, lengths, stride=0)
    value = steps.log_normalizers.sum(-1)
    unsafe = ~(_gained(tables, steps, lengths)[:, -1] < _SAFE)
    if bool(unsafe.any()):
        value[unsafe] = _counted(tables.of_rows(unsafe), lengths[unsafe]).log_prob
    return value.to(log_emission.dtype)


class _LogMarginalLikelihood(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        *parts, lengths = arguments
        ctx.counted = _counted(_Tables.of(*parts), lengths)
        value = ctx.counted.log_prob.to(parts[3].dtype)
        ctx.save_for_backward(*arguments, value)
        return value

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *parts, lengths, value = ctx.saved_tensors
        if torch.is_grad_enabled():
            again = partial(hsmm_differentiable.log_marginal_likelihood, lengths=lengths)
            return *second_order.gradients(again, parts, grad, value), None
        _, *tables, states = ctx.counted
        weights = grad.double()
        sums = [torch.tensordot(weights, table, 1) for table in tables]
        found = (*sums, states * weights[:, None, None])
        return *(part.to(like.dtype) for part, like in zip(found, parts, strict=True)), None


def forward(initial: Tensor, transition: Tensor, durations: Tensor, log_emission: Tensor, lengths: Tensor) -> Forward:
    """p(z_t | x_{1:t}), p(z_t | x_{1:t-1}) and log p(x_t | x_{1:t-1}) for t = 1..T.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    _check(initial, transition, durations, log_emission, lengths)
    tables = _Tables.of(initial, transition, durations, log_emission)
    if log_emission.device.type != "cpu":
        return _in_dtype(_forward_in_logs(tables, lengths), log_emission)
    steps = _run_forward(tables, lengths, stride=0)
    result = Forward(steps.log_normalizers, steps.factor * steps.predicted, steps.predicted)
    unsafe = ~(_gained(tables, steps, lengths)[:, -1] < _SAFE)
    if bool(unsafe.any()):
        for part, other in zip(result, _forward_in_logs(tables.of_rows(unsafe), lengths[unsafe]), strict=True):
            part[unsafe] = other
    return _in_dtype(result, log_emission)


def posterior(
    initial: Tensor, transition: Tensor, durations: Tensor, log_emission: Tensor, lengths: Tensor
) -> Posterior:
    """log p(x_{1:T}) and the expected counts given x_{1:T}: Yu (2010); Guédon (2003) for the last segment.

    An impossible sequence has -inf and counts of zero.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    _check(initial, transition, durations, log_emission, lengths)
    tables = _Tables.of(initial, transition, durations, log_emission)
    log_prob, first, moves, spells, states = _counted(tables, lengths)
    counts = (first * tables.initial, moves * tables.transition, spells * tables.durations)
    return Posterior(*(part.to(log_emission.dtype) for part in (log_prob, *counts, states)))


def most_likely_states(
    initial: Tensor, transition: Tensor, durations: Tensor, log_emission: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """argmax over z_{1:T} of p(x_{1:T}, z_{1:T}), (B, T), 0 in the padding, and its log, (B,): Guédon (2003).

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    _check(initial, transition, durations, log_emission, lengths)
    tables = _Tables.of(initial, transition, durations, log_emission.cpu())
    logs = [part.cpu().log() for part in (tables.initial, tables.transition, tables.durations)]
    shape = tables.log_emission.shape
    states, log_prob = torch.zeros(shape[:2], dtype=torch.int64), tables.log_emission.new_empty(len(lengths))
    space = (torch.empty(shape, dtype=torch.float64), *(torch.empty(shape, dtype=torch.int32) for _ in range(2)))
    later = survival(tables.durations.cpu()).log()
    arguments = (*logs, later, tables.log_emission, lengths.cpu(), *space, states, log_prob)
    run_compiled(_compiled().most_likely_states, *arguments)
    device = log_emission.device
    return states.to(device), log_prob.to(device, log_emission.dtype)


def sample_states(
    initial: Tensor, transition: Tensor, durations: Tensor, log_emission: Tensor, lengths: Tensor, uniforms: Tensor
) -> Tensor:
    """Paths from p(z_{1:T} | x_{1:T}), (num_samples, B, T), int64, 0 in the padding and for impossible sequences.

    Args:
        initial: as above, like the next four.
        transition: p(next state = j | state = i).
        durations: p(d | state).
        log_emission: log p(x_t | z_t = k).
        lengths: steps of each sequence.
        uniforms: numbers in [0, 1), two for each step, (num_samples, B, T, 2), float64.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    _check(initial, transition, durations, log_emission, lengths)
    tables = _Tables.of(initial, transition, durations, log_emission)
    doors.tensor("uniforms", uniforms, tables.log_emission, doors.ANY, *log_emission.shape[:2], 2)
    steps = tables.log_emission.shape[1]
    logs = hsmm_differentiable.recursion(*tables, lengths)
    inside = length_mask(lengths, steps)[..., None]
    seen = hsmm_differentiable.logs(tables.log_emission).where(inside, 0.0)
    states = torch.zeros(uniforms.shape[:3], dtype=torch.int64)
    parts = (tables.transition.log(), tables.durations.log(), survival(tables.durations).log(), seen)
    arguments = [part.cpu().contiguous() for part in (*parts, logs.entering, logs.leaving, lengths, uniforms)]
    run_compiled(_compiled().sample_states, *arguments, states)
    return states.to(log_emission.device)


def survival(durations: Tensor) -> Tensor:
    """p(d >= 1), ..., p(d >= D) from p(d = 1), ..., p(d = D), (..., D)."""
    return durations.flip(-1).cumsum(-1).flip(-1)


class _Tables(NamedTuple):
    """Arguments without graph, in float64."""

    initial: Tensor
    transition: Tensor
    durations: Tensor
    log_emission: Tensor

    @staticmethod
    def of(*arguments: Tensor) -> "_Tables":
        return _Tables(*(tensor.detach().double().contiguous() for tensor in arguments))

    def of_rows(self, rows: Tensor) -> "_Tables":
        return self._replace(log_emission=self.log_emission[rows])


class _Steps(NamedTuple):
    """What the scaled forward recursion leaves: see `hsmm_compiled.forward`."""

    log_normalizers: Tensor
    entering: Tensor
    factor: Tensor
    predicted: Tensor
    leaving: Tensor
    marks: Tensor


def _run_forward(tables: _Tables, lengths: Tensor, stride: int) -> _Steps:
    """The scaled recursion; beliefs are kept at every `stride`-th step, or nowhere if that is 0."""
    batch, num_steps, num_states = tables.log_emission.shape
    num_marks = -(-num_steps // stride) if stride else 0
    zeros = torch.zeros_like(tables.log_emission)
    entering, factor, predicted, leaving = zeros, zeros.clone(), zeros.clone(), zeros.clone()
    marks = torch.empty(batch, num_marks, num_states, tables.durations.shape[1], dtype=torch.float64)
    terms = torch.zeros(batch, num_steps, dtype=torch.float64)
    steps = _Steps(terms, entering, factor, predicted, leaving, marks)
    run_compiled(_compiled().forward, *tables, lengths, *steps, max(stride, 1))
    return steps


def _gained(tables: _Tables, steps: _Steps, lengths: Tensor) -> Tensor:
    """Nats that a path could at most gain on the sum of all, up to each step, (B, T); infinite if impossible."""
    best = tables.log_emission.amax(-1) - steps.log_normalizers
    return best.where(length_mask(lengths, best.shape[1]), 0.0).cumsum(1)


def _counted(tables: _Tables, lengths: Tensor) -> Posterior:
    """log p(x_{1:T}) and its gradients in the tables of each sequence and in log_emission, all float64."""
    if tables.log_emission.device.type != "cpu":
        return _counted_in_logs(tables, lengths)
    batch, num_steps, num_states = tables.log_emission.shape
    stride = math.isqrt(num_steps - 1) + 1
    steps = _run_forward(tables, lengths, stride)
    found = Posterior(
        steps.log_normalizers.sum(-1),
        torch.zeros(batch, num_states, dtype=torch.float64),
        torch.zeros(batch, num_states, num_states, dtype=torch.float64),
        torch.zeros(batch, *tables.durations.shape, dtype=torch.float64),
        torch.zeros_like(tables.log_emission),
    )
    highest = torch.zeros(batch, dtype=torch.float64)
    parts = (steps.entering, steps.factor, steps.leaving, steps.marks)
    outputs = (found.states, found.first, found.moves, found.durations, highest)
    run_compiled(_compiled().backward, tables.transition, tables.durations, lengths, *parts, stride, *outputs)
    unsafe = ~((highest < _SAFE_VALUE) & (found.log_prob > -torch.inf))
    if bool(unsafe.any()):
        again = _counted_in_logs(tables.of_rows(unsafe), lengths[unsafe])
        for part, other in zip(found, again, strict=True):
            part[unsafe] = other
    return found


@torch.enable_grad()
def _counted_in_logs(tables: _Tables, lengths: Tensor) -> Posterior:
    """The same by autograd through the recursion in logarithms, every sequence with tables of its own."""
    batch = len(lengths)
    initial, transition, durations = (
        table.expand(batch, *table.shape).clone().requires_grad_() for table in tables[:3]
    )
    leaves = initial, transition, durations, tables.log_emission.clone().requires_grad_()
    value = hsmm_differentiable.log_marginal_likelihood(*leaves, lengths)
    return Posterior(value.detach(), *torch.autograd.grad(value.sum(), leaves))


def _forward_in_logs(tables: _Tables, lengths: Tensor) -> Forward:
    """`forward` of the recursion in logarithms."""
    inside = length_mask(lengths, tables.log_emission.shape[1])
    predicted = hsmm_differentiable.recursion(*tables, lengths).predicted
    states = predicted + hsmm_differentiable.logs(tables.log_emission)
    total = states.logsumexp(-1)
    total = total.where(total > 0.5 * hsmm_differentiable.ZERO, -torch.inf)  # log p(x_{1:t})
    before = torch.cat([torch.zeros_like(total[:, :1]), total[:, :-1]], 1)
    terms = (total - before).where(inside & (before > -torch.inf), 0.0)

    def relative(logs: Tensor, to: Tensor) -> Tensor:
        there = inside & (total > -torch.inf)
        return (logs - to.where(there, 0.0)[..., None]).exp().where(there[..., None], 0.0)

    return Forward(terms, relative(states, total), relative(predicted, before))


def _in_dtype(result: Forward, like: Tensor) -> Forward:
    return Forward(*(part.to(like.dtype) for part in result))


def _check(initial: Tensor, transition: Tensor, durations: Tensor, log_emission: Tensor, lengths: Tensor) -> None:
    """Raise unless the arguments fit each other.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    batch, num_steps, num_states = doors.main_tensor("log_emission", log_emission, "B, T, K")
    doors.tensor("initial", initial, log_emission, num_states)
    doors.tensor("transition", transition, log_emission, num_states, num_states)
    doors.tensor("durations", durations, log_emission, num_states, doors.ANY)
    if durations.shape[1] == 0:
        raise ValueError(f"expected durations with at least one column, got {tuple(durations.shape)}")
    doors.lengths(lengths, log_emission, batch, num_steps)


@cache
def _compiled() -> ModuleType:
    """The compiled functions; the first call imports numba."""
    from pgm_rnn.kernels import hsmm_compiled

    return hsmm_compiled
