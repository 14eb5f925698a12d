"""A regime and a normal vector whose law depends on it, as one vector of real numbers.

z = (s, y),   s ~ Categorical(p_1, ..., p_K),   y | s ~ N(loc[s], L_s L_s')
log p(z) = log p_s + log N(y; loc[s], L_s L_s')
"""

import math
from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.kernels.small_matrices import solve

_HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2


class RegimeNormal(TorchDistribution):
    """The law of z = (s, y), event shape (1 + D,): the number of the regime, then the vector.

    Batch axes of the three parameters broadcast. The density is with respect to counting for s and to length for y; it
    is zero where the first entry is no number of a regime.

    Args:
        logits: log p(s = k) up to a constant, (*batch, K).
        loc: E(y | s = k), (*batch, K, D).
        scale_tril: lower triangular L with Cov(y | s = k) = L L', (*batch, K, D, D).

    Raises:
        ValueError: parameters whose last axes do not fit each other.

    Example:
        >>> law = RegimeNormal(torch.zeros(2), torch.tensor([[0.0], [5.0]]), torch.ones(2, 1, 1))
        >>> law.event_shape, [round(float(value), 3) for value in law.log_prob(torch.tensor([[1.0, 5.0], [0.5, 5.0]]))]
        (torch.Size([2]), [-1.612, -inf])
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, logits: Tensor, loc: Tensor, scale_tril: Tensor) -> None:
        own = (*loc.shape[-2:], loc.shape[-1])
        if loc.dim() < 2 or logits.shape[-1:] != loc.shape[-2:-1] or tuple(scale_tril.shape[-3:]) != own:
            raise ValueError(
                f"expected logits (*batch, K), loc (*batch, K, D) and scale_tril (*batch, K, D, D), got "
                f"{tuple(logits.shape)}, {tuple(loc.shape)} and {tuple(scale_tril.shape)}"
            )
        batch = torch.broadcast_shapes(logits.shape[:-1], loc.shape[:-2], scale_tril.shape[:-3])
        self.log_probs, self.loc, self.scale_tril = logits.log_softmax(-1), loc, scale_tril
        super().__init__(batch, torch.Size([1 + loc.shape[-1]]), validate_args=False)

    @property
    def num_regimes(self) -> int:
        """K."""
        return self.loc.shape[-2]

    @property
    def probs(self) -> Tensor:
        """p(s = k), (*batch, K)."""
        return self.log_probs.exp().expand(*self.batch_shape, -1)

    @property
    def covs(self) -> Tensor:
        """Cov(y | s = k), (..., K, D, D); its batch axes broadcast to the batch."""
        return self.scale_tril @ self.scale_tril.mT

    def expand(self, batch_shape: Any, _instance: Any = None) -> "RegimeNormal":
        """The same law for a larger batch; only the probabilities are expanded."""
        return RegimeNormal(self.log_probs.expand(*batch_shape, -1), self.loc, self.scale_tril)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, batch shape."""
        number, y = value[..., 0], value[..., 1:]
        regime = number.nan_to_num().clamp(0, self.num_regimes - 1).long()
        log_p, loc, scale_tril = self._of(regime)
        white = solve(scale_tril, (y - loc)[..., None])[..., 0]
        peak = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) + y.shape[-1] * _HALF_LOG_TWO_PI
        return (log_p - 0.5 * white.square().sum(-1) - peak).where(number == regime, -torch.inf)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, *batch, 1 + D)."""
        shape = torch.Size(sample_shape) + self.batch_shape
        uniform = torch.rand(shape, dtype=torch.float64, device=self.loc.device)
        noise = torch.randn(*shape, self.loc.shape[-1], dtype=self.loc.dtype, device=self.loc.device)
        return self.at(uniform, noise)

    def at(self, uniform: Tensor, noise: Tensor) -> Tensor:
        """z as a function of a uniform number (*batch) in (0, 1) and normal noise (*batch, D): (*batch, 1 + D)."""
        below = self.probs.detach().double().cumsum(-1) <= uniform[..., None]
        last = self.num_regimes - 1 - (self.probs > 0).to(torch.int8).flip(-1).argmax(-1)
        regime = torch.minimum(below.sum(-1), last)
        _, loc, scale_tril = self._of(regime)
        y = loc + (scale_tril @ noise[..., None])[..., 0]
        return torch.cat([regime[..., None].to(y.dtype), y], dim=-1)

    def _of(self, regime: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p(s), E(y | s) and L_s at the regimes (*shape) that broadcast with the batch."""
        shape = torch.broadcast_shapes(regime.shape, self.batch_shape)
        regime = regime.expand(shape)
        parts = []
        for part, own in ((self.log_probs, 0), (self.loc, 1), (self.scale_tril, 2)):
            index = regime[(..., *(None,) * (own + 1))]  # (*shape, 1, ...)
            full = part.expand(*shape, *part.shape[part.dim() - own - 1 :])
            index = index.expand(*shape, 1, *full.shape[full.dim() - own :])
            parts.append(full.gather(-own - 1, index).squeeze(-own - 1))
        return parts[0], parts[1], parts[2]
