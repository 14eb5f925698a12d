"""Products of two densities of one family: log p(x) + log q(x) = log r(x) + c.

N(x; m, V) N(x; n, S) = N(x; m + G (n - m), (I - G) V) N(n; m, V + S),     G = V (V + S)^{-1}
categorical: r(k) = p(k) q(k) / exp(c)
"""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.normal import Normal

PARAMETERS: dict[type, dict[str, int]] = {
    dist.Normal: {"loc": 0, "scale": 0},
    dist.MultivariateNormal: {"loc": 1, "covariance_matrix": 2},
    dist.Categorical: {"logits": 1},
    dist.Beta: {"concentration1": 0, "concentration0": 0},
    dist.Gamma: {"concentration": 0, "rate": 0},
    dist.Dirichlet: {"concentration": 1},
}
"""Families whose products are known: the parameters of the constructor, and how many axes of its own each has."""


def product(p: TorchDistribution, q: TorchDistribution) -> tuple[TorchDistribution, Tensor]:
    """r and c with log p(x) + log q(x) = log r(x) + c; batch shapes broadcast, and c is in nats.

    Raises:
        TypeError: two families, or one whose products are not known.
    """
    p, q = _plain(p), _plain(q)
    if isinstance(p, dist.Independent) and isinstance(q, dist.Independent):
        axes = p.reinterpreted_batch_ndims
        law, constant = product(p.base_dist, q.base_dist)
        return law.to_event(axes), constant.sum(tuple(range(-axes, 0)))
    if type(p) is not type(q) or type(p) not in PARAMETERS:
        raise TypeError(
            f"expected two laws of one family among {', '.join(family.__name__ for family in PARAMETERS)}, each with "
            f"to_event or not, got {type(p).__name__} and {type(q).__name__}"
        )
    return _PRODUCTS[type(p)](p, q)


def without_steps(law: TorchDistribution) -> TorchDistribution:
    """The law of each step of a law that is independent over steps: its first event axis as the last batch axis.

    Raises:
        TypeError: a law that is not `Independent`.
    """
    law = _plain(law)
    if not isinstance(law, dist.Independent):
        raise TypeError(f"expected a law that is independent over steps, got {type(law).__name__}; use to_event")
    axes = law.reinterpreted_batch_ndims - 1
    return dist.Independent(law.base_dist, axes) if axes else law.base_dist


def with_axis(law: TorchDistribution) -> TorchDistribution:
    """The law with a last batch axis of one entry.

    Raises:
        TypeError: a family whose parameters are not known.
    """
    law = _plain(law)
    if isinstance(law, dist.Independent):
        axes = law.reinterpreted_batch_ndims
        return dist.Independent(_with_axis(law.base_dist, axes), axes)
    return _with_axis(law, 0)


def _with_axis(law: TorchDistribution, axes: int) -> TorchDistribution:
    """The law with an axis before the last `axes` of its batch."""
    if type(law) not in PARAMETERS:
        known = ", ".join(family.__name__ for family in PARAMETERS)
        raise TypeError(f"expected a law of a family among {known}, with to_event or not, got {type(law).__name__}")
    own = PARAMETERS[type(law)]
    changed = {name: getattr(law, name).unsqueeze(-1 - axes - own_axes) for name, own_axes in own.items()}
    return type(law)(**changed, validate_args=False)


def _plain(law: Any) -> Any:
    """A law of Pyro's class in place of torch's or this package's; others as they are."""
    if isinstance(law, torch.distributions.Independent):
        base, axes = _plain(law.base_dist), law.reinterpreted_batch_ndims
        if isinstance(base, dist.Independent):
            return dist.Independent(base.base_dist, axes + base.reinterpreted_batch_ndims)
        return dist.Independent(base, axes)
    if isinstance(law, Normal):
        plain = dist.Normal(law.loc, law.stddev, validate_args=False)
        return plain.to_event(law.event_dim) if law.event_dim else plain
    for family, parameters in PARAMETERS.items():
        if type(law) is family.__mro__[1]:
            return family(**{name: getattr(law, name) for name in parameters}, validate_args=False)
    return law


def _of_normals(p: Any, q: Any) -> tuple[TorchDistribution, Tensor]:
    variance, other = p.scale.square(), q.scale.square()
    total = variance + other
    law = dist.Normal(p.loc + variance / total * (q.loc - p.loc), p.scale * (other / total).sqrt(), validate_args=False)
    return law, dist.Normal(p.loc, total.sqrt(), validate_args=False).log_prob(q.loc)


def _of_vectors(p: Any, q: Any) -> tuple[TorchDistribution, Tensor]:
    V, S = p.covariance_matrix, q.covariance_matrix
    gain = torch.cholesky_solve(V, torch.linalg.cholesky(V + S)).mT
    rest = torch.eye(V.shape[-1], dtype=V.dtype, device=V.device) - gain
    mean = p.loc + (gain @ (q.loc - p.loc)[..., None])[..., 0]
    law = dist.MultivariateNormal(mean, rest @ V @ rest.mT + gain @ S @ gain.mT, validate_args=False)
    return law, dist.MultivariateNormal(p.loc, V + S, validate_args=False).log_prob(q.loc)


def _of_categories(p: Any, q: Any) -> tuple[TorchDistribution, Tensor]:
    joint = p.logits + q.logits
    constant = joint.logsumexp(-1)
    possible = constant[..., None] > -torch.inf
    return dist.Categorical(logits=joint.where(possible, p.logits), validate_args=False), constant


def _of_pyros(p: Any, q: Any) -> tuple[TorchDistribution, Tensor]:
    law, constant = p.conjugate_update(q)
    return law, constant


_PRODUCTS: dict[type, Callable[[Any, Any], tuple[TorchDistribution, Tensor]]] = {
    dist.Normal: _of_normals,
    dist.MultivariateNormal: _of_vectors,
    dist.Categorical: _of_categories,
    dist.Beta: _of_pyros,
    dist.Gamma: _of_pyros,
    dist.Dirichlet: _of_pyros,
}
