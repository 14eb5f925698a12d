"""The states of a finite Markov chain given weights of states, as a Markov chain of their own.

    p(z_{1:T}) prod_t w_t(z_t) is proportional to the law of a chain with

    p~(z_t = j | z_{t-1} = i) = p(z_t = j | i) b_t(j) / sum_k p(z_t = k | i) b_t(k),      b_T = w_T,
    p~(z_1 = j) = p(z_1 = j) b_1(j) / sum_k p(z_1 = k) b_1(k),      b_{t-1}(i) = w_{t-1}(i) sum_k p(z_t = k | i) b_t(k).

This is Rabiner (1989), eq. (25), normalised. All is in logarithms and torch operations on any batch axes, so gradients
of any order are kept, and no weight underflows.
"""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor


def given(initial_probs: Tensor, transition_probs: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """The chain given weights of its states.

    Args:
        initial_probs: p(z_1), (*batch, K).
        transition_probs: p(z_{t+1} = j | z_t = i), (*batch, 1 or T - 1, K, K).
        log_weights: log w_t, (*batch, T, K), in nats.

    Returns:
        Initial probabilities, (*batch, K), and those of T - 1 transitions, (*batch, T - 1, K, K); a row is that of the
        chain as it was where every way on has weight zero, and NaN where p(z_1) has none either.
    """
    tables, weights, found = transition_probs.unbind(-3), log_weights.unbind(-2), []
    ahead = weights[-1]
    for t in range(len(weights) - 2, -1, -1):
        table = tables[t % len(tables)]
        joint = _log(table) + ahead[..., None, :]
        possible = (joint > -torch.inf).any(-1, keepdim=True)
        found.append(joint.where(possible, 0.0).softmax(-1).where(possible, table))
        total = joint.where(possible, 0.0).logsumexp(-1).where(possible[..., 0], -torch.inf)
        ahead = weights[t] + total
    initial = (_log(initial_probs) + ahead).softmax(-1)
    if not found:
        return initial, transition_probs
    return initial, torch.stack(torch.broadcast_tensors(*reversed(found)), -3)


def draw(initial_probs: Tensor, transition_probs: Tensor, shape: Sequence[int], num_steps: int) -> Tensor:
    """Paths of states, (*shape, T), int64."""
    num_states = initial_probs.shape[-1]
    states = [dist.Categorical(probs=initial_probs).expand(shape).sample()]
    for t in range(num_steps - 1):
        table = transition_probs[..., t % transition_probs.shape[-3], :, :].expand(*shape, num_states, num_states)
        rows = table.gather(-2, states[-1][..., None, None].expand(*shape, 1, num_states))[..., 0, :]
        states.append(dist.Categorical(probs=rows).sample())
    return torch.stack(states, -1)


def last_probs(
    initial_probs: Tensor, transition_probs: Tensor, num_steps: int, observed: Tensor | None = None
) -> Tensor:
    """p(z_T), (*batch, K), or that of the last state whose step counts in `observed` (*batch, T)."""
    tables, probs = transition_probs.unbind(-3), initial_probs
    for t in range(1, num_steps):
        ahead = (probs[..., None, :] @ tables[(t - 1) % len(tables)])[..., 0, :]
        probs = ahead if observed is None else ahead.where(observed[..., t, None], probs)
    return probs


def _log(probs: Tensor) -> Tensor:
    """log p with the gradient 0, in place of a NaN later, where p = 0."""
    positive = probs > 0
    return probs.where(positive, 1.0).log().where(positive, -torch.inf)
