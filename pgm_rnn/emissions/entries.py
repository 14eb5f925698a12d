"""Families of scalars and of vectors with independent entries: bits, real numbers, counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.checks import check_counts
from pgm_rnn.distributions.bits import Bernoulli as BitsLaw
from pgm_rnn.distributions.normal import ScaledNormal
from pgm_rnn.distributions.poisson import Poisson as CountLaw
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.info import FamilyInfo, normal_draws, size_of, whole_draws
from pgm_rnn.emissions.natural import IDENTITY, LOGIT, SOFTPLUS, Map, Natural, by_entry
from pgm_rnn.emissions.supports import Counts, Reals
from pgm_rnn.kernels import bits, positive


@dataclass(frozen=True)
class Entries(Emission):
    """A scalar (size None) or a vector of `size` entries, independent given their parameters.

    Attributes:
        size: number of entries, or None for a scalar.
        params_per_entry: number of unconstrained parameters of each entry.
    """

    size: int | None = None
    params_per_entry: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.size is not None:
            check_counts(size=self.size)

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one observation, () or (size,)."""
        return torch.Size() if self.size is None else torch.Size([self.size])

    @property
    def num_params(self) -> int:
        """Number of unconstrained parameters of all entries."""
        return self.params_per_entry * self.event_shape.numel()

    def _per_entry(self, params: Tensor) -> tuple[Tensor, ...]:
        """Each kind of parameter in the event's shape, (..., *event)."""
        kinds = params.chunk(self.params_per_entry, dim=-1)
        return kinds if self.size is not None else tuple(kind.squeeze(-1) for kind in kinds)

    def _named(self, **maps: Map) -> Mapping[str, Natural]:
        """The natural parameters of a table, which lie one after the other in its rows."""
        event = self.event_shape
        return {name: by_entry("params", i * event.numel(), event, of) for i, (name, of) in enumerate(maps.items())}

    def _column(self, name: str, values: Tensor) -> Tensor:
        """Named parameters of a table, (num_states, *event), as (num_states, size or 1)."""
        values = torch.as_tensor(values)
        if values.shape[1:] != self.event_shape or values.dim() == 0:
            expected = ", ".join(["num_states", *map(str, self.event_shape)])
            raise ValueError(f"expected {name} of shape ({expected}), got {tuple(values.shape)}")
        if not values.is_floating_point():
            raise ValueError(f"expected {name} as floating-point numbers, got {values.dtype}; use .to(torch.float64)")
        if not bool(values.isfinite().all()):
            raise ValueError(f"expected {name} as finite floating-point numbers, got NaN or infinity")
        return values.reshape(len(values), -1)


@dataclass(frozen=True)
class Bernoulli(Entries):
    """Bits with p(x = 1) = sigmoid(params): one bit, or `size` of them (88 keys of a piano).

    Observations are 0 and 1; a model takes them in its own dtype or any integer one.
    """

    @property
    @override
    def support(self) -> str:
        return "bits 0 or 1"

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        return self._named(probs=LOGIT)

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        (logits,) = self._per_entry(params)
        return BitsLaw(logits=logits, validate_args=False).to_event(len(self.event_shape))

    @override
    def invalid(self, x: Tensor) -> Tensor:
        return x.bool() != x

    @override
    def takes(self, x: Tensor) -> bool:
        if x.dtype == torch.bool or not x.numel():
            return True
        least, most = torch.addcmul(x, x, x, value=-1).aminmax()  # faster than `any`; NaN where x is NaN or infinite
        return bool((least == 0) & (most == 0))

    @override
    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        """`kernels.bits.log_density` of all states: a matrix product."""
        return bits.log_density(self.as_input(x), params)

    @override
    def entries_log_probs(self, params: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """`log_probs` of the observed bits, by two matrix products."""
        return bits.log_density(self.as_input(x), params, self.as_input(observed))

    def table(self, probs: Tensor) -> EmissionTable:
        """One law for each state from p(x = 1 | z = k), strictly between 0 and 1: (num_states, *event).

        Raises:
            ValueError: another shape, or probabilities of 0, of 1 or outside [0, 1].
        """
        probs = self._column("probs", probs)
        if not bool(((probs > 0) & (probs < 1)).all()):
            low, high = float(probs.min()), float(probs.max())
            raise ValueError(
                f"expected probabilities of bits strictly between 0 and 1, got {low:.6g} to {high:.6g}; move zeros and "
                "ones inside first"
            )
        return EmissionTable(self, probs.logit())


@dataclass(frozen=True)
class Gaussian(Reals, Entries):
    """Real observations with independent normal entries: params are (loc, inverse softplus of the scale).

    A scale is at least the smallest normal number; a scale from a network is at least
    `pgm_rnn.kernels.positive.least_scale`: 2.3e-13 in float32, 2.8e-103 in float64.
    """

    params_per_entry: ClassVar[int] = 2

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        return self._named(loc=IDENTITY, scale=SOFTPLUS)

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        loc, raw_scale = self._per_entry(params)
        law = ScaledNormal(loc, positive.scale(raw_scale), validate_args=False)
        return law.to_event(len(self.event_shape))

    @override
    def within_range(self, params: Tensor) -> Tensor:
        loc, raw_scale = params.chunk(2, dim=-1)
        return torch.cat([loc, positive.at_least(raw_scale)], dim=-1)

    def table(self, loc: Tensor, scale: Tensor) -> EmissionTable:
        """One law for each state from means and standard deviations, each (num_states, *event).

        Raises:
            ValueError: other shapes, NaN, or scales that are not positive.
        """
        loc, scale = self._column("loc", loc), self._column("scale", scale)
        if len(loc) != len(scale):
            raise ValueError(f"expected {len(loc)} scales, as many as means, got {len(scale)}")
        return EmissionTable(self, torch.cat([loc, inverse_softplus("scale", scale)], dim=-1))


@dataclass(frozen=True)
class Poisson(Counts, Entries):
    """Counts with rate softplus(params). A recurrence reads them as log(1 + x)."""

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        return self._named(rate=SOFTPLUS)

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        (raw_rate,) = self._per_entry(params)
        return CountLaw(raw_rate).to_event(len(self.event_shape))

    def table(self, rate: Tensor) -> EmissionTable:
        """One law for each state from positive rates, (num_states, *event).

        Raises:
            ValueError: another shape, NaN, or rates that are not positive.
        """
        return EmissionTable(self, inverse_softplus("rate", self._column("rate", rate)))


def inverse_softplus(name: str, y: Tensor) -> Tensor:
    """log(exp(y) - 1), the number whose softplus is y > 0, without overflow; `name` is for the error.

    Raises:
        ValueError: a y that is not positive.
    """
    if not bool((y > 0).all()):
        raise ValueError(f"expected {name} to be positive, got {float(y.min())}")
    return positive.inverse_softplus(y)


INFOS = (
    FamilyInfo(
        "bernoulli",
        Bernoulli,
        whole_draws(2),
        examples={"bit": Bernoulli(), "bits": Bernoulli(2)},
        numbers="bits",
        of_numbers=lambda x: Bernoulli(size_of(x)),
        kind="binary",
    ),
    FamilyInfo(
        "gaussian",
        Gaussian,
        normal_draws,
        examples={"real": Gaussian(), "reals": Gaussian(2)},
        numbers="real numbers",
        of_numbers=lambda x: Gaussian(size_of(x)),
    ),
    FamilyInfo(
        "poisson",
        Poisson,
        whole_draws(4),
        examples={"count": Poisson(), "counts": Poisson(2)},
        numbers="counts",
        of_numbers=lambda x: Poisson(size_of(x)),
        kind="count",
    ),
)
