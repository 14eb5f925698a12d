"""Numbers between 0 and 1, such as shares and rates: the beta law by its mean and its concentration.

    Var x = mean (1 - mean) / (1 + concentration)

scipy's and torch's numbers are a = concentration1 = mean concentration and b = concentration0 = (1 - mean)
concentration. Source: Ferrari & Cribari-Neto (2004), eq. (4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.distributions.beta import Beta as Law
from pgm_rnn.emissions.entries import Entries, inverse_softplus
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.info import FamilyInfo, size_of
from pgm_rnn.emissions.limits import BETA, positive_within
from pgm_rnn.emissions.natural import LOGIT, Natural
from pgm_rnn.emissions.supports import Shares
from pgm_rnn.kernels import positive


@dataclass(frozen=True)
class Beta(Shares, Entries):
    """Numbers strictly between 0 and 1 with independent entries.

    params are the log odds of the mean and the inverse softplus of the concentration. Concentration 2 around 1/2 is the
    uniform law. `em.fit` searches concentrations up to 1e8.

    Example:
        >>> table = Beta().table(mean=torch.tensor([0.5]), concentration=torch.tensor([3.0]))
        >>> table(torch.tensor([0])).variance
        tensor([0.0625], grad_fn=<DivBackward0>)
    """

    params_per_entry: ClassVar[int] = 2

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        return self._named(mean=LOGIT, concentration=positive_within(BETA))

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        logit, raw_concentration = self._per_entry(params)
        return Law(logit, positive.scale(raw_concentration)).to_event(len(self.event_shape))

    @override
    def within_range(self, params: Tensor) -> Tensor:
        logit, raw_concentration = params.chunk(2, dim=-1)
        return torch.cat([logit, positive.at_least(raw_concentration)], dim=-1)

    def table(self, mean: Tensor, concentration: Tensor) -> EmissionTable:
        """One law for each state from means and concentrations, each (num_states, *event).

        Raises:
            ValueError: other shapes, NaN, means that are not strictly between 0 and 1, or concentrations that are not
                positive.
        """
        mean, concentration = self._column("mean", mean), self._column("concentration", concentration)
        if len(mean) != len(concentration):
            raise ValueError(f"expected as many concentrations as means, {len(mean)}, got {len(concentration)}")
        if not bool(((mean > 0) & (mean < 1)).all()):
            low, high = float(mean.min()), float(mean.max())
            raise ValueError(f"expected mean strictly between 0 and 1, got {low:.6g} to {high:.6g}")
        return EmissionTable(self, torch.cat([mean.logit(), inverse_softplus("concentration", concentration)], dim=-1))


def share_draws(family: Emission, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform numbers between 0 and 1, in float64."""
    return torch.rand(*shape, generator=generator, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)


INFO = FamilyInfo(
    "beta",
    Beta,
    share_draws,
    examples={"share": Beta(), "shares": Beta(2)},
    estimated={},
    numbers="numbers between 0 and 1",
    of_numbers=lambda x: Beta(size_of(x)),
)
