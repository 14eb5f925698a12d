"""Recursions of M Markov chains that are observed together: forward, backward, Viterbi, draws, and exact gradients.

    p(z_t | z_{t-1}) = prod_m p(z_t^m | z_{t-1}^m),   x_t ~ p(x_t | z_t^1, ..., z_t^M)

z_t = (z_t^1, ..., z_t^M) has N = K_1 ... K_M values. One chain moves at a time, along its own axis of the belief, so
that a step costs O(N sum_m K_m) in place of O(N^2): Ghahramani & Jordan (1997), appendix B. A value of z_t is a
number in 0..N - 1, in which the state of the last chain changes fastest (`digits`).

Gradients of log p(x_{1:T}) are expected counts, which one backward recursion gives. The compiled recursions keep
beliefs as logarithms and lose no state to underflow.

Arguments throughout:
    sizes: K_1, ..., K_M.
    initial: p(z_1^m) of every chain, one after the other, (P, sum of K_m).
    transition: p(z_t^m = j | z_{t-1}^m = i) of every chain, row by row, one table after the other,
        (P, 1 or T - 1, sum of K_m^2).
    log_emission: log p(x_t | z_t), (B, T, N).
    lengths: steps of each sequence, (B,), int64, 1 <= lengths <= T.

P is 1, or B if every sequence has its own tables.
"""

import math
from collections.abc import Sequence
from functools import cache, partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.kernels import doors, factorial_differentiable, second_order, transforms
from pgm_rnn.kernels.factorial_differentiable import unpacked
from pgm_rnn.kernels.threads import run_compiled

__all__ = [
    "Forward",
    "Posterior",
    "digits",
    "forward",
    "log_marginal_likelihood",
    "most_likely_states",
    "packed",
    "posterior",
    "sample_states",
    "unpacked",
]


class Forward(NamedTuple):
    """Result of the forward recursion.

    Attributes:
        log_normalizers: log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding, -inf for an impossible step.
        log_filtered: log p(z_t | x_{1:t}), (B, T, N), -inf in the padding and from an impossible step on.
        log_predicted: log p(z_t | x_{1:t-1}), (B, T, N), the same.
    """

    log_normalizers: Tensor
    log_filtered: Tensor
    log_predicted: Tensor

    @property
    def filtered(self) -> Tensor:
        """p(z_t | x_{1:t}), (B, T, N)."""
        return self.log_filtered.exp()

    @property
    def predicted(self) -> Tensor:
        """p(z_t | x_{1:t-1}), (B, T, N)."""
        return self.log_predicted.exp()


class Posterior(NamedTuple):
    """Expected counts given x_{1:T}; zeros for an impossible sequence.

    Attributes:
        log_normalizers: log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding.
        first: p(z_1^m = k | x) of every chain, one after the other, (B, sum of K_m).
        moves: expected moves of every chain, (B, 1 or T - 1, sum of K_m^2): of all steps together where the tables are
            the same at every step, else of each.
        states: p(z_t | x), (B, T, N), 0 in the padding.
    """

    log_normalizers: Tensor
    first: Tensor
    moves: Tensor
    states: Tensor


def log_marginal_likelihood(
    sizes: Sequence[int], initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor
) -> Tensor:
    """log p(x_{1:T}) of each sequence, (B,), nats; differentiable in the three tables, any number of times.

    An impossible sequence has -inf and gradients of zero; so has a probability of zero.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    arguments = (initial, transition, log_emission)
    if transforms.is_transformed((*arguments, lengths)):
        return factorial_differentiable.log_marginal_likelihood(sizes, *arguments, lengths)
    _check(sizes, *arguments, lengths)
    if log_emission.device.type != "cpu":
        return factorial_differentiable.log_marginal_likelihood(sizes, *arguments, lengths)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments):
        value: Tensor = _LogMarginalLikelihood.apply(tuple(sizes), *arguments, lengths)
        return value
    return _run_forward(sizes, *arguments, lengths, keep=False).log_normalizers.sum(-1).to(log_emission.dtype)


class _LogMarginalLikelihood(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, sizes: tuple[int, ...], *arguments: Tensor) -> Tensor:
        initial, transition, log_emission, lengths = arguments
        ctx.sizes, ctx.found = sizes, _counted(sizes, initial, transition, log_emission, lengths)
        value = ctx.found.log_normalizers.sum(-1).to(log_emission.dtype)
        ctx.save_for_backward(*arguments, value)
        return value

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *parts, lengths, value = ctx.saved_tensors
        if torch.is_grad_enabled():
            again = partial(_of_tables, ctx.sizes, lengths)
            return None, *second_order.gradients(again, parts, grad, value), None
        weights, found = grad.double(), ctx.found
        first, moves = (
            _per_probability(counts * weights.view(-1, *[1] * (counts.dim() - 1)), table)
            for counts, table in zip((found.first, found.moves), parts[:2], strict=True)
        )
        states = found.states * weights[:, None, None]
        return None, first, moves, states.to(parts[2].dtype), None


def _of_tables(
    sizes: tuple[int, ...], lengths: Tensor, initial: Tensor, transition: Tensor, log_emission: Tensor
) -> Tensor:
    return factorial_differentiable.log_marginal_likelihood(sizes, initial, transition, log_emission, lengths)


def _per_probability(counts: Tensor, table: Tensor) -> Tensor:
    """Expected counts divided by their probabilities, summed over sequences that share them: a gradient."""
    sums = counts if len(table) == len(counts) else counts.sum(0, keepdim=True)
    if not table.numel():
        return torch.zeros_like(table)
    probs = table.detach().double()
    return (sums / probs.where(probs > 0, 1.0)).where(probs > 0, 0.0).to(table.dtype)


def forward(
    sizes: Sequence[int], initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor
) -> Forward:
    """log p(z_t | x_{1:t}), log p(z_t | x_{1:t-1}) and log p(x_t | x_{1:t-1}) for t = 1..T.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    _check(sizes, initial, transition, log_emission, lengths)
    found = _run_forward(sizes, initial, transition, log_emission, lengths, keep=True)
    return Forward(*(part.to(log_emission) for part in found))


def posterior(
    sizes: Sequence[int], initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor
) -> Posterior:
    """Expected counts given x_{1:T}: Ghahramani & Jordan (1997), appendix B.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    _check(sizes, initial, transition, log_emission, lengths)
    found = _counted(sizes, initial, transition, log_emission, lengths)
    return Posterior(*(part.to(log_emission) for part in found))


def most_likely_states(
    sizes: Sequence[int], initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """argmax over z_{1:T} of p(x_{1:T}, z_{1:T}), (B, T), 0 in the padding, and its log, (B,).

    The largest product over the states before is found one chain at a time, as the sum is.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    _check(sizes, initial, transition, log_emission, lengths)
    start, tables, seen = _prepared(sizes, initial, transition, log_emission)
    states = torch.zeros(seen.shape[:2], dtype=torch.int64)
    log_prob, best = seen.new_empty(len(seen)), torch.empty_like(seen)
    arguments = (_sizes(sizes), digits(sizes), start, tables.log(), seen, lengths.cpu(), best, states, log_prob)
    run_compiled(_compiled().most_likely_states, *arguments)
    return states.to(log_emission.device), log_prob.to(log_emission)


def sample_states(
    sizes: Sequence[int],
    initial: Tensor,
    transition: Tensor,
    log_emission: Tensor,
    lengths: Tensor,
    uniforms: Tensor,
) -> Tensor:
    """Paths from p(z_{1:T} | x_{1:T}), (num_samples, B, T), int64, 0 in the padding and for impossible sequences.

    Args:
        sizes: as above, like the next four.
        initial: p(z_1^m).
        transition: p(z_t^m | z_{t-1}^m).
        log_emission: log p(x_t | z_t).
        lengths: steps of each sequence.
        uniforms: numbers in [0, 1), one for each step, (num_samples, B, T), float64.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    _check(sizes, initial, transition, log_emission, lengths)
    doors.tensor("uniforms", uniforms, log_emission.double(), doors.ANY, *log_emission.shape[:2])
    found = _run_forward(sizes, initial, transition, log_emission, lengths, keep=True)
    states = torch.zeros(uniforms.shape, dtype=torch.int64)
    logs = transition.detach().double().cpu().contiguous().log()
    steps = (lengths.cpu(), found.log_normalizers, found.log_filtered, uniforms.cpu().contiguous())
    run_compiled(_compiled().sample_states, _sizes(sizes), digits(sizes), logs, *steps, states)
    return states.to(log_emission.device)


def digits(sizes: Sequence[int]) -> Tensor:
    """The states of the chains for each of the N values of z, (N, M), int64."""
    return torch.cartesian_prod(*[torch.arange(size) for size in sizes]).reshape(-1, len(sizes)).contiguous()


def packed(tables: Sequence[Tensor], *, square: bool) -> Tensor:
    """Rows (..., K_m) or tables (..., K_m, K_m) of every chain, one after the other in the last axis."""
    flat = [table.flatten(-2) if square else table for table in tables]
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in flat))
    return torch.cat([part.expand(*shape, -1) for part in flat], dim=-1)


def _run_forward(
    sizes: Sequence[int], initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, keep: bool
) -> Forward:
    """The compiled recursion in float64 on the CPU; beliefs of all steps, or of the last one alone."""
    start, tables, seen = _prepared(sizes, initial, transition, log_emission)
    batch, num_steps, num = seen.shape
    terms = seen.new_zeros(batch, num_steps)
    predicted = torch.full((batch, num_steps if keep else 1, num), -torch.inf, dtype=torch.float64)
    filtered = predicted.clone()
    arguments = (_sizes(sizes), start, tables, seen, lengths.cpu(), terms, predicted, filtered)
    run_compiled(_compiled().forward, *arguments)
    impossible = (terms == -torch.inf).cummax(1).values[..., None]
    if keep and bool(impossible.any()):
        filtered = filtered.masked_fill(impossible, -torch.inf)
        predicted = predicted.masked_fill(impossible, -torch.inf)
    return Forward(terms, filtered, predicted)


def _counted(
    sizes: Sequence[int], initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor
) -> Posterior:
    """`posterior` in float64 on the CPU."""
    forward = _run_forward(sizes, initial, transition, log_emission, lengths, keep=True)
    _, tables, seen = _prepared(sizes, initial, transition, log_emission)
    states = torch.zeros_like(seen)
    moves = seen.new_zeros(len(seen), *tables.shape[1:])
    steps = (tables, seen, lengths.cpu(), forward.log_normalizers, forward.log_filtered)
    run_compiled(_compiled().backward, _sizes(sizes), *steps, states, moves)
    joint = states[:, 0].unflatten(-1, tuple(sizes))
    others = [[d for d in range(1, joint.dim()) if d != m + 1] for m in range(len(sizes))]
    first = [joint.sum(axes) if axes else joint for axes in others]
    return Posterior(forward.log_normalizers, torch.cat(first, -1), moves, states)


def _prepared(
    sizes: Sequence[int], initial: Tensor, transition: Tensor, log_emission: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """log p(z_1) (P, N), the tables and log p(x_t | z_t), without graph, in float64 on the CPU."""
    initial, transition, log_emission = (
        part.detach().double().cpu().contiguous() for part in (initial, transition, log_emission)
    )
    start = factorial_differentiable.start(sizes, initial)
    return start.masked_fill(start < 0.5 * factorial_differentiable.ZERO, -torch.inf), transition, log_emission


def _sizes(sizes: Sequence[int]) -> Tensor:
    return torch.tensor(list(sizes), dtype=torch.int64)


def _check(sizes: Any, initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> None:
    """Raise unless the arguments fit each other.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    batch, num_steps, num = doors.main_tensor("log_emission", log_emission, "B, T, N")
    if not len(sizes) or any(type(size) is not int or size < 1 for size in sizes) or math.prod(sizes) != num:
        raise ValueError(
            f"expected sizes as whole numbers of at least 1 whose product is {num}, the last axis of log_emission, got "
            f"{tuple(sizes)}"
        )
    doors.tensor("initial", initial, log_emission, (1, batch), sum(sizes))
    doors.tensor("transition", transition, log_emission, (1, batch), (1, num_steps - 1), sum(k * k for k in sizes))
    doors.lengths(lengths, log_emission, batch, num_steps)


@cache
def _compiled() -> ModuleType:
    """The compiled functions; the first call imports numba."""
    from pgm_rnn.kernels import factorial_compiled

    return factorial_compiled
