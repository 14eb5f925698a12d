"""The law of sequences whose parameters differ between groups, latent states summed out.

    log p(x_n | theta_{g(n)}) for each sequence n

All sequences are computed at once, each under a row of parameters of its own, by `torch.func.vmap`; a model whose code
cannot be mapped is computed group after group, with the same result.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.ops.provenance import ProvenanceTensor
from torch import Tensor

from pgm_rnn.sequence_model.conditionals import First
from pgm_rnn.sequence_model.densities import marginal_log_prob
from pgm_rnn.sequence_model.draws import Draws, Rows
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.sequences import Sequences


class GroupedLaw(TorchDistribution):
    """p(x_n | theta_{g(n)}), n = 1..batch: batch shape (*draws, batch), event shape (T, *event).

    Args:
        model: any model with an exact likelihood.
        parameters: the module's parameters by name, (*draws, num_groups, ...).
        draws: the shape of the draws.
        index: number of each sequence's group, (batch,).
        data: the checked data; its observations are not read.
        first: as in `SequenceModel`.
        sources: what the parameters were computed from; Pyro, which draws graphs by following tensors through torch
            operations, loses them in `torch.func.vmap`.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.dependent

    def __init__(
        self,
        model: Any,
        parameters: Mapping[str, Tensor],
        draws: torch.Size,
        index: Tensor,
        data: Sequences,
        first: First,
        sources: Iterable[Tensor] = (),
    ) -> None:
        self.sequence_model, self.parameters, self.draws = model, dict(parameters), torch.Size(draws)
        self.index, self.data, self.first = index, data, first
        self.sources = [value for value in sources if isinstance(value, ProvenanceTensor)]
        super().__init__(self.draws + index.shape, data.x.shape[1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Exact log p(x_n | theta_{g(n)}) of observations (*draws, batch, T, *event) or (batch, T, *event), in nats."""
        own, model = value.dim() - len(self.event_shape), self.sequence_model
        shape = torch.broadcast_shapes(value.shape[:own], self.batch_shape)
        num, x = shape[:-1].numel(), value.expand(shape + self.event_shape).reshape(-1, *self.event_shape)
        lengths, inputs, observed = (
            None if part is None else part.repeat(num, *[1] * (part.dim() - 1))
            for part in (self.data.lengths, self.data.inputs, self.data.observed)
        )
        data = checked(model, x, lengths, inputs=inputs, mask=observed)
        parameters = {name: self._of_each_draw(part, shape[:-1]) for name, part in self.parameters.items()}
        try:
            found = self._at_once(parameters, data)
        except (RuntimeError, NotImplementedError, TypeError, ValueError):  # a true error comes again here
            found = self._group_after_group(parameters, data)
        for value in self.sources:  # the same numbers, of which Pyro sees where they come from
            found = found.where(torch.ones_like(found, dtype=torch.bool), value.flatten()[0].to(found.dtype))
        return found.reshape(shape)

    def _of_each_draw(self, part: Tensor, draws: torch.Size) -> Tensor:
        """A parameter of each draw in a row, (num_draws, num_groups, ...)."""
        own = part.shape[len(self.draws) :]
        return part.expand(draws + own).reshape(-1, *own)

    def _at_once(self, parameters: Mapping[str, Tensor], data: Sequences) -> Tensor:
        """(num_draws * batch,)."""
        rows = {name: part[:, self.index].flatten(0, 1) for name, part in parameters.items()}
        draws = Draws(self.sequence_model, rows, data.lengths.shape)
        parts = [None if part is None else part[:, None] for part in (data.x, data.lengths, data.inputs, data.observed)]

        def one(x: Tensor, lengths: Tensor, inputs: Tensor | None, observed: Tensor | None) -> Tensor:
            alone = data._replace(x=x, lengths=lengths, inputs=inputs, observed=observed, legend=None)
            return self._marginal(alone)

        return draws.at_once(one, *(Rows(part, None if part is None else 0) for part in parts))

    def _group_after_group(self, parameters: Mapping[str, Tensor], data: Sequences) -> Tensor:
        """(num_draws, batch)."""
        num, places, found = len(data.x) // len(self.index), [], []
        for group in self.index.unique().tolist():
            place = (self.index == group).nonzero()[:, 0]
            own = {name: part[:, group] for name, part in parameters.items()}
            each = []
            for draw in range(num):
                part = data._replace(legend=None).select(place + draw * len(self.index))
                alone = {name: values[draw] for name, values in own.items()}
                each.append(call_with(self.sequence_model, alone, self._marginal, part))
            places.append(place)
            found.append(torch.stack(each))
        return torch.cat(found, dim=1)[:, torch.cat(places).argsort()]

    def _marginal(self, data: Sequences) -> Tensor:
        return marginal_log_prob(self.sequence_model, data, self.first)
