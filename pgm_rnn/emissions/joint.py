"""Columns of different kinds: p(x | params) = prod_m p_m(x_m | params_m), one family for each column.

Observations are floating-point vectors, one entry per column, with symbols and counts as whole numbers, so that one
tensor and one mask hold all columns. A family of vectors takes several columns, whose entries may then depend on each
other.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.emissions import (
    beta,
    entries,
    full_gaussian,
    gamma,
    mixture,
    negative_binomial,
    pen,
    spherical,
    student_t,
    symbols,
    von_mises,
    zero_inflated,
)
from pgm_rnn.emissions.entries import Bernoulli, Gaussian, Poisson
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.full_gaussian import FullGaussian
from pgm_rnn.emissions.info import FamilyInfo
from pgm_rnn.emissions.joint_law import JointLaw, Part, total
from pgm_rnn.emissions.natural import Natural, in_columns
from pgm_rnn.emissions.symbols import Categorical


@dataclass(frozen=True)
class Joint(Emission):
    """Vectors with one entry per column; columns are independent given their parameters.

    Args:
        families: one family of scalars for each column, or of vectors for several columns that stand side by side; a
            `Joint` among them counts as its own families.

    Raises:
        TypeError: no sequence of families, or one that `needs_head`.
        ValueError: no family, or one of observations that are neither scalars nor vectors.

    Example:
        >>> weather = Joint([Gaussian(), Categorical(3), Poisson()])
        >>> x = torch.tensor([[0.5, 2.0, 7.0]])
        >>> weather.random_table(4).log_probs(x).shape
        torch.Size([1, 4])
    """

    families: Sequence[Emission]

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", tuple(_checked(self.families)))  # a tuple, so that families are hashable
        if not self.families:
            raise ValueError("expected at least one family, such as [Gaussian(), Poisson()], got none")

    @property
    def parts(self) -> tuple[Part, ...]:
        """The families with their places."""
        found, column, param = [], 0, 0
        for family in self.families:
            width, size = family.event_shape.numel(), family.num_params
            found.append(Part(family, slice(column, column + width), slice(param, param + size)))
            column, param = column + width, param + size
        return tuple(found)

    @property
    @override
    def event_shape(self) -> torch.Size:
        return torch.Size([sum(family.event_shape.numel() for family in self.families)])

    @property
    @override
    def num_params(self) -> int:
        return sum(family.num_params for family in self.families)

    @property
    @override
    def input_dim(self) -> int:
        return sum(family.input_dim for family in self.families)

    @property
    @override
    def support(self) -> str:
        return ", ".join(f"{part.family.support} in {part.place}" for part in self.parts)

    @override
    def support_of(self, entry: tuple[int, ...]) -> str:
        [part] = [part for part in self.parts if part.columns.start <= entry[0] < part.columns.stop]
        return part.family.support_of((entry[0] - part.columns.start,))

    @property
    @override
    def continuous(self) -> bool:
        """Whether any of the columns has a density."""
        return any(family.continuous for family in self.families)

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Those of the families, with the first of their columns in front: column_0_loc, column_1_probs."""
        return {
            f"column_{part.columns.start}_{name}": in_columns(natural, part.params.start, part.params.stop)
            for part in self.parts
            for name, natural in part.family.natural_parameters.items()
        }

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        parts = self.parts
        return JointLaw(parts, params, [part.family.distribution(params[..., part.params]) for part in parts])

    @override
    def within_range(self, params: Tensor) -> Tensor:
        return torch.cat([part.family.within_range(params[..., part.params]) for part in self.parts], dim=-1)

    @override
    def invalid(self, x: Tensor) -> Tensor:
        return torch.cat([_invalid(part, x) for part in self.parts], dim=-1)

    @override
    def as_input(self, x: Tensor) -> Tensor:
        return torch.cat([part.family.as_input(part.observations(x)).to(x.dtype) for part in self.parts], dim=-1)

    @override
    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        return total(part.family.log_probs(params[..., part.params], part.observations(x)) for part in self.parts)

    @override
    def entries_log_probs(self, params: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        return total(_seen_log_probs(part, params, x, observed) for part in self.parts)

    @override
    def random_table(self, num_states: int) -> EmissionTable:
        """The families' own random tables side by side."""
        return self.table(*(family.random_table(num_states) for family in self.families))

    def table(self, *tables: EmissionTable) -> EmissionTable:
        """One law for each state from the families' own tables, in the order of the columns.

        Example:
            >>> loc, scale, rate = torch.zeros(2), torch.ones(2), torch.tensor([1.0, 5.0])
            >>> family = Joint([Gaussian(), Poisson()])
            >>> family.table(Gaussian().table(loc, scale), Poisson().table(rate)).num_states
            2

        Raises:
            ValueError: another number of tables, tables of other families, or of different numbers of states.
        """
        if len(tables) != len(self.families):
            raise ValueError(f"expected one table for each of the {len(self.families)} families, got {len(tables)}")
        for part, table in zip(self.parts, tables, strict=True):
            if table.family != part.family:
                raise ValueError(f"expected a table of {part.family} for {part.place}, got one of {table.family}")
            if table.num_states != tables[0].num_states:
                raise ValueError(
                    f"expected {tables[0].num_states} states in each table, as in the first one, "
                    f"got {table.num_states} for {part.place}"
                )
        return EmissionTable(self, torch.cat([table.params.detach() for table in tables], dim=-1))


def _checked(families: Any) -> Iterator[Emission]:
    """The families, with those of a `Joint` in its place.

    Raises:
        TypeError, ValueError: as `Joint`.
    """
    if not isinstance(families, Iterable):
        raise TypeError(
            "expected a list of families, one for each column, such as [Gaussian(), Poisson()], "
            f"got {type(families).__name__}"
        )
    for family in families:
        if not isinstance(family, Emission):
            raise TypeError(f"expected families such as Gaussian() and Poisson(), got {type(family).__name__}")
        if family.needs_head:
            raise TypeError(
                f"expected families whose laws share no weights, got {family}; use one such as Bernoulli, or a "
                "network with that family alone"
            )
        if family.num_own < family.num_params:
            raise TypeError(f"expected families whose states share no parameters, got {family}; use it by itself")
        if len(family.event_shape) > 1:
            raise ValueError(f"expected families of scalars or vectors, got {family} of {tuple(family.event_shape)}")
        yield from family.families if isinstance(family, Joint) else [family]


def _invalid(part: Part, x: Tensor) -> Tensor:
    """`Joint.invalid` of the columns of one family, (..., width)."""
    own = part.entries(x)
    if part.family.needs_integers:  # of which it has never seen a fraction or NaN
        found = part.family.invalid(own.nan_to_num().long()) | (own != own.floor())
    else:
        found = part.family.invalid(own)
    return found.reshape(x[..., part.columns].shape)


def _seen_log_probs(part: Part, params: Tensor, x: Tensor, observed: Tensor) -> Tensor:
    """`Joint.entries_log_probs` of the columns of one family, (..., num_states)."""
    own, x, there = params[..., part.params], part.observations(x), part.entries(observed)
    if part.family.event_shape:
        return part.family.entries_log_probs(own, x, there)
    return part.family.log_probs(own, x).where(there[..., None], 0.0)


_OTHERS = (full_gaussian, spherical, student_t, gamma, beta, von_mises, negative_binomial, pen)
_INFOS = (symbols.INFO, *entries.INFOS, *(module.INFO for module in _OTHERS), *zero_inflated.INFOS, *mixture.INFOS)
_DRAWS = {info.family: info.draw for info in _INFOS}


def _draw(family: Emission, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Each column as its own family draws it."""
    assert isinstance(family, Joint)  # the registry's entry is for this class
    drawn = [_DRAWS[type(each)](each, (*shape[:-1], *each.event_shape), generator) for each in family.families]
    flat = [x.double().reshape(*shape[:-1], -1) for x in drawn]
    return torch.cat(flat, dim=-1)


_COLUMNS = Joint([Gaussian(), Categorical(3), Poisson()])
INFO = FamilyInfo(
    "joint",
    Joint,
    _draw,
    examples={"joint": _COLUMNS},
    estimated={"joint": _COLUMNS, "joint-vectors": Joint([Bernoulli(), FullGaussian(2), Categorical(2)])},
)
