"""Laws of well-known families, taken apart and made again: one more batch axis, some steps, another batch shape."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions import bits
from pgm_rnn.distributions.normal import Normal

PARAMETERS: dict[type, dict[str, int]] = {
    dist.Normal: {"loc": 0, "scale": 0},
    dist.MultivariateNormal: {"loc": 1, "covariance_matrix": 2},
    dist.Categorical: {"logits": 1},
    dist.Bernoulli: {"logits": 0},
    dist.Poisson: {"rate": 0},
    dist.Beta: {"concentration1": 0, "concentration0": 0},
    dist.Gamma: {"concentration": 0, "rate": 0},
    dist.Dirichlet: {"concentration": 1},
}
"""The parameters of each family's constructor, and how many axes of its own each has."""


def is_known(law: TorchDistribution) -> bool:
    """Whether a law, or what it is independent over, belongs to one of the families."""
    law = plain(law)
    return type(law.base_dist if isinstance(law, dist.Independent) else law) in PARAMETERS


def plain(law: Any) -> Any:
    """A law of Pyro's class in place of torch's or this package's, with at most one `Independent`; others unchanged."""
    if isinstance(law, torch.distributions.Independent):
        base, axes = plain(law.base_dist), law.reinterpreted_batch_ndims
        if isinstance(base, dist.Independent):
            return dist.Independent(base.base_dist, axes + base.reinterpreted_batch_ndims)
        return dist.Independent(base, axes)
    if isinstance(law, Normal):
        base = dist.Normal(law.loc, law.stddev, validate_args=False)
        return base.to_event(law.event_dim) if law.event_dim else base
    if isinstance(law, bits.Bernoulli):
        return dist.Bernoulli(logits=law.logits, validate_args=False)
    for family, parameters in PARAMETERS.items():
        if type(law) is family.__mro__[1]:  # torch's class of the same name
            return family(**{name: getattr(law, name) for name in parameters}, validate_args=False)
    return law


def changed(law: TorchDistribution, change: Callable[[Tensor, int], Tensor]) -> TorchDistribution:
    """The law whose parameters are `change(parameter, own axes)`, where the own axes include those of the event.

    Raises:
        TypeError: another family.
    """
    law = plain(law)
    base, axes = (law.base_dist, law.reinterpreted_batch_ndims) if isinstance(law, dist.Independent) else (law, 0)
    if not is_known(base):
        known = ", ".join(family.__name__ for family in PARAMETERS)
        raise TypeError(
            f"expected a law of one of the families {known}, with or without to_event, got {type(base).__name__}"
        )
    family: Any = type(base)
    parameters = {n: change(getattr(base, n), axes + own) for n, own in PARAMETERS[family].items()}
    new = family(**parameters, validate_args=False)
    new._validate_args = base._validate_args
    return dist.Independent(new, axes) if axes else new


def with_axis(law: TorchDistribution) -> TorchDistribution:
    """The law with a last batch axis of one entry.

    Raises:
        TypeError: another family.
    """
    return changed(law, lambda parameter, own: parameter.unsqueeze(-1 - own))


def without_steps(law: torch.distributions.Distribution) -> TorchDistribution:
    """The law of each step of a law that is independent over steps: its first event axis as the last batch axis.

    Raises:
        TypeError: a law that is not `Independent`.
    """
    law = plain(law)
    if not isinstance(law, dist.Independent):
        raise TypeError(f"expected a law that is independent over steps, got {type(law).__name__}; use to_event")
    axes = law.reinterpreted_batch_ndims - 1
    return dist.Independent(law.base_dist, axes) if axes else law.base_dist
