"""The law of all latent states of a padded sequence as one Pyro distribution, a model's own or its guide's."""

from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.sequence_model.conditionals import Conditionals, First, follows_parameters, memory_of, spread
from pgm_rnn.sequence_model.densities import guide_log_probs, memory_given, state_log_probs
from pgm_rnn.sequence_model.drawn import Drawn, Way
from pgm_rnn.sequence_model.mixins import DrawsGuide
from pgm_rnn.sequence_model.parameters import Snapshot
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import GaussianStates


class StateLaw(TorchDistribution):
    """prod_t p(z_t | z_{t-1}, h_t), or the same with the model's proposal: batch (batch,), event (T, *latent).

    Args:
        model: any model with a latent state.
        x: observations (batch, T, *event), which the memory h reads.
        lengths: (batch,) steps of each sequence; entries beyond them do not count.
        first: as in `SequenceModel`.
        inputs: (batch, T, input_dim) for a model with inputs.
        guide: whether the states follow the proposal instead of the model.

    Attributes:
        way: record of the memory and densities that a draw computes, for the densities of the same states.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)

    def __init__(
        self,
        model: Conditionals,
        x: Tensor,
        lengths: Tensor,
        first: First,
        inputs: Tensor | None = None,
        guide: bool = False,
    ) -> None:
        self.sequence_model, self.first, self.guide = model, first, guide
        self.data = Sequences(x, lengths, inputs=inputs)
        self.way = Way()
        self.padded = bool((lengths < x.shape[1]).any())
        self.snapshot = Snapshot(model)
        self.features = model.encode(x, lengths) if guide else None
        if isinstance(model, DrawsGuide) and isinstance(model.states, GaussianStates):  # normal laws, known without one
            self.has_rsample, event_shape = model.reparametrised, torch.Size([model.states.dim])
            support: Any = constraints.independent(constraints.real, 1)
        else:
            start = self._first_law(memory_of(model).start(len(x), None if inputs is None else inputs[:, 0]))
            self.has_rsample = follows_parameters(model) and bool(start.has_rsample)
            support, event_shape = start.support, start.event_shape
        self._support = constraints.independent(support, 1)
        super().__init__(lengths.shape, x.shape[1:2] + event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the first state, which all states share."""
        return self._support

    def expand(self, batch_shape: Any, _instance: Any = None) -> TorchDistribution:
        """The law itself if the batch is its own, as in a plate, so that the record of its draw is kept.

        Raises:
            ValueError: another batch, such as one of vectorised particles.
        """
        if torch.Size(batch_shape) != self.batch_shape:
            raise ValueError(
                f"expected one draw of the states of {len(self.data.x)} sequences at a time, got a batch of "
                f"{tuple(batch_shape)}; use num_particles with vectorize_particles=False, Predictive with "
                "parallel=False, or the bounds of pgm_rnn.inference.svi"
            )
        return self

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the states (batch, T, *latent), nats, (batch,)."""
        return self.snapshot.call(self._log_prob, value)

    def _log_prob(self, value: Tensor) -> Tensor:
        model, drawn = self.sequence_model, self.way.to(self.snapshot, self.data.x, value)
        if self.guide and drawn is not None and drawn.log_probs is not None:
            log_probs = drawn.log_probs
        else:
            data = self.data._replace(z=value)
            h = memory_given(model, data, drawn)
            if self.guide:
                log_probs = guide_log_probs(model, data, h, self.features)
            else:
                log_probs = state_log_probs(model, data, h, self.first)
        return (log_probs.where(self.data.mask, 0.0) if self.padded else log_probs).sum(-1)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws that follow their parameters, (batch, T, *latent); one at a time, because the memory has one batch.

        Raises:
            NotImplementedError: a sample shape other than ().
        """
        if len(sample_shape):
            raise NotImplementedError("expected one draw at a time, got a sample shape; repeat the sequences instead")
        return self.snapshot.call(self._rsample)

    def _rsample(self) -> Tensor:
        model, drawn = self.sequence_model, None
        if self.guide and isinstance(model, DrawsGuide):
            drawn = model.draw_guide(self.data.x, self.features)
        return self.way.keep(self.snapshot, self.data.x, self._step_by_step() if drawn is None else drawn)

    def _step_by_step(self) -> Drawn:
        x, inputs, memory = self.data.x, self.data.inputs, memory_of(self.sequence_model)
        features = [None] * x.shape[1] if self.features is None else self.features.unbind(1)
        h = [memory.start(len(x), None if inputs is None else inputs[:, 0])]
        states = [self._draw(self._first_law(h[0]))]
        for read, features_t in zip(memory.reads(x, inputs), features[1:], strict=True):
            h.append(memory.step(h[-1], states[-1], read))
            states.append(self._draw(self._next_law(states[-1], h[-1], features_t)))
        return Drawn(torch.stack(states, dim=1), None if h[0] is None else torch.stack(h, dim=1))

    def _draw(self, law: TorchDistribution) -> Tensor:
        law = spread(law, self.batch_shape)
        return law.rsample() if self.has_rsample else law.sample()

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws without gradient, (batch, T, *latent)."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def _first_law(self, h: Any) -> TorchDistribution:
        if self.guide:
            return self.sequence_model.proposal(None, h, None if self.features is None else self.features[:, 0])
        if self.first == "condition":
            return self.sequence_model.initial_given(h, self.data.x[:, 0])
        return self.sequence_model.initial(h)

    def _next_law(self, z: Tensor, h: Any, features: Tensor | None) -> TorchDistribution:
        if self.guide:
            return self.sequence_model.proposal(z, h, features)
        return self.sequence_model.transition(z, h)
