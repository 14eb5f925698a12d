"""Positive numbers, such as amounts, sizes and waiting times: the gamma law by its mean and its concentration.

    Var x = mean^2 / concentration

Concentration 1 is the exponential law. scipy's and torch's numbers are a = concentration, and scale = mean / a or
rate = a / mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.distributions.gamma import Gamma as Law
from pgm_rnn.emissions.entries import Entries, inverse_softplus
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.info import FamilyInfo, size_of
from pgm_rnn.emissions.limits import GAMMA, positive_within
from pgm_rnn.emissions.natural import SOFTPLUS, Natural
from pgm_rnn.emissions.supports import Positives
from pgm_rnn.kernels import positive


@dataclass(frozen=True)
class Gamma(Positives, Entries):
    """Positive numbers with independent entries of variance mean^2 / concentration.

    params are the inverse softplus of the mean and of the concentration. A recurrence reads numbers as log(1 + x).
    `em.fit` searches concentrations from 1e-6 to 1e8. Where zeros occur, use another family, or leave them out.

    Example:
        >>> table = Gamma().table(mean=torch.tensor([4.0]), concentration=torch.tensor([2.0]))
        >>> table(torch.tensor([0])).variance
        tensor([8.], grad_fn=<DivBackward0>)
    """

    params_per_entry: ClassVar[int] = 2

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        return self._named(mean=SOFTPLUS, concentration=positive_within(GAMMA))

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        raw_mean, raw_concentration = self._per_entry(params)
        law = Law(positive.scale(raw_mean), positive.scale(raw_concentration))
        return law.to_event(len(self.event_shape))

    @override
    def within_range(self, params: Tensor) -> Tensor:
        return positive.at_least(params)

    def table(self, mean: Tensor, concentration: Tensor) -> EmissionTable:
        """One law for each state from means and concentrations, each (num_states, *event).

        Raises:
            ValueError: other shapes, NaN, or means or concentrations that are not positive.
        """
        mean, concentration = self._column("mean", mean), self._column("concentration", concentration)
        if len(mean) != len(concentration):
            raise ValueError(f"expected as many concentrations as means, {len(mean)}, got {len(concentration)}")
        raw = [inverse_softplus("mean", mean), inverse_softplus("concentration", concentration)]
        return EmissionTable(self, torch.cat(raw, dim=-1))


def positive_draws(family: Emission, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Exponential numbers of mean 1, in float64."""
    return -torch.rand(*shape, generator=generator, dtype=torch.float64).neg().log1p()


INFO = FamilyInfo(
    "gamma",
    Gamma,
    positive_draws,
    examples={"positive": Gamma(), "positives": Gamma(2)},
    estimated={},
    numbers="positive numbers",
    of_numbers=lambda x: Gamma(size_of(x)),
)
