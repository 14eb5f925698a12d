"""Recursions of a Markov chain with finitely many states: scaled forward, backward, Viterbi, and exact gradients.

    a_t(j) = p(x_t | j) sum_i a_{t-1}(i) p(z_t = j | z_{t-1} = i) / c_t      a_t = p(z_t | x_{1:t})
    b_t(i) = sum_j p(z_{t+1} = j | i) p(x_{t+1} | j) b_{t+1}(j) / c_{t+1}    a_t b_t = p(z_t | x_{1:T})
    log p(x_{1:T}) = sum_t log c_t

Gradients of log p(x_{1:T}) are expected counts, so one backward recursion gives all of them and no graph is built
through time. On the CPU the recursions are compiled by numba, sequences in parallel; where a step is a large matrix
product, and on other devices, they are batched torch.

Arguments throughout:
    initial: p(z_1), (K,) or (P, K).
    transition: p(z_{t+1} = j | z_t = i), (K, K), (T - 1, K, K), (P, 1, K, K) or (P, T - 1, K, K).
    log_emission: log p(x_t | z_t = k), (B, T, K).
    lengths: steps of each sequence, (B,), int64, 1 <= lengths <= T.

P divides B, and sequence b has the parameters b mod P: P = B for parameters of each sequence's own, P = R for R chains
side by side, each with the n-th sequence at b = n R + r.
"""

from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.kernels import doors
from pgm_rnn.kernels.threads import num_threads, run_compiled
from pgm_rnn.sequences import length_mask

LARGEST_COUNTED = 64
"""States up to which expected transitions are summed inside the recursion; beyond, by one matrix product."""


class Forward(NamedTuple):
    """What the forward recursion leaves.

    Attributes:
        log_normalizers: log c_t = log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding, -inf for an impossible step.
        filtered: p(z_t | x_{1:t}), (B, T, K), 0 in the padding and after an impossible step.
        emission: p(x_t | z_t) up to a factor a step, (B, T, K).
        scale: c_t up to the same factor, (B, T).
    """

    log_normalizers: Tensor
    filtered: Tensor
    emission: Tensor
    scale: Tensor


class Backward(NamedTuple):
    """What the backward recursion leaves, 0 in the padding.

    Attributes:
        smoothed: p(z_t | x_{1:T}), (B, T, K).
        future: p(x_t | z_t) b_t(z_t) / c_t, (B, T, K).
    """

    smoothed: Tensor
    future: Tensor


def log_marginal_likelihood(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """log p(x_{1:T}) of each sequence, (B,), nats; differentiable once in the first three arguments.

    An impossible sequence has -inf and gradients of zero.
    """
    doors.finite_chain(initial, transition, log_emission, lengths)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (initial, transition, log_emission)):
        return _LogMarginalLikelihood.apply(initial, transition, log_emission, lengths)
    return _run_forward(initial, transition, log_emission, lengths, keep_steps=False).log_normalizers.sum(-1)


class _LogMarginalLikelihood(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
        result = _run_forward(initial, transition, log_emission, lengths, keep_steps=True)
        ctx.save_for_backward(initial, transition, lengths, *result)
        return result.log_normalizers.sum(-1)

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the log marginal likelihood is differentiable once, got create_graph=True; "
                "write the recursion with torch operations where second derivatives are needed"
            )
        initial, transition, lengths, *saved = ctx.saved_tensors
        result = Forward(*saved)
        first, counts, smoothed = expected_counts(transition, lengths, result, grad)
        return first.reshape(-1, *initial.shape).sum(0), counts, smoothed, None


def forward(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Forward:
    """The scaled forward recursion. Source: Choe, Shin & Spencer (2017), sec. 3.2, with alpha_1 = D_{x_1} P(H_1)."""
    doors.finite_chain(initial, transition, log_emission, lengths)
    return _run_forward(initial, transition, log_emission, lengths, keep_steps=True)


def _run_forward(
    initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, keep_steps: bool
) -> Forward:
    """`forward`; where the steps are not kept, `filtered` is (B, 1 or T, K) and means nothing."""
    initial, transition, log_emission = (tensor.detach().contiguous() for tensor in (initial, transition, log_emission))
    recursion = _recursion(log_emission)
    shifted, shift = recursion.subtract_largest(log_emission)
    emission = shifted.exp_()
    steps = emission.shape[1] if keep_steps or prefers_batched(emission) else 1
    filtered, scale = emission.new_zeros(len(emission), steps, emission.shape[2]), torch.zeros_like(shift)
    recursion.forward(initial, _four_axes(transition), log_emission, emission, shift, lengths, filtered, scale)
    log_normalizers = (scale.log() + shift).where(length_mask(lengths, scale.shape[1]), 0.0)
    return Forward(log_normalizers, filtered, emission, scale)


def backward(transition: Tensor, lengths: Tensor, result: Forward) -> Backward:
    """The scaled backward recursion after `forward`."""
    result = doors.finite_result(transition, lengths, result)
    future, smoothed = torch.empty_like(result.emission), torch.empty_like(result.emission)
    arguments = (result.emission, result.scale, lengths, result.filtered, future, smoothed)
    _recursion(result.emission).backward(_four_axes(transition.detach()), *arguments)
    return Backward(smoothed, future)


def without_missing(log_emission: Tensor, mask: Tensor) -> Tensor:
    """log p(x_t | z_t) with zeros, for every state, where `mask` (B, T) is False: nothing was observed there."""
    doors.step_mask(mask, log_emission)
    return log_emission.where(mask[..., None], 0.0)


def expected_counts(
    transition: Tensor, lengths: Tensor, result: Forward, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of sum_b weights[b] log p(x_{1:T}) after `forward`.

    Returns:
        In p(z_1) of each sequence (B, K), in `transition` in its shape, and in log p(x_t | z_t), (B, T, K), which is
        weights[b] p(z_t | x_{1:T}).
    """
    result = doors.finite_result(transition, lengths, result)
    doors.tensor("weights", weights, result.emission, len(lengths))
    if not prefers_batched(result.emission) and transition.dim() == 2 and len(transition) <= LARGEST_COUNTED:
        return _compiled().expected_counts(transition.detach(), lengths, result, weights)
    smoothed, future = backward(transition, lengths, result)
    future = future.mul_(weights[:, None, None])
    counts = expected_transitions(result.filtered, future, transition)
    return future[:, 0], counts, smoothed.mul_(weights[:, None, None])


def pairwise_probs(transition: Tensor, result: Forward, future: Tensor) -> Tensor:
    """p(z_t, z_{t+1} | x_{1:T}), (B, T - 1, K, K), 0 in the padding."""
    doors.tables(transition, result.filtered)
    doors.tensor("future", future, result.filtered, *result.filtered.shape)
    pairs = result.filtered[:, :-1, :, None] * future[:, 1:, None, :]
    return pairs.mul_(_one_or_each(transition, len(pairs)))


def propagate(belief: Tensor, transition: Tensor) -> Tensor:
    """sum_i belief[t, i] p(z_{t+1} = j | z_t = i): (B, T - 1, K) from (B, T - 1, K)."""
    doors.beliefs(belief, transition)
    return (belief[..., None, :] @ _one_or_each(transition, len(belief)))[..., 0, :]


def most_likely_states(
    log_initial: Tensor, log_transition: Tensor, log_emission: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """The best path (B, T), int64, 0 in the padding, and its log p(x, z), (B,); ties go to the lower state."""
    doors.finite_chain(log_initial, log_transition, log_emission, lengths)
    if log_emission.device.type != "cpu":
        from pgm_rnn.kernels import hmm_batched

        log_transition = _one_or_each(log_transition, len(lengths))
        return hmm_batched.most_likely_states(log_initial, log_transition, log_emission, lengths)
    states = torch.zeros(log_emission.shape[:2], dtype=torch.int64)
    best = torch.empty(log_emission.shape, dtype=torch.int32)
    log_prob = log_emission.new_empty(len(lengths))
    arguments = (_two_axes(log_initial), _four_axes(log_transition), log_emission, lengths, best, states, log_prob)
    _compiled().most_likely_states(*(argument.detach() for argument in arguments))
    return states, log_prob


def sample_states(transition: Tensor, lengths: Tensor, result: Forward, uniforms: Tensor) -> Tensor:
    """Paths from p(z_{1:T} | x_{1:T}) by inverting one distribution function a step, from the last to the first.

    Args:
        transition: as above.
        lengths: as above.
        result: of `forward`.
        uniforms: in [0, 1), (num_samples, B, T): the same uniforms give the same paths.

    Returns:
        (num_samples, B, T), int64, 0 in the padding.
    """
    result = doors.finite_result(transition, lengths, result)
    doors.uniforms(uniforms, doors.ANY, *result.scale.shape)
    transition, num_steps = _one_or_each(transition, len(lengths)), uniforms.shape[-1]
    states = torch.zeros(uniforms.shape, dtype=torch.int64, device=uniforms.device)
    for t in range(num_steps - 1, -1, -1):
        weights = result.filtered[:, t].expand(len(uniforms), -1, -1)  # (num_samples, B, K)
        if t < num_steps - 1:
            matrix = transition[:, t % transition.shape[1]].expand(len(lengths), -1, -1)
            into_next = matrix.mT[torch.arange(len(lengths), device=lengths.device), states[..., t + 1]]
            weights = weights * into_next.where((t < lengths - 1)[:, None], 1.0)
        cumulative = weights.cumsum(-1)
        drawn = (cumulative <= (uniforms[..., t] * cumulative[..., -1])[..., None]).sum(-1)
        states[..., t] = _last_possible(weights, drawn).where(t < lengths, 0)
    return states


def _last_possible(weights: Tensor, drawn: Tensor) -> Tensor:
    """`drawn`, or the last state of positive weight where rounding went past it."""
    last = weights.shape[-1] - 1 - (weights > 0).to(torch.int8).flip(-1).argmax(-1)
    return torch.minimum(drawn, last)


def expected_transitions(filtered: Tensor, future: Tensor, transition: Tensor) -> Tensor:
    """sum of filtered[t, i] future[t + 1, j] over the axes that `transition` does not have, in its shape."""
    doors.tables(transition, filtered)
    doors.tensor("future", future, filtered, *filtered.shape)
    if not transition.numel():
        return torch.zeros_like(transition)  # sequences of one step, and a table for each of none
    num_tables, num_kinds = _four_axes(transition).shape[:2]
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


def _two_axes(initial: Tensor) -> Tensor:
    return initial if initial.dim() == 2 else initial[None]


def _four_axes(transition: Tensor) -> Tensor:
    if not transition.numel():
        transition = transition.new_zeros(transition.shape[-2:])  # never used, but read
    return transition.reshape((1,) * (4 - transition.dim()) + transition.shape)


def _one_or_each(transition: Tensor, num_sequences: int) -> Tensor:
    """The transition with four axes, the first of size 1 or num_sequences."""
    transition = _four_axes(transition)
    return transition if len(transition) == 1 else transition.repeat(num_sequences // len(transition), 1, 1, 1)


class _Compiled:
    """numba's recursions on tensors' memory, with as many threads as torch has."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def subtract_largest(self, log_emission: Tensor) -> tuple[Tensor, Tensor]:
        shifted, shift = torch.empty_like(log_emission), log_emission.new_empty(log_emission.shape[:-1])
        run_compiled(self.module.subtract_largest, log_emission.flatten(0, 1), shifted.flatten(0, 1), shift.flatten())
        return shifted, shift

    def forward(self, initial: Tensor, transition: Tensor, log_emission: Tensor, *rest: Tensor) -> None:
        tiny = torch.finfo(log_emission.dtype).tiny ** 0.75
        group = self._group(len(log_emission), transition)
        transposed = transition[:1, :1].mT.contiguous()
        run_compiled(self.module.forward, _two_axes(initial), transition, transposed, log_emission, *rest, tiny, group)

    def backward(
        self,
        transition: Tensor,
        emission: Tensor,
        scale: Tensor,
        lengths: Tensor,
        filtered: Tensor,
        future: Tensor,
        smoothed: Tensor,
        weights: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> None:
        batch, num_states = len(emission), emission.shape[2]
        weights = emission.new_ones(batch) if weights is None else weights.to(emission.dtype)
        counts = emission.new_empty(0, num_states, num_states) if counts is None else counts
        transposed = transition[:1, :1].mT.contiguous()
        arguments = (transition, transposed, emission, scale, lengths, filtered, weights, future, smoothed, counts)
        run_compiled(self.module.backward, *arguments, self._group(batch, transition))

    def expected_counts(
        self, transition: Tensor, lengths: Tensor, result: Forward, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        (batch, _, num_states), new = result.emission.shape, result.emission.new_empty
        first, counts = new(batch, 1, num_states), result.emission.new_zeros(batch, num_states, num_states)
        smoothed = torch.empty_like(result.emission)
        arguments = (result.emission, result.scale, lengths, result.filtered, first, smoothed, weights, counts)
        self.backward(_four_axes(transition), *arguments)
        return first[:, 0], counts.sum(0), smoothed

    def _group(self, batch: int, transition: Tensor) -> int:
        """Sequences that a thread takes together: two, where they share a matrix and no thread is left without."""
        shared = transition.shape[:2].numel() == 1 and transition.shape[-1] >= self.module.SMALL
        return 2 if shared and batch >= 2 * num_threads() else 1

    def most_likely_states(self, *arguments: Tensor) -> None:
        run_compiled(self.module.most_likely_states, *arguments)


@cache
def _compiled() -> _Compiled:
    from pgm_rnn.kernels import hmm_compiled

    return _Compiled(hmm_compiled)


def prefers_batched(emission: Tensor) -> bool:
    """Whether a step is better done for all sequences at once: off the CPU, or where it is a large matrix product.

    The compiled recursion reads the table once for two sequences, and is faster as long as the table fits a core's
    cache; a product that reads it once for all of them is faster beyond 4 MB from eight sequences on. Both measured.
    """
    num_states = emission.shape[-1]
    large = num_states**2 * emission.element_size() >= 2**22 and len(emission) >= 8
    return emission.device.type != "cpu" or large


def _recursion(emission: Tensor) -> Any:
    from pgm_rnn.kernels import hmm_batched

    return hmm_batched if prefers_batched(emission) else _compiled()
