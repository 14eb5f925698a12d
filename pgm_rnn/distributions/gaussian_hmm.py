"""A linear-Gaussian chain as the law of its observations.

    z_1 ~ initial_dist,   z_{t+1} = z_t A + transition noise,   x_t = z_t C + observation noise

States are row vectors, as in Pyro: A is (D, D) and C is (D, M). The rest of this package writes A z and C z.
"""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pgm_rnn.distributions.chain_law import ChainLaw, check_initial_step, common_dtype
from pgm_rnn.distributions.normal import Normal
from pgm_rnn.kernels import kalman


class GaussianHMM(ChainLaw):
    """Replaces `pyro.distributions.GaussianHMM`; log p(x_{1:T}) is computed by the compiled Kalman filter.

    Args:
        initial_dist: law of the first state, torch's or Pyro's MultivariateNormal or Independent(Normal, 1), batch
            shape (*batch,).
        transition_matrix: A, (*batch, D, D) or (*batch, T - 1, D, D); with initial_step=0 the second form has T steps.
        transition_dist: noise of the state, which may have a mean; its batch shape is that of A.
        observation_matrix: C, (*batch, D, M) or (*batch, T, D, M).
        observation_dist: noise of the observation; batch shape (*batch,) or (*batch, T).
        validate_args: passed on to torch; the shapes of the arguments are checked in any case.
        duration: T. If nothing varies over time, None accepts values of any number of steps; then nothing can be drawn.
        initial_step: 1 if the initial law is the law of z_1; 0 if it is the law of the state before it, as in Pyro.
        lengths: steps of each sequence, (*batch,), integers in 1..T, None for T.

    Raises:
        ValueError: shapes that do not fit, or lengths outside 1..T.
        TypeError: a noise that is not normal, or lengths that are no integers.

    Example:
        >>> noise = dist.MultivariateNormal(torch.zeros(1), torch.eye(1))
        >>> law = GaussianHMM(noise, torch.eye(1), noise, torch.eye(1), noise, duration=5)
        >>> law.log_prob(torch.zeros(3, 5, 1)).shape
        torch.Size([3])
    """

    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        initial_dist: TorchDistribution,
        transition_matrix: Tensor,
        transition_dist: TorchDistribution,
        observation_matrix: Tensor,
        observation_dist: TorchDistribution,
        validate_args: bool | None = None,
        duration: int | None = None,
        *,
        initial_step: int = 1,
        lengths: Tensor | None = None,
    ) -> None:
        check_initial_step(initial_step)
        (dim,) = _width("initial_dist", initial_dist)
        (obs_dim,) = _width("observation_dist", observation_dist)
        _check_shape("transition_matrix", transition_matrix, (dim, dim))
        _check_shape("observation_matrix", observation_matrix, (dim, obs_dim))
        if _width("transition_dist", transition_dist) != (dim,):
            raise ValueError(f"expected transition_dist over {dim} entries as initial_dist, got another number")
        A, C = _with_time(transition_matrix), _with_time(observation_matrix)
        shift, Q = (_with_time(t, n) for t, n in zip(_moments(transition_dist), (1, 2), strict=True))
        self.observation_shift, R = (_with_time(t, n) for t, n in zip(_moments(observation_dist), (1, 2), strict=True))
        moves = broadcast_shape(A.shape[-3:-2], shift.shape[-2:-1])[0]
        seen = broadcast_shape(C.shape[-3:-2], self.observation_shift.shape[-2:-1])[0]
        steps = broadcast_shape((1 if moves == 1 else moves + initial_step,), (seen,))[0]
        batch = broadcast_shape(
            initial_dist.batch_shape, A.shape[:-3], shift.shape[:-2], C.shape[:-3], self.observation_shift.shape[:-2]
        )
        super().__init__(torch.Size(batch), steps, duration, torch.Size([obs_dim]), lengths)
        mean, cov = _moments(initial_dist)
        if initial_step == 0:
            first = A[..., 0, :, :]
            mean = (mean[..., None, :] @ first)[..., 0, :] + shift[..., 0, :]
            cov = first.mT @ cov @ first + Q[..., 0, :, :]
            A, shift, Q = _without_first(A, 3), _without_first(shift, 2), _without_first(Q, 3)
        self.chain = kalman.GaussianChain(mean, cov, A.mT, Q, C.mT, R, shift)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x_{1:T}) of values (*sample, *batch, T, M): (*sample, *batch), in nats; differentiable."""
        batch, chain, x, lengths = self._chains(value)
        return kalman.log_marginal_likelihood(chain, x, lengths).reshape(batch)

    def filter(self, value: Tensor) -> TorchDistribution:
        """The law of the last state, p(z_T | x_{1:T}): batch shape (*sample, *batch)."""
        batch, chain, x, lengths = self._chains(value)
        result, index = kalman.filter(chain, x, lengths), torch.arange(len(x), device=x.device)
        mean = result.filtered_means[index, lengths - 1]
        cov = result.filtered_covs[index % len(result.filtered_covs), lengths - 1]
        return dist.MultivariateNormal(mean.reshape(*batch, -1), cov.reshape(*batch, *cov.shape[-2:]))

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Ancestral draws that follow their parameters, (*sample_shape, *batch, T, M)."""
        shape, chain, num_steps = torch.Size(sample_shape) + self.batch_shape, self.chain, self.steps_to_draw()
        z = dist.MultivariateNormal(chain.initial_mean, chain.initial_cov).expand(shape).rsample()
        drawn, shift = [], self.observation_shift
        for t in range(num_steps):
            if t > 0:
                mean = _apply(chain.transition_matrix, t - 1, z) + _at(chain.state_offset, t - 1, 2)
                z = dist.MultivariateNormal(mean, _at(chain.transition_cov, t - 1, 3)).rsample()
            mean = _apply(chain.emission_matrix, t, z) + _at(shift, t, 2)
            drawn.append(dist.MultivariateNormal(mean, _at(chain.emission_cov, t, 3)).rsample())
        return torch.stack(drawn, -2)

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: Any = None) -> "GaussianHMM":
        """The same law for a larger batch."""
        law = GaussianHMM.__new__(GaussianHMM)
        shape = torch.Size(batch_shape)
        lengths = None if self.lengths is None else self.lengths.expand(shape)
        ChainLaw.__init__(law, shape, self.duration or 1, self.duration, self.event_shape[1:], lengths)
        law.chain, law.observation_shift = self.chain, self.observation_shift
        return law

    def _chains(self, value: Tensor) -> tuple[torch.Size, kalman.GaussianChain, Tensor, Tensor]:
        """Batch shape, and the kernel's arguments for all chains, flat."""
        num_steps, obs_dim = self.steps_of(value), self.event_shape[1]
        batch = torch.Size(broadcast_shape(value.shape[:-2], self.batch_shape))
        parts = [part for part in self.chain if part is not None]  # all seven, an offset is always given
        dtype = common_dtype(value, self.observation_shift, *parts)
        x = (value - self.observation_shift).to(dtype).expand(*batch, num_steps, obs_dim)
        x = x.reshape(-1, num_steps, obs_dim)
        m, P, A, Q, C, R, b = (part.to(dtype) for part in parts)
        m, P, b = _flat(m, 1, batch), _flat(P, 2, batch), _flat(b, 2, batch)
        A, Q, C, R = (_flat(part, 3, batch) for part in (A, Q, C, R))
        return batch, kalman.GaussianChain(m, P, A, Q, C, R, b), x, self.rows(batch, num_steps).to(value.device)


def _flat(parameter: Tensor, own_axes: int, batch: torch.Size) -> Tensor:
    """A parameter with its batch axes merged into one, which has one entry if all chains share the parameter."""
    own = parameter.shape[parameter.dim() - own_axes :]
    return (
        parameter.reshape(1, *own) if parameter.dim() == own_axes else parameter.expand(*batch, *own).reshape(-1, *own)
    )


def _width(name: str, law: TorchDistribution) -> tuple[int]:
    if len(law.event_shape) != 1:
        raise ValueError(f"expected {name} over vectors, event shape (n,), got {tuple(law.event_shape)}")
    return (law.event_shape[0],)


def _check_shape(name: str, matrix: Tensor, shape: tuple[int, int]) -> None:
    if matrix.shape[-2:] != shape:
        raise ValueError(f"expected {name} whose shape ends in {shape}, got {tuple(matrix.shape)}")


def _with_time(tensor: Tensor, own_axes: int = 2) -> Tensor:
    """A parameter with an axis of time in front of its own."""
    return tensor[None] if tensor.dim() == own_axes else tensor


def _without_first(parameter: Tensor, axis: int) -> Tensor:
    """A parameter of the steps after the first; unchanged where all steps share it."""
    num_steps = parameter.shape[-axis]
    return parameter if num_steps == 1 else parameter.narrow(-axis, 1, num_steps - 1)


def _moments(law: TorchDistribution) -> tuple[Tensor, Tensor]:
    """Mean (*batch, D) and covariance (*batch, D, D) of a normal law of vectors."""
    if isinstance(law, torch.distributions.MultivariateNormal):
        return law.loc, law.covariance_matrix
    base = law.base_dist if isinstance(law, torch.distributions.Independent) else law
    if isinstance(base, torch.distributions.Normal | Normal):
        return base.mean, base.stddev.square().diag_embed()
    name = f"{type(law).__name__} of {type(base).__name__}" if base is not law else type(law).__name__
    raise TypeError(f"expected MultivariateNormal or Independent(Normal, 1), torch's or Pyro's, got {name}")


def _at(parameter: Tensor | None, t: int, axis: int) -> Tensor:
    assert parameter is not None  # there is always an offset
    return parameter.select(-axis, t % parameter.shape[-axis])


def _apply(matrix: Tensor, t: int, z: Tensor) -> Tensor:
    return (_at(matrix, t, 3) @ z[..., None])[..., 0]
