"""Random starting parameters for EM, drawn near the data.

    p(z_1), p(z_{t+1} | z_t = i)   uniform on the simplex, Dirichlet(1), over the states that the model can reach
    p(x | z_t = k)                 the most likely law for one random observation and, with less weight, all others

For bits that is about 2/3 x_n + 1/3 mean. Every emission that the data show has a positive probability in every state,
so a start allows whatever the model itself allows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.emissions import Emission, EmissionTable
from pgm_rnn.inference.em.units import Units
from pgm_rnn.inference.em.weighted_estimates import estimate
from pgm_rnn.randomness import seeded
from pgm_rnn.sequences import some_observed

OWN, COMMON, PSEUDO_COUNT = 2 / 3, 1 / 3, 0.005
"""Weights in a state's law: its own observation, all observations together, and each symbol or value of a bit."""


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


def random_starts(
    like: Start,
    x: Tensor,
    num_starts: int,
    seed: int,
    units: Units | None = None,
    observed: Tensor | None = None,
) -> list[Start]:
    """`num_starts` random starts; the first ones of a seed are the same however many there are.

    Args:
        like: parameters whose number of states, family, dtype and zeros in p(z_1) and the transitions are kept.
        x: observations, (N, *event).
        num_starts: number of starts.
        seed: random seed; the draws are the same on every device.
        units: as for `estimate`.
        observed: True where x was observed, (N,) or (N, *event), None for everywhere.

    Raises:
        TypeError: a family without weighted estimates in closed form.
    """
    with seeded(seed, stream=6):
        return [_random_start(like, x, units, observed) for _ in range(num_starts)]


def _random_start(like: Start, x: Tensor, units: Units | None, observed: Tensor | None) -> Start:
    initial, transition = _random_rows(like.initial), _random_rows(like.transition)
    there = torch.ones(len(x), dtype=torch.bool) if observed is None else some_observed(observed, 1)
    numbers = there.nonzero()[:, 0].to(x.device)
    chosen = numbers[torch.randint(len(numbers), like.initial.shape).to(x.device)]
    members = initial.new_zeros(len(x), len(chosen))
    members[chosen, torch.arange(len(chosen), device=x.device)] = 1.0
    return Start(initial, transition, laws_near(like.emission.family, x, members, units, observed))


def _random_rows(like: Tensor) -> Tensor:
    """Rows uniform on the simplex over the states where `like` is positive."""
    draws = torch.empty(like.shape, dtype=like.dtype).exponential_().clamp(min=torch.finfo(like.dtype).tiny)
    draws = draws.to(like.device).where(like > 0, 0.0)
    return draws / draws.sum(-1, keepdim=True)


def laws_near(
    family: Emission, x: Tensor, members: Tensor, units: Units | None, observed: Tensor | None = None
) -> EmissionTable:
    """State k's law from its members with weight `OWN` and from all observations together with weight `COMMON`.

    Args:
        family: the family of the observations.
        x: observations, (N, *event).
        members: weight of each observation in each state, (N, K).
        units: as for `estimate`.
        observed: as for `estimate`.
    """
    totals = members.sum(0)
    shares = members / totals.where(totals > 0, 1.0)
    return estimate(family, x, COMMON / len(x) + OWN * shares, PSEUDO_COUNT, units, observed=observed)
