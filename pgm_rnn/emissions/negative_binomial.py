"""Counts whose variance exceeds their mean: the negative binomial law, a Poisson law whose rate is itself random.

    x ~ Poisson(mean g),   g ~ Gamma(1 / dispersion, rate 1 / dispersion)
    Var x = mean + dispersion mean^2

This is "NB2" of regression. scipy's and R's numbers are n = size = 1 / dispersion, p = prob = n / (n + mean), torch's
are total_count = n and probs = 1 - p. Source: Lawless (1987).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.distributions.negative_binomial import NegativeBinomial as Law
from pgm_rnn.emissions.entries import Entries, inverse_softplus
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.info import FamilyInfo, size_of
from pgm_rnn.emissions.limits import NEGATIVE_BINOMIAL, positive_within
from pgm_rnn.emissions.natural import SOFTPLUS, Natural
from pgm_rnn.emissions.supports import Counts
from pgm_rnn.kernels import positive


@dataclass(frozen=True)
class NegativeBinomial(Counts, Entries):
    """Over-dispersed counts with independent entries of variance mean + dispersion mean^2.

    params are the inverse softplus of the mean and of the dispersion. As the dispersion goes to 0 the law becomes
    `Poisson`; at 1 it is geometric. A recurrence reads counts as log(1 + x). `em.fit` searches dispersions from 1e-10
    to 1e6.

    Example:
        >>> table = NegativeBinomial().table(mean=torch.tensor([4.0]), dispersion=torch.tensor([0.5]))
        >>> table(torch.tensor([0])).variance
        tensor([12.], grad_fn=<AddBackward0>)
    """

    params_per_entry: ClassVar[int] = 2

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        return self._named(mean=SOFTPLUS, dispersion=positive_within(NEGATIVE_BINOMIAL))

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        raw_mean, raw_dispersion = self._per_entry(params)
        return Law(raw_mean, positive.scale(raw_dispersion)).to_event(len(self.event_shape))

    def table(self, mean: Tensor, dispersion: Tensor) -> EmissionTable:
        """One law for each state from means and dispersions, each (num_states, *event).

        Raises:
            ValueError: other shapes, NaN, or means or dispersions that are not positive.
        """
        mean, dispersion = self._column("mean", mean), self._column("dispersion", dispersion)
        if len(mean) != len(dispersion):
            raise ValueError(f"expected as many dispersions as means, {len(mean)}, got {len(dispersion)}")
        raw = [inverse_softplus("mean", mean), inverse_softplus("dispersion", dispersion)]
        return EmissionTable(self, torch.cat(raw, dim=-1))


def dispersed_draws(family: Emission, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Geometric counts of mean 1.5, in float64."""
    uniform = torch.rand(*shape, generator=generator, dtype=torch.float64)
    return (torch.log1p(-uniform) / torch.tensor(0.6, dtype=torch.float64).log()).floor()


INFO = FamilyInfo(
    "negative-binomial",
    NegativeBinomial,
    dispersed_draws,
    examples={"dispersed-count": NegativeBinomial(), "dispersed-counts": NegativeBinomial(2)},
    numbers="over-dispersed counts",
    of_numbers=lambda x: NegativeBinomial(size_of(x)),
    kind="count",
)
