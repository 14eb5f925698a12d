"""Several Markov chains that are observed together, by torch operations alone, which autograd differentiates at will.

    log a_t(z) = log p(x_t | z) + log sum_{z'} a_{t-1}(z') prod_m p(z_m | z'_m),   one chain at a time

It computes in float64 and in logarithms, so that no state is lost. `pgm_rnn.kernels.factorial` uses it for second
derivatives, under `torch.func`, and on other devices than the CPU. The gradient in a probability of zero is zero here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pgm_rnn.sequences import length_mask

ZERO = -1e30
"""Stands for log 0, so that no difference of two of them is NaN."""


def log_marginal_likelihood(
    sizes: Sequence[int], initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor
) -> Tensor:
    """log p(x_{1:T}), (B,), nats; arguments as for `pgm_rnn.kernels.factorial`.

    An impossible sequence has -inf and gradients of zero.
    """
    batch, num_steps = log_emission.shape[:2]
    seen = log_emission.double().clamp(min=ZERO).unflatten(-1, tuple(sizes))
    seen = seen.where(length_mask(lengths, num_steps).view(batch, num_steps, *[1] * len(sizes)), 0.0)
    last = (lengths - 1).view(batch, *[1] * len(sizes))
    moves = [_log(table) for table in unpacked(sizes, transition, square=True)]
    belief = start(sizes, initial).unflatten(-1, tuple(sizes)) + seen[:, 0]
    kept = belief
    for t, log_density in enumerate(seen.unbind(1)[1:]):
        belief = _moved(belief, [table[:, t % table.shape[1]] for table in moves]) + log_density
        kept = belief.where(last == t + 1, kept)
    value = kept.flatten(1).logsumexp(-1)
    return value.where(value > 0.5 * ZERO, -torch.inf).to(log_emission.dtype)


def start(sizes: Sequence[int], initial: Tensor) -> Tensor:
    """log p(z_1), (P, N), `ZERO` or less where it is zero, from the probabilities of each chain (P, sum of K_m)."""
    total = initial.new_zeros(len(initial), 1, dtype=torch.float64)
    for row in unpacked(sizes, initial, square=False):
        total = (total[..., None] + _log(row)[:, None]).flatten(1)
    return total


def unpacked(sizes: Sequence[int], packed: Tensor, *, square: bool) -> list[Tensor]:
    """Each chain's rows (..., K_m), or tables (..., K_m, K_m), from those of all chains one after the other."""
    parts = packed.split([size**2 if square else size for size in sizes], dim=-1)
    return [part.unflatten(-1, (size, size)) if square else part for part, size in zip(parts, sizes, strict=True)]


def _moved(belief: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """The belief (B, K_1, ..., K_M) after one move of each chain, for log tables (P, K_m, K_m)."""
    num = len(tables)
    for m, table in enumerate(tables):
        last = belief.movedim(m + 1, -1)[..., None]  # (B, ..., K_m, 1)
        table = table.view(len(table), *[1] * (num - 1), *table.shape[1:])
        belief = (last + table).logsumexp(-2).movedim(-1, m + 1)
    return belief


def _log(probs: Tensor) -> Tensor:
    probs = probs.double()
    return probs.where(probs > 0, 1.0).log().where(probs > 0, ZERO)
