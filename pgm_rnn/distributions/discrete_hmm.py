"""A hidden Markov chain with finitely many states as the law of its observations.

z_1 ~ softmax(initial_logits),   z_{t+1} ~ softmax(transition_logits[z_t]),   x_t ~ observation_dist[z_t]
"""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pgm_rnn.distributions.chain_law import ChainLaw, check_initial_step, common_dtype, support_of
from pgm_rnn.kernels import hmm


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
            _check_logits("initial_logits", initial_logits)
            _check_logits("transition_logits", transition_logits)
        if transition_logits.dim() == 2:
            transition_logits = transition_logits[None]
        moves = transition_logits.shape[-3]
        seen = observation_dist.batch_shape[-2:-1].numel()
        steps = broadcast_shape((1 if moves == 1 else moves + initial_step,), (seen,))[0]
        batch_shape = torch.Size(
            broadcast_shape(initial_logits.shape[:-1], transition_logits.shape[:-3], observation_dist.batch_shape[:-2])
        )
        super().__init__(batch_shape, steps, duration, observation_dist.event_shape, lengths)
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

        Raises:
            ValueError: a value of probability zero, or whose density under some state is not finite.
        """
        log_emission, arguments = self._chains(value)
        filtered, lengths = hmm.forward(*arguments).filtered, arguments[-1]
        last = filtered[torch.arange(len(lengths), device=filtered.device), lengths - 1]
        last = last.reshape(*log_emission.shape[:-2], -1)
        _check_law(last)
        return dist.Categorical(probs=last)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Ancestral draws, (*sample_shape, *batch, T, *event)."""
        shape, num_steps = torch.Size(sample_shape) + self.batch_shape, self.steps_to_draw()
        law = self.observation_dist.expand([*shape, num_steps, self.num_states])
        states = self._sample_states(shape, num_steps)
        index = states[(...,) + (None,) * (1 + len(law.event_shape))]
        every = law.sample()
        event_dim = len(law.event_shape)
        index = index.expand(*states.shape, 1, *law.event_shape)
        return every.gather(-1 - event_dim, index).squeeze(-1 - event_dim)

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: Any = None) -> "DiscreteHMM":
        """The same law for a larger batch."""
        shape = torch.Size(batch_shape)
        lengths = None if self.lengths is None else self.lengths.expand(shape)
        return DiscreteHMM(
            self.initial_probs.log().expand(*shape, -1),
            self.transition_probs.log(),
            self.observation_dist,
            validate_args=False,
            duration=self.duration,
            lengths=lengths,
        )

    def _chains(self, value: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """log p(x_t | z_t) in the values' shape, and the kernel's arguments for all chains, flat."""
        num_steps = self.steps_of(value)
        event_dim = len(self.observation_dist.event_shape)
        log_emission = self.observation_dist.log_prob(value.unsqueeze(-1 - event_dim))  # (..., T, K)
        batch = torch.Size(broadcast_shape(log_emission.shape[:-2], self.batch_shape))
        log_emission = log_emission.expand(*batch, num_steps, self.num_states)
        lengths = self.rows(batch, num_steps).to(value.device)
        dtype = common_dtype(log_emission, self.initial_probs, self.transition_probs)
        log_emission, initial, transition = (
            tensor.to(dtype) for tensor in (log_emission, self.initial_probs, self.transition_probs)
        )
        initial = initial.expand(*self.batch_shape, -1).reshape(-1, self.num_states)
        if transition.dim() > 3:
            transition = transition.expand(*self.batch_shape, *transition.shape[-3:]).flatten(0, -4)
        if len(initial) == 1:
            initial = initial[0]
        return log_emission, (
            initial,
            transition,
            log_emission.flatten(0, -3) if batch else log_emission[None],
            lengths,
        )

    def _sample_states(self, shape: torch.Size, num_steps: int) -> Tensor:
        """Paths of states, (*shape, T)."""
        states = [dist.Categorical(probs=self.initial_probs).expand(shape).sample()]
        for t in range(num_steps - 1):
            table = self.transition_probs[..., t % self.transition_probs.shape[-3], :, :]
            table = table.expand(*shape, self.num_states, self.num_states)
            rows = table.gather(-2, states[-1][..., None, None].expand(*shape, 1, self.num_states))[..., 0, :]
            states.append(dist.Categorical(probs=rows).sample())
        return torch.stack(states, -1)


def _check_logits(name: str, logits: Tensor) -> None:
    """Raise a ValueError that names the first wrong row unless each row of logits (..., K) gives probabilities."""
    largest = logits.detach().amax(-1)  # NaN where one is
    wrong = ~largest.isfinite()
    if bool(wrong.any()):
        index = wrong.nonzero()[0].tolist()
        value = float(largest[tuple(index)])
        found = "NaN" if value != value else "plus infinity" if value > 0 else "minus infinity for every state"
        raise ValueError(
            f"expected {name} as logarithms of weights, at least one in each row finite and none NaN or plus infinity, "
            f"got {found}{_place('in row', index)}"
        )


def _check_law(last: Tensor) -> None:
    """Raise a ValueError that names the first wrong chain unless beliefs (*batch, K) are probabilities."""
    totals = last.detach().sum(-1)
    wrong = ~(totals > 0)
    if bool(wrong.any()):
        index = wrong.nonzero()[0].tolist()
        if bool(totals[tuple(index)].isnan()):
            raise ValueError(
                f"expected finite densities of observation_dist, got NaN or infinity{_place('for sequence', index)}; "
                "look for a parameter of observation_dist that is no number, or a density that overflows"
            )
        raise ValueError(
            f"expected a value of positive probability, got one of probability zero{_place('as sequence', index)}, "
            "whose last state has no law; leave out what log_prob gives minus infinity"
        )


def _place(what: str, index: list[int]) -> str:
    """`what` and the index, for an error; empty if there is only one."""
    return "" if not index else f" {what} {index[0] if len(index) == 1 else tuple(index)}"
