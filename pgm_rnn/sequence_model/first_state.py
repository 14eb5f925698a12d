"""The law of the first state given the first observation, which first="condition" begins with.

    p(z_1 | x_1, h_1) = p(z_1 | h_1) p(x_1 | z_1, h_1) / p(x_1 | h_1)

It follows from the model's own laws for finitely many states, for linear Gaussian ones, where it is the first update
of the Kalman filter, Särkkä (2013), eq. (4.21), and for switching ones, where it is that update in every regime.
"""

from functools import partial
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.diffuse_normal import DiffuseNormal
from pgm_rnn.distributions.normal_moments import NormalMoments
from pgm_rnn.distributions.regime_normal import RegimeNormal
from pgm_rnn.distributions.singular_normal import SingularNormal
from pgm_rnn.kernels import singular
from pgm_rnn.kernels.gaussian_backward import root_of
from pgm_rnn.kernels.normal_update import updated
from pgm_rnn.kernels.transforms import is_transformed
from pgm_rnn.sequence_model.affine import Reading, affine, moments_of
from pgm_rnn.sequence_model.regimes import sees_of, start_of
from pgm_rnn.states import SwitchingStates


def of_finite_states(model: Any, num_states: int, h: Any, x: Tensor) -> TorchDistribution:
    """p(z_1 | x_1, h_1) for z in 0..K - 1, for h (*batch, dim) or None, and x that broadcasts with the batch.

    Raises:
        ValueError: an x_1 that no state emits.
    """
    axes = max(x.dim() - len(model.family.event_shape), 0 if h is None else h.dim() - 1)
    states = torch.arange(num_states, device=x.device).view(-1, *[1] * axes)  # (K, 1, ..., 1)
    prior = model.initial(h).log_prob(states)
    log_joint = prior + model.emission(states, None if h is None else h[None]).log_prob(x)  # (K, *batch)
    log_joint = log_joint.movedim(0, -1)
    if not is_transformed((log_joint,)) and bool((log_joint == -torch.inf).all(-1).any()):
        raise ValueError("expected first observations of positive probability, got one that no state emits")
    return dist.Categorical(logits=log_joint, validate_args=False)


def of_linear_states(model: Any, dim: int, h: Any, x: Tensor) -> TorchDistribution:
    """p(z_1 | x_1, h_1) for linear Gaussian states, for h (*batch, dim) or None with at most two axes of a batch.

    Raises:
        TypeError: a law that is not normal.
        ValueError: a law of another shape, or a diffuse start.
    """
    name, start = type(model).__name__, model.initial(h)
    if isinstance(start, DiffuseNormal):
        raise ValueError(
            "expected a proper law of the first state for p(z_1 | x_1), got a diffuse one; give initial_cov in place "
            "of diffuse"
        )
    vectors = x if model.family.event_shape else x[..., None]
    own = None if h is None else h.view(1, *[1] * (3 - h.dim()), *h.shape)  # (1, N, B, dim)
    batch = torch.broadcast_shapes((1, 1), vectors.shape[:-1], () if own is None else own.shape[1:-1])
    reading = Reading(partial(_given, model.emission, own), f"{name}.emission", batch, vectors.shape[-1], 1)
    sees = affine(reading, vectors, dim, check=False)
    mean, cov = _updated(
        moments_of(start, f"{name}.initial", dim, vectors), sees.matrix, sees.cov, vectors - sees.offset
    )
    if h is None or h.dim() == 2:
        mean, cov = mean[0], cov[0]
    if singular.is_regular(cov):
        return dist.MultivariateNormal(mean, scale_tril=torch.linalg.cholesky(cov), validate_args=False)
    return SingularNormal(mean, root_of(cov))


def of_switching_states(model: Any, states: SwitchingStates, h: Any, x: Tensor) -> TorchDistribution:
    """p(z_1 | x_1, h_1) for switching states, for h (*batch, dim) or None, and x (*batch, *event).

    Raises:
        TypeError: a law that is not normal given the regime.
        ValueError: a law of another shape.
    """
    vectors = x if model.family.event_shape else x[..., None]
    start = start_of(model, h)
    regimes = torch.arange(states.num_regimes, device=x.device)
    own = None if h is None else h[..., None, :]  # (*batch, 1, dim)
    shape = (*(() if h is None else h.shape[:-1]), states.num_regimes)
    sees = sees_of(model, regimes.expand(shape), own, vectors.shape[-1])
    log_density, mean, cov = updated(start.mean, start.cov, *sees, vectors[..., None, :])
    return RegimeNormal(start.log_probs + log_density, mean, torch.linalg.cholesky(cov))


def _given(law: Any, h: Any, z: Tensor) -> object:
    return law(z, h)


def _updated(prior: NormalMoments, C: Tensor, R: Tensor, x: Tensor) -> NormalMoments:
    """Moments of z given x ~ N(C z, R), in Joseph's form, which keeps the covariance symmetric and nonnegative."""
    mean, P = prior
    gain = torch.linalg.solve(C @ P @ C.mT + R, C @ P).mT  # (..., D, M)
    rest = torch.eye(P.shape[-1], dtype=P.dtype, device=P.device) - gain @ C
    moved = (gain @ (x - (C @ mean[..., None])[..., 0])[..., None])[..., 0]
    return NormalMoments(mean + moved, rest @ P @ rest.mT + gain @ R @ gain.mT)
