"""A hidden semi-Markov chain by torch operations alone, in logarithms, which autograd differentiates at will.

    a_t(k, r) = p(x_t | k) [a_{t-1}(k, r + 1) + e_t(k) durations(k, r)],   e_t(k) = sum_i a_{t-1}(i, 1) transition(i, k)

It computes in float64 and loses no state to underflow, at the price of a loop over the steps. `pgm_rnn.kernels.hsmm`
uses it for second derivatives, on other devices than the CPU, and where its scaled recursion could lose something. The
gradient in a probability of zero is zero here.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.sequences import length_mask

ZERO = -1e30
"""Stands for log 0, so that no difference of two of them is NaN."""


class Logs(NamedTuple):
    """Logarithms of joint probabilities, (B, T, K), in nats, `ZERO` or less where they are zero.

    Attributes:
        predicted: log p(z_t = k, x_{1:t-1}).
        entering: log p(a segment of k begins at t, x_{1:t-1}).
        leaving: log p(a segment of k ends at t, x_{1:t}).
    """

    predicted: Tensor
    entering: Tensor
    leaving: Tensor


def log_marginal_likelihood(
    initial: Tensor, transition: Tensor, durations: Tensor, log_emission: Tensor, lengths: Tensor
) -> Tensor:
    """log p(x_{1:T}), (B,), nats; arguments as for `recursion`. An impossible sequence has -inf, gradients of zero."""
    states = recursion(initial, transition, durations, log_emission, lengths).predicted + logs(log_emission)
    last = states.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2]))[:, 0]
    value = last.logsumexp(-1)
    return value.where(value > 0.5 * ZERO, -torch.inf).to(log_emission.dtype)


def recursion(initial: Tensor, transition: Tensor, durations: Tensor, log_emission: Tensor, lengths: Tensor) -> Logs:
    """The forward recursion.

    Args:
        initial: p(z_1), (K,), or (B, K) if sequences have their own tables, as the next two.
        transition: p(next state = j | state = i), (K, K).
        durations: p(duration = d), d = 1..D, (K, D).
        log_emission: log p(x_t | z_t = k), (B, T, K).
        lengths: (B,).
    """
    start, moves, spells = _log(initial), _log(transition), _log(durations)
    seen = logs(log_emission).where(length_mask(lengths, log_emission.shape[1])[..., None], 0.0).unbind(1)
    first = start.expand(len(log_emission), -1)
    found = [_predicted(None, first, spells)]
    entered, left = [first], [found[0][..., 0] + seen[0]]
    belief = found[0] + seen[0][..., None]
    for log_density in seen[1:]:
        entering = (left[-1][..., None] + moves).logsumexp(-2)
        found.append(_predicted(belief, entering, spells))
        belief = found[-1] + log_density[..., None]
        entered.append(entering)
        left.append(belief[..., 0])
    predicted = torch.stack([part.logsumexp(-1) for part in found], 1)
    return Logs(predicted, torch.stack(entered, 1), torch.stack(left, 1))


def _predicted(belief: Tensor | None, entering: Tensor, spells: Tensor) -> Tensor:
    """log p(z_t = k with r steps left, x_{1:t-1}), (B, K, D)."""
    new = entering[..., None] + spells
    if belief is None:
        return new
    older = torch.cat([belief[..., 1:], torch.full_like(belief[..., :1], ZERO)], -1)
    return torch.stack([older, new]).logsumexp(0)  # the second derivative of logaddexp is NaN where one is `ZERO`


def logs(log_emission: Tensor) -> Tensor:
    """log p(x_t | z_t) in float64, `ZERO` in place of -inf."""
    return log_emission.double().clamp(min=ZERO)


def _log(probs: Tensor) -> Tensor:
    probs = probs.double()
    return probs.where(probs > 0, 1.0).log().where(probs > 0, ZERO)
