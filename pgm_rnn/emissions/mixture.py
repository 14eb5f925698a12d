"""Mixtures of the laws of another family: an observation picks one of M components, then follows its law.

    p(x | z = k) = sum_m weights[k, m] p(x | components[k, m])

An HMM of mixtures of normal laws is the "GMM-HMM" of speech recognition. Source: Juang, Levinson & Sondhi (1986).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.checks import check_counts, check_probs
from pgm_rnn.emissions import (
    beta,
    entries,
    full_gaussian,
    gamma,
    mixing,
    negative_binomial,
    pen,
    spherical,
    student_t,
    von_mises,
    zero_inflated,
)
from pgm_rnn.emissions.entries import Bernoulli, Gaussian, Poisson
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.full_gaussian import FullGaussian, full_of
from pgm_rnn.emissions.info import FamilyInfo, size_of
from pgm_rnn.emissions.natural import SOFTMAX, Natural, columns
from pgm_rnn.emissions.supports import OfFamily
from pgm_rnn.emissions.symbols import Categorical


@dataclass(frozen=True)
class Mixture(OfFamily):
    """Observations from one of several laws of a family, with weights and laws of its own in each state.

    params are the logarithms of the weights up to a constant, then the parameters of the first component, the second,
    and so on. The natural parameters of the family have an axis of components after that of the states.

    Args:
        family: the family of the components, such as `Gaussian(2)`, `FullGaussian(2)` or `Poisson()`.
        num_components: M.

    Raises:
        TypeError: a family whose mixtures are members of it (`Categorical`, `Bernoulli()` of one bit), another
            `Mixture`, one that `needs_head`, or no family.
        ValueError: a number of components below 1.

    Example:
        >>> loc, scale = torch.tensor([-2.0]), torch.tensor([1.0])
        >>> left, right = Gaussian().table(loc, scale), Gaussian().table(-loc, scale)
        >>> table = Mixture(Gaussian(), 2).table(torch.tensor([[0.75, 0.25]]), left, right)
        >>> table(torch.tensor([0])).mean.detach()
        tensor([-1.0000])
    """

    family: Emission
    num_components: int = 2

    def __post_init__(self) -> None:
        check_counts(num_components=self.num_components)
        if not isinstance(self.family, Emission):
            raise TypeError(f"expected a family such as Gaussian(2) for the components, got {self.family!r}")
        if self.family.needs_head:
            raise TypeError(f"expected a family whose laws share no weights, got {self.family}; use one like Bernoulli")
        if self.family.num_own < self.family.num_params:
            raise TypeError(
                f"expected a family whose states share no parameters, got {self.family}; use one without ties"
            )
        if isinstance(self.family, Mixture):
            raise TypeError(f"expected a family that is no mixture itself, got {self.family}; take more components")
        if isinstance(self.family, Categorical) or self.family == Bernoulli():
            raise TypeError(
                f"expected a family whose mixtures are more than its own laws, got {self.family}; use it by itself"
            )

    @property
    @override
    def num_params(self) -> int:
        return self.num_components * (1 + self.family.num_params)

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        """The weights, and those of the family with an axis of components: loc (num_states, M, *event)."""
        weights = columns("params", 0, self.num_components, SOFTMAX, _same, _same)
        return {
            "weights": weights,
            **{name: self._of_components(each) for name, each in self.family.natural_parameters.items()},
        }

    def _of_components(self, natural: Natural) -> Natural:
        """A natural parameter of the family, of all components side by side."""

        def read(rows: Tensor) -> Tensor:
            return natural.read(self.parts(rows)[1])

        def write(rows: Tensor, value: Tensor) -> Tensor:
            logits, own = self.parts(rows)
            return self.joined(logits, natural.write(own, value))

        return replace(natural, read=read, write=write)

    def parts(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the weights (..., M) up to a constant, and the components' parameters (..., M, n)."""
        logits, own = params.tensor_split([self.num_components], dim=-1)
        return logits, own.unflatten(-1, (self.num_components, self.family.num_params))

    def joined(self, logits: Tensor, own: Tensor) -> Tensor:
        """The inverse of `parts`."""
        return torch.cat([logits, own.flatten(-2).to(logits.dtype)], dim=-1)

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        logits, own = self.parts(params)
        weights = dist.Categorical(logits=logits, validate_args=False)
        return dist.MixtureSameFamily(weights, self.family.distribution(own), validate_args=False)

    @override
    def within_range(self, params: Tensor) -> Tensor:
        logits, own = self.parts(params)
        return self.joined(logits, self.family.within_range(own))

    @override
    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        return self._summed(params, lambda rows: self.family.log_probs(rows, x))

    @override
    def entries_log_probs(self, params: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        return self._summed(params, lambda rows: self.family.entries_log_probs(rows, x, observed))

    def component_log_probs(self, params: Tensor, of_rows: Callable[[Tensor], Tensor]) -> Tensor:
        """log weights[k, m] + log p(x | components[k, m]), (..., num_states, M).

        Args:
            params: unconstrained parameters of a table, (num_states, num_params).
            of_rows: log p(x | row) of each row (num_states M, n) of parameters of the family, (..., num_states M).
        """
        logits, own = self.parts(params)
        return of_rows(own.flatten(0, 1)).unflatten(-1, tuple(logits.shape)) + logits.log_softmax(-1)

    def _summed(self, params: Tensor, of_rows: Callable[[Tensor], Tensor]) -> Tensor:
        return self.component_log_probs(params, of_rows).logsumexp(-1)

    @override
    def mixture(self, params: Tensor, probs: Tensor) -> TorchDistribution:
        """One mixture of the components of all states, with weights probs[k] weights[k, m]."""
        logits, own = self.parts(params)
        both = mixing.log_weights(probs)[..., None] + logits.log_softmax(-1)  # (..., K, M)
        return mixing.mixture(self.family.distribution(own.flatten(-3, -2)), both.flatten(-2))

    @override
    def random_table(self, num_states: int) -> EmissionTable:
        """Standard normal logarithms of the weights, and the family's own random laws."""
        components = self.family.random_table(num_states * self.num_components).params.detach()
        logits = torch.randn(num_states, self.num_components).to(components)
        return EmissionTable(self, self.joined(logits, components.unflatten(0, (num_states, self.num_components))))

    def table(self, weights: Tensor, *components: EmissionTable) -> EmissionTable:
        """One law for each state from its weights, and a table of the family for each component.

        Args:
            weights: (num_states, M), positive, rows sum to one.
            components: M tables with num_states laws each.

        Raises:
            ValueError: another shape, weights that are not positive or do not sum to one, another number of tables, or
                tables of another family or number of states.
        """
        check_probs("weights", weights, (None, self.num_components))
        if not bool((weights > 0).all()):
            raise ValueError("expected positive weights, got zero; leave that component out or give it a small weight")
        if len(components) != self.num_components:
            raise ValueError(f"expected one table for each of {self.num_components} components, got {len(components)}")
        for table in components:
            if table.family != self.family or table.num_states != len(weights):
                raise ValueError(
                    f"expected components as tables of {self.family} with {len(weights)} states, as weights has, "
                    f"got one of {table.family} with {table.num_states}"
                )
        own = torch.stack([table.params.detach() for table in components], dim=1)  # (K, M, n)
        return EmissionTable(self, self.joined(weights.log().to(own), own))


def _same(value: Tensor) -> Tensor:
    return value


_OTHERS = (full_gaussian, spherical, student_t, gamma, beta, von_mises, negative_binomial, pen)
_DRAWS = {info.family: info.draw for info in (*entries.INFOS, *(m.INFO for m in _OTHERS), *zero_inflated.INFOS)}


def _draw(family: Emission, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """What the family of the components draws."""
    assert isinstance(family, Mixture)  # the registry's entries are for this class
    return _DRAWS[type(family.family)](family.family, shape, generator)


INFOS = (
    FamilyInfo(
        "gaussian-mixture",
        Mixture,
        _draw,
        examples={"mixed-real": Mixture(Gaussian(), 2), "mixed-reals": Mixture(Gaussian(2), 2)},
        estimated={},
        numbers="real numbers from several clusters",
        of_numbers=lambda x: Mixture(Gaussian(size_of(x))),
        of_components=lambda x, number: Mixture(Gaussian(size_of(x)), number),
    ),
    FamilyInfo(
        "full-gaussian-mixture",
        Mixture,
        _draw,
        examples={"mixed-correlated-reals": Mixture(FullGaussian(2), 2)},
        estimated={},
        numbers="vectors from several clusters",
        of_numbers=lambda x: Mixture(full_of(x)),
        of_components=lambda x, number: Mixture(full_of(x), number),
    ),
    FamilyInfo(
        "poisson-mixture",
        Mixture,
        _draw,
        examples={"mixed-counts": Mixture(Poisson(2), 2)},
        estimated={},
        numbers="counts from several clusters",
        of_numbers=lambda x: Mixture(Poisson(size_of(x))),
        of_components=lambda x, number: Mixture(Poisson(size_of(x)), number),
        kind="count",
    ),
)
