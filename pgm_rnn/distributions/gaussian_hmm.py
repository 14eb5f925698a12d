"""A linear-Gaussian chain as the law of its observations.

    z_1 ~ initial_dist,   z_{t+1} = z_t A + transition noise,   x_t = z_t C + observation noise

States are row vectors, as in Pyro: A is (D, D) and C is (D, M). The rest of this package writes A z and C z.
"""

from collections.abc import Sequence
from typing import Any, Self

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pgm_rnn.distributions import gaussian_states, gaussian_updates
from pgm_rnn.distributions.chain_law import ChainLaw, check_initial_step, check_no_nan, common_dtype, follows
from pgm_rnn.distributions.chain_parameters import earlier, later, regrouped
from pgm_rnn.distributions.gaussian_states import times
from pgm_rnn.distributions.normal import Normal
from pgm_rnn.kernels import kalman
from pgm_rnn.kernels.deferred import with_gradients
from pgm_rnn.kernels.transforms import is_transformed


class GaussianHMM(ChainLaw):
    """Replaces `pyro.distributions.GaussianHMM`; log p(x_{1:T}) is computed by the compiled Kalman filter.

    Args:
        initial_dist: law of the first state, torch's or Pyro's MultivariateNormal or Independent(Normal, 1), batch
            shape (*batch,).
        transition_matrix: A, (*batch, D, D) or (*batch, T - 1, D, D); with initial_step=0 the second form has T steps.
        transition_dist: noise of the state, which may have a mean; its batch shape is that of A.
        observation_matrix: C, (*batch, D, M) or (*batch, T, D, M).
        observation_dist: noise of the observation; batch shape (*batch,) or (*batch, T).
        validate_args: whether a value with NaN is an error; None for Pyro's setting. Shapes are always checked.
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
        if (width := _width("transition_dist", transition_dist)) != (dim,):
            raise ValueError(f"expected transition_dist over {dim} entries, as initial_dist has, got {width[0]}")
        A, C = _with_time(transition_matrix), _with_time(observation_matrix)
        shift, Q = (_with_time(t, n) for t, n in zip(_moments(transition_dist), (1, 2), strict=True))
        self.observation_shift, R = (_with_time(t, n) for t, n in zip(_moments(observation_dist), (1, 2), strict=True))
        moves = broadcast_shape(A.shape[-3:-2], shift.shape[-2:-1])[0]
        seen = broadcast_shape(C.shape[-3:-2], self.observation_shift.shape[-2:-1])[0]
        steps = broadcast_shape((1 if moves == 1 else moves + initial_step,), (seen,))[0]
        batch = broadcast_shape(
            initial_dist.batch_shape, A.shape[:-3], shift.shape[:-2], C.shape[:-3], self.observation_shift.shape[:-2]
        )
        super().__init__(torch.Size(batch), steps, duration, torch.Size([obs_dim]), lengths, validate_args)
        mean, cov = _moments(initial_dist)
        if initial_step == 0:
            first = A[..., 0, :, :]
            mean = (mean[..., None, :] @ first)[..., 0, :] + shift[..., 0, :]
            cov = first.mT @ cov @ first + Q[..., 0, :, :]
            A, shift, Q = _without_first(A, 3), _without_first(shift, 2), _without_first(Q, 3)
        self.chain = kalman.GaussianChain(mean, cov, A.mT, Q, C.mT, R, shift)

    @property
    def hidden_dim(self) -> int:
        """D, the number of entries of a state."""
        return self.chain.initial_mean.shape[-1]

    @property
    def obs_dim(self) -> int:
        """M, the number of entries of an observation."""
        return self.event_shape[1]

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x_{1:T}) of values (*sample, *batch, T, M): (*sample, *batch), in nats; differentiable."""
        batch, chain, x, lengths = self._flat_chains(value)
        return kalman.log_marginal_likelihood(chain, x, lengths).reshape(batch)

    def filter(self, value: Tensor) -> TorchDistribution:
        """The law of the last state, p(z_T | x_{1:T}): batch shape (*sample, *batch).

        Its moments follow the parameters and the value; a backward pass costs a recursion that is not compiled.
        """
        _, parameters, x = self._chains(value)
        inputs = x, *(part for part in parameters if part is not None)
        if follows(*inputs) and is_transformed(inputs):
            mean, cov = self._last_moments(*inputs)
        else:
            mean, cov = self._compiled_last_moments(value)
            if follows(*inputs):
                mean, cov = with_gradients([mean, cov], self._last_moments, inputs)
        return dist.MultivariateNormal(mean, cov)

    def _last_moments(self, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (*batch, D) and covariance (*batch, D, D) of the last state, in torch operations."""
        batch, num_steps = x.shape[:-2], x.shape[-2]
        observed = self.observed(batch, num_steps, x.device)
        states = gaussian_states.given(kalman.GaussianChain(*parameters), x, observed)
        mean, cov = gaussian_states.last_moments(states, num_steps, observed)
        return mean.expand(*batch, -1), cov.expand(*batch, -1, -1)

    @torch.no_grad()
    def _compiled_last_moments(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The same moments by the compiled filter."""
        batch, chain, x, lengths = self._flat_chains(value)
        result, index = kalman.filter(chain, x, lengths), torch.arange(len(x), device=x.device)
        mean = result.filtered_means[index, lengths - 1]
        cov = result.filtered_covs[index % len(result.filtered_covs), lengths - 1]
        return mean.reshape(*batch, -1), cov.reshape(*batch, *cov.shape[-2:])

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Ancestral draws that follow their parameters, (*sample_shape, *batch, T, M)."""
        shape, num_steps = torch.Size(sample_shape) + self.batch_shape, self.steps_to_draw()
        z = gaussian_states.draw(gaussian_states.prior(self.chain), shape, num_steps)
        noise = torch.randn(*shape, num_steps, self.obs_dim, dtype=z.dtype, device=z.device)
        root, matrix = torch.linalg.cholesky(self.chain.emission_cov), self.chain.emission_matrix
        return self.observation_shift + times(matrix, z) + times(root, noise)

    def rsample_posterior(self, value: Tensor, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws of z_{1:T} given x_{1:T}, (*sample_shape, *batch, T, D), which follow the parameters and the value.

        States in the padding of a value are drawn given those before them.
        """
        batch, chain, x = self._chains(value)
        states = gaussian_states.given(chain, x, self.observed(batch, x.shape[-2], x.device))
        return gaussian_states.draw(states, torch.Size(sample_shape) + batch, x.shape[-2])

    def conjugate_update(self, other: torch.distributions.Distribution) -> tuple[Self, Tensor]:
        """This law times another density of x_{1:T} that is normal and independent over steps.

        Source: the product of two normal densities, in x_t given z_t and then in the states.

        Args:
            other: `Independent(Normal, 2)` or `Independent(MultivariateNormal, 1)` over (T, M), such as
                p(data | x_{1:T}) read as a density of x.

        Returns:
            The law u and c, batch shape, in nats, with log_prob(x) + other.log_prob(x) = u.log_prob(x) + c.

        Raises:
            TypeError: another law that is not normal.
            ValueError: another law over other shapes, or a law with lengths.
        """
        num_steps = self.steps_of_density(other)
        y, S = _moments(_of_vectors(other))
        noisy = self.chain._replace(emission_cov=self.chain.emission_cov + S)
        of_y = self._changed(self.batch_shape, num_steps, None, noisy, self.observation_shift)
        log_normalizer = of_y.log_prob(y)
        batch, chain, residual = self._chains(y)
        updated, shift = gaussian_updates.product(chain, residual, S.to(residual.dtype))
        return self._changed(batch, num_steps, None, updated, self.observation_shift + shift), log_normalizer

    def prefix_condition(self, data: Tensor) -> Self:
        """The law of x_{t+1:T} given x_{1:t}, (*batch, t, M) with 0 < t < T.

        Raises:
            TypeError: no tensor.
            ValueError: a law without a duration, or data that do not fit.
        """
        t, left, shift = *self.steps_before(data), self.observation_shift
        first = gaussian_updates.first_steps(self.chain, t)
        last = self._changed(self.batch_shape, t, None, first, earlier(shift, t, 2)).filter(data)
        chain = gaussian_updates.later_steps(self.chain, t, last.mean, last.covariance_matrix)
        lengths = None if self.lengths is None else (self.lengths - t).expand(last.batch_shape)
        return self._changed(last.batch_shape, left, lengths, chain, later(shift, t, 2))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """The same law for a larger batch."""
        shape = self.expanded_shape(batch_shape)
        lengths = None if self.lengths is None else self.lengths.expand(shape)
        return self._changed(shape, self.duration, lengths, self.chain, self.observation_shift)

    def reshape_batch(self, batch_shape: Sequence[int]) -> Self:
        """The same chains in another batch shape, in the order in which the last axis varies fastest.

        Raises:
            ValueError: another number of chains.
        """
        new, old = self.regrouped_shape(batch_shape), self.batch_shape
        axes = (1, 2, 3, 3, 3, 3, 2)
        parts = (regrouped(part, own, old, new) for part, own in zip(self._parameters(), axes, strict=True))
        lengths = None if self.lengths is None else self.lengths.reshape(new)
        shift = regrouped(self.observation_shift, 2, old, new)
        return self._changed(new, self.duration, lengths, kalman.GaussianChain(*parts), shift)

    def _changed(
        self,
        batch_shape: Sequence[int],
        duration: int | None,
        lengths: Tensor | None,
        chain: kalman.GaussianChain,
        observation_shift: Tensor,
    ) -> Self:
        law = self.another(batch_shape, duration, lengths)
        law.chain, law.observation_shift = chain, observation_shift
        return law

    def _parameters(self) -> list[Tensor]:
        return [part for part in self.chain if part is not None]  # all seven, an offset is always given

    def _chains(self, value: Tensor) -> tuple[torch.Size, kalman.GaussianChain, Tensor]:
        """Batch shape, the parameters, and x_t minus the mean of its noise, (*batch, T, M), all in one dtype."""
        num_steps = self.steps_of(value)
        if self._validate_args:
            check_no_nan(value)
        batch, parts = torch.Size(broadcast_shape(value.shape[:-2], self.batch_shape)), self._parameters()
        dtype = common_dtype(value, self.observation_shift, *parts)
        x = (value - self.observation_shift).to(dtype).expand(*batch, num_steps, self.obs_dim)
        return batch, kalman.GaussianChain(*(part.to(dtype) for part in parts)), x

    def _flat_chains(self, value: Tensor) -> tuple[torch.Size, kalman.GaussianChain, Tensor, Tensor]:
        """Batch shape, and the kernel's arguments for all chains, flat."""
        batch, chain, x = self._chains(value)
        x = x.reshape(-1, *x.shape[-2:])
        m, P, A, Q, C, R, b = (part for part in chain if part is not None)
        m, P, b = _flat(m, 1, batch), _flat(P, 2, batch), _flat(b, 2, batch)
        A, Q, C, R = (_flat(part, 3, batch) for part in (A, Q, C, R))
        return batch, kalman.GaussianChain(m, P, A, Q, C, R, b), x, self.rows(batch, x.shape[1]).to(value.device)


def _flat(parameter: Tensor, own_axes: int, batch: torch.Size) -> Tensor:
    """A parameter with its batch axes merged into one, which has one entry if all chains share the parameter."""
    own = parameter.shape[parameter.dim() - own_axes :]
    return (
        parameter.reshape(1, *own) if parameter.dim() == own_axes else parameter.expand(*batch, *own).reshape(-1, *own)
    )


def _width(name: str, law: TorchDistribution) -> tuple[int]:
    if len(law.event_shape) != 1:
        raise ValueError(f"expected {name} over vectors, of event shape (n,), got event shape {tuple(law.event_shape)}")
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


def _of_vectors(law: Any) -> TorchDistribution:
    """The law of the steps of a law that is independent over them."""
    base = law.base_dist if isinstance(law, torch.distributions.Independent) else law
    return base if len(base.event_shape) else dist.Independent(base, 1)


def _moments(law: TorchDistribution) -> tuple[Tensor, Tensor]:
    """Mean (*batch, D) and covariance (*batch, D, D) of a normal law of vectors."""
    if isinstance(law, torch.distributions.MultivariateNormal):
        return law.loc, law.covariance_matrix
    base = law.base_dist if isinstance(law, torch.distributions.Independent) else law
    if isinstance(base, torch.distributions.Normal | Normal):
        return base.mean, base.stddev.square().diag_embed()
    name = f"{type(law).__name__} of {type(base).__name__}" if base is not law else type(law).__name__
    raise TypeError(f"expected MultivariateNormal or Independent(Normal, 1) of torch or Pyro, got {name}")
