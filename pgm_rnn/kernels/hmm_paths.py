"""Paths of a Markov chain given what it emitted: the most likely one, and draws.

Arguments as in `pgm_rnn.kernels.hmm`.
"""

import torch
from torch import Tensor

from pgm_rnn.kernels import doors, hmm_wide
from pgm_rnn.kernels.hmm_numba import compiled
from pgm_rnn.kernels.hmm_results import Forward
from pgm_rnn.kernels.hmm_tables import four_axes, one_or_each, two_axes


def most_likely_states(
    log_initial: Tensor, log_transition: Tensor, log_emission: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Viterbi: argmax_z p(x, z), (B, T), int64, 0 in the padding, and its log p(x, z), (B,), in nats.

    Ties go to the lower state. Source: Rabiner (1989), eq. (32)-(35), in logarithms.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    doors.finite_chain(log_initial, log_transition, log_emission, lengths)
    if log_emission.device.type != "cpu":
        from pgm_rnn.kernels import hmm_batched

        log_transition = one_or_each(log_transition, len(lengths))
        return hmm_batched.most_likely_states(log_initial, log_transition, log_emission, lengths)
    states = torch.zeros(log_emission.shape[:2], dtype=torch.int64)
    best = torch.empty(log_emission.shape, dtype=torch.int32)
    log_prob = log_emission.new_empty(len(lengths))
    arguments = (two_axes(log_initial), four_axes(log_transition), log_emission, lengths, best, states, log_prob)
    compiled().most_likely_states(*(argument.detach() for argument in arguments))
    return states, log_prob


def sample_states(transition: Tensor, lengths: Tensor, result: Forward, uniforms: Tensor) -> Tensor:
    """Paths from p(z_{1:T} | x_{1:T}), drawn from the last state to the first: z_t ~ p(z_t | z_{t+1}, x_{1:t}).

    Each draw inverts one distribution function at a uniform. Source: Chib (1996).

    Args:
        transition: p(z_{t+1} = j | z_t = i), shaped as in `pgm_rnn.kernels.hmm`.
        lengths: steps of each sequence, (B,).
        result: the result of `forward`.
        uniforms: in [0, 1), (num_samples, B, T): the same uniforms give the same paths.

    Returns:
        (num_samples, B, T), int64, 0 in the padding.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other, or uniforms outside [0, 1).
    """
    result = doors.finite_result(transition, lengths, result)
    doors.uniforms(uniforms, doors.ANY, *result.scale.shape)
    if result.parts:
        states = torch.zeros(uniforms.shape, dtype=torch.int64, device=uniforms.device)
        for rows, part_lengths, part in result.parts:
            table = transition.to(part.emission.dtype)
            states[:, rows] = sample_states(table, part_lengths, part, uniforms[:, rows])
        return states
    transition, num_steps = one_or_each(transition, len(lengths)), uniforms.shape[-1]
    rows = torch.arange(len(lengths), device=lengths.device)
    log_beliefs = None if result.wide is None else hmm_wide.log_beliefs(result.wide).to(uniforms.device)
    states = torch.zeros(uniforms.shape, dtype=torch.int64, device=uniforms.device)
    for t in range(num_steps - 1, -1, -1):
        into_next = torch.ones_like(result.filtered[:, t])  # (B, K) or (num_samples, B, K)
        if t < num_steps - 1:
            matrix = transition[:, t % transition.shape[1]].expand(len(lengths), -1, -1)
            into_next = matrix.mT[rows, states[..., t + 1]].where((t < lengths - 1)[:, None], 1.0)
        if log_beliefs is None:
            weights = result.filtered[:, t] * into_next
        else:
            weights = _relative(log_beliefs[:, t] + into_next.double().log())
        cumulative = weights.expand(*uniforms.shape[:2], -1).cumsum(-1)
        drawn = (cumulative <= (uniforms[..., t] * cumulative[..., -1])[..., None]).sum(-1)
        states[..., t] = _last_possible(weights, drawn).where(t < lengths, 0)
    return states


def _relative(log_weights: Tensor) -> Tensor:
    """exp(log_weights) divided by the largest along the last axis."""
    largest = log_weights.amax(-1, keepdim=True)
    return (log_weights - largest.where(largest.isfinite(), 0.0)).exp()


def _last_possible(weights: Tensor, drawn: Tensor) -> Tensor:
    """`drawn`, or the last state of positive weight where rounding led past it."""
    last = weights.shape[-1] - 1 - (weights > 0).to(torch.int8).flip(-1).argmax(-1)
    return torch.minimum(drawn, last)
