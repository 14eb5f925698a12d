"""log p(x_{1:T}) of a Markov chain by torch operations alone, which autograd differentiates as often as it is asked.

    w_t(j) = p(x_t | j) sum_i a_{t-1}(i) p(z_t = j | z_{t-1} = i),   c_t = sum_j w_t(j),   a_t = w_t / c_t
    log p(x_{1:T}) = sum_t log c_t

Rabiner (1989), eq. (19)-(20), scaled as in eq. (91)-(93). It computes in float64, each step is scaled by the density
of the state within reach that fits best. A belief below 1e-308 counts as zero; under autograd, `hmm` compares
the result with its own, which loses none.
"""

import torch
from torch import Tensor

from pgm_rnn.kernels.hmm_tables import four_axes, two_axes
from pgm_rnn.sequences import length_mask

_LARGEST = 80.0
"""Cap on log p(x_t | j) above that of the best state within reach, for states out of reach."""


def log_marginal_likelihood(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """log p(x_{1:T}), (B,), nats; arguments as for `pgm_rnn.kernels.hmm`.

    An impossible sequence has -inf and gradients of zero.
    """
    mask = length_mask(lengths, log_emission.shape[1])
    steps = log_emission.double().where(mask[..., None], 0.0).unbind(1)
    tables = four_axes(transition).double()
    predicted = _for_each(two_axes(initial).double(), len(log_emission))
    total, possible = predicted.new_zeros(len(log_emission)), torch.ones_like(mask[:, 0])
    belief = predicted
    for t, (log_density, inside) in enumerate(zip(steps, mask.unbind(1), strict=True)):
        if t > 0:
            predicted = _moved(belief, tables[:, (t - 1) % tables.shape[1]])
        largest = log_density.detach().masked_fill(predicted.detach() <= 0, -torch.inf).amax(-1)
        largest = largest.where(largest.isfinite(), 0.0)
        joint = predicted * (log_density - largest[:, None]).clamp(max=_LARGEST).exp()
        scale = joint.sum(-1)
        possible = possible & ((scale != 0) | ~inside)
        scale = scale.where(scale != 0, 1.0)
        belief = joint / scale[:, None]
        total = total + (scale.log() + largest).where(inside, 0.0)
    return total.where(possible, -torch.inf).to(log_emission.dtype)


def _for_each(rows: Tensor, num_sequences: int) -> Tensor:
    """Row b mod P of (P, K) for each sequence b, (B, K)."""
    return rows.repeat(num_sequences // len(rows), 1)


def _moved(belief: Tensor, tables: Tensor) -> Tensor:
    """Each row b of (B, K) times its table b mod P of (P, K, K)."""
    if len(tables) == 1:
        return belief @ tables[0]
    by_table = belief.unflatten(0, (-1, len(tables)))[..., None, :]  # (B / P, P, 1, K)
    return (by_table @ tables)[..., 0, :].flatten(0, 1)
