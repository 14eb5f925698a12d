"""A normal start with directions about which nothing is known: the law of z_1 in an exact diffuse start.

    z = m + B delta + G e,   e ~ N(0, I_r),   delta (q,) with a flat prior

Its density is that of N(m, G G' + kappa B B') times kappa^{q/2}, for kappa to infinity. It is no law to draw from.
Source: Durbin & Koopman (2012), sec. 5.1.
"""

import math
from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.singular_normal import SingularNormal

_LOG_TWO_PI = math.log(2 * math.pi)


class DiffuseError(ValueError):
    """A diffuse start has no law to draw from."""


class DiffuseNormal(TorchDistribution):
    """N(loc, G G' + kappa B B') for kappa to infinity.

    Args:
        loc: means m, (*batch, D); the part along the columns of B has no effect.
        root: G, (*batch, D, r); r may be zero.
        directions: B, (D, q), of full column rank.

    Raises:
        ValueError: parts that do not fit each other, or directions that depend on each other.

    Example:
        >>> level = DiffuseNormal(torch.zeros(2), torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [0.0]]))
        >>> [round(value, 3) for value in level.log_prob(torch.tensor([[0.0, 2.0], [100.0, 2.0]])).tolist()]
        [-3.031, -3.031]
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, root: Tensor, directions: Tensor) -> None:
        inner = SingularNormal(loc, root)
        self.loc, self.root = inner.loc, root
        self.directions = checked_directions(directions, loc.shape[-1])
        super().__init__(inner.batch_shape, inner.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """m, (*batch, D)."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Infinite in the entries that a direction reaches, (*batch, D)."""
        finite = self.root.square().sum(-1).expand(self.loc.shape)
        return finite.where((self.directions == 0).all(-1), torch.inf)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "DiffuseNormal":
        """The same law for a larger batch."""
        return DiffuseNormal(self.loc.expand(torch.Size(batch_shape) + self.event_shape), self.root, self.directions)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density as defined above, nats, batch shape: a normal law across the directions, flat along them."""
        Q, R = torch.linalg.qr(self.directions, mode="complete")
        num = self.directions.shape[1]
        across = SingularNormal(self.loc @ Q[:, num:], Q[:, num:].mT @ self.root)
        flat = 0.5 * num * _LOG_TWO_PI + R.diagonal().abs().log().sum()
        return across.log_prob(value @ Q[:, num:]) - flat

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Always an error.

        Raises:
            DiffuseError: a diffuse start has no law to draw from.
        """
        raise DiffuseError(
            "expected a proper law of the first state to draw from, got a diffuse one; give initial_cov in place of "
            "diffuse (start_scale for a structural model), or draw given observations, with kalman.sample_states or "
            "model.forecast"
        )

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Always an error, as `rsample`.

        Raises:
            DiffuseError: a diffuse start has no law to draw from.
        """
        return self.rsample(sample_shape)


def checked_directions(directions: Tensor, dim: int) -> Tensor:
    """Checked columns B, (D, q).

    Raises:
        ValueError: another shape, NaN, no column, or columns that depend on each other.
    """
    if directions.dim() != 2 or directions.shape[0] != dim or not 1 <= directions.shape[1] <= dim:
        raise ValueError(
            f"expected diffuse directions of shape ({dim}, q), q in 1..{dim}, got {tuple(directions.shape)}"
        )
    if int(torch.linalg.matrix_rank(directions)) < directions.shape[1]:
        raise ValueError(
            "expected linearly independent diffuse directions, got dependent ones; leave out columns that combine "
            "others"
        )
    return directions
