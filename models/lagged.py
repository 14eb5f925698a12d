"""What models with a memory of the last p observations share: the memory, the steps that are given, the regression.

    h_t = (x_{t-1}, ..., x_{t-p}, min(t - 1, p)),   the number of steps only where a law reads it

Rows of a regression are the steps of all sequences: (lags, now) = ((x_{t-1}, ..., x_{t-p}), x_t).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.emissions import FullGaussian, Gaussian
from pgm_rnn.sequence_model import UnrollsMemory
from pgm_rnn.sequence_model.mixins import SMALLEST_SCALE
from pgm_rnn.sequences import Sequences


class Lagged(UnrollsMemory):
    """A memory of the last p observations, zero before x_1.

    Attributes:
        order: p.
    """

    initial_memory: Tensor
    order: int
    _counts: bool

    def _remember(self, order: int, dtype: torch.dtype, *, counts: bool = False) -> None:
        """Set the order and the memory of x_1, with a count of the steps if asked for; once, in a constructor."""
        self.order, self._counts = order, counts or self.first == "condition"
        self.register_buffer("initial_memory", torch.zeros(order * self._size + self._counts, dtype=dtype))

    @property
    def num_given(self) -> int:
        """p with first="condition", otherwise 0."""
        return self.order if self.first == "condition" else 0

    @property
    def _size(self) -> int:
        return self.family.event_shape.numel()

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        """h_t from h_{t-1} and x_{t-1}: (..., memory_dim)."""
        x = x.reshape(*x.shape[: x.dim() - len(self.family.event_shape)], self._size)
        size = self.order * self._size
        lead = torch.broadcast_shapes(x.shape[:-1], h.shape[:-1])
        older = h[..., : size - self._size]
        parts = [x.expand(*lead, -1), older.expand(*lead, -1)]
        if self._counts:
            parts.append((h[..., size:] + 1).clamp(max=self.order).expand(*lead, -1))
        return torch.cat(parts, dim=-1)

    def unroll_memory(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """h_1, ..., h_T, (batch, T, memory_dim), in one call."""
        rows = x.reshape(*x.shape[:2], self._size).to(self.initial_memory.dtype)
        batch, num_steps = rows.shape[:2]
        start = self.initial_memory[: self.order * self._size].unflatten(0, (self.order, self._size)).flip(0)
        past = torch.cat([start.expand(batch, -1, -1), rows[:, :-1]], dim=1)  # x_{1-p}, ..., x_{T-1}
        lags = [past[:, self.order - i : self.order - i + num_steps] for i in range(1, self.order + 1)]
        if self._counts:
            steps = torch.arange(num_steps, device=x.device).clamp(max=self.order).to(rows.dtype)
            lags.append(steps[None, :, None].expand(batch, -1, -1))
        return torch.cat(lags, dim=-1)

    def lags_of(self, h: Tensor) -> Tensor:
        """x_{t-1}, ..., x_{t-p} of a memory (..., memory_dim): (..., p n)."""
        return h[..., : self.order * self._size]

    def modelled(self, law: TorchDistribution, h: Tensor) -> TorchDistribution:
        """The law, with log density 0 at the steps that are given."""
        if self.first == "model":
            return law
        masked: TorchDistribution = law.mask(h[..., -1] >= self.order)
        return masked

    def pairs(self, data: Sequences) -> tuple[Tensor, Tensor]:
        """Lags (N, p n) and present values (N, n), float64, of the steps that are modelled."""
        now = data.x.reshape(*data.x.shape[:2], self._size)
        lags = self.lags_of(self.unroll_memory(data.x))
        return self.of_modelled_steps(lags, data), self.of_modelled_steps(now, data)

    def of_modelled_steps(self, values: Tensor, data: Sequences) -> Tensor:
        """Rows of values (batch, T, m) at the steps that are modelled, float64, (N, m)."""
        there = data.mask.clone()
        there[:, : self.num_given] = False
        return values[there].double()


class Regressed(NamedTuple):
    """x_t = intercept + coefficients lags + N(0, cov): (n,), (n, p n), (n, n)."""

    intercept: Tensor
    coefficients: Tensor
    cov: Tensor

    def law(self, family: object) -> Tensor:
        """The parameters, (num_params,), of the family's law with this intercept as its mean, and this covariance."""
        if isinstance(family, FullGaussian):
            return family.table(self.intercept[None], self.cov[None]).params[0]
        scale = self.cov.diagonal().sqrt()
        return Gaussian(len(scale)).table(self.intercept[None], scale[None]).params[0]


def regressed(lags: Tensor, now: Tensor, weights: Tensor) -> Regressed | None:
    """The most likely regression of `now` (N, n) on `lags` (N, V) with weights (N,); None if they sum to zero.

    It is the least-squares solution of weighted rows, of the smallest norm where several fit equally well. Variances
    are at least (1e-6 s_i)^2, with s_i the spread of the column.
    """
    total = weights.sum()
    if len(now) == 0 or not float(total) > 0:
        return None
    centre, middle = lags.mean(0), now.mean(0)  # an offset that is large beside the spread costs digits
    root = weights.sqrt()[:, None]
    rows = F.pad(lags - centre, (0, 1), value=1.0)
    solution = torch.linalg.lstsq(root * rows, root * (now - middle), driver="gelsd").solution  # (V + 1, n)
    residuals = root * (now - middle - rows @ solution)
    cov = residuals.mT @ residuals / total
    spread = now.std(0, correction=0)
    least = (SMALLEST_SCALE * spread.where(spread > 0, 1.0)).square()
    cov = cov + torch.diag((least - cov.diagonal()).clamp(min=0))
    coefficients = solution[:-1].mT
    return Regressed(middle + solution[-1] - coefficients @ centre, coefficients, cov)
