"""Bits that depend on each other: NADE, the neural autoregressive distribution estimator.

    p(x | h) = prod_i p(x_i | x_{1:i-1}, h),   p(x_i = 1 | x_{1:i-1}, h) = sigmoid(b_i(h) + V_i . sigmoid(a_i)),
    a_i = c(h) + sum_{j < i} W_j x_j,   b and c linear in the features h, W and V shared by all laws

Larochelle & Murray (2011); on a recurrent network it is the RNN-NADE of Boulanger-Lewandowski, Bengio & Vincent (2012).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints
from typing_extensions import override

from pgm_rnn.checks import check_counts
from pgm_rnn.distributions.entry_laws import EntryLaws, of_entries
from pgm_rnn.emissions.family import Emission, EmissionHead
from pgm_rnn.emissions.info import FamilyInfo, whole_draws
from pgm_rnn.kernels import nade, positive


@dataclass(frozen=True)
class NadeBits(Emission):
    """`size` bits, each with a law given those before it; `Bernoulli(size)` has independent ones.

    All laws of a model share W and V, which `head` holds; so networks take this family, and models with one law per
    state, such as `HMM`, do not.

    Example:
        >>> law = NadeBits(size=88, hidden_dim=16).head(width=5)(torch.zeros(3, 5))
        >>> law.sample().shape
        torch.Size([3, 88])
    """

    size: int
    hidden_dim: int

    def __post_init__(self) -> None:
        check_counts(size=self.size, hidden_dim=self.hidden_dim)

    @property
    @override
    def event_shape(self) -> torch.Size:
        return torch.Size([self.size])

    @property
    @override
    def num_params(self) -> int:
        return self.size + self.hidden_dim

    @property
    @override
    def support(self) -> str:
        return "bits 0 or 1"

    @property
    @override
    def needs_head(self) -> bool:
        return True

    @override
    def head(self, width: int) -> "NadeHead":
        return NadeHead(self, width)

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        raise TypeError(
            f"expected a family whose laws share no weights, got {self}; make its laws by family.head, as RNN does"
        )

    @override
    def invalid(self, x: Tensor) -> Tensor:
        return (x != 0) & (x != 1)


class NadeHead(EmissionHead):
    """The law of bits given features h.

    Args:
        family: the family of the observations.
        width: number of features.

    Attributes:
        from_bits: W, (size, hidden_dim), trainable.
        to_logits: V, (size, hidden_dim), trainable.
    """

    def __init__(self, family: NadeBits, width: int) -> None:
        super().__init__(family, width)
        self.sizes = [family.size, family.hidden_dim]
        self.from_bits = nn.Parameter(torch.empty(self.sizes).uniform_(-1, 1) / family.size**0.5)
        self.to_logits = nn.Parameter(torch.empty(self.sizes).uniform_(-1, 1) / family.hidden_dim**0.5)

    @override
    def forward(self, features: Tensor) -> "NadeLaw":
        bias, start = F.linear(features, self.weight, self.bias).split(self.sizes, dim=-1)
        return NadeLaw(bias, start, self.from_bits, self.to_logits)


class NadeLaw(TorchDistribution):
    """The law of n bits given b (..., n), c (..., hidden_dim) and the shared W and V, each (n, hidden_dim)."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.independent(constraints.boolean, 1)

    def __init__(self, bias: Tensor, start: Tensor, W: Tensor, V: Tensor) -> None:
        self.bias, self.start, self.W, self.V = bias, start, W, V
        super().__init__(bias.shape[:-1], bias.shape[-1:], validate_args=False)

    @override
    def expand(self, batch_shape: Any, _instance: Any = None) -> "NadeLaw":
        return NadeLaw(self.bias.expand(*batch_shape, -1), self.start.expand(*batch_shape, -1), self.W, self.V)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; its shape is the batch shape broadcast with that of the values."""
        return positive.softplus((1 - 2 * value) * self.logits(value)).sum(-1).neg()

    def logits(self, value: Tensor) -> Tensor:
        """logit p(x_i = 1 | x_{1:i-1}) of bits (..., n); the batch shape broadcast with theirs, and n."""
        batch = torch.broadcast_shapes(self.batch_shape, value.shape[:-1])
        parts = self.bias, self.start, value
        bias, start, x = (part.expand(*batch, -1).reshape(-1, part.shape[-1]) for part in parts)
        return nade.logits(bias, start, x, self.W, self.V).reshape(*batch, -1)

    @override
    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, *batch_shape, n), entry after entry."""
        law = self.expand([*sample_shape, *self.batch_shape])
        bias, start = (part.reshape(-1, part.shape[-1]) for part in (law.bias, law.start))
        return nade.draw(bias, start, self.W, self.V).reshape(law.bias.shape)


@of_entries.register
def _(law: NadeLaw, x: Tensor) -> EntryLaws:
    return of_entries(torch.distributions.Bernoulli(logits=law.logits(x)), x)


INFO = FamilyInfo(
    "nade", NadeBits, whole_draws(2), examples={"linked-bits": NadeBits(3, 4)}, estimated={}, kind="binary"
)
