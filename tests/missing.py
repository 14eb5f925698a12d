"""Data with gaps, and definitions: sums and integrals over every value that a missing entry could have."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from pgm_rnn.emissions import Beta, Emission, Gamma, Joint, Mixture, StudentT, VonMises
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequences import Sequences
from tests.definitions import joint_normal
from tests.instances import draw

GRID = torch.linspace(-25, 25, 1001, dtype=torch.float64)
"""For reals. The trapezoidal rule is exact to rounding for normal densities of scales above 0.1."""
WIDE = torch.linspace(-600, 600, 30001, dtype=torch.float64)
"""For reals with heavy tails: equal steps of asinh x, in which the tails of x fall exponentially.

With 0.04 degrees of freedom all but e^-24 of the law lies within.
"""
MOST = 300
"""For counts, whose rates are below 5 here, and whose dispersions are below 3."""


def values_of(family: Emission, entry: int | None) -> tuple[Tensor, Tensor]:
    """Every value of an entry of an observation, None for a scalar, and the logs of their spacings."""
    if family.needs_integers:
        whole = torch.arange(MOST)
        whole = whole[~family.invalid(whole)]
        return whole, torch.zeros(len(whole))
    if isinstance(family, StudentT):
        return WIDE.sinh(), WIDE.cosh().log() + math.log(1200 / 30000)

    if isinstance(family, Gamma):  # in equal steps of log x
        steps = torch.linspace(-400, 6, 8121, dtype=torch.float64)
        return steps.exp(), steps + math.log(406 / 8120)
    if isinstance(family, Beta):  # in equal steps of the log odds
        steps = torch.linspace(-60, 36, 3001, dtype=torch.float64)
        return steps.sigmoid(), (steps.sigmoid() * (-steps).sigmoid()).log() + math.log(96 / 3000)
    if isinstance(family, VonMises):
        angles = torch.linspace(-math.pi, math.pi, 1001, dtype=torch.float64)[:-1]
        return angles, torch.full_like(angles, math.log(2 * math.pi / 1000))

    def valid(values: Tensor) -> Tensor:
        if entry is None:
            return ~family.invalid(values)
        x = torch.zeros(len(values), *family.event_shape, dtype=torch.float64)
        x[:, entry] = values
        return ~family.invalid(x)[:, entry]

    if bool(valid(torch.tensor([0.5, -0.5])).all()):
        return GRID, torch.full_like(GRID, math.log(float(GRID[1] - GRID[0])))
    whole = torch.arange(MOST).double()
    whole = whole[valid(whole)]
    return whole, torch.zeros(len(whole))


@torch.no_grad()
def within_grids(model: SequenceModel) -> SequenceModel:
    """The model, with parameters of its laws so near to 0 that the grids resolve them.

    Beta laws get larger concentrations, because small ones have numbers that are nearer to 1 than a float.
    """
    family = model.family
    if isinstance(family, Beta | Gamma | Mixture | Joint):
        rows = [value for value in model.parameters() if value.shape[-1:] == (family.num_params,)]
        for row in rows:
            row.mul_(0.3)
            if isinstance(family, Beta):
                row[..., family.num_params // 2 :] += 4
    return model


def integrated(family: Emission, law: Any, x: Tensor, observed: Tensor) -> Tensor:
    """log of the sum or integral of p(x) over the entries of one observation (*event) that are missing, batch shape."""
    if bool(observed.all()):
        return law.log_prob(x)
    missing = [None] if observed.dim() == 0 else (~observed).nonzero()[:, 0].tolist()
    sets = [values_of(family, entry) for entry in missing]
    filled = x.expand(math.prod(len(values) for values, _ in sets), *x.shape).clone()
    columns, spacings = (torch.cartesian_prod(*each).reshape(len(filled), -1) for each in zip(*sets, strict=True))
    for entry, column in zip(missing, columns.T, strict=True):
        filled[(...,) if entry is None else (..., entry)] = column.to(x.dtype)
    axis = len(law.batch_shape)
    densities = law.log_prob(filled.reshape(-1, *(1 for _ in range(axis)), *x.shape))  # (values, *batch)
    return (densities + spacings.sum(-1).reshape(-1, *(1 for _ in range(axis)))).logsumexp(0)


def chain_log_prob(model: SequenceModel, data: Sequences) -> Tensor:
    """log p of what was observed by a sum over all paths of finitely many states, (batch,).

    A memory may read the states, but no observations.
    """
    K = model.states.num_states  # type: ignore[union-attr]
    law, found = model.emission(torch.arange(K), None), []
    for x, there, length in zip(data.x, data.mask, data.lengths.tolist(), strict=True):
        terms = torch.stack([seen_log_prob(model.family, law, x[t], there[t]).detach() for t in range(length)])
        paths = torch.cartesian_prod(*[torch.arange(K)] * length).reshape(-1, length)
        h = memory_of(model).unroll(x[:length].expand(len(paths), *x[:length].shape), paths)
        value = model.initial(None if h is None else h[:, 0]).log_prob(paths[:, 0]).detach()
        if length > 1:
            moves = model.transition(paths[:, :-1], None if h is None else h[:, 1:]).log_prob(paths[:, 1:])
            value = value + moves.detach().sum(1)
        found.append((value + terms[torch.arange(length), paths].sum(1)).logsumexp(0))
    return torch.stack(found)


def seen_log_prob(family: Emission, law: Any, x: Tensor, there: Tensor) -> Tensor:
    """`integrated` for a truth value of the step, or one for each entry; 0 where all is missing."""
    if not bool(there.any()):
        return torch.zeros(law.batch_shape, dtype=torch.float64)
    return integrated(family, law, x, there.expand(x.shape))


def gaussian_log_prob(model: Any, data: Sequences) -> Tensor:
    """log p of what was observed by the big joint normal law of a linear model without inputs, (batch,)."""
    found, parts = [], model.moments() if hasattr(model, "moments") else model.chain()._asdict()
    zero = torch.zeros_like(parts["initial_mean"])
    for x, there, length in zip(data.x, data.mask, data.lengths.tolist(), strict=True):
        law = joint_normal(
            (parts["initial_mean"], parts["initial_cov"]),
            [(parts["transition_matrix"], zero, parts["transition_cov"])] * (length - 1),
            [(parts["emission_matrix"], parts["emission_cov"])] * length,
        )
        seen = there.reshape(len(there), -1).expand(len(there), x[0].numel())[:length].flatten()
        found.append(law.log_prob(x[:length].flatten(), seen).detach() if bool(seen.any()) else torch.zeros(()))
    return torch.stack(found)


LENGTHS = torch.tensor([5, 3, 4])
Mask = Literal["step", "entry"]
MASKS: tuple[Mask, ...] = ("step", "entry")


def observed(family: Emission, mask: Mask) -> Tensor:
    """Step 2 of every sequence is missing, and the last two of the first; by entry, single entries are missing too."""
    there = torch.arange(5) < LENGTHS[:, None]
    there[:, 1] = there[0, 3:] = False
    if mask == "step":
        return there
    by_entry = there.reshape(3, 5, *(1 for _ in family.event_shape)).expand(3, 5, *family.event_shape).clone()
    if family.event_shape:
        by_entry[0, 0, 0] = by_entry[1, 2, -1] = by_entry[2, 2, 0] = False
    return by_entry


def with_gaps(family: Emission, mask: Mask, *, garbage: int = 0) -> Sequences:
    """Three sequences; what stands in their gaps is `garbage` of the family."""
    there = observed(family, mask)
    x, other = draw(family, 3, 5), draw(family, 3, 5, seed=1 + garbage)
    whole = there.reshape(*there.shape, *(1 for _ in range(x.dim() - there.dim())))
    return Sequences(x.where(whole, other), LENGTHS, mask=there)


def reshaped(mask: Tensor, x: Tensor) -> Tensor:
    return mask.reshape(*mask.shape, *(1 for _ in range(x.dim() - mask.dim())))
