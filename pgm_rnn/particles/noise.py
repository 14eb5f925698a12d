"""Randomness as an argument: uniforms that a seed determines, and draws that are functions of them.

    z = F^{-1}(u),   u uniform on (0, 1)

Given its uniforms, a particle filter is a deterministic function of the observations (Choe et al., 2017, sec. 3.3,
where the seed is "injected at the beginning of the chain").
"""

from collections.abc import Callable
from typing import NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.regime_normal import RegimeNormal
from pgm_rnn.kernels.resampling import uniforms_shape
from pgm_rnn.randomness import derived_seed


class Uniforms(NamedTuple):
    """The uniforms of one step of a particle filter, in (0, 1), float64; all sequences share those of a batch of one.

    Attributes:
        states: uniforms for the states, (N, B, width), where width is the number of entries of a state.
        resampling: uniforms for resampling, (N, B), or (1, B) for systematic resampling.
    """

    states: Tensor
    resampling: Tensor


Noise = Callable[[int], Uniforms]
"""Maps t = 1, 2, ... to the uniforms of step t."""


class SeededNoise:
    """The uniforms of every step from one seed, the same for all sequences of a batch.

    Args:
        seed: any integer.
        num_particles: N.
        width: number of entries of a state.
        scheme: the resampling scheme.
    """

    def __init__(self, seed: int, num_particles: int, width: int, scheme: str) -> None:
        self.seed, self.num_particles, self.width, self.scheme = seed, num_particles, width, scheme

    def __call__(self, step: int) -> Uniforms:
        """The uniforms of a step: states (N, 1, width), resampling (N, 1) or (1, 1)."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, stream=step))
        shapes = ((self.num_particles, 1, self.width), uniforms_shape(self.scheme, self.num_particles, 1))
        states, resampling = (torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes)
        return Uniforms(states.clamp(min=torch.finfo(torch.float64).tiny), resampling)


def invert(law: TorchDistribution, uniforms: Tensor) -> Tensor:
    """F^{-1}(u) of a law with batch shape (N, B) at uniforms (N, B or 1, width): (N, B, *event).

    It works entry by entry; for a multivariate normal law it is m + L F^{-1}(u), where L L' is the covariance, also
    after the regime of a `RegimeNormal`. The result is where the law's parameters are, on whichever device the uniforms
    were drawn.

    Raises:
        TypeError: a law whose distribution function cannot be inverted.
    """
    base = law
    while isinstance(base, torch.distributions.Independent | dist.MaskedDistribution):
        base = base.base_dist
    uniforms = uniforms.to(_device(base))
    if isinstance(law, torch.distributions.MultivariateNormal):
        normal = torch.special.ndtri(uniforms).to(law.loc.dtype)
        # a sum of products, because matmul rounds differently with and without gradients
        return law.loc + (law._unbroadcasted_scale_tril * normal[..., None, :]).sum(-1)
    if isinstance(law, RegimeNormal):
        noise = torch.special.ndtri(uniforms[..., 1:]).to(law.loc.dtype)
        return law.at(uniforms[..., 0].expand(law.batch_shape), noise.expand(*law.batch_shape, -1))
    if isinstance(law, torch.distributions.Categorical):
        return _invert_categorical(law, uniforms[..., 0])
    u = uniforms.reshape(*uniforms.shape[:-1], *law.event_shape).expand(law.batch_shape + law.event_shape)
    if isinstance(base, torch.distributions.Normal):  # in float64 as the uniforms; icdf would use loc's dtype
        return base.loc + base.scale * torch.special.ndtri(u).to(base.loc.dtype)
    try:
        return base.icdf(u)
    except NotImplementedError:
        raise TypeError(
            f"expected states whose distribution function can be inverted, such as normal or categorical ones, "
            f"got {type(base).__name__}"
        ) from None


def _device(law: TorchDistribution) -> torch.device:
    """Where a law's parameters are; the CPU for a law that names none."""
    parameters = (getattr(law, name, None) for name in law.arg_constraints)
    return next((value.device for value in parameters if isinstance(value, Tensor)), torch.device("cpu"))


def _invert_categorical(law: torch.distributions.Categorical, u: Tensor) -> Tensor:
    """The first value at which the distribution function exceeds u (N, B), never one of probability zero: (N, B)."""
    probs = law.probs.detach().double().expand(*law.batch_shape, -1)
    reached = (probs.cumsum(-1) <= u[..., None]).sum(-1)
    last = probs.shape[-1] - 1 - (probs > 0).to(torch.int8).flip(-1).argmax(-1)
    return torch.minimum(reached, last)
