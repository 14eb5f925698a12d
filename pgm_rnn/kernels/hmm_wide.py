"""The forward and backward recursions in numbers of any size: an exponent beside each mantissa (`hmm_wide_compiled`).

They serve sequences whose beliefs may become smaller than any float (`hmm_losses`). For every chain the results equal
those of a recursion in log space, without a logarithm per path. Everything runs on the CPU.
"""

from functools import cache
from math import log
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels.hmm_losses import largest_future
from pgm_rnn.kernels.hmm_tables import four_axes, one_or_each
from pgm_rnn.kernels.threads import run_compiled

ROWS = 8
"""Number of parallel partial sums over the sequences: the same for any number of threads, so results are, too."""


class Wide(NamedTuple):
    """Result of the forward recursion, on the CPU, as the backward one needs it; a belief is m 2^(192 level - 72).

    Attributes:
        initial: p(z_1), (P, K).
        log_emission: log p(x_t | z_t), (B, T, K).
        shift: log of the factor in the emission, (B, T).
        mantissa: m, (B, T or 1, K).
        level: whole numbers, (B, T or 1, K).
        lengths: steps of each sequence, (B,).
    """

    initial: Tensor
    log_emission: Tensor
    shift: Tensor
    mantissa: Tensor
    level: Tensor
    lengths: Tensor


def forward(
    initial: Tensor,
    transition: Tensor,
    log_emission: Tensor,
    emission: Tensor,
    shift: Tensor,
    lengths: Tensor,
    keep_steps: bool,
) -> tuple[Tensor, Wide]:
    """log c_t, (B, T), and the beliefs a_t: Rabiner (1989), eq. (19)-(20), scaled by eq. (91)-(93).

    `emission` is exp(log_emission - shift), and the tables have all of their axes.
    """
    device, num_steps = emission.device, emission.shape[1] if keep_steps else 1
    arguments = (initial, transition, log_emission, emission, shift, lengths)
    initial, transition, log_emission, emission, shift, lengths = (a.cpu().contiguous() for a in arguments)
    log_normalizers = torch.zeros_like(shift)
    mantissa, level = torch.zeros(2, len(emission), num_steps, emission.shape[2], dtype=emission.dtype)
    arguments = (initial, transition.double(), log_emission, emission, shift, lengths)
    run_compiled(_module().forward, *arguments, log_normalizers, mantissa, level, _tiny(emission))
    return log_normalizers.to(device), Wide(initial, log_emission, shift, mantissa, level, lengths)


def filtered(wide: Wide) -> Tensor:
    """p(z_t | x_{1:t}), (B, T or 1, K), zero where that is below the smallest number of the dtype."""
    return in_floats(wide.mantissa, wide.level) * 2.0**-72 if wide.level.any() else wide.mantissa * 2.0**-72


class Smoothing(NamedTuple):
    """Result of the backward recursion, (B, T, K) each, zero in the padding, on the CPU.

    Attributes:
        smoothed: p(z_t | x_{1:T}).
        future: mantissa of p(x_t | z_t) b_t(z_t) / c_t.
        level: level of `future`.
    """

    smoothed: Tensor
    future: Tensor
    level: Tensor


def backward(transition: Tensor, emission: Tensor, wide: Wide) -> Smoothing:
    """The backward recursion after `forward`, Rabiner (1989), eq. (24)-(25), scaled; zeros if x is impossible."""
    result = Smoothing(*torch.zeros(3, *emission.shape, dtype=emission.dtype))
    transposed, emission = four_axes(transition).cpu().mT.double(), emission.cpu()
    arguments = (wide.initial, transposed, wide.log_emission, emission, wide.shift, wide.lengths)
    run_compiled(_module().backward, *arguments, wide.mantissa, wide.level, *result, _tiny(emission))
    return result


def expected(transition: Tensor, emission: Tensor, wide: Wide, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The backward recursion, and the sums from which gradients of sum_b weights[b] log p(x_{1:T}) are made.

    Returns:
        The gradient in p(z_1) of each sequence, (B, K); weights[b] p(z_t, z_{t+1} | x_{1:T}) summed over the axes that
        `transition` lacks, in its shape, float64; and weights[b] p(z_t | x_{1:T}), (B, T, K). Where a transition
        probability is zero, the second result is the gradient in it.
    """
    device, tables = emission.device, four_axes(transition)
    smoothing = backward(transition, emission, wide)
    sums = _pair_sums(tables, wide, smoothing, weights, *tables.shape[:2]).reshape(transition.shape)
    first = in_floats(smoothing.future[:, 0], smoothing.level[:, 0]).clamp(max=largest_future(emission.dtype))
    first = first.to(device) * weights[:, None]
    return first, sums.to(device), smoothing.smoothed.to(device) * weights[:, None, None]


def pairwise_probs(transition: Tensor, emission: Tensor, wide: Wide) -> Tensor:
    """p(z_t, z_{t+1} | x_{1:T}), (B, T - 1, K, K)."""
    batch, num_steps, _ = emission.shape
    smoothing, ones = backward(transition, emission, wide), torch.ones(batch)
    tables = one_or_each(transition, batch)
    sums = _pair_sums(tables, wide, smoothing, ones, batch, num_steps - 1)
    return sums.to(emission.device, emission.dtype).where(tables > 0, 0.0)


def _pair_sums(
    tables: Tensor, wide: Wide, smoothing: Smoothing, weights: Tensor, num_tables: int, num_kinds: int
) -> Tensor:
    """The second result of `expected`: sequence b and step t count in row b mod num_tables, column t mod num_kinds."""
    num_states = tables.shape[-1]
    rows = min(len(weights), ROWS) if num_tables * num_kinds == 1 else num_tables  # rows run in parallel
    sums = torch.zeros(rows, num_kinds, num_states, num_states, dtype=torch.float64)
    beliefs, future = (wide.mantissa, wide.level), (smoothing.future, smoothing.level)
    run_compiled(_module().pairs, wide.lengths, *beliefs, *future, weights.cpu().double(), sums)
    tables, sums = tables.cpu().double(), sums.unflatten(0, (-1, num_tables)).sum(0)
    return (tables.where(tables > 0, 1.0) * 2.0**500 * sums).nan_to_num_(nan=torch.nan)


def log_beliefs(wide: Wide) -> Tensor:
    """log p(z_t | x_{1:t}), (B, T, K), float64, in nats, finite however small the probability is."""
    return wide.mantissa.double().log() + (192 * wide.level.double() - 72) * log(2.0)


def in_floats(mantissa: Tensor, level: Tensor) -> Tensor:
    """mantissa 2^(192 level) in the dtype of the mantissa, capped at its largest number."""
    half = torch.exp2(96 * level.double().clamp(-10, 10))
    largest = torch.finfo(mantissa.dtype).max
    return (mantissa * half * half).clamp(max=largest).to(mantissa.dtype)


def _tiny(emission: Tensor) -> float:
    """Emissions below this are recomputed from their logarithms; above it, they are normal numbers and exact enough."""
    return 1e-30 if emission.dtype == torch.float32 else 1e-50


@cache
def _module() -> ModuleType:
    from pgm_rnn.kernels import hmm_wide_compiled

    return hmm_wide_compiled
