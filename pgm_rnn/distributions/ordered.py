"""Laws of K increasing numbers, or of K rows in the order of their first entries, so that states keep their labels.

    y_(1) < ... < y_(K),   the order statistics of K independent draws from p:   K! p(y_(1)) ... p(y_(K))

The likelihood of a model with K states is the same for all K! orders of them. Under this prior of, say, their means
only one of the orders is possible, and the others count for it. David & Nagaraja (2003), eq. (2.2.1); Stephens (2000).
"""

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import ComposeTransform, Transform

from pgm_rnn.checks import check_counts


class IncreasingRows(constraints.Constraint):
    """K rows, each in a base constraint, whose first entries increase.

    Args:
        base: the constraint of a row: of a number, or of a vector.
    """

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        """False."""
        return False

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        """Axes of the K rows together."""
        return 1 + int(self.base.event_dim)

    def check(self, value: Tensor) -> Tensor:
        """Whether values (..., K, *event) satisfy it, (...,)."""
        keys = _keys(value, self.base.event_dim)
        return (keys[..., 1:] > keys[..., :-1]).all(-1) & self.base.check(value).all(-1)

    def __repr__(self) -> str:
        return f"increasing rows of {self.base}"


class IncreasingTransform(Transform):
    """Real rows with increasing first entries from any real rows: the first entries are k_1, k_1 + e^{k_2}, ..."""

    bijective = True

    def __init__(self, event_dim: int) -> None:
        super().__init__()
        self.rows = event_dim
        self.domain = constraints.independent(constraints.real, event_dim + 1)
        self.codomain = self.domain

    def _call(self, x: Tensor) -> Tensor:
        keys = _keys(x, self.rows)
        steps = torch.cat([keys[..., :1], keys[..., 1:].exp()], dim=-1)
        return _with_keys(x, steps.cumsum(-1), self.rows)

    def _inverse(self, y: Tensor) -> Tensor:
        keys = _keys(y, self.rows)
        return _with_keys(y, torch.cat([keys[..., :1], keys.diff(dim=-1).log()], dim=-1), self.rows)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """k_2 + ... + k_K, batch shape."""
        return _keys(x, self.rows)[..., 1:].sum(-1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IncreasingTransform) and self.rows == other.rows

    __hash__ = Transform.__hash__


def _keys(value: Tensor, event_dim: int) -> Tensor:
    """The first entry of each row, (..., K)."""
    return value[..., 0] if event_dim else value


def _with_keys(value: Tensor, keys: Tensor, event_dim: int) -> Tensor:
    """Rows with other first entries."""
    return torch.cat([keys[..., None], value[..., 1:]], dim=-1) if event_dim else keys


@biject_to.register(IncreasingRows)  # type: ignore[untyped-decorator]
@transform_to.register(IncreasingRows)  # type: ignore[untyped-decorator]
def _transform(constraint: IncreasingRows) -> Transform:
    onto_base = biject_to(constraints.independent(constraint.base, 1))
    return ComposeTransform([IncreasingTransform(constraint.base.event_dim), onto_base])


class Ordered(TorchDistribution):
    """The law of K independent draws in increasing order: batch shape that of the base law, event (K, *event).

    Vectors are put in the order of their first entries.

    Args:
        base: the law of one draw, of a number or of a vector, each entry real, positive or in an interval.
        num: K, at least 1.

    Raises:
        ValueError: a number below 1, or a base law over other values.

    Example:
        >>> import pyro.distributions as dist
        >>> means = Ordered(dist.Normal(0.0, 5.0), 3).sample()
        >>> means.shape, bool((means.diff() > 0).all())
        (torch.Size([3]), True)
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)

    def __init__(self, base: TorchDistribution, num: int) -> None:
        check_counts(num=num)
        if not _can_be_ordered(base):
            raise ValueError(
                "expected a law of numbers or vectors whose entries are real, positive or in an interval for Ordered, "
                f"got {type(base).__name__} of event shape {tuple(base.event_shape)}"
            )
        self.base, self.num, self.has_rsample = base, num, bool(base.has_rsample)
        super().__init__(base.batch_shape, torch.Size([num, *base.event_shape]), validate_args=False)

    @property
    def support(self) -> Any:
        """Increasing rows in the base law's support."""
        return IncreasingRows(self.base.support)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Ordered":
        """The same law for a larger batch."""
        return Ordered(self.base.expand(torch.Size(batch_shape)), self.num)

    def log_prob(self, value: Tensor) -> Tensor:
        """log K! + sum_k log p(y_(k)) of values (..., K, *event), -inf where they decrease: nats, batch shape."""
        rows = value.movedim(-1 - len(self.base.event_shape), 0)  # (K, ..., *event)
        keys = _keys(value, len(self.base.event_shape))
        total = self.base.log_prob(rows).sum(0) + math.lgamma(self.num + 1)
        return total.where((keys.diff(dim=-1) >= 0).all(-1), -torch.inf)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws that follow the parameters, (*sample_shape, *batch, K, *event)."""
        return self._sorted(self.base.rsample(torch.Size([self.num, *sample_shape])))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws without gradient, (*sample_shape, *batch, K, *event)."""
        with torch.no_grad():
            return self._sorted(self.base.sample(torch.Size([self.num, *sample_shape])))

    def _sorted(self, rows: Tensor) -> Tensor:
        """Rows (K, *shape, *event) in order, (*shape, K, *event)."""
        event_dim = len(self.base.event_shape)
        value = rows.movedim(0, -1 - event_dim)
        order = _keys(value, event_dim).argsort(-1)
        return value.gather(-1 - event_dim, order[..., None].expand(value.shape) if event_dim else order)


def _can_be_ordered(base: TorchDistribution) -> bool:
    """Whether the map from real numbers onto the support works entry by entry and increases."""
    support: Any = base.support
    if len(base.event_shape) > 1 or support.is_discrete:
        return False
    onto, zeros = biject_to(support), torch.zeros(base.event_shape)
    if onto.inverse_shape(base.event_shape) != base.event_shape:
        return False
    return bool((onto(zeros + 1) > onto(zeros)).all())
