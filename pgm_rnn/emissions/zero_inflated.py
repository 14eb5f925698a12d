"""Counts with more zeros than a law of counts has: a gate makes some observations zero.

    x_m = 0 with probability gate_m, otherwise x_m ~ Poisson or negative binomial

Source: Lambert (1992).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.distributions.zero_inflated import ZeroInflated as Law
from pgm_rnn.emissions.entries import Entries, Poisson
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.info import FamilyInfo, size_of
from pgm_rnn.emissions.natural import LOGIT, Natural, by_entry, in_columns
from pgm_rnn.emissions.negative_binomial import NegativeBinomial, dispersed_draws
from pgm_rnn.emissions.supports import OfFamily


@dataclass(frozen=True)
class ZeroInflated(OfFamily):
    """Counts of another family, each entry of which has a gate that makes it zero.

    params are those of the family, then the log odds of the gate of each entry.

    Args:
        family: `Poisson(size)` or `NegativeBinomial(size)`.

    Raises:
        TypeError: another family.

    Example:
        >>> family = ZeroInflated(Poisson())
        >>> table = family.table(gate=torch.tensor([0.25]), counts=Poisson().table(rate=torch.tensor([4.0])))
        >>> table(torch.tensor([0])).mean
        tensor([3.0000], grad_fn=<MulBackward0>)
    """

    family: Emission

    def __post_init__(self) -> None:
        if not isinstance(self.family, Poisson | NegativeBinomial):
            raise TypeError(
                f"expected a family of counts, Poisson(size) or NegativeBinomial(size), got {self.family!r}; give one"
            )

    @property
    def entries(self) -> Entries:
        """The family of the counts."""
        assert isinstance(self.family, Entries)  # `__post_init__` has checked it
        return self.family

    @property
    @override
    def num_params(self) -> int:
        return self.family.num_params + self.event_shape.numel()

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        """The gate, and those of the family under their own names."""
        size = self.family.num_params
        inner = {name: in_columns(each, 0, size) for name, each in self.family.natural_parameters.items()}
        return {**inner, "gate": by_entry("params", size, self.event_shape, LOGIT)}

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        inner, logits = params.tensor_split([self.family.num_params], dim=-1)
        law: Any = self.family.distribution(inner)
        axes = len(self.event_shape)
        counts, gate_logits = (law.base_dist, logits) if axes else (law, logits.squeeze(-1))
        return Law(counts, gate_logits).to_event(axes)

    def table(self, gate: Tensor, counts: EmissionTable) -> EmissionTable:
        """One law for each state from the gates' probabilities, (num_states, *event), and a table of the family.

        Raises:
            ValueError: another shape, probabilities that are not strictly between 0 and 1, or a table of another family
                or number of states.
        """
        gate = self.entries._column("gate", gate)
        if not bool(((gate > 0) & (gate < 1)).all()):
            raise ValueError("expected gate strictly between 0 and 1, got others; move zeros and ones inside first")
        if counts.family != self.family or counts.num_states != len(gate):
            raise ValueError(
                f"expected counts as a table of {self.family} with {len(gate)} states, as gate has, "
                f"got one of {counts.family} with {counts.num_states}"
            )
        return EmissionTable(self, torch.cat([counts.params.detach(), gate.logit().to(counts.params)], dim=-1))


def inflated_draws(family: Emission, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Over-dispersed counts, a third of which are zero whatever they were, in float64."""
    kept = torch.rand(*shape, generator=generator, dtype=torch.float64) > 1 / 3
    return dispersed_draws(family, shape, generator) * kept


INFOS = (
    FamilyInfo(
        "zero-inflated-poisson",
        ZeroInflated,
        inflated_draws,
        examples={"inflated-count": ZeroInflated(Poisson())},
        estimated={},
        numbers="counts with many zeros",
        of_numbers=lambda x: ZeroInflated(Poisson(size_of(x))),
        kind="count",
    ),
    FamilyInfo(
        "zero-inflated-negative-binomial",
        ZeroInflated,
        inflated_draws,
        examples={"inflated-counts": ZeroInflated(NegativeBinomial(2))},
        estimated={},
        numbers="over-dispersed counts with many zeros",
        of_numbers=lambda x: ZeroInflated(NegativeBinomial(size_of(x))),
        kind="count",
    ),
)
