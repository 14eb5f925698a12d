"""The law of all latent states of a padded sequence as one Pyro distribution, a model's own or its guide's."""

from typing import TYPE_CHECKING, Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.sequence_model.memory import Drawn, keep_with, law_of, memory_of
from pgm_rnn.sequence_model.parameters import Snapshot
from pgm_rnn.sequences import length_mask

if TYPE_CHECKING:
    from pgm_rnn.sequence_model.model import First, SequenceModel


class StateLaw(TorchDistribution):
    """prod_t p(z_t | z_{t-1}, h_t), or the same with the model's proposal: batch (batch,), event (T, *latent).

    Args:
        model: any model with a latent state.
        x: observations (batch, T, *event), which the memory h reads.
        lengths: (batch,) steps of each sequence; entries behind them do not count.
        first: as in `SequenceModel`.
        inputs: (batch, T, input_dim) for a model with inputs.
        guide: whether the states follow the proposal instead of the model.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)

    def __init__(
        self,
        model: "SequenceModel",
        x: Tensor,
        lengths: Tensor,
        first: "First",
        inputs: Tensor | None = None,
        guide: bool = False,
    ) -> None:
        self.sequence_model, self.x, self.lengths, self.first, self.inputs = model, x, lengths, first, inputs
        self.padded = bool((lengths < x.shape[1]).any())
        self.guide, self.snapshot = guide, Snapshot(model)
        self.features = model.encode(x, lengths) if guide else None
        start = self._first_law(model.first_memory(len(x), inputs))
        self.has_rsample = bool(start.has_rsample)
        self._support = constraints.independent(start.support, 1)
        super().__init__(lengths.shape, torch.Size([x.shape[1], *start.event_shape]), validate_args=False)

    @property
    def support(self) -> Any:
        """That of the first state, for every state."""
        return self._support

    def expand(self, batch_shape: Any, _instance: Any = None) -> TorchDistribution:
        """Itself for its own batch, which is what a plate asks for: a draw then keeps what was computed for it.

        Raises:
            ValueError: another batch, such as that of particles side by side.
        """
        if torch.Size(batch_shape) != self.batch_shape:
            raise ValueError(
                f"expected one draw of the states of {len(self.x)} sequences at a time, got a batch of "
                f"{tuple(batch_shape)}; use num_particles with vectorize_particles=False, Predictive with "
                "parallel=False, or the bounds of pgm_rnn.inference.svi"
            )
        return self

    def log_prob(self, value: Tensor) -> Tensor:
        """log density of the states (batch, T, *latent), nats, (batch,)."""
        return self.snapshot.call(self._log_prob, value)

    def _log_prob(self, value: Tensor) -> Tensor:
        model = self.sequence_model
        law = law_of(model, self.x, value) if self.guide else None
        if law is not None:
            log_probs = law.log_prob(value)
        elif self.guide:
            log_probs = self._proposal_log_probs(value, memory_of(model, self.x, value, self.inputs))
        else:
            h = memory_of(model, self.x, value, self.inputs)
            log_probs = model.latent_log_probs(self.x, value, h, self.first)
        if not self.padded:
            return log_probs.sum(-1)
        return log_probs.where(length_mask(self.lengths, value.shape[1]), 0.0).sum(-1)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws that follow their parameters, (batch, T, *latent); one at a time, for the memory is a batch's."""
        if len(sample_shape):
            raise NotImplementedError("expected one draw at a time; vectorise over sequences instead")
        return self.snapshot.call(self._rsample)

    def _rsample(self) -> Tensor:
        drawn = self.sequence_model.unroll_guide(self.x, self.features) if self.guide else None
        return keep_with(self.sequence_model, self.x, self._step_by_step() if drawn is None else drawn)

    def _step_by_step(self) -> Drawn:
        model, num_steps = self.sequence_model, self.x.shape[1]
        features = [None] * num_steps if self.features is None else self.features.unbind(1)
        h = model.first_memory(len(self.x), self.inputs)
        memory, states = [h], [self._draw(self._first_law(h))]
        for driver, features_t in zip(model.drivers(self.x, self.inputs), features[1:], strict=True):
            h = model.drive(memory[-1], states[-1], driver)
            memory.append(h)
            states.append(self._draw(self._next_law(states[-1], h, features_t)))
        known = [h for h in memory if h is not None]
        return Drawn(torch.stack(states, dim=1), torch.stack(known, dim=1) if known else None)

    def _draw(self, law: TorchDistribution) -> Tensor:
        if len(law.batch_shape) == 0:
            law = law.expand(self.lengths.shape)
        return law.rsample() if self.has_rsample else law.sample()

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws without gradient, (batch, T, *latent)."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def _first_law(self, h: Tensor | None) -> TorchDistribution:
        if self.guide:
            return self.sequence_model.proposal(None, h, None if self.features is None else self.features[:, 0])
        if self.first == "condition":
            return self.sequence_model.initial_given(h, self.x[:, 0])
        return self.sequence_model.initial(h)

    def _next_law(self, z: Tensor, h: Tensor | None, features: Tensor | None) -> TorchDistribution:
        if self.guide:
            return self.sequence_model.proposal(z, h, features)
        return self.sequence_model.transition(z, h)

    def _proposal_log_probs(self, z: Tensor, h: Tensor | None) -> Tensor:
        if not self.sequence_model.reads_state:
            return self.sequence_model.proposal(None, h, self.features).log_prob(z)
        h_1, later_h = (None, None) if h is None else (h[:, 0], h[:, 1:])
        steps = [self._first_law(h_1).log_prob(z[:, 0])[:, None]]
        if z.shape[1] > 1:
            features = None if self.features is None else self.features[:, 1:]
            steps.append(self.sequence_model.proposal(z[:, :-1], later_h, features).log_prob(z[:, 1:]))
        return torch.cat(steps, dim=1)
