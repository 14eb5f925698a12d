"""What a family of observation laws says of itself to storage, the command line and the tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pgm_rnn.emissions.family import Emission

Draw = Callable[[Emission, Sequence[int], torch.Generator], Tensor]
"""Valid observations of a member of the family, of a whole shape (*batch, *event)."""


@dataclass(frozen=True)
class FamilyInfo:
    """An entry of the registry of families; it stands at the end of the family's file.

    Attributes:
        name: what `--emission` calls it.
        family: the class. A saved model knows it by the class's name.
        draw: valid observations, which the tests need.
        examples: a few members for the tests, each with a label.
        estimated: those of its members that EM has closed forms for; None for all of `examples`.
        numbers: what it takes the numbers in a file for, such as "counts". Empty if `--emission` does not offer it.
        of_numbers: the member for the numbers in a file, (batch, T) or (batch, T, M); None as for `numbers`.
    """

    name: str
    family: type[Emission]
    draw: Draw
    examples: Mapping[str, Emission] = field(default_factory=dict)
    estimated: Mapping[str, Emission] | None = None
    numbers: str = ""
    of_numbers: Callable[[Tensor], Emission] | None = None


def normal_draws(family: Emission, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def whole_draws(below: int) -> Draw:
    """Whole numbers 0..below - 1, in float64."""
    return lambda family, shape, generator: torch.randint(below, tuple(shape), generator=generator).double()


def size_of(x: Tensor) -> int | None:
    """The size of an observation among numbers (batch, T) or (batch, T, M): None for a scalar, or M."""
    return None if x.dim() == 2 else x.shape[-1]
