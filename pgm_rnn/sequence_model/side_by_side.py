"""The laws that a function makes under several draws of a model's parameters, as one law."""

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.sequence_model.draws import Draws, Rows


class SideBySide(TorchDistribution):
    """Independent laws as one: batch shape (*lead, *draws, *own), each row with the density of its own law.

    Args:
        draws: the draws of the parameters.
        make: makes the law of one draw from its arguments, batch shape (*lead, *own).
        arguments: those of `make`.
        own_axes: number of axes of `own`: sequences, and perhaps steps.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)

    def __init__(
        self, draws: Draws, make: Callable[..., TorchDistribution], arguments: tuple[Rows, ...], own_axes: int = 1
    ) -> None:
        self.draws, self.make, self.arguments, self.own_axes = draws, make, arguments, own_axes
        self.example: TorchDistribution = draws.first(make, *arguments)
        shape = self.example.batch_shape
        self._arrange(torch.Size([1] * (own_axes - len(shape))) + shape)

    def _arrange(self, one_draw: torch.Size) -> None:
        """Set the shapes, given the batch shape of the law of one draw."""
        self.one_draw, cut = one_draw, len(one_draw) - self.own_axes
        self.has_rsample = bool(self.example.has_rsample)
        self.has_enumerate_support = bool(self.example.has_enumerate_support)
        batch_shape = one_draw[:cut] + self.draws.shape + one_draw[cut:]
        super().__init__(batch_shape, self.example.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the first law, which all laws share."""
        return self.example.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> "SideBySide":
        """The same laws for a larger batch, and for more draws, each repeated as often as needed."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        cut, num_lead = len(batch_shape) - self.own_axes, len(self.one_draw) - self.own_axes
        start = cut - len(self.draws.shape) if num_lead else 0
        lead, shape, own = (
            torch.Size(part) for part in (batch_shape[:start], batch_shape[start:cut], batch_shape[cut:])
        )
        law = SideBySide.__new__(SideBySide)
        law.make, law.own_axes, law.example = self.make, self.own_axes, self.example
        law.draws, law.arguments = self.draws, self.arguments
        if shape != self.draws.shape:
            index = torch.arange(self.draws.shape.numel()).reshape(self.draws.shape).expand(shape)
            law.draws = self.draws.chosen(index)
            law.arguments = tuple(
                row if row.value is None or row.axis is None else Rows(row.value[index.flatten()], 0)
                for row in self.arguments
            )
        law._arrange(lead + own)
        return law

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of (*lead, *draws, *own, *event), or of (*own, *event) under every law: batch shape, nats."""
        rows = self.draws.rows(value, self.own_axes + len(self.event_shape))
        log_probs = self.draws.each(self._log_prob, *self.arguments, rows)
        return self.draws.arranged(log_probs, self.own_axes)

    def _log_prob(self, *arguments: Any) -> Tensor:
        """Of one draw: batch shape (*lead, *own), with the lead axes of both the law and the value."""
        *own, value = arguments
        log_prob = self._law(*own).log_prob(value)
        return log_prob[(None,) * (self.own_axes - log_prob.dim())]

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws that follow their parameters, (*sample_shape, *batch_shape, *event), one from each law."""
        return self._drawn(lambda law: law.rsample(torch.Size(sample_shape)))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws without gradient, (*sample_shape, *batch_shape, *event), one from each law."""
        with torch.no_grad():
            return self._drawn(lambda law: law.sample(torch.Size(sample_shape)))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The values of finitely many, (num_values, *batch_shape), of batch size one without `expand`."""
        values = self.example.enumerate_support(expand=False)
        values = values.reshape(-1, *(1,) * len(self.batch_shape), *self.event_shape)
        return values.expand(-1, *self.batch_shape, *self.event_shape) if expand else values

    def _drawn(self, draw: Callable[[TorchDistribution], Tensor]) -> Tensor:
        drawn = self.draws.each(lambda *arguments: draw(self._law(*arguments)), *self.arguments, random=True)
        return self.draws.arranged(drawn, self.own_axes + len(self.event_shape))

    def _law(self, *arguments: Any) -> TorchDistribution:
        """The law of one draw."""
        law = self.make(*arguments)
        return law if law.batch_shape == self.one_draw else law.expand(self.one_draw)
