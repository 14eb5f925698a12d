"""Products of two densities of one family: log p(x) + log q(x) = log r(x) + c.

N(x; m, V) N(x; n, S) = N(x; m + G (n - m), (I - G) V) N(n; m, V + S),     G = V (V + S)^{-1}
categorical and Bernoulli: r(k) = p(k) q(k) / exp(c)
"""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.law_parameters import plain


def product(p: TorchDistribution, q: TorchDistribution) -> tuple[TorchDistribution, Tensor]:
    """r and c with log p(x) + log q(x) = log r(x) + c; batch shapes broadcast, and c is in nats.

    Raises:
        TypeError: two families, or one whose products are not known.
    """
    p, q = plain(p), plain(q)
    if isinstance(p, dist.Independent) and isinstance(q, dist.Independent):
        axes = p.reinterpreted_batch_ndims
        law, constant = product(p.base_dist, q.base_dist)
        return law.to_event(axes), constant.sum(tuple(range(-axes, 0)))
    if type(p) is not type(q) or type(p) not in _PRODUCTS:
        raise TypeError(
            f"expected two laws of the same family, one of {', '.join(family.__name__ for family in _PRODUCTS)}, with "
            f"or without to_event, got {type(p).__name__} and {type(q).__name__}"
        )
    law, constant = _PRODUCTS[type(p)](p, q)
    law._validate_args = p._validate_args
    return law, constant


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


def _of_bits(p: Any, q: Any) -> tuple[TorchDistribution, Tensor]:
    log_sigmoid = torch.nn.functional.logsigmoid
    ones, zeros = (log_sigmoid(sign * p.logits) + log_sigmoid(sign * q.logits) for sign in (1.0, -1.0))
    return dist.Bernoulli(logits=p.logits + q.logits, validate_args=False), torch.logaddexp(ones, zeros)


def _of_pyros(p: Any, q: Any) -> tuple[TorchDistribution, Tensor]:
    law, constant = p.conjugate_update(q)
    return law, constant


_PRODUCTS: dict[type, Callable[[Any, Any], tuple[TorchDistribution, Tensor]]] = {
    dist.Normal: _of_normals,
    dist.MultivariateNormal: _of_vectors,
    dist.Categorical: _of_categories,
    dist.Bernoulli: _of_bits,
    dist.Beta: _of_pyros,
    dist.Gamma: _of_pyros,
    dist.Dirichlet: _of_pyros,
}
