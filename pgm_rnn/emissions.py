"""Families of observation laws p(x_t | parameters): what a model's emission is made of.

A family knows the shape of one observation, how many unconstrained numbers pick one member, and what a valid
observation is. A network gets its parameters from a hidden vector, a model with finite states from a table:

    p(x_t | h_t) = family.distribution(W h_t + b)           RNN(emission=Bernoulli(88))
    p(x_t | z_t = k) = family.distribution(params[k])       HMM(..., emission=Gaussian(2).table(loc=..., scale=...))

Sizes are None for a scalar observation (event shape ()) or a number n for a vector (event shape (n,)), whose
entries are independent given the parameters.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from typing_extensions import override

from pgm_rnn.checks import check_counts, check_probs


class Emission(ABC):
    """One family of laws for an observation; see `Categorical`, `Bernoulli`, `Gaussian`, `Poisson`."""

    @property
    @abstractmethod
    def event_shape(self) -> torch.Size:
        """Shape of one observation."""

    @property
    @abstractmethod
    def num_params(self) -> int:
        """How many unconstrained numbers pick one law."""

    @abstractmethod
    def distribution(self, params: Tensor) -> TorchDistribution:
        """The law with unconstrained `params` (..., num_params): batch shape (...), event shape `event_shape`."""

    @abstractmethod
    def invalid(self, x: Tensor) -> Tensor:
        """True at each entry of x that the family cannot emit, NaN included; shape of x."""

    @property
    @abstractmethod
    def support(self) -> str:
        """The valid values, in words, for error messages."""

    @property
    def needs_integers(self) -> bool:
        """Whether observations must have an integer dtype."""
        return False

    @property
    def input_dim(self) -> int:
        """Width of `as_input`."""
        return self.event_shape.numel()

    def as_input(self, x: Tensor) -> Tensor:
        """Observations (..., *event) as the input of a recurrence, (..., input_dim)."""
        return x.reshape(*x.shape[: x.dim() - len(self.event_shape)], self.input_dim)

    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | params[k]) for every row k of a table: (..., num_states) for observations x (..., *event)."""
        x = x.unsqueeze(x.dim() - len(self.event_shape))  # (..., 1, *event)
        return self.distribution(params).log_prob(x)

    def random_table(self, num_states: int) -> "EmissionTable":
        """One law for each state, its unconstrained parameters standard normal, by torch's global generator."""
        return EmissionTable(self, torch.randn(num_states, self.num_params))


def chosen_family(num_symbols: int | None, emission: "Emission | None") -> "Emission":
    """The family that a caller asked for, by `num_symbols` or by itself."""
    if (num_symbols is None) == (emission is None):
        raise ValueError("expected exactly one of num_symbols and emission, such as num_symbols=3")
    if num_symbols is not None:
        return Categorical(num_symbols)
    if not isinstance(emission, Emission):
        raise TypeError(f"expected a family such as Bernoulli(88) as emission, got {type(emission).__name__}")
    return emission


class EmissionTable(nn.Module):
    """One member of a family for each of finitely many states: p(x | z = k), k = 0..num_states - 1.

    Attributes:
        family: the family of all of them.
        params: unconstrained parameters, (num_states, num_params), trainable.
    """

    def __init__(self, family: Emission, params: Tensor) -> None:
        super().__init__()
        if params.dim() != 2 or params.shape[1] != family.num_params:
            raise ValueError(
                f"expected parameters of shape (num_states, {family.num_params}) for {family}, "
                f"got {tuple(params.shape)}"
            )
        self.family = family
        self.params = nn.Parameter(params.clone(memory_format=torch.contiguous_format))

    @property
    def num_states(self) -> int:
        """Number of states."""
        return self.params.shape[0]

    def forward(self, z: Tensor) -> TorchDistribution:
        """p(x | z): batch shape that of z."""
        return self.family.distribution(self.params[z])

    def log_probs(self, x: Tensor) -> Tensor:
        """log p(x | z = k) for every state k: (..., num_states) for observations x (..., *event)."""
        return self.family.log_probs(self.params, x)

    def mixture(self, probs: Tensor) -> TorchDistribution:
        """sum_k probs[k] p(x | z = k) for rows of probabilities (..., num_states): batch shape (...)."""
        if isinstance(self.family, Categorical):
            return _symbol_law((probs @ self.params.softmax(-1)).log())
        weights = dist.Categorical(logits=probs.clamp(min=torch.finfo(probs.dtype).tiny).log(), validate_args=False)
        components = self.family.distribution(self.params).expand(probs.shape)
        return dist.MixtureSameFamily(weights, components, validate_args=False)


@dataclass(frozen=True)
class Categorical(Emission):
    """x in 0..num_symbols - 1 with p(x = j) = softmax(params)_j.

    Observations are integers of event shape (). As input of a recurrence they are one-hot; `RNN` puts an
    embedding in place of that.
    """

    num_symbols: int

    def __post_init__(self) -> None:
        check_counts(num_symbols=self.num_symbols)

    @property
    @override
    def event_shape(self) -> torch.Size:
        return torch.Size()

    @property
    @override
    def num_params(self) -> int:
        return self.num_symbols

    @property
    @override
    def input_dim(self) -> int:
        return self.num_symbols

    @property
    @override
    def support(self) -> str:
        return f"symbols in 0..{self.num_symbols - 1}"

    @property
    @override
    def needs_integers(self) -> bool:
        return True

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        return _symbol_law(params)

    @override
    def invalid(self, x: Tensor) -> Tensor:
        return (x < 0) | (x >= self.num_symbols)

    @override
    def as_input(self, x: Tensor) -> Tensor:
        return F.one_hot(x.long(), self.num_symbols).to(torch.get_default_dtype())

    @override
    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        """Columns of the table of log probabilities, picked by the symbols."""
        return params.log_softmax(-1).T[x]

    @override
    def random_table(self, num_states: int) -> EmissionTable:
        """Rows of probabilities uniform on the simplex, Dirichlet(1)."""
        return self.table(dist.Dirichlet(torch.ones(self.num_symbols)).sample((num_states,)))

    def table(self, probs: Tensor) -> EmissionTable:
        """One law for each state from rows of probabilities (num_states, num_symbols); zeros are allowed."""
        probs = torch.as_tensor(probs)
        check_probs("probs", probs, (None, self.num_symbols))
        return EmissionTable(self, probs.log())


def _symbol_law(params: Tensor) -> TorchDistribution:
    """Categorical normalised by one fused log_softmax; the two passes of torch's own cost 2 % of a training step."""
    law = dist.Categorical.__new__(dist.Categorical)
    law.logits = law._param = params.log_softmax(-1)
    law._num_events = params.shape[-1]
    torch.distributions.Distribution.__init__(law, params.shape[:-1], validate_args=False)
    return law


@dataclass(frozen=True)
class _Entries(Emission):
    """A scalar (size None) or a vector of `size` entries, independent given their parameters."""

    size: int | None = None
    params_per_entry: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.size is not None:
            check_counts(size=self.size)

    @property
    def event_shape(self) -> torch.Size:
        return torch.Size() if self.size is None else torch.Size([self.size])

    @property
    def num_params(self) -> int:
        return self.params_per_entry * self.event_shape.numel()

    def _per_entry(self, params: Tensor) -> tuple[Tensor, ...]:
        """Each kind of parameter in the event's shape, (..., *event)."""
        kinds = params.chunk(self.params_per_entry, dim=-1)
        return kinds if self.size is not None else tuple(kind.squeeze(-1) for kind in kinds)

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
class Bernoulli(_Entries):
    """Bits with p(x = 1) = sigmoid(params): one bit, or `size` of them (88 keys of a piano).

    Observations are 0 and 1; a model takes them in its own dtype or any integer one.
    """

    @property
    @override
    def support(self) -> str:
        return "bits 0 or 1"

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        (logits,) = self._per_entry(params)
        return dist.Bernoulli(logits=logits, validate_args=False).to_event(len(self.event_shape))

    @override
    def invalid(self, x: Tensor) -> Tensor:
        return (x != 0) & (x != 1)

    @override
    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        """x l - log(1 + e^l) summed over bits, with logits l: one matrix product."""
        return self.as_input(x) @ params.T - F.softplus(params).sum(-1)

    def table(self, probs: Tensor) -> EmissionTable:
        """One law for each state from p(x = 1 | z = k), strictly between 0 and 1: (num_states, *event)."""
        probs = self._column("probs", probs)
        if not bool(((probs > 0) & (probs < 1)).all()):
            raise ValueError(
                "expected probabilities of bits strictly between 0 and 1; move zeros and ones inside first"
            )
        return EmissionTable(self, probs.logit())


@dataclass(frozen=True)
class Gaussian(_Entries):
    """Real observations with independent normal entries: params are (loc, inverse softplus of the scale)."""

    params_per_entry: ClassVar[int] = 2

    @property
    @override
    def support(self) -> str:
        return "finite real numbers"

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        loc, raw_scale = self._per_entry(params)
        return dist.Normal(loc, F.softplus(raw_scale), validate_args=False).to_event(len(self.event_shape))

    @override
    def invalid(self, x: Tensor) -> Tensor:
        return ~x.isfinite()

    def table(self, loc: Tensor, scale: Tensor) -> EmissionTable:
        """One law for each state from means and standard deviations, each (num_states, *event)."""
        loc, scale = self._column("loc", loc), self._column("scale", scale)
        if len(loc) != len(scale):
            raise ValueError(f"expected as many scales as means, {len(loc)}, got {len(scale)}")
        return EmissionTable(self, torch.cat([loc, _inverse_softplus("scale", scale)], dim=-1))


@dataclass(frozen=True)
class Poisson(_Entries):
    """Counts with rate softplus(params). As input of a recurrence they are log(1 + x)."""

    @property
    @override
    def support(self) -> str:
        return "counts 0, 1, 2, ..."

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        (raw_rate,) = self._per_entry(params)
        return dist.Poisson(F.softplus(raw_rate), validate_args=False).to_event(len(self.event_shape))

    @override
    def invalid(self, x: Tensor) -> Tensor:
        return ~((x >= 0) & (x == x.floor()) & x.isfinite())

    @override
    def as_input(self, x: Tensor) -> Tensor:
        return super().as_input(x).log1p()

    def table(self, rate: Tensor) -> EmissionTable:
        """One law for each state from positive rates, (num_states, *event)."""
        return EmissionTable(self, _inverse_softplus("rate", self._column("rate", rate)))


def _inverse_softplus(name: str, y: Tensor) -> Tensor:
    """The number whose softplus log(1 + exp(.)) is y > 0, without overflow."""
    if not bool((y > 0).all()):
        raise ValueError(f"expected {name} to be positive, got {float(y.min())}")
    return y + torch.log(-torch.expm1(-y))
