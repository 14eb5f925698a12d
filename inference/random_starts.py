"""Random parameters to start EM from, drawn near the data.

    p(z_1), p(z_{t+1} | z_t = i)   uniform on the simplex, Dirichlet(1), over the states that the model can reach
    p(x | z_t = k)                 the most likely law of one random observation and, with less weight, all of them

For bits that is about 2/3 x_n + 1/3 mean. Every emission that the data show has a positive probability in every state,
so a start allows whatever the model itself allows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.emissions import Emission, EmissionTable
from pgm_rnn.inference.weighted_estimates import estimate
from pgm_rnn.randomness import seeded

OWN, COMMON, PSEUDO_COUNT = 2 / 3, 1 / 3, 0.005
"""Weights in a state's law: of its own observation, of all together, and of each symbol or value of a bit."""


class Start(NamedTuple):
    """Parameters of one chain.

    Attributes:
        initial: p(z_1), (K,).
        transition: p(z_{t+1} = j | z_t = i), (K, K).
        emission: one law for each state.
    """

    initial: Tensor
    transition: Tensor
    emission: EmissionTable


def random_starts(like: Start, x: Tensor, num_starts: int, seed: int) -> list[Start]:
    """`num_starts` random starts; the first ones of a seed are the same however many there are.

    Args:
        like: its number of states, family and dtype are taken, and its zeros in p(z_1) and the transitions.
        x: observations, (N, *event).
        num_starts: how many.
        seed: of the draws, the same on every device.

    Raises:
        TypeError: a family without weighted estimates in closed form.
    """
    with seeded(seed, stream=6):
        return [_random_start(like, x) for _ in range(num_starts)]


def _random_start(like: Start, x: Tensor) -> Start:
    initial, transition = _random_rows(like.initial), _random_rows(like.transition)
    chosen = torch.randint(len(x), like.initial.shape)
    return Start(initial, transition, _laws_near(like.emission.family, x, chosen.to(x.device), initial))


def _random_rows(like: Tensor) -> Tensor:
    """Rows uniform on the simplex over the states where `like` is positive."""
    draws = torch.empty(like.shape, dtype=like.dtype).exponential_().clamp(min=torch.finfo(like.dtype).tiny)
    draws = draws.to(like.device).where(like > 0, 0.0)
    return draws / draws.sum(-1, keepdim=True)


def _laws_near(family: Emission, x: Tensor, chosen: Tensor, like: Tensor) -> EmissionTable:
    """State k's law from observation chosen[k] with weight `OWN` and all together with weight `COMMON`."""
    weights = like.new_full((len(x), len(chosen)), COMMON / len(x))
    weights[chosen, torch.arange(len(chosen), device=x.device)] += OWN
    return estimate(family, x, weights, PSEUDO_COUNT)
