"""Angles, such as directions of the wind and times of the day: the von Mises law, the normal law of the circle.

    p(x) is proportional to exp(concentration cos(x - loc))

For large concentrations the standard deviation is about 1 / sqrt(concentration) radians. Source: Mardia & Jupp (2000),
sec. 3.5.4.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.distributions.von_mises import VonMises as Law
from pgm_rnn.emissions.entries import Entries, inverse_softplus
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.info import FamilyInfo, size_of
from pgm_rnn.emissions.limits import VON_MISES, positive_within
from pgm_rnn.emissions.natural import IDENTITY, Natural
from pgm_rnn.emissions.supports import Angles
from pgm_rnn.kernels import positive


@dataclass(frozen=True)
class VonMises(Angles, Entries):
    """Angles in radians from -pi to pi with independent entries.

    params are the direction loc, any angle, and the inverse softplus of the concentration. A recurrence reads the
    cosines and sines. The mean of a law is its mean direction, but that of a mixture, such as a forecast by states, is
    the mean of these as numbers; its quantiles and draws respect the circle's cut at pi. `em.fit` searches
    concentrations from 1e-6 to 1e8.

    Example:
        >>> table = VonMises().table(loc=torch.tensor([0.0]), concentration=torch.tensor([2.0]))
        >>> x = torch.tensor([-math.pi, math.pi])  # the same direction
        >>> table.log_probs(x)[:, 0].detach()
        tensor([-4.6619, -4.6619])
    """

    params_per_entry: ClassVar[int] = 2

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        return self._named(loc=IDENTITY, concentration=positive_within(VON_MISES))

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        loc, raw_concentration = self._per_entry(params)
        return Law(loc, positive.scale(raw_concentration)).to_event(len(self.event_shape))

    @override
    def within_range(self, params: Tensor) -> Tensor:
        loc, raw_concentration = params.chunk(2, dim=-1)
        return torch.cat([loc, positive.at_least(raw_concentration)], dim=-1)

    def table(self, loc: Tensor, concentration: Tensor) -> EmissionTable:
        """One law for each state from directions in radians and concentrations, each (num_states, *event).

        Raises:
            ValueError: other shapes, NaN, or concentrations that are not positive.
        """
        loc, concentration = self._column("loc", loc), self._column("concentration", concentration)
        if len(loc) != len(concentration):
            raise ValueError(f"expected as many concentrations as directions, {len(loc)}, got {len(concentration)}")
        return EmissionTable(self, torch.cat([loc, inverse_softplus("concentration", concentration)], dim=-1))


def angle_draws(family: Emission, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform angles, in float64."""
    return math.pi * (2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1)


INFO = FamilyInfo(
    "von-mises",
    VonMises,
    angle_draws,
    examples={"angle": VonMises(), "angles": VonMises(2)},
    estimated={},
    numbers="angles in radians",
    of_numbers=lambda x: VonMises(size_of(x)),
)
