"""Semi-Markov states: a state lasts some steps by a law of its own, then another one follows.

    z_1 ~ initial_probs,   d ~ duration_probs[state] for each segment,   next state ~ transition_probs[state]

No state follows itself, so that the path z_{1:T} says where segments begin and end. The memory holds how long the
present one has lasted, h_t = (z_{t-1}, its steps so far), and z_t given it is

    z_t = z_{t-1} with probability p(d > steps | d >= steps),   else drawn from transition_probs[z_{t-1}]

which is the same law. The last segment may go on past the end of the data. Engines take the tables
(`pgm_rnn.kernels.hsmm`); particle filters and Pyro programs take the laws. Sources: Yu (2010); Guédon (2003).
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, TypeGuard

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.kernels import hsmm, hsmm_differentiable
from pgm_rnn.sequence_model.conditionals import First
from pgm_rnn.sequence_model.mixins import UnrollsMemory
from pgm_rnn.sequence_model.state_laws import densities_at_states
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import SemiMarkovStates


class SemiMarkov(UnrollsMemory, ABC):
    """A model with `SemiMarkovStates` that gives three tables and an emission that reads the state alone.

    The class makes `recurrence`, `initial` and `transition` of the tables. A constructor calls `count_steps` after that
    of `SequenceModel`.
    """

    memory_reads_observations = False
    memory_reads_state = True
    states: SemiMarkovStates
    initial_memory: Tensor

    @property
    @abstractmethod
    def initial_probs(self) -> Tensor:
        """p(z_1 = k), (K,)."""

    @property
    @abstractmethod
    def transition_probs(self) -> Tensor:
        """p(next state = j | state = i), (K, K), zeros on the diagonal, rows sum to one."""

    @property
    @abstractmethod
    def duration_probs(self) -> Tensor:
        """p(d = 1), ..., p(d = D) in each state, (K, D), rows sum to one."""

    def count_steps(self, num_states: int, max_duration: int, dtype: torch.dtype) -> None:
        """Set the states, and the memory of x_1: no state before, no step.

        Args:
            num_states: K.
            max_duration: D, in steps.
            dtype: of the memory, that of the parameters.

        Raises:
            ValueError: fewer than two states, or a longest duration below 1.
        """
        self.states = SemiMarkovStates(num_states, max_duration)
        self.register_buffer("initial_memory", torch.tensor([-1.0, 0.0], dtype=dtype))

    def recurrence(self, h: Tensor, z: Tensor, x: Any) -> Tensor:
        """h_t = (z_{t-1}, steps of its segment up to t - 1): (..., 2)."""
        same = h[..., 0] == z
        steps = (h[..., 1] + 1).where(same, 1.0).to(h.dtype)
        return torch.stack(torch.broadcast_tensors(z.to(h.dtype), steps), -1)

    def unroll_memory(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """h_1, ..., h_T given z_{1:T}, (batch, T, 2), in one call.

        Raises:
            ValueError: no states, which the memory counts.
        """
        if z is None:
            raise ValueError(f"expected states z for the memory of {type(self).__name__}, which counts their steps")
        before, t = z[:, :-1], torch.arange(z.shape[1] - 1, device=z.device)
        begins = torch.cat([torch.ones_like(z[:, :1]) > 0, z[:, 1:] != z[:, :-1]], 1)[:, : z.shape[1] - 1]
        steps = t + 1 - t.where(begins, 0).cummax(1).values if z.shape[1] > 1 else before
        later = torch.stack([before, steps], -1).to(self.initial_memory)
        return torch.cat([self.initial_memory.expand(len(z), 1, -1), later], 1)

    def initial(self, h: Any) -> TorchDistribution:
        """p(z_1), batch shape ()."""
        return dist.Categorical(logits=_log(self.initial_probs), validate_args=False)

    def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """p(z_t | z_{t-1}, steps of its segment)."""
        probs = self.duration_probs
        later = hsmm.survival(probs)
        possible = later > 0
        ends = (probs / later.where(possible, 1.0)).where(possible, 1.0)  # p(d = steps | d >= steps), (K, D)
        stays = torch.cat([later[:, 1:], torch.zeros_like(later[:, :1])], 1) / later.where(possible, 1.0)
        steps = h[..., 1].long().clamp(1, self.states.max_duration) - 1
        z, steps = torch.broadcast_tensors(z, steps)
        own = F.one_hot(z, self.states.num_states).to(probs.dtype)
        law = ends[z, steps][..., None] * self.transition_probs[z] + stays[z, steps][..., None] * own
        return dist.Categorical(logits=_log(law), validate_args=False)


class Segments(NamedTuple):
    """The tables of a model and the log densities of some sequences, as `pgm_rnn.kernels.hsmm` takes them."""

    initial: Tensor
    transition: Tensor
    durations: Tensor
    log_emission: Tensor


def has_segments(model: object) -> TypeGuard[SemiMarkov]:
    """Whether a model has semi-Markov states and gives the tables of their durations."""
    return isinstance(getattr(model, "states", None), SemiMarkovStates) and hasattr(model, "duration_probs")


def segments_of(model: SemiMarkov, data: Sequences) -> Segments:
    """The tables, and log p(x_t | z_t = k) of checked data, 0 where x_t is missing."""
    log_emission = densities_at_states(model.emission, model.states.num_states, data.x, data.observed, None)
    tables = (model.initial_probs, model.transition_probs, model.duration_probs)
    initial, transition, durations = (table.to(log_emission.dtype) for table in tables)
    return Segments(initial, transition, durations, log_emission.contiguous())


def summed_out(segments: Segments, lengths: Tensor, first: First) -> Tensor:
    """log p(x_{1:T}) or log p(x_{2:T} | x_1), nats, (batch,); -inf for an impossible sequence."""
    log_prob = hsmm.log_marginal_likelihood(*segments, lengths)
    if first == "model":
        return log_prob
    return (log_prob - of_first_step(segments)).where(log_prob > -torch.inf, -torch.inf)


def of_first_step(segments: Segments) -> Tensor:
    """log p(x_1), nats, (batch,)."""
    return (_log(segments.initial) + segments.log_emission[:, 0]).logsumexp(-1)


@torch.no_grad()
def last_states(model: SemiMarkov, data: Sequences, index: Tensor) -> tuple[Tensor, Tensor]:
    """Draws of the memory h_L and of z_L given x_{1:L} for the sequences at `index` (k,), with repetitions.

    Raises:
        ValueError: a sequence of probability zero.
    """
    tables, lengths = segments_of(model, data), data.lengths
    logs = hsmm_differentiable.recursion(*tables, lengths)
    seen = hsmm_differentiable.logs(tables.log_emission)
    later, longest = hsmm.survival(tables.durations.double()).log(), tables.durations.shape[1]
    steps = torch.arange(longest, device=lengths.device)
    begins = lengths[:, None] - 1 - steps  # the step at which a segment of 1, ..., D steps began, (B, D)
    rows = torch.arange(len(lengths), device=lengths.device)[:, None]
    sums = torch.cat([torch.zeros_like(seen[:, :1]), seen.cumsum(1)], 1)
    since = sums[rows, lengths[:, None]] - sums[rows, begins.clamp(min=0)]  # (B, D, K)
    weights = logs.entering[rows, begins.clamp(min=0)] + since + later.mT
    weights = weights.where((begins >= 0)[..., None], -torch.inf).flatten(1)
    impossible = (weights.amax(1) < 0.5 * hsmm_differentiable.ZERO).nonzero()
    if len(impossible):
        raise ValueError(
            f"expected observations of positive probability, sequence {int(impossible[0])} has probability 0; "
            "leave it out"
        )
    drawn = torch.distributions.Categorical(logits=weights[index]).sample()
    steps, z = drawn // tables.durations.shape[0], drawn % tables.durations.shape[0]
    before = z.where(steps > 0, -1)  # the state before matters only where it is the same
    return torch.stack([before, steps], -1).to(model.initial_probs.dtype), z


def _log(probs: Tensor) -> Tensor:
    """log p, -inf where p is zero, which then has no gradient."""
    return probs.where(probs > 0, 1.0).log().where(probs > 0, -torch.inf)
