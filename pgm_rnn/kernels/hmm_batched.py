"""The scaled forward and backward recursions in torch, for all sequences at once: for many states, and for GPUs.

Functions, arguments and sources are those of `pgm_rnn.kernels.hmm_compiled`.
"""

import torch
from torch import Tensor

from pgm_rnn.kernels.hmm_losses import LossTest, largest_future
from pgm_rnn.sequences import length_mask


def subtract_largest(log_emission: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (B, T, K) minus their largest entries, and these entries, (B, T), 0 where they are infinite."""
    shift = log_emission.amax(-1)
    shift = shift.where(shift.abs() != torch.inf, 0.0)
    return log_emission - shift[..., None], shift


def forward(
    initial: Tensor,
    transition: Tensor,
    log_emission: Tensor,
    emission: Tensor,
    shift: Tensor,
    lengths: Tensor,
    filtered: Tensor,
    scale: Tensor,
    test: LossTest,
) -> Tensor:
    """Fill `filtered` (B, T, K) and `scale` (B, T): Rabiner (1989), eq. (19)-(20), scaled by eq. (91)-(93).

    A step is rescaled if the states that fit it best are out of reach. Returns `lost` (B,), as in
    `hmm_compiled.forward`.
    """
    tiny = torch.finfo(emission.dtype).tiny ** 0.75
    lost = torch.zeros(len(emission), dtype=torch.int8, device=emission.device)
    belief = _for_each(initial, len(emission))
    for t in range(emission.shape[1]):
        predicted = belief if t == 0 else _step(belief, transition, t - 1)
        total = torch.linalg.vecdot(predicted, emission[:, t])
        below = ~(total >= test.floor)  # True for NaN, too
        unlikely = total < tiny
        if bool(unlikely.any()):
            _rescale(predicted, log_emission[:, t], emission[:, t], shift[:, t], unlikely)
            total = torch.linalg.vecdot(predicted, emission[:, t])
        scale[:, t] = total
        belief = predicted * emission[:, t] / total.where(total != 0, 1.0)[:, None]
        filtered[:, t] = belief
        if test.least > 0:
            reachable = _for_each(test.reachable[:, min(t, test.reachable.shape[1] - 1)], len(emission))
            small = (belief < test.least) & (log_emission[:, t] > -torch.inf) & ((predicted > 0) | reachable)
            kind = small.any(-1).to(torch.int8).masked_fill(below, 2)
            lost = lost.maximum(kind.masked_fill(t >= lengths, 0))
    outside = ~length_mask(lengths, emission.shape[1])
    scale.masked_fill_(outside, 0.0)
    filtered.masked_fill_(outside[..., None], 0.0)
    emission.masked_fill_(outside[..., None], 0.0)
    return lost


def backward(
    transition: Tensor,
    emission: Tensor,
    scale: Tensor,
    lengths: Tensor,
    filtered: Tensor,
    future: Tensor,
    smoothed: Tensor,
) -> None:
    """Fill `smoothed` and `future` (B, T, K), zero in the padding: Rabiner (1989), eq. (24)-(25) and (27), scaled."""
    num_steps = emission.shape[1]
    mask = length_mask(lengths, num_steps)
    inverse = scale.reciprocal().where(mask & (scale != 0), 0.0)
    last = lengths - 1
    beta = torch.ones_like(emission[:, 0])
    for t in range(num_steps - 1, -1, -1):
        if t < num_steps - 1:
            beta = _step_back(future[:, t + 1], transition, t)
            beta = beta.where((t < last)[:, None], 1.0)
        future[:, t] = (emission[:, t] * beta * inverse[:, t, None]).clamp(max=largest_future(emission.dtype))
        smoothed[:, t] = filtered[:, t] * beta


def _for_each(initial: Tensor, num_sequences: int) -> Tensor:
    """Row b mod P of (P, K) for each sequence b, (B, K)."""
    initial = initial.reshape(-1, initial.shape[-1])
    return initial.repeat(num_sequences // len(initial), 1)


def _step(belief: Tensor, transition: Tensor, t: int) -> Tensor:
    return _product(belief, transition[:, t % transition.shape[1]])


def _step_back(future: Tensor, transition: Tensor, t: int) -> Tensor:
    return _product(future, transition[:, t % transition.shape[1]].mT)


def _product(rows: Tensor, matrices: Tensor) -> Tensor:
    """Each row b of (B, K) times its matrix b mod P of (P, K, K)."""
    if len(matrices) == 1:
        return rows @ matrices[0]
    by_matrix = rows.unflatten(0, (-1, len(matrices))).transpose(0, 1)  # (P, B / P, K)
    return (by_matrix @ matrices).transpose(0, 1).flatten(0, 1)


def _rescale(predicted: Tensor, log_emission: Tensor, emission: Tensor, shift: Tensor, rows: Tensor) -> None:
    """Rescale the emissions of some sequences, in place, by the state within reach that fits best."""
    largest = log_emission.masked_fill(predicted <= 0, -torch.inf).amax(-1)
    rows = rows & largest.isfinite()
    shift[rows] = largest[rows]
    emission[rows] = (log_emission - largest[:, None]).clamp(max=80.0).exp()[rows]


def most_likely_states(
    log_initial: Tensor, log_transition: Tensor, log_emission: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Viterbi, Rabiner (1989), eq. (32)-(35): the best path (B, T), 0 in the padding, and its log p(x, z), (B,).

    Scores are float64, and candidates are compared relative to the best score, as in `hmm_compiled`.
    """
    num_sequences, num_steps, _ = log_emission.shape
    dtype, rows = log_emission.dtype, torch.arange(num_sequences, device=log_emission.device)[:, None]
    columns = torch.arange(log_emission.shape[2], device=log_emission.device)
    score = _for_each(log_initial, num_sequences).double() + log_emission[:, 0]
    best = torch.zeros(log_emission.shape, dtype=torch.int64, device=log_emission.device)
    for t in range(1, num_steps):
        matrix = log_transition[:, (t - 1) % log_transition.shape[1]].expand(num_sequences, -1, -1)
        offset = score.amax(-1, keepdim=True)
        relative = (score - offset.where(offset > -torch.inf, 0.0)).to(dtype)
        best[:, t] = (relative[..., None] + matrix).argmax(-2)
        arrival = score.gather(-1, best[:, t]) + matrix[rows, best[:, t], columns]
        score = (arrival + log_emission[:, t]).where((t < lengths)[:, None], score)
    log_prob, state = score.max(-1)
    states = torch.zeros(num_sequences, num_steps, dtype=torch.int64, device=log_emission.device)
    for t in range(num_steps - 1, -1, -1):
        inside = t < lengths
        states[:, t] = state.where(inside, 0)
        if t > 0:
            state = best[:, t].gather(-1, state[:, None])[:, 0].where(inside, state)
    return states, log_prob.to(dtype)
