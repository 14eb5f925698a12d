"""Normal laws whose states have means of their own and share one scale or covariance.

    p(x | z = k) = N(x; loc[k], S),   S diagonal, full or spherical, the same for all k

With a network, p(x | h) = N(x; W h + b, S): noise of one size, whatever h.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from typing_extensions import override

from pgm_rnn.emissions.entries import Gaussian
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.full_gaussian import FullGaussian, full_of
from pgm_rnn.emissions.info import FamilyInfo, normal_draws, size_of
from pgm_rnn.emissions.natural import IDENTITY, Natural, by_entry
from pgm_rnn.emissions.spherical import SphericalGaussian
from pgm_rnn.emissions.supports import OfFamily


@dataclass(frozen=True)
class Tied(OfFamily):
    """Real observations from a normal family whose scale or covariance is the same in all states.

    Args:
        family: `Gaussian(size)`, `FullGaussian(size)` or `SphericalGaussian(size)`.

    Raises:
        TypeError: another family.

    Example:
        >>> table = Tied(Gaussian()).table(loc=torch.tensor([-1.0, 1.0]), scale=torch.tensor(0.5))
        >>> table(torch.tensor([0, 1])).stddev.detach()
        tensor([0.5000, 0.5000])
        >>> [name for name, _ in table.named_parameters()]
        ['own', 'shared']
    """

    family: Emission

    def __post_init__(self) -> None:
        if not isinstance(self.family, Gaussian | FullGaussian | SphericalGaussian):
            raise TypeError(
                "expected a normal family, Gaussian(size), FullGaussian(size) or SphericalGaussian(size), "
                f"got {self.family!r}; give one"
            )

    @property
    @override
    def num_params(self) -> int:
        return self.family.num_params

    @property
    @override
    def num_own(self) -> int:
        return self.event_shape.numel()

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        return self.family.distribution(params)

    @override
    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        return self.family.log_probs(params, x)

    @override
    def within_range(self, params: Tensor) -> Tensor:
        return self.family.within_range(params)

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        """The means of each state, and what all rows share, without an axis of states."""
        inner = self.family.natural_parameters
        return {name: natural if name == "loc" else _of_all(natural) for name, natural in inner.items()}

    @override
    def head(self, width: int) -> Any:
        """A trainable map from features (..., width) to laws of one scale."""
        return TiedHead(self, width)

    @override
    def random_table(self, num_states: int) -> "TiedTable":
        """Standard normal unconstrained parameters, drawn by torch's global generator."""
        return TiedTable(self, torch.randn(num_states, self.num_own), torch.randn(self.num_params - self.num_own))

    def table(self, loc: Tensor, scale: Tensor | None = None, *, cov: Tensor | None = None) -> "TiedTable":
        """One law for each state from means (num_states, *event), and the scale or covariance of all.

        Args:
            loc: the means.
            scale: standard deviations, (*event), or () for `SphericalGaussian`.
            cov: the covariance of `FullGaussian`, (size, size), in place of a scale.

        Raises:
            ValueError: other shapes, NaN, or scales or a covariance that are not positive.
        """
        full = isinstance(self.family, FullGaussian)
        given, name = (cov, "cov") if full else (scale, "scale")
        if given is None or (scale is not None and cov is not None):
            raise ValueError(f"expected {name}, and nothing else beside loc, for {self}")
        loc, given = torch.as_tensor(loc), torch.as_tensor(given)
        family: Any = self.family
        rows = family.table(loc, given.expand(len(loc), *given.shape)).params.detach()
        return TiedTable(self, rows[:, : self.num_own], rows[0, self.num_own :])


class TiedTable(EmissionTable):
    """Laws of finitely many states that share all but their first parameters.

    Args:
        family: the family of the observations.
        own: unconstrained parameters of each state, (num_states, num_own), copied.
        shared: those of all states, (num_params - num_own,), copied.

    Attributes:
        own: the parameters of each state, trainable.
        shared: those of all states, trainable.
    """

    def __init__(self, family: Tied, own: Tensor, shared: Tensor) -> None:
        nn.Module.__init__(self)  # that of the table would make `params` a parameter
        self.family = family
        self.own, self.shared = nn.Parameter(own.clone()), nn.Parameter(shared.clone())

    @property
    def params(self) -> Tensor:  # type: ignore[override]
        """Unconstrained parameters of the law of each state, (num_states, num_params)."""
        return torch.cat([self.own, self.shared[..., None, :].expand(*self.own.shape[:-1], -1)], dim=-1)

    @override
    def set_params(self, params: Tensor) -> None:
        own, rest = params.tensor_split([self.family.num_own], dim=-1)
        if not bool((rest == rest[:1]).all()):
            raise ValueError(f"expected the same scale in all rows of the parameters of {self.family}, got several")
        with torch.no_grad():
            self.own.copy_(own)
            self.shared.copy_(rest[0])

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        tied: Any = self.family
        loc = by_entry("own", 0, tied.event_shape, IDENTITY)
        rest = {name: each for name, each in tied.family.natural_parameters.items() if name != "loc"}
        return {"loc": loc, **{name: _of_shared(each, tied.num_own) for name, each in rest.items()}}


class TiedHead(nn.Module):
    """The law of an observation given features h: a mean W h + b, and the same scale whatever h.

    Args:
        family: the family of the observations.
        width: number of features.

    Attributes:
        weight: W, (num_own, width), trainable.
        bias: b, (num_own,), trainable.
        shared: unconstrained parameters of the scale, trainable.
    """

    def __init__(self, family: Tied, width: int) -> None:
        super().__init__()
        linear = nn.Linear(width, family.num_own)
        self.family, self.weight, self.bias = family, linear.weight, linear.bias
        self.shared = nn.Parameter(torch.zeros(family.num_params - family.num_own))

    def forward(self, features: Tensor) -> TorchDistribution:
        """p(x | h) of features (..., width): batch shape (...)."""
        own = F.linear(features, self.weight, self.bias)
        params = torch.cat([own, self.shared.expand(*own.shape[:-1], -1)], dim=-1)
        return self.family.distribution(self.family.within_range(params))


def _of_all(natural: Natural) -> Natural:
    """What equal rows of a table share, as read from the first one and written to all of them."""

    def read(rows: Tensor) -> Tensor:
        return natural.read(rows[..., :1, :]).squeeze(rows.dim() - 2)

    def write(rows: Tensor, value: Tensor) -> Tensor:
        axis = rows.dim() - 2
        shape = [*value.shape[:axis], rows.shape[-2], *value.shape[axis:]]
        return natural.write(rows, value.unsqueeze(axis).expand(shape))

    return replace(natural, read=read, write=write, shared=True)


def _of_shared(natural: Natural, width: int) -> Natural:
    """The same of the parameters that all rows share, which follow `width` of their own."""

    def row(shared: Tensor) -> Tensor:
        return torch.cat([shared.new_zeros(*shared.shape[:-1], width), shared], dim=-1)[..., None, :]

    def read(shared: Tensor) -> Tensor:
        return natural.read(row(shared)).squeeze(shared.dim() - 1)

    def write(shared: Tensor, value: Tensor) -> Tensor:
        return natural.write(row(shared), value.unsqueeze(shared.dim() - 1))[..., 0, width:]

    return replace(natural, raw="shared", read=read, write=write, shared=True)


INFOS = (
    FamilyInfo(
        "tied-gaussian",
        Tied,
        normal_draws,
        examples={"tied-real": Tied(Gaussian()), "tied-reals": Tied(Gaussian(2))},
        estimated={},
        numbers="real numbers whose scales all states share",
        of_numbers=lambda x: Tied(Gaussian(size_of(x))),
    ),
    FamilyInfo(
        "tied-full-gaussian",
        Tied,
        normal_draws,
        examples={"tied-correlated-reals": Tied(FullGaussian(2))},
        estimated={},
        numbers="vectors whose covariance all states share",
        of_numbers=lambda x: Tied(full_of(x)),
    ),
)
