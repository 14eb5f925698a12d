"""Registry entries of families, which storage, the command line and the tests read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pgm_rnn.emissions.family import Emission
from pgm_rnn.legend import Kind

Draw = Callable[[Emission, Sequence[int], torch.Generator], Tensor]
"""Draws valid observations of a member of the family, of a given shape (*batch, *event)."""


@dataclass(frozen=True)
class FamilyInfo:
    """An entry of the registry of families; it stands at the end of the family's file.

    Attributes:
        name: its name as a value of `--emission`.
        family: the class; saved models refer to it by the name of the class. Several entries may share it.
        draw: draws valid observations for the tests.
        examples: a few members for the tests, each with a label.
        estimated: the members for which EM has closed forms; None for all of `examples`.
        numbers: the kind of numbers that it expects in a file, such as "counts"; empty if `--emission` does not offer
            it.
        of_numbers: picks the member for the numbers in a file, (batch, T) or (batch, T, M); None if `--emission` does
            not offer it.
        kind: the kind of the columns of a file that it observes.
        of_components: picks the member with a number of components, `--emission NAME:NUMBER`; None if it has none.
    """

    name: str
    family: type[Emission]
    draw: Draw
    examples: Mapping[str, Emission] = field(default_factory=dict)
    estimated: Mapping[str, Emission] | None = None
    numbers: str = ""
    of_numbers: Callable[[Tensor], Emission] | None = None
    kind: Kind = "real"
    of_components: Callable[[Tensor, int], Emission] | None = None


def normal_draws(family: Emission, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def whole_draws(below: int) -> Draw:
    """Whole numbers 0..below - 1, in float64."""
    return lambda family, shape, generator: torch.randint(below, tuple(shape), generator=generator).double()


def size_of(x: Tensor) -> int | None:
    """The size of an observation among numbers (batch, T) or (batch, T, M): None for a scalar, or M."""
    return None if x.dim() == 2 else x.shape[-1]
