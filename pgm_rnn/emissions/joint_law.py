"""The law of vectors with independent columns of different kinds: log p(x) = sum_m log p_m(x_m)."""

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from typing_extensions import override

from pgm_rnn.distributions.entry_laws import EntryLaws, of_entries
from pgm_rnn.distributions.observed import entries_log_prob, observed_log_prob
from pgm_rnn.emissions.family import Emission


class Part(NamedTuple):
    """One of the families of a `Joint`, and where it stands.

    Attributes:
        family: the family.
        columns: its entries of an observation.
        params: its unconstrained parameters among those of all families.
    """

    family: Emission
    columns: slice
    params: slice

    def entries(self, x: Tensor) -> Tensor:
        """Its entries of numbers or truth values (..., M), in the shape that it has by itself, (..., *event)."""
        own = x[..., self.columns]
        return own if self.family.event_shape else own[..., 0]

    def observations(self, x: Tensor) -> Tensor:
        """Its entries of observations (..., M), in the shape and dtype that it has by itself, (..., *event)."""
        own = self.entries(x)
        return own.long() if self.family.needs_integers else own

    @property
    def place(self) -> str:
        """The columns in words, counted from 0."""
        first, last = self.columns.start, self.columns.stop - 1
        return f"column {first}" if first == last else f"columns {first} to {last}"


class JointLaw(TorchDistribution):
    """The law of vectors whose columns are independent of each other.

    Args:
        parts: the families and their places.
        params: unconstrained parameters (..., num_params).
        laws: the law of each of the families, with these parameters.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)

    def __init__(self, parts: Sequence[Part], params: Tensor, laws: Sequence[TorchDistribution]) -> None:
        self.parts, self.params, self.laws = parts, params, laws
        super().__init__(params.shape[:-1], torch.Size([parts[-1].columns.stop]), validate_args=False)

    @property
    def support(self) -> Any:
        """The supports of the columns."""
        return _Columns(self)

    @property
    @override
    def mean(self) -> Tensor:
        """Means of all columns, (..., M); NaN for symbols."""
        return self.joined(law.mean for law in self.laws)

    @property
    @override
    def variance(self) -> Tensor:
        """Variances of all columns, (..., M); NaN for symbols."""
        return self.joined(law.variance for law in self.laws)

    @override
    def expand(self, batch_shape: Any, _instance: Any = None) -> "JointLaw":
        batch_shape = torch.Size(batch_shape)
        laws = [law.expand(batch_shape) for law in self.laws]
        return JointLaw(self.parts, self.params.expand(*batch_shape, -1), laws)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """Sum of the columns' log densities in nats; batch shape broadcast with x's."""
        return total(law.log_prob(part.observations(value)) for part, law in self.by_part())

    def entries_log_prob(self, value: Tensor, observed: Tensor) -> Tensor:
        """`log_prob` of the entries where `observed` (..., M) is true, the others integrated out."""
        return total(
            observed_log_prob(law, part.observations(value), part.entries(observed)) for part, law in self.by_part()
        )

    @override
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, *batch_shape, M)."""
        return self.joined(law.sample(torch.Size(sample_shape)) for law in self.laws)

    def by_part(self) -> Iterator[tuple[Part, TorchDistribution]]:
        """Each of the families, and its law."""
        return zip(self.parts, self.laws, strict=True)

    def joined(self, values: Iterable[Tensor]) -> Tensor:
        """Values of each family, (..., *event), as (..., M) in the dtype of the parameters."""
        each = [
            value.to(self.params.dtype).reshape(*value.shape[: value.dim() - len(law.event_shape)], -1)
            for value, law in zip(values, self.laws, strict=True)
        ]
        return torch.cat(each, dim=-1)


@entries_log_prob.register
def _(law: JointLaw, x: Tensor, observed: Tensor) -> Tensor:
    return law.entries_log_prob(x, observed)


@of_entries.register
def _(law: JointLaw, x: Tensor) -> EntryLaws:
    each = [of_entries(own, part.observations(x)) for part, own in law.by_part()]
    return EntryLaws(*(law.joined(values) for values in zip(*each, strict=True)))


class _Columns(constraints.Constraint):
    """Vectors whose entries are in the supports of their columns' laws."""

    event_dim = 1

    def __init__(self, law: JointLaw) -> None:
        self._law = law
        super().__init__()

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        """Whether all columns are."""
        return all(bool(_support(law).is_discrete) for law in self._law.laws)

    def check(self, value: Tensor) -> Tensor:
        """True for each vector (..., M) that is in the support."""
        found = [_support(law).check(part.entries(value)) for part, law in self._law.by_part()]
        return reduce(torch.logical_and, found)


def _support(law: TorchDistribution) -> Any:
    return law.support


def total(values: Iterable[Tensor]) -> Tensor:
    """The sum of tensors whose shapes broadcast."""
    return reduce(torch.add, values)
