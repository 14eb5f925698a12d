"""What families of one support share: their words for it, what they refuse, and how a recurrence reads it.

Each stands before `Emission` or `Entries` among the bases of a family.
"""

from torch import Tensor

from pgm_rnn.emissions.family import Emission


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
