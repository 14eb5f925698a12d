"""Normal vectors around many means with one covariance: a filter makes such a law at every step.

log p(x) = -|L^{-1} (x - m)|^2 / 2 - sum_i log L_ii - (D / 2) log(2 pi),   L L' the covariance
"""

import math
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

_HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2


class Factor(NamedTuple):
    """A covariance by its Cholesky factor.

    Attributes:
        scale_tril: L, (D, D).
        log_peak: -sum_i log L_ii - (D / 2) log(2 pi), the log density at the mean, ().
    """

    scale_tril: Tensor
    log_peak: Tensor

    @staticmethod
    def of(scale_tril: Tensor) -> "Factor":
        """The factor, with the normalising constant of its density."""
        return Factor(scale_tril, -scale_tril.diagonal().log().sum() - len(scale_tril) * _HALF_LOG_TWO_PI)


class CorrelatedNormal(dist.MultivariateNormal):
    """N(loc, L L'), without checks of its parameters; quantities that depend on L alone are computed once, in `Factor`.

    Args:
        loc: means, (*batch, D).
        factor: the factor of the covariance that all of them share.

    Example:
        >>> law = CorrelatedNormal(torch.zeros(3, 2), Factor.of(torch.tensor([[2.0, 0.0], [1.0, 1.0]])))
        >>> law.batch_shape, law.covariance_matrix[0].tolist()
        (torch.Size([3]), [[4.0, 2.0], [2.0, 2.0]])
    """

    def __init__(self, loc: Tensor, factor: Factor) -> None:
        self.loc, self.factor = loc, factor
        self._unbroadcasted_scale_tril = factor.scale_tril
        torch.distributions.Distribution.__init__(self, loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "CorrelatedNormal":
        """The same law for a larger batch."""
        return CorrelatedNormal(self.loc.expand(torch.Size(batch_shape) + self.event_shape), self.factor)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, batch shape."""
        scale_tril, log_peak = self.factor
        centred = value - self.loc
        if self.event_shape[0] == 1:
            squares = (centred / scale_tril)[..., 0].square()
        else:
            whitened = torch.linalg.solve_triangular(scale_tril, centred.reshape(-1, len(scale_tril)).mT, upper=False)
            squares = whitened.square().sum(0).reshape(centred.shape[:-1])
        return torch.add(log_peak, squares, alpha=-0.5)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws that follow the parameters, (*sample_shape, *batch, D)."""
        shape = torch.Size(sample_shape) + self.loc.shape
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        scale_tril = self.factor.scale_tril
        if self.event_shape[0] == 1:
            return torch.addcmul(self.loc, noise, scale_tril)
        return self.loc + noise @ scale_tril.mT

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)
