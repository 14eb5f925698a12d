"""Normal vectors whose covariance may be singular: noise that reaches only some directions.

    x = m + G e,   e ~ N(0, I_r),   G (D, r):   covariance G G' of rank at most r

Where G has fewer than D independent columns, x lies in a plane around m. `log_prob` is then the density with respect to
the surface measure of that plane, and -inf off it:

    log p(x) = -1/2 |G^+ (x - m)|^2 - 1/2 log pdet(2 pi G G')
"""

import math
from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

_LOG_TWO_PI = math.log(2 * math.pi)


class SingularNormal(TorchDistribution):
    """N(loc, G G') for any matrix G, even one without columns.

    Args:
        loc: means m, (*batch, D).
        root: G, (*batch, D, r); its batch axes broadcast to those of `loc`.

    Raises:
        ValueError: a root that does not fit the mean.

    Example:
        >>> law = SingularNormal(torch.zeros(2), torch.tensor([[0.0], [2.0]]))  # the first entry is known
        >>> [round(value, 3) for value in law.log_prob(torch.tensor([[0.0, 2.0], [1.0, 2.0]])).tolist()]
        [-2.112, -inf]
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, root: Tensor) -> None:
        if loc.dim() < 1 or root.dim() < 2 or root.shape[-2] != loc.shape[-1]:
            raise ValueError(
                f"expected loc (*batch, D) and root (*batch, D, r), got {tuple(loc.shape)} and {tuple(root.shape)}"
            )
        batch = torch.broadcast_shapes(loc.shape[:-1], root.shape[:-2])
        self.loc, self.root = loc.expand(*batch, -1), root
        super().__init__(batch, loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """m, (*batch, D)."""
        return self.loc

    @property
    def covariance_matrix(self) -> Tensor:
        """G G', (*batch, D, D)."""
        return (self.root @ self.root.mT).expand(*self.batch_shape, -1, -1)

    @property
    def variance(self) -> Tensor:
        """The diagonal of the covariance, (*batch, D)."""
        return self.root.square().sum(-1).expand(self.loc.shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "SingularNormal":
        """The same law for a larger batch."""
        return SingularNormal(self.loc.expand(torch.Size(batch_shape) + self.event_shape), self.root)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density on the plane in nats, batch shape; -inf further than rounding off the plane."""
        U, s, _ = torch.linalg.svd(self.root, full_matrices=False)  # (*batch, D, k), (*batch, k)
        eps = torch.finfo(s.dtype).eps
        kept = s > 8 * max(self.root.shape[-2:]) * eps * s.amax(-1, keepdim=True) if s.shape[-1] else s > 0
        centred = value - self.loc
        inside = (centred[..., None, :] @ U)[..., 0, :].where(kept, 0.0)  # (*batch, k)
        off = centred - (U @ inside[..., None])[..., 0]
        s = s.where(kept, 1.0)
        terms = (inside / s).square() + kept * _LOG_TWO_PI + 2 * s.log()
        size = self.loc.abs() + value.abs() + self.root.abs().sum(-1)
        on_plane = (off.abs() <= eps**0.5 * size).all(-1)
        return (-0.5 * terms.sum(-1)).where(on_plane, -torch.inf)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws that follow the parameters, (*sample_shape, *batch, D)."""
        shape = torch.Size(sample_shape) + self.batch_shape + self.root.shape[-1:]
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        if self.root.dim() == 2:
            return self.loc + noise @ self.root.mT
        return self.loc + (self.root @ noise[..., None])[..., 0]

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)
