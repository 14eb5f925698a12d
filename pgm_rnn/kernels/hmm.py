"""Recursions of a Markov chain with finitely many states: scaled forward, backward, Viterbi, and exact gradients.

    a_t(j) = p(x_t | j) sum_i a_{t-1}(i) p(z_t = j | z_{t-1} = i) / c_t      a_t = p(z_t | x_{1:t})
    b_t(i) = sum_j p(z_{t+1} = j | i) p(x_{t+1} | j) b_{t+1}(j) / c_{t+1}    a_t b_t = p(z_t | x_{1:T})
    log p(x_{1:T}) = sum_t log c_t

Sources: Rabiner (1989), eq. (19)-(20) and (24)-(25), scaled as in sec. V.A, eq. (91)-(94); log p(x_{1:T}) is his
eq. (103). His c_t is 1 / c_t here, and b_t is divided by c_{t+1} instead of c_t, so that a_t b_t needs no factor.

Gradients of log p(x_{1:T}) are expected counts, so one backward recursion gives all of them and no graph is built
through time. On the CPU, numba compiles the recursions and runs sequences in parallel. On other devices, and where a
step is a large matrix product, they are batched torch. Underflow never loses a state: where it could matter, sequences
are computed in float64, or in numbers that carry their own exponents (`hmm_losses`).

Arguments throughout:
    initial: p(z_1), (K,) or (P, K).
    transition: p(z_{t+1} = j | z_t = i), (K, K), (T - 1, K, K), (P, 1, K, K) or (P, T - 1, K, K).
    log_emission: log p(x_t | z_t = k), (B, T, K).
    lengths: steps of each sequence, (B,), int64, 1 <= lengths <= T.

P divides B, and sequence b has the parameters b mod P: P = B if every sequence has its own parameters, P = R for R
chains side by side, where chain r has the n-th sequence at b = n R + r.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function
from typing_extensions import override

from pgm_rnn.kernels import doors, hmm_lanes, hmm_totals, hmm_wide, second_order, transforms
from pgm_rnn.kernels.hmm_differentiable import log_marginal_likelihood as _differentiable
from pgm_rnn.kernels.hmm_forward import Asked, run_forward
from pgm_rnn.kernels.hmm_losses import largest_future
from pgm_rnn.kernels.hmm_numba import compiled
from pgm_rnn.kernels.hmm_paths import most_likely_states, sample_states
from pgm_rnn.kernels.hmm_results import Backward, Forward
from pgm_rnn.kernels.hmm_tables import four_axes, one_or_each, two_axes

__all__ = [
    "Backward",
    "Forward",
    "backward",
    "expected_counts",
    "expected_pairs",
    "expected_transitions",
    "forward",
    "log_marginal_likelihood",
    "log_propagated",
    "most_likely_states",
    "pairwise_probs",
    "prefers_batched",
    "propagate",
    "sample_states",
    "without_missing",
]

LARGEST_COUNTED = 64
"""Largest number of states for which the recursion sums expected transitions; beyond, one matrix product does."""


def log_marginal_likelihood(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """log p(x_{1:T}) = sum_t log c_t of each sequence, (B,), in nats: Rabiner (1989), eq. (103).

    It is differentiable in the first three arguments: once by the compiled recursions, again by torch operations
    (`hmm_differentiable`). An impossible sequence has -inf and gradients of zero. `torch.jit.trace` sees one operation,
    which runs again with each call of what it traced.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
        RuntimeError: a second derivative where a belief that matters is below the smallest float64.
    """
    doors.finite_chain(initial, transition, log_emission, lengths)
    return _applied(initial, transition, log_emission, lengths)


def _applied(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """The compiled recursion, or torch operations where torch.func differentiates them."""
    value: Tensor
    arguments = (initial, transition, log_emission, lengths)
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    if has_torch_function(arguments):  # tensors that record what they depend on, as Pyro's do to draw a program
        value = handle_torch_function(_applied, arguments, *arguments)
    elif transforms.is_differentiated(arguments):
        value = _differentiable(*arguments)
    elif transforms.is_transformed(arguments):
        value = transforms.ByRule.apply(_applied, _side_by_side, *arguments)
    elif traced or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments)):
        value = _LogMarginalLikelihood.apply(*arguments)
    else:
        value = _value_and_steps(*arguments, keep_steps=False)[0]
    return value


def _value_and_steps(
    initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, keep_steps: bool
) -> tuple[Tensor, "Forward | hmm_lanes.Lanes | None"]:
    """log p(x_{1:T}), (B,), and what its gradient needs if steps are kept."""
    initial, transition, log_emission = (tensor.detach().contiguous() for tensor in (initial, transition, log_emission))
    chain = initial, transition, log_emission
    if not prefers_batched(log_emission) and hmm_lanes.suits(*chain):
        return hmm_lanes.forward(*chain, lengths, keep_steps)
    if not keep_steps and not prefers_batched(log_emission) and hmm_totals.suits(*chain):
        value = hmm_totals.log_marginal_likelihood(*chain, lengths)
        if value is not None:
            return value, None
    result = _run_forward(initial, transition, log_emission, lengths, keep_steps=keep_steps, in_whole=True)
    return result.log_normalizers.sum(-1), result


class _LogMarginalLikelihood(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
        value, ctx.result = _value_and_steps(initial, transition, log_emission, lengths, keep_steps=True)
        ctx.save_for_backward(initial, transition, log_emission, lengths, value)
        return value

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        initial, transition, log_emission, lengths, value = ctx.saved_tensors
        if torch.is_grad_enabled():
            again, arguments = partial(_differentiable, lengths=lengths), (initial, transition, log_emission)
            return *second_order.gradients(again, arguments, grad, value), None
        counted = hmm_lanes.expected_counts if isinstance(ctx.result, hmm_lanes.Lanes) else expected_counts
        first, counts, smoothed = counted(transition, lengths, ctx.result, grad)
        return first.reshape(-1, *initial.shape).sum(0), counts, smoothed, None


def _side_by_side(num: int, axes: Sequence[int | None], *arguments: Tensor) -> tuple[Tensor, int]:
    """Rows of `torch.func.vmap` as chains side by side: chain r has the n-th sequence at n R + r."""
    initial, transition, log_emission, lengths = (
        tensor if axis is None else tensor.movedim(axis, 0) for tensor, axis in zip(arguments, axes, strict=True)
    )
    folded = _applied(
        _of_chains(initial, num, axes[0] is not None, own_axes=2),
        _of_chains(transition, num, axes[1] is not None, own_axes=4),
        _folded(log_emission, num, axes[2] is not None),
        _folded(lengths, num, axes[3] is not None),
    )
    return folded.unflatten(0, (-1, num)), 1


def _folded(values: Tensor, num: int, has_axis: bool) -> Tensor:
    """Values of sequences (num, B, ...), or (B, ...) for all chains, as (B num, ...)."""
    each = values if has_axis else values.expand(num, *values.shape)
    return each.transpose(0, 1).flatten(0, 1)


def _of_chains(parameter: Tensor, num: int, has_axis: bool, own_axes: int) -> Tensor:
    """A parameter (num, P, ...), or (P, ...) for all chains, as (P num, ...); it stays as it is if all share it."""
    front, own = parameter.shape[:has_axis], parameter.shape[has_axis:]
    shape = torch.Size([1] * (own_axes - len(own))) + own
    if not has_axis and shape[0] == 1:
        return parameter
    return _folded(parameter.reshape(front + shape), num, has_axis)


def forward(
    initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, *, in_whole: bool = False
) -> Forward:
    """The scaled forward recursion a_t, c_t for t = 1..T: Rabiner (1989), eq. (19)-(20), scaled by eq. (91)-(93).

    Choe, Shin & Spencer (2017), sec. 3.2, write it alpha_{t+1} = D_{x_{t+1}} V alpha_t, here with
    alpha_1 = D_{x_1} P(H_1).

    Args:
        initial: as above, like the next three.
        transition: p(z_{t+1} = j | z_t = i).
        log_emission: log p(x_t | z_t = k).
        lengths: steps of each sequence.
        in_whole: whether only p(x_{1:T}) and posteriors given all of x are needed; `filtered` may then lack states
            that make no difference to these.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    doors.finite_chain(initial, transition, log_emission, lengths)
    return _run_forward(initial, transition, log_emission, lengths, keep_steps=True, in_whole=in_whole)


def _run_forward(
    initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, keep_steps: bool, in_whole: bool
) -> Forward:
    initial, transition, log_emission = (tensor.detach().contiguous() for tensor in (initial, transition, log_emission))
    asked = Asked(keep_steps, in_whole, _recursion)
    return run_forward(two_axes(initial), four_axes(transition), log_emission, lengths, asked)


def backward(transition: Tensor, lengths: Tensor, result: Forward) -> Backward:
    """The scaled backward recursion b_t after `forward`: Rabiner (1989), eq. (24)-(25), scaled as above.

    Entries of `future` are capped at a large float.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    transition, result = transition.detach(), doors.finite_result(transition, lengths, result)
    if result.scanned:
        from pgm_rnn.kernels import hmm_scan

        return hmm_scan.backward(transition, lengths, result)
    if result.parts:
        smoothed, future = torch.zeros_like(result.emission), torch.zeros_like(result.emission)
        for rows, part_lengths, part in result.parts:
            of_part = backward(transition.to(part.emission.dtype), part_lengths, part)
            smoothed[rows], future[rows] = (_in_dtype(tensor, smoothed.dtype) for tensor in of_part)
        return Backward(smoothed, future)
    if result.wide is not None:
        smoothed, *numbers = hmm_wide.backward(four_axes(transition), result.emission, result.wide)
        return Backward(*(t.to(result.emission.device) for t in (smoothed, hmm_wide.in_floats(*numbers))))
    future, smoothed = torch.empty_like(result.emission), torch.empty_like(result.emission)
    arguments = (result.emission, result.scale, lengths, result.filtered, future, smoothed)
    _recursion(result.emission).backward(four_axes(transition), *arguments)
    return Backward(smoothed, future)


def _in_dtype(values: Tensor, dtype: torch.dtype, largest: float | None = None) -> Tensor:
    """Values clamped to -largest..largest and converted; by default `largest` is the dtype's largest number."""
    largest = torch.finfo(dtype).max if largest is None else largest
    return values.clamp(-largest, largest).to(dtype)


def _gradient(sums: Tensor, transition: Tensor) -> Tensor:
    """d log p / d transition: expected numbers of transitions divided by their probabilities, always finite.

    Where a probability is zero, `sums` already is the gradient, which may be infinite. It is clamped there, so that
    its product with the probability is zero and not NaN.
    """
    positive, dtype = transition > 0, transition.dtype
    finite = _in_dtype(sums, dtype, largest_future(dtype))
    return _in_dtype(sums / transition.double().where(positive, 1.0), dtype).where(positive, finite)


def without_missing(log_emission: Tensor, mask: Tensor) -> Tensor:
    """log p(x_t | z_t), set to zero for every state where `mask` (B, T) is False, which sums x_t out.

    Raises:
        TypeError: a mask that is no tensor of truth values.
        ValueError: a mask of another shape or device.
    """
    doors.step_mask(mask, log_emission)
    return log_emission.where(mask[..., None], 0.0)


def expected_counts(
    transition: Tensor, lengths: Tensor, result: Forward, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of sum_b weights[b] log p(x_{1:T}) after `forward`: Rabiner's (1989) gamma and xi, eq. (27) and (37).

    Returns:
        The gradient in p(z_1) of each sequence, (B, K); the gradient in `transition`, in its shape; and the gradient in
        log p(x_t | z_t), (B, T, K), which is weights[b] p(z_t | x_{1:T}).

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    result = doors.finite_result(transition, lengths, result)
    doors.tensor("weights", weights, result.emission, len(lengths))
    if result.parts:
        return _over_parts(expected_counts, transition, result, weights)
    if result.wide is not None:
        first, sums, smoothed = hmm_wide.expected(transition, result.emission, result.wide, weights)
        return first, _gradient(sums, transition), smoothed
    if not prefers_batched(result.emission) and transition.dim() == 2 and len(transition) <= LARGEST_COUNTED:
        steps = (result.emission, result.scale, lengths, result.filtered)
        return compiled().expected_counts(four_axes(transition.detach()), steps, weights)
    smoothed, future = backward(transition, lengths, result)
    future = future.mul_(weights[:, None, None])
    counts = expected_transitions(result.filtered, future, transition)
    return future[:, 0], counts, smoothed.mul_(weights[:, None, None])


def expected_pairs(
    transition: Tensor, lengths: Tensor, result: Forward, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`expected_counts`, but its second result is the expected number of transitions in place of a gradient.

    It is the sum of weights[b] p(z_t, z_{t+1} | x_{1:T}), Rabiner (1989), eq. (37), over the axes that `transition`
    lacks. It stays exact where the gradient would exceed every float.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    result = doors.finite_result(transition, lengths, result)
    doors.tensor("weights", weights, result.emission, len(lengths))
    if result.parts:
        return _over_parts(expected_pairs, transition, result, weights)
    if result.wide is not None:
        first, sums, smoothed = hmm_wide.expected(transition, result.emission, result.wide, weights)
        return first, sums.where(transition > 0, 0.0).to(transition.dtype), smoothed
    first, gradient, smoothed = expected_counts(transition, lengths, result, weights)
    return first, gradient.mul_(transition), smoothed


def _over_parts(
    of_part: Callable[[Tensor, Tensor, Forward, Tensor], tuple[Tensor, Tensor, Tensor]],
    transition: Tensor,
    result: Forward,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """`expected_counts` or `expected_pairs` of sequences that were computed in separate parts."""
    dtype = transition.dtype
    sums, smoothed = torch.zeros_like(transition), torch.zeros_like(result.emission)
    first = torch.zeros_like(smoothed[:, 0])
    for rows, part_lengths, part in result.parts:
        table, weight = (tensor.to(part.emission.dtype) for tensor in (transition, weights[rows]))
        start, sums_of_part, steps = of_part(table, part_lengths, part, weight)
        first[rows], smoothed[rows] = _in_dtype(start, dtype, largest_future(dtype)), steps.to(dtype)
        sums += _in_dtype(sums_of_part, dtype)
    return first, _in_dtype(sums, dtype), smoothed


def pairwise_probs(transition: Tensor, result: Forward, future: Tensor) -> Tensor:
    """p(z_t, z_{t+1} | x_{1:T}), (B, T - 1, K, K), 0 in the padding: Rabiner (1989), eq. (37).

    Args:
        transition: as above.
        result: the result of `forward`.
        future: the field of that name in the result of `backward`.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    doors.tables(transition, result.filtered)
    doors.tensor("future", future, result.filtered, *result.filtered.shape)
    if result.parts:
        batch, num_steps, num_states = result.emission.shape
        pairs = result.emission.new_zeros(batch, num_steps - 1, num_states, num_states)
        for rows, lengths, part in result.parts:
            table = transition.to(part.emission.dtype)  # the given `future` may exceed the range of its dtype
            pairs[rows] = pairwise_probs(table, part, backward(table, lengths, part).future).to(pairs.dtype)
        return pairs
    if result.wide is not None:
        return hmm_wide.pairwise_probs(transition, result.emission, result.wide)
    pairs = result.filtered[:, :-1, :, None] * future[:, 1:, None, :]
    return pairs.mul_(one_or_each(transition, len(pairs)))


def log_propagated(transition: Tensor, result: Forward) -> Tensor:
    """log p(z_{t+1} = j | x_{1:t}) of every step, (B, T, K), in nats, finite even where the probability underflows.

    Args:
        transition: one table for all steps, (K, K), or those into the steps 2..T + 1, (B or 1, T or 1, K, K).
        result: the result of `forward` without `in_whole`.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    batch, num_steps, num_states = doors.main_tensor("the result's filtered", result.filtered, "B, T, K")
    axes = ((1, batch), (1, num_steps)) if isinstance(transition, Tensor) and transition.dim() == 4 else ()
    doors.tensor("transition", transition, result.filtered, *axes, num_states, num_states)
    if result.parts:
        whole = torch.empty_like(result.filtered)
        for rows, _, part in result.parts:
            tables = transition[rows] if transition.dim() == 4 and len(transition) > 1 else transition
            whole[rows] = log_propagated(tables.to(part.emission.dtype), part).to(whole.dtype)
        return whole
    if result.wide is None and transition.dim() == 2:
        return (result.filtered @ transition).log()
    if result.wide is None:
        return (result.filtered[..., None, :] @ transition)[..., 0, :].log()
    beliefs, tables = hmm_wide.log_beliefs(result.wide).to(transition.device), four_axes(transition)
    steps = [
        (belief[..., None] + tables[:, t % tables.shape[1]].double().log()).logsumexp(-2)
        for t, belief in enumerate(beliefs.unbind(1))
    ]
    return torch.stack(steps, 1).to(transition.dtype)


def propagate(belief: Tensor, transition: Tensor) -> Tensor:
    """sum_i belief[t, i] p(z_{t+1} = j | z_t = i): (B, T - 1, K) from (B, T - 1, K).

    Raises:
        TypeError: tables of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    doors.beliefs(belief, transition)
    return (belief[..., None, :] @ one_or_each(transition, len(belief)))[..., 0, :]


def expected_transitions(filtered: Tensor, future: Tensor, transition: Tensor) -> Tensor:
    """Sum of filtered[t, i] future[t + 1, j] over the axes that `transition` lacks, in the shape of `transition`.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    doors.tables(transition, filtered)
    doors.tensor("future", future, filtered, *filtered.shape)
    if not transition.numel():
        return torch.zeros_like(transition)  # T = 1: there is no transition, and no table for one
    num_tables, num_kinds = four_axes(transition).shape[:2]
    filtered, future = (_rows(probs, num_tables, num_kinds) for probs in (filtered[:, :-1], future[:, 1:]))
    return (filtered.mT @ future).reshape(transition.shape)


def _rows(probs: Tensor, num_tables: int, num_kinds: int) -> Tensor:
    """(B, T - 1, K) as (P, 1 or T - 1, N, K): the N terms of the sum for each transition table.

    A product of the contiguous copies took a fifth of the time of `einsum` on strided memory.
    """
    by_table = probs.unflatten(0, (-1, num_tables))  # (B / P, P, T - 1, K)
    if num_kinds > 1:
        return by_table.permute(1, 2, 0, 3)  # (P, T - 1, B / P, K)
    return by_table.transpose(0, 1).flatten(1, 2)[:, None]  # (P, 1, B / P (T - 1), K)


def prefers_batched(emission: Tensor) -> bool:
    """Whether a step is better done for all sequences at once: off the CPU, or where it is a large matrix product.

    The compiled recursion reads the table once for two sequences, and is faster as long as the table fits a core's
    cache; a product that reads it once for all of them is faster beyond 4 MB from eight sequences on. Both thresholds
    were measured.
    """
    num_states = emission.shape[-1]
    large = num_states**2 * emission.element_size() >= 2**22 and len(emission) >= 8
    return emission.device.type != "cpu" or large


def _recursion(emission: Tensor) -> Any:
    from pgm_rnn.kernels import hmm_batched

    return hmm_batched if prefers_batched(emission) else compiled()
