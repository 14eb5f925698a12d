"""The normal law of an observation given the past and the regimes; entries that are NaN count as missing."""

from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.entry_laws import EntryLaws, of_entries
from pgm_rnn.kernels.normal_update import log_density


class Predictive(TorchDistribution):
    """N(loc, cov) of a vector, or of a number where the event shape is ().

    Args:
        loc: (*batch, M), M = 1 for a number.
        cov: (*batch, M, M).
        event_shape: (M,) or ().

    Example:
        >>> law = Predictive(torch.zeros(2), torch.eye(2), torch.Size([2]))
        >>> round(float(law.log_prob(torch.tensor([0.0, torch.nan]))), 4)
        -0.9189
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    has_rsample = True

    def __init__(self, loc: Tensor, cov: Tensor, event_shape: torch.Size) -> None:
        batch = torch.broadcast_shapes(loc.shape[:-1], cov.shape[:-2])
        self.loc, self.cov = loc, cov
        super().__init__(batch, event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """Real numbers or vectors."""
        return constraints.real_vector if self.event_shape else constraints.real

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Predictive":
        """The same law for a larger batch."""
        return Predictive(self.loc.expand(*batch_shape, -1), self.cov, self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the entries that are not NaN in nats, batch shape; NaN for a covariance that is singular."""
        return log_density(self.loc, self.cov, value if self.event_shape else value[..., None])

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws that follow the parameters, (*sample_shape, *batch, *event)."""
        shape = (*sample_shape, *self.batch_shape, self.loc.shape[-1])
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        drawn = self.loc + (torch.linalg.cholesky(self.cov) @ noise[..., None])[..., 0]
        return drawn if self.event_shape else drawn[..., 0]

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)


@of_entries.register
def _(law: Predictive, x: Tensor) -> EntryLaws:
    values = x if law.event_shape else x[..., None]
    upto = torch.special.ndtr((values - law.loc) / law.cov.diagonal(dim1=-2, dim2=-1).sqrt())
    mean = law.loc.expand(upto.shape)
    return EntryLaws(*(part if law.event_shape else part[..., 0] for part in (upto, upto, mean)))
