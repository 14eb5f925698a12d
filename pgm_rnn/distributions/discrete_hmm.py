"""A hidden Markov chain with finitely many states as the law of its observations.

z_1 ~ softmax(initial_logits),   z_{t+1} ~ softmax(transition_logits[z_t]),   x_t ~ observation_dist[z_t]
"""

from collections.abc import Sequence
from typing import Any, Self

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pgm_rnn.distributions import densities, finite_states
from pgm_rnn.distributions.chain_law import ChainLaw, check_initial_step, common_dtype, follows, support_of
from pgm_rnn.distributions.chain_parameters import earlier, later, regrouped
from pgm_rnn.distributions.finite_checks import check_belief, check_logits
from pgm_rnn.distributions.law_parameters import with_axis, without_steps
from pgm_rnn.distributions.law_views import draws, other_chains, some_steps
from pgm_rnn.kernels import hmm
from pgm_rnn.kernels.deferred import with_gradients
from pgm_rnn.kernels.transforms import is_transformed
from pgm_rnn.sequences import last_of


class DiscreteHMM(ChainLaw):
    """Replaces `pyro.distributions.DiscreteHMM`; log p(x_{1:T}) is computed by the compiled forward recursion.

    Args:
        initial_logits: (*batch, K), need not be normalised.
        transition_logits: (*batch, K, K) or (*batch, T - 1, K, K), rows need not be normalised; with initial_step=0 the
            second form has T steps.
        observation_dist: batch shape (*batch, K), (*batch, 1, K) or (*batch, T, K).
        validate_args: whether to check that logits give probabilities; None for Pyro's setting, which its NUTS turns
            off, so that a divergent trajectory is no error. Shapes are always checked.
        duration: T. If nothing varies over time, None accepts values of any number of steps; then nothing can be drawn.
        initial_step: 1 if the initial law is the law of z_1; 0 if it is the law of the state before it, as in Pyro.
        lengths: steps of each sequence, (*batch,), integers in 1..T, None for T.

    Raises:
        TypeError: lengths that are no integers.
        ValueError: shapes that do not fit, logits that give no probabilities (NaN, plus infinity, or a row with only
            minus infinity), or lengths outside 1..T.

    Example:
        >>> seen = dist.Normal(torch.tensor([-1.0, 1.0]), 1.0)
        >>> law = DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), seen, duration=5)
        >>> law.log_prob(torch.zeros(3, 5)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        initial_logits: Tensor,
        transition_logits: Tensor,
        observation_dist: TorchDistribution,
        validate_args: bool | None = None,
        duration: int | None = None,
        *,
        initial_step: int = 1,
        lengths: Tensor | None = None,
    ) -> None:
        check_initial_step(initial_step)
        num_states = initial_logits.shape[-1] if initial_logits.dim() else 0
        if transition_logits.shape[-2:] != (num_states, num_states):
            expected = f"(*batch, T, {num_states}, {num_states})"
            raise ValueError(f"expected transition_logits of shape {expected}, got {tuple(transition_logits.shape)}")
        if observation_dist.batch_shape[-1:] != (num_states,):
            got = tuple(observation_dist.batch_shape)
            raise ValueError(f"expected observation_dist with batch shape (*batch, T, {num_states}), got {got}")
        if dist.is_validation_enabled() if validate_args is None else validate_args:
            check_logits("initial_logits", initial_logits)
            check_logits("transition_logits", transition_logits)
        if transition_logits.dim() == 2:
            transition_logits = transition_logits[None]
        moves = transition_logits.shape[-3]
        seen = observation_dist.batch_shape[-2:-1].numel()
        steps = broadcast_shape((1 if moves == 1 else moves + initial_step,), (seen,))[0]
        batch_shape = torch.Size(
            broadcast_shape(initial_logits.shape[:-1], transition_logits.shape[:-3], observation_dist.batch_shape[:-2])
        )
        super().__init__(batch_shape, steps, duration, observation_dist.event_shape, lengths, validate_args)
        self.observation_dist = observation_dist
        initial, transition = initial_logits.softmax(-1), transition_logits.softmax(-1)
        if initial_step == 0:
            initial = (initial[..., None, :] @ transition[..., 0, :, :])[..., 0, :]
            transition = transition[..., 1:, :, :] if moves > 1 else transition
        self.initial_probs, self.transition_probs = initial, transition

    @property
    def support(self) -> Any:
        """The support of one observation, at every step."""
        return support_of(self.observation_dist)

    @property
    def num_states(self) -> int:
        """K, the number of states."""
        return self.initial_probs.shape[-1]

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x_{1:T}) of values (*sample, *batch, T, *event): (*sample, *batch), in nats; differentiable.

        Source: Rabiner (1989), eq. (103).
        """
        log_emission, arguments = self._chains(value)
        flat = hmm.log_marginal_likelihood(*arguments)
        return flat.reshape(log_emission.shape[:-2])

    def filter(self, value: Tensor) -> TorchDistribution:
        """The law of the last state, p(z_T | x_{1:T}): batch shape (*sample, *batch).

        It follows the parameters and the value; a backward pass costs a recursion that is not compiled.

        Raises:
            ValueError: a value of probability zero, or whose density under some state is not finite.
        """
        log_emission, arguments = self._chains(value)
        inputs = self.initial_probs, self.transition_probs, log_emission
        if follows(*inputs) and is_transformed(inputs):
            (last,) = self._last_probs(*inputs)
        else:
            last = _compiled_last_probs(*arguments).reshape(*log_emission.shape[:-2], -1)
            if follows(*inputs):
                (last,) = with_gradients([last], self._last_probs, inputs)
        check_belief(last)
        return dist.Categorical(probs=last)

    def _last_probs(self, initial: Tensor, transition: Tensor, log_emission: Tensor) -> tuple[Tensor]:
        """p(z_T | x_{1:T}), (*batch, K), in torch operations."""
        batch, num_steps = log_emission.shape[:-2], log_emission.shape[-2]
        observed = self.observed(batch, num_steps, log_emission.device)
        if observed is not None:
            log_emission = log_emission.where(observed[..., None], 0.0)
        states = finite_states.given(initial, transition, log_emission)
        return (finite_states.last_probs(*states, num_steps, observed),)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Ancestral draws, (*sample_shape, *batch, T, *event)."""
        shape, num_steps = torch.Size(sample_shape) + self.batch_shape, self.steps_to_draw()
        states = finite_states.draw(self.initial_probs, self.transition_probs, shape, num_steps)
        law, event = self.observation_dist, self.event_shape[1:]
        law = law.expand((*law.batch_shape[:-2], num_steps, self.num_states))
        every = draws(law, (*shape, num_steps, self.num_states))
        index = states[(...,) + (None,) * (1 + len(event))].expand(*states.shape, 1, *event)
        return every.gather(-1 - len(event), index).squeeze(-1 - len(event))

    @torch.no_grad()
    def rsample_posterior(self, value: Tensor, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws of z_{1:T} given x_{1:T}, (*sample_shape, *batch, T), int64, 0 in the padding; no gradient follows.

        The name is that of Pyro's GaussianHMM. Source: Chib (1996).

        Raises:
            ValueError: a value of probability zero, or whose density under some state is not finite.
        """
        log_emission, arguments = self._chains(value)
        (_, transition, _, lengths), result = arguments, hmm.forward(*arguments)
        last = last_of(result.filtered, lengths)
        check_belief(last.reshape(*log_emission.shape[:-2], -1))
        shape = torch.Size(sample_shape)
        uniforms = torch.rand(shape.numel(), *result.filtered.shape[:-1], dtype=last.dtype, device=last.device)
        states = hmm.sample_states(transition, lengths, result, uniforms)
        return states.reshape(*shape, *log_emission.shape[:-1])

    def conjugate_update(self, other: torch.distributions.Distribution) -> tuple[Self, Tensor]:
        """This law times another density of x_{1:T} that is independent over steps.

        Source: the product of two densities of one family, in x_t given z_t and then in the states.

        Args:
            other: an `Independent` over T steps of laws of the family of `observation_dist`, such as p(data | x_{1:T})
                read as a density of x.

        Returns:
            The law u and c, batch shape, in nats, with log_prob(x) + other.log_prob(x) = u.log_prob(x) + c.

        Raises:
            TypeError: a law that is not independent over steps, of another family, or of one whose products with
                itself are not known.
            ValueError: another law over other shapes, or a law with lengths.
        """
        num_steps = self.steps_of_density(other)
        of_steps = with_axis(without_steps(other))
        law, log_weights = densities.product(self.observation_dist, of_steps)
        batch = torch.Size(broadcast_shape(log_weights.shape[:-2], self.batch_shape))
        log_weights = log_weights.expand(*batch, num_steps, self.num_states)
        initial, transition = finite_states.given(self.initial_probs, self.transition_probs, log_weights)
        log_normalizer = hmm.log_marginal_likelihood(*self._arguments(log_weights)).reshape(batch)
        return self._changed(batch, num_steps, None, initial, transition, law), log_normalizer

    def prefix_condition(self, data: Tensor) -> Self:
        """The law of x_{t+1:T} given x_{1:t}, (*batch, t, *event) with 0 < t < T.

        Raises:
            TypeError: no tensor.
            ValueError: a law without a duration, data that do not fit, or data of probability zero.
        """
        (t, left), tables = self.steps_before(data), self.transition_probs
        first, rest = self.observation_dist, self.observation_dist
        if first.batch_shape[-2:-1].numel() > 1:
            first, rest = some_steps(first, 0, t), some_steps(rest, t, t + left)
        before = self._changed(self.batch_shape, t, None, self.initial_probs, earlier(tables, t - 1, 3), first)
        last = before.filter(data)
        table = tables[..., (t - 1) % tables.shape[-3], :, :]
        initial = (last.probs[..., None, :] @ table)[..., 0, :]
        lengths = None if self.lengths is None else (self.lengths - t).expand(last.batch_shape)
        return self._changed(last.batch_shape, left, lengths, initial, later(tables, t, 3), rest)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """The same law for a larger batch."""
        shape = self.expanded_shape(batch_shape)
        lengths = None if self.lengths is None else self.lengths.expand(shape)
        return self._changed(
            shape, self.duration, lengths, self.initial_probs, self.transition_probs, self.observation_dist
        )

    def reshape_batch(self, batch_shape: Sequence[int]) -> Self:
        """The same chains in another batch shape, in the order in which the last axis varies fastest.

        Raises:
            ValueError: another number of chains.
        """
        new, old, law = self.regrouped_shape(batch_shape), self.batch_shape, self.observation_dist
        if law.batch_shape[:-2]:
            law = other_chains(law.expand(old + law.batch_shape[-2:]), new)
        initial = regrouped(self.initial_probs, 1, old, new)
        transition = regrouped(self.transition_probs, 3, old, new)
        lengths = None if self.lengths is None else self.lengths.reshape(new)
        return self._changed(new, self.duration, lengths, initial, transition, law)

    def _changed(
        self,
        batch_shape: Sequence[int],
        duration: int | None,
        lengths: Tensor | None,
        initial_probs: Tensor,
        transition_probs: Tensor,
        observation_dist: TorchDistribution,
    ) -> Self:
        law = self.another(batch_shape, duration, lengths)
        law.initial_probs, law.transition_probs = initial_probs, transition_probs
        law.observation_dist = observation_dist
        return law

    def _chains(self, value: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """log p(x_t | z_t), (*sample, *batch, T, K), and the kernel's arguments for all chains, flat."""
        num_steps = self.steps_of(value)
        event_dim = len(self.observation_dist.event_shape)
        log_emission = self.observation_dist.log_prob(value.unsqueeze(-1 - event_dim))
        batch = torch.Size(broadcast_shape(log_emission.shape[:-2], self.batch_shape))
        log_emission = log_emission.expand(*batch, num_steps, self.num_states)
        return log_emission, self._arguments(log_emission)

    def _arguments(self, log_emission: Tensor) -> tuple[Tensor, ...]:
        """The kernel's arguments for all chains, flat, all in one dtype."""
        batch, num_steps = log_emission.shape[:-2], log_emission.shape[-2]
        lengths = self.rows(batch, num_steps).to(log_emission.device)
        dtype = common_dtype(log_emission, self.initial_probs, self.transition_probs)
        log_emission, initial, transition = (
            tensor.to(dtype) for tensor in (log_emission, self.initial_probs, self.transition_probs)
        )
        initial = initial.expand(*self.batch_shape, -1).reshape(-1, self.num_states)
        if transition.dim() > 3:
            transition = transition.expand(*self.batch_shape, *transition.shape[-3:]).flatten(0, -4)
        if len(initial) == 1:
            initial = initial[0]
        return initial, transition, log_emission.flatten(0, -3) if batch else log_emission[None], lengths


@torch.no_grad()
def _compiled_last_probs(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """p(z_T | x_{1:T}) of flat chains, (B, K)."""
    return last_of(hmm.forward(initial, transition, log_emission, lengths).filtered, lengths)
