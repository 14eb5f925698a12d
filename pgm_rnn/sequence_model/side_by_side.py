"""Several laws as one, one for each draw of some parameters, for programs whose draws are vectorised."""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor


class SideBySide(TorchDistribution):
    """Independent laws as one: batch shape (*draws, *batch), each row with the density of its own law.

    Args:
        laws: one for each draw, in the order in which the last axis of `draws` varies fastest; all of batch shape
            (*batch,).
        draws: shape in which the draws are arranged.

    Example:
        >>> import pyro.distributions as dist
        >>> law = SideBySide([dist.Normal(torch.zeros(3), 1.0), dist.Normal(torch.ones(3), 1.0)], torch.Size([2]))
        >>> law.batch_shape, law.log_prob(torch.zeros(3)).argmax(0)
        (torch.Size([2, 3]), tensor([0, 0, 0]))
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)

    def __init__(self, laws: Sequence[TorchDistribution], draws: torch.Size) -> None:
        self.laws, self.draws = list(laws), torch.Size(draws)
        self.has_rsample = bool(self.laws[0].has_rsample)
        super().__init__(self.draws + self.laws[0].batch_shape, self.laws[0].event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the first law, which all laws share."""
        return self.laws[0].support

    def expand(self, batch_shape: Any, _instance: Any = None) -> "SideBySide":
        """The same laws for more draws, each repeated as often as needed."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        own = len(self.batch_shape) - len(self.draws)
        draws = torch.Size(batch_shape)[: len(batch_shape) - own]
        index = torch.arange(len(self.laws)).reshape(self.draws).expand(draws).flatten().tolist()
        return SideBySide([self.laws[i] for i in index], draws)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of (*draws, *batch, *event), or of (*batch, *event) under every law: (*draws, *batch), nats."""
        log_probs = [law.log_prob(row) for law, row in zip(self.laws, self.rows(value), strict=True)]
        return torch.stack(log_probs).reshape(self.batch_shape)

    def rows(self, value: Tensor) -> tuple[Tensor, ...]:
        """A value (*draws, *batch, *event), or (*batch, *event) for all laws, split into one value for each law."""
        own = self.batch_shape[len(self.draws) :] + self.event_shape
        return value.expand(self.draws + own).reshape(-1, *own).unbind(0)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws that follow their parameters, (*draws, *batch, *event), one from each law."""
        return self._drawn([law.rsample(torch.Size(sample_shape)) for law in self.laws], len(sample_shape))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws without gradient, (*draws, *batch, *event), one from each law."""
        with torch.no_grad():
            return self._drawn([law.sample(torch.Size(sample_shape)) for law in self.laws], len(sample_shape))

    def _drawn(self, rows: list[Tensor], front: int) -> Tensor:
        drawn = torch.stack(rows, front)
        return drawn.reshape(*drawn.shape[:front], *self.draws, *drawn.shape[front + 1 :])
