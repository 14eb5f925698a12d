"""What families of one support share: their words for it, what they refuse, and how a recurrence reads it.

Each stands before `Emission` or `Entries` among the bases of a family.
"""

import math

import torch
from torch import Tensor

from pgm_rnn.emissions.family import Emission

_HALF_TURN = math.pi * (1 + 1e-6)
"""pi with room for its rounding in single precision."""


class OfFamily(Emission):
    """Laws made of those of another family, on the same observations.

    Attributes:
        family: the other family.
    """

    family: Emission

    @property
    def event_shape(self) -> torch.Size:
        """That of the family."""
        return self.family.event_shape

    @property
    def support(self) -> str:
        """Description of the valid values for error messages."""
        return self.family.support

    def support_of(self, entry: tuple[int, ...]) -> str:
        """Description of the valid values of one entry of an observation."""
        return self.family.support_of(entry)

    @property
    def needs_integers(self) -> bool:
        """Whether observations must have an integer dtype."""
        return self.family.needs_integers

    @property
    def continuous(self) -> bool:
        """Whether the laws are densities, which are positive on all of their support."""
        return self.family.continuous

    @property
    def input_dim(self) -> int:
        """Width of `as_input`."""
        return self.family.input_dim

    def as_input(self, x: Tensor) -> Tensor:
        """Observations (..., *event) as the input of a recurrence, (..., input_dim)."""
        return self.family.as_input(x)

    def invalid(self, x: Tensor) -> Tensor:
        """True at each entry of x that the family cannot emit, NaN included; shape of x."""
        return self.family.invalid(x)

    def takes(self, x: Tensor) -> bool:
        """Whether the family can emit every entry of x."""
        return self.family.takes(x)


class Reals(Emission):
    """Densities on the real numbers."""

    @property
    def support(self) -> str:
        """Description of the valid values for error messages."""
        return "finite real numbers"

    @property
    def continuous(self) -> bool:
        """Whether the laws are densities on the real numbers that are positive everywhere."""
        return True

    def invalid(self, x: Tensor) -> Tensor:
        """True at each entry of x that the family cannot emit, NaN included; shape of x."""
        return ~x.isfinite()

    def takes(self, x: Tensor) -> bool:
        """Whether no entry is NaN or infinite."""
        # A sum takes a fraction of the time and is finite only if its terms are; that of finite terms may overflow.
        return bool(x.sum().isfinite()) or bool(x.isfinite().all())


class Counts(Emission):
    """Laws on 0, 1, 2, ...; a recurrence reads counts as log(1 + x)."""

    @property
    def support(self) -> str:
        """Description of the valid values for error messages."""
        return "counts 0, 1, 2, ..."

    def invalid(self, x: Tensor) -> Tensor:
        """True at each entry of x that the family cannot emit, NaN included; shape of x."""
        return ~((x >= 0) & (x == x.floor()) & x.isfinite())

    def as_input(self, x: Tensor) -> Tensor:
        """log(1 + x) as the input of a recurrence, (..., input_dim)."""
        return super().as_input(x).log1p()


class Positives(Emission):
    """Densities on the positive numbers; a recurrence reads them as log(1 + x)."""

    @property
    def support(self) -> str:
        """Description of the valid values for error messages."""
        return "finite positive numbers"

    @property
    def continuous(self) -> bool:
        """Whether the laws are densities, which are positive on all of their support."""
        return True

    def invalid(self, x: Tensor) -> Tensor:
        """True at each entry of x that the family cannot emit, NaN included; shape of x."""
        return ~((x > 0) & x.isfinite())

    def as_input(self, x: Tensor) -> Tensor:
        """log(1 + x) as the input of a recurrence, (..., input_dim)."""
        return super().as_input(x).log1p()


class Shares(Emission):
    """Densities on the numbers strictly between 0 and 1."""

    @property
    def support(self) -> str:
        """Description of the valid values for error messages."""
        return "numbers strictly between 0 and 1"

    @property
    def continuous(self) -> bool:
        """Whether the laws are densities, which are positive on all of their support."""
        return True

    def invalid(self, x: Tensor) -> Tensor:
        """True at each entry of x that the family cannot emit, NaN included; shape of x."""
        return ~((x > 0) & (x < 1))


class Angles(Emission):
    """Densities on the circle, of angles in radians from -pi to pi; a recurrence reads their cosines, then sines."""

    @property
    def support(self) -> str:
        """Description of the valid values for error messages."""
        return "angles in radians from -pi to pi"

    @property
    def continuous(self) -> bool:
        """Whether the laws are densities, which are positive on all of their support."""
        return True

    @property
    def input_dim(self) -> int:
        """Width of `as_input`."""
        return 2 * self.event_shape.numel()

    def invalid(self, x: Tensor) -> Tensor:
        """True at each entry of x that the family cannot emit, NaN included; shape of x."""
        return ~(x.abs() <= _HALF_TURN)

    def as_input(self, x: Tensor) -> Tensor:
        """The cosines, then the sines, as the input of a recurrence, (..., input_dim)."""
        flat = x.reshape(*x.shape[: x.dim() - len(self.event_shape)], self.event_shape.numel())
        return torch.cat([flat.cos(), flat.sin()], dim=-1)
