"""Mean and covariance of a normal law, whichever class describes it.

    Normal(m, s).to_event(1)      m, diag(s^2)          Delta(m, event_dim=1)     m, 0
    MultivariateNormal(m, S)      m, S                  SingularNormal(m, G)      m, G G'
    DiffuseNormal(m, G, B)        m, G G', its finite part

A scalar law, Normal(m, s), counts as a law of vectors with one entry. An axis along which a parameter is expanded (its
stride is zero) has size 1 in the result, so that a parameter which many laws share is stored once.
"""

from typing import NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from pgm_rnn.distributions.diffuse_normal import DiffuseNormal
from pgm_rnn.distributions.normal import Normal
from pgm_rnn.distributions.singular_normal import SingularNormal


class NormalMoments(NamedTuple):
    """Mean and covariance; the axes before the last ones broadcast to the law's batch shape.

    Attributes:
        mean: (*batch, N), N = 1 for a scalar law.
        cov: (*batch, N, N).
    """

    mean: Tensor
    cov: Tensor


def normal_moments(law: object) -> NormalMoments | None:
    """The moments of a normal law over vectors or scalars; None for any other law."""
    event_dim = len(law.event_shape) if isinstance(law, torch.distributions.Distribution) else 2
    while isinstance(law, torch.distributions.Independent):
        law = law.base_dist
    if event_dim > 1:
        return None
    if isinstance(law, SingularNormal | DiffuseNormal):
        root = stored_once(law.root, 2)
        return NormalMoments(stored_once(law.loc, 1), root @ root.mT)
    if isinstance(law, torch.distributions.MultivariateNormal):
        root = stored_once(law.scale_tril, 2)
        return NormalMoments(stored_once(law.loc, 1), root @ root.mT)
    if isinstance(law, torch.distributions.LowRankMultivariateNormal):
        return NormalMoments(stored_once(law.loc, 1), law.covariance_matrix)
    if isinstance(law, torch.distributions.Normal | Normal):
        return _of_entries(law.loc, law.scale, event_dim)
    if isinstance(law, dist.Delta) and not bool(law.log_density.any()):
        return _of_entries(law.v, law.v.new_zeros((1,) * law.v.dim()), event_dim)
    return None


def _of_entries(loc: Tensor, scale: Tensor, event_dim: int) -> NormalMoments:
    """Independent entries with standard deviations `scale`, whose shape broadcasts to that of `loc`."""
    scale = scale.reshape((1,) * (loc.dim() - scale.dim()) + scale.shape)
    if event_dim == 0:
        loc, scale = loc[..., None], scale[..., None]
    scale = stored_once(scale, 1)
    variance = scale.square().expand(*scale.shape[:-1], loc.shape[-1])
    return NormalMoments(stored_once(loc, 1), variance.diag_embed())


def stored_once(value: Tensor, event_dim: int) -> Tensor:
    """A tensor whose batch axes of stride zero, along which its values repeat, have size 1."""
    for axis in range(value.dim() - event_dim):
        if value.stride(axis) == 0:
            value = value.narrow(axis, 0, 1)
    return value


def unexpanded(value: Tensor) -> Tensor:
    """The tensor that `value` repeats by `expand`, if it does, so that autograd need not sum over what is repeated."""
    base = value._base
    if base is None or base.dim() != value.dim() or base.requires_grad != value.requires_grad:
        return value
    same = all(size in (1, full) for size, full in zip(base.shape, value.shape, strict=True))
    if not same or base.data_ptr() != value.data_ptr() or base.expand(value.shape).stride() != value.stride():
        return value
    return base
