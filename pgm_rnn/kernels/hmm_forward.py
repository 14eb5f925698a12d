"""The forward recursion of a Markov chain in numbers that lose no state (`hmm_losses`).

It runs in the given dtype where that is enough, else in float64, else in numbers that carry exponents (`hmm_wide`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels import hmm_wide
from pgm_rnn.kernels.hmm_losses import (
    LossTest,
    is_dense,
    largest_backward,
    largest_future,
    loss_test,
    no_test,
    reachable_states,
)
from pgm_rnn.kernels.hmm_numba import Compiled
from pgm_rnn.kernels.hmm_results import Forward, Part
from pgm_rnn.kernels.threads import run_compiled
from pgm_rnn.sequences import length_mask


class Asked(NamedTuple):
    """Options of the forward recursion.

    Attributes:
        keep_steps: whether the beliefs of all steps are kept; if not, `filtered` (B, 1 or T, K) has no meaning.
        in_whole: whether only p(x_{1:T}) and posteriors given all of x are needed, not the beliefs p(z_t | x_{1:t}).
        recursion: picks numba's or torch's recursions, whichever are faster for log emissions (B, T, K).
    """

    keep_steps: bool
    in_whole: bool
    recursion: Callable[[Tensor], Any]


def run_forward(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, asked: Asked) -> Forward:
    """`hmm.forward` for tables with all of their axes, (P, K) and (P, 1 or T - 1, K, K)."""
    tables = initial, transition
    if is_dense(*tables):
        return _run_scaled(*tables, log_emission, lengths, asked, no_test(initial))[0]
    test = loss_test(*tables, log_emission.shape[1])
    result, kinds = _run_scaled(*tables, log_emission, lengths, asked, test)
    lost = kinds > 0
    if asked.in_whole and bool((kinds == 1).any()):
        lost = _matters(*tables, log_emission, lengths, result) | (kinds == 2)
    if not bool(lost.any()):
        return result
    if len(initial) > 1 or len(transition) > 1:
        lost = torch.ones_like(lost)  # sequence b uses the tables b mod P, so no sequence can be left out
    if log_emission.dtype == torch.float32:
        again = run_forward(initial.double(), transition.double(), log_emission[lost].double(), lengths[lost], asked)
    else:
        again = _run_wide(*tables, log_emission[lost], lengths[lost], asked)
    return _joined(result, lost, again, lengths)


def _matters(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, result: Forward) -> Tensor:
    """Whether a lost state may change posteriors given all of x (condition 3 of `hmm_losses`), (B,)."""
    from pgm_rnn.kernels import hmm_bounds_compiled

    dtype, (num_steps, num_states) = log_emission.dtype, log_emission.shape[1:]
    reachable = reachable_states(initial, transition, num_steps)
    arrays = (transition, log_emission, result.emission, result.scale, lengths, reachable)
    exceeding = torch.zeros(len(lengths), dtype=torch.bool)
    limits = largest_backward(dtype, num_states, num_steps), largest_future(dtype), torch.finfo(dtype).tiny
    run_compiled(hmm_bounds_compiled.exceeds, *(array.cpu() for array in arrays), *limits, exceeding)
    return exceeding.to(lengths.device)


def _run_scaled(
    initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, asked: Asked, test: LossTest
) -> tuple[Forward, Tensor]:
    """The scaled recursion, and what each sequence may have lost, (B,), as in `hmm_compiled.forward`: 0 for nothing."""
    recursion = asked.recursion(log_emission)
    shifted, shift = recursion.subtract_largest(log_emission)
    emission = shifted.exp_()
    steps = emission.shape[1] if asked.keep_steps or not isinstance(recursion, Compiled) else 1
    filtered, scale = emission.new_empty(len(emission), steps, emission.shape[2]), torch.zeros_like(shift)
    if bool((lengths < steps).any()):  # the recursions leave the padding as it is
        filtered.zero_()
    arrays = (log_emission, emission, shift, lengths, filtered, scale)
    lost = recursion.forward(initial, transition, *arrays, test)
    log_normalizers = (scale.log() + shift).where(length_mask(lengths, scale.shape[1]), 0.0)
    return Forward(log_normalizers, filtered, emission, scale), lost


def _run_wide(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, asked: Asked) -> Forward:
    shifted, shift = asked.recursion(log_emission).subtract_largest(log_emission)
    emission = shifted.exp_()
    arrays = (log_emission, emission, shift, lengths)
    log_normalizers, wide = hmm_wide.forward(initial, transition, *arrays, asked.keep_steps)
    filtered = hmm_wide.filtered(wide).to(emission.device)
    return Forward(log_normalizers, filtered, emission, (log_normalizers - shift).exp(), wide)


def _joined(result: Forward, lost: Tensor, again: Forward, lengths: Tensor) -> Forward:
    """`result`, in which the sequences that were `lost` are replaced by those computed again."""
    log_normalizers, filtered, emission, scale = result[:4]
    parts = Part(*_rows_where(~lost, lengths), _chosen(result, ~lost)), Part(*_rows_where(lost, lengths), again)
    for whole, part in zip((log_normalizers, filtered, scale), (again[0], again[1], again[3]), strict=True):
        whole[lost] = part.to(whole.dtype)
    return Forward(log_normalizers, filtered, emission, scale, parts=tuple(part for part in parts if len(part.rows)))


def _rows_where(chosen: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return chosen.nonzero()[:, 0], lengths[chosen]


def _chosen(result: Forward, chosen: Tensor) -> Forward:
    log_normalizers, filtered, emission, scale = (tensor[chosen] for tensor in result[:4])
    return Forward(log_normalizers, filtered, emission, scale)
