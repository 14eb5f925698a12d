"""Draws of whole state paths given all observations, from the particles of a filter that kept its history.

    ancestors    follow each last particle back to its first ancestor; cheap, but early states take few distinct values
    fixed-lag    the same for each state separately, from the particles `lag` steps later: z_t ~ p(z_t | x_{1:t+lag})
    backward     from the last state to the first, draw z_t^n with weight W_t^n p(z_{t+1} | z_t^n, h_{t+1}); O(N T) per
                 path

Backward simulation needs a chain that is Markov in z given x: a memory, if there is one, that reads no states. Source:
Godsill, Doucet & West (2004), alg. 1.
"""

import torch
from torch import Tensor

from pgm_rnn.inference.smc.results import History
from pgm_rnn.particles import DegenerateWeightsError
from pgm_rnn.sequence_model import SequenceModel


def ancestral_paths(history: History, num_paths: int) -> Tensor:
    """Ancestral lines of `num_paths` last particles drawn by weight, (num_paths, B, T, *latent)."""
    index, paths = _drawn(history.log_weights[-1].expand(num_paths, *history.log_weights[-1].shape)), []
    for z, ancestors in zip(history.z.flip(0), history.ancestors.flip(0), strict=True):
        paths.append(_at(z, index))
        index = ancestors.gather(0, index)
    return torch.stack(paths[::-1], dim=2)


def fixed_lag_states(history: History, num_paths: int, lag: int) -> Tensor:
    """Draws of each z_t from p(z_t | x_{1:t+lag}), (num_paths, B, T, *latent); they are not joint over steps."""
    num_steps, states = len(history.z), []
    for t in range(num_steps):
        end = min(t + lag, num_steps - 1)
        log_weights = history.log_weights[end]
        index = _drawn(log_weights.expand(num_paths, *log_weights.shape))
        for ancestors in history.ancestors[t + 1 : end + 1].flip(0):
            index = ancestors.gather(0, index)
        states.append(_at(history.z[t], index))
    return torch.stack(states, dim=2)


def backward_paths(model: SequenceModel, history: History, lengths: Tensor, h: Tensor | None, num_paths: int) -> Tensor:
    """Paths by backward simulation, (num_paths, B, T, *latent): Godsill, Doucet & West (2004), alg. 1.

    Args:
        model: a model without memory, or with one that reads no states.
        history: the particles of all steps of a filter.
        lengths: steps of each sequence, (B,).
        h: memory and inputs, (B, T, dim), or None.
        num_paths: number of paths for each sequence.

    Raises:
        DegenerateWeightsError: no particle of a step leads to the next state of a path.
    """
    num_steps = len(history.z)
    last = history.log_weights[-1]
    paths = [_at(history.z[-1], _drawn(last.expand(num_paths, *last.shape)))]
    for t in range(num_steps - 2, -1, -1):
        z, after = history.z[t], paths[-1]
        law = model.transition(z, None if h is None else h[None, :, t + 1])  # batch (N, B)
        log_weights = history.log_weights[t] + law.log_prob(after[:, None])  # (num_paths, N, B)
        ended = t >= lengths - 1
        _check_reached(log_weights, ended, t + 1)
        drawn = _at(z, _drawn(log_weights))
        paths.append(after.where(ended[(...,) + (None,) * (after.dim() - 2)], drawn))
    return torch.stack(paths[::-1], dim=2)


def _check_reached(log_weights: Tensor, ended: Tensor, step: int) -> None:
    """Raise a `DegenerateWeightsError` unless some particle of a step leads on for each path of the present ones."""
    lost = (~log_weights.amax(1).isfinite()).any(0) & ~ended
    if bool(lost.any()):
        found = "NaN or no particle that leads to the next state"
        raise DegenerateWeightsError(int(lost.nonzero()[0]), step, found, "use more particles or method='ancestors'")


def _drawn(log_weights: Tensor) -> Tensor:
    """One particle for each path by its weights (num_paths, N, B): (num_paths, B)."""
    # the Gumbel-max trick: argmax_n (log w_n + Gumbel noise) has the distribution w_n / sum_m w_m
    noise = -torch.log(-torch.log(torch.rand_like(log_weights).clamp(min=torch.finfo(log_weights.dtype).tiny)))
    return (log_weights + noise).argmax(1)


def _at(z: Tensor, index: Tensor) -> Tensor:
    """z[index[m, b], b], (num_paths, B, *latent), for z (N, B, *latent)."""
    return z[index, torch.arange(z.shape[1], device=z.device)]
