"""The law of a whole padded sequence as one Pyro distribution, its latent states summed out."""

from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.sequence_model.ancestral import drawn_sequences
from pgm_rnn.sequence_model.conditionals import Conditionals, First
from pgm_rnn.sequence_model.densities import marginal_log_prob
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequence_model.parameters import Snapshot


class SequenceLaw(TorchDistribution):
    """p(x_{1:T}) of a model that can sum its latent states out: batch shape (batch,), event shape (T, *event).

    Args:
        model: any model with an exact likelihood.
        lengths: (batch,) steps of each sequence; entries beyond them do not count.
        num_steps: T, the padded length.
        first: as in `SequenceModel`.
        inputs: (batch, T, input_dim) for a model with inputs.
        observed: True where x was observed, (batch, T) or (batch, T, *event), None for everywhere.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.dependent

    def __init__(
        self,
        model: Conditionals,
        lengths: Tensor,
        num_steps: int,
        first: First,
        inputs: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> None:
        self.sequence_model, self.lengths, self.first = model, lengths, first
        self.inputs, self.observed = inputs, observed
        self.snapshot = Snapshot(model)
        event_shape = torch.Size([num_steps, *model.family.event_shape])
        super().__init__(lengths.shape, event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Exact log p(x_{1:T}) of what was observed, in nats, (batch,)."""
        data = checked(self.sequence_model, value, self.lengths, inputs=self.inputs, mask=self.observed)
        return self.snapshot.call(marginal_log_prob, self.sequence_model, data, self.first)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Ancestral draws, (*sample_shape, batch, T, *event); values beyond the lengths have no meaning."""
        shape = torch.Size(sample_shape)
        num_sequences, inputs = (shape + self.batch_shape).numel(), self.inputs
        if inputs is not None:
            inputs = inputs.repeat(shape.numel(), 1, 1)
        with torch.no_grad():
            drawn = self.snapshot.call(drawn_sequences, self.sequence_model, num_sequences, self.event_shape[0], inputs)
        return drawn.x.reshape(shape + self.batch_shape + self.event_shape)
