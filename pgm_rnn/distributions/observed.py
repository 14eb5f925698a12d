"""Densities of observations of which entries are missing: the missing entries are integrated out.

    log p(x_o) = log of the integral of p(x) over the entries that are missing,   o the entries that were observed

    all entries missing    0
    independent entries    the sum over the observed ones
    normal vectors         the marginal normal law of the observed ones
    mixtures               the mixture of the components' marginals

These are exact. A law of vectors that cannot be integrated entry by entry takes observations that are whole or missing
as a whole. A class of laws joins in by registering a function with `entries_log_prob`, in its own file.
"""

import math
from functools import singledispatch
from typing import Any

import torch
from pyro.distributions.torch_distribution import ExpandedDistribution, TorchDistribution
from torch import Tensor
from torch.distributions import Independent, LowRankMultivariateNormal, MixtureSameFamily, MultivariateNormal

from pgm_rnn.kernels import triangles

_HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2


def observed_log_prob(law: Any, x: Tensor, observed: Tensor | None) -> Tensor:
    """Log density of the entries of x that were observed, the others integrated out: nats, batch shape.

    Args:
        law: the law of an observation.
        x: observations, (*batch, *event), which broadcast with the law's batch; any finite number where one is missing.
        observed: True where x was observed, with as many axes as x, or without those of the event for observations that
            are whole or missing; None for everywhere.

    Raises:
        ValueError: an observation is partly missing, and the law cannot be integrated entry by entry.
    """
    if observed is None:
        return law.log_prob(x)
    if observed.dim() < x.dim() or not law.event_shape:
        return law.log_prob(x).where(observed, 0.0)
    return entries_log_prob(law, x, observed)


@singledispatch
def entries_log_prob(law: Any, x: Tensor, observed: Tensor) -> Tensor:
    """`observed_log_prob` for one truth value per entry; laws of a new kind register their own function here.

    Raises:
        ValueError: an observation is partly missing; laws without a function of their own cannot leave out entries.
    """
    axes = tuple(range(-len(law.event_shape), 0))
    some, every = observed.any(axes), observed.all(axes)
    if not torch.equal(some, every):
        raise ValueError(
            f"expected each observation to be whole or missing as a whole, because {type(law).__name__} cannot "
            "integrate out single entries, got one that is partly missing; give a mask with one truth value per step"
        )
    return law.log_prob(x).where(every, 0.0)


@entries_log_prob.register(Independent)
def _(law: Any, x: Tensor, observed: Tensor) -> Tensor:
    entries = observed_log_prob(law.base_dist, x, observed)
    return entries.sum(tuple(range(-law.reinterpreted_batch_ndims, 0))) if law.reinterpreted_batch_ndims else entries


@entries_log_prob.register
def _(law: ExpandedDistribution, x: Tensor, observed: Tensor) -> Tensor:
    log_probs = observed_log_prob(law.base_dist, x, observed)
    return log_probs.expand(torch.broadcast_shapes(log_probs.shape, law.batch_shape))


@entries_log_prob.register
def _(law: MixtureSameFamily, x: Tensor, observed: Tensor) -> Tensor:
    axis = -1 - len(law.event_shape)
    of_each = observed_log_prob(law.component_distribution, x.unsqueeze(axis), observed.unsqueeze(axis))
    return (of_each + law.mixture_distribution.logits.log_softmax(-1)).logsumexp(-1)


@entries_log_prob.register
def _(law: MultivariateNormal, x: Tensor, observed: Tensor) -> Tensor:
    return _normal_log_prob(law.loc, law._unbroadcasted_scale_tril, x, observed)


@entries_log_prob.register
def _(law: LowRankMultivariateNormal, x: Tensor, observed: Tensor) -> Tensor:
    return _normal_log_prob(law.loc, law.scale_tril, x, observed)


def _normal_log_prob(loc: Tensor, scale_tril: Tensor, x: Tensor, observed: Tensor) -> Tensor:
    """log N(x_o; m_o, S_oo) with S = L L', for means (..., D) and L (..., D, D)."""
    factors, numbers = _factors(scale_tril, observed)
    deviation = (x - loc).where(observed, 0.0)  # (..., D)
    batch, size = deviation.shape[:-1], deviation.shape[-1]
    batch = torch.broadcast_shapes(batch, numbers.shape)
    rows, numbers = deviation.expand(*batch, size).reshape(-1, size, 1), numbers.expand(batch)
    few = max(1, _MOST_NUMBERS // size**2)
    squares = [
        torch.linalg.solve_triangular(factors[chosen], part, upper=False).square().sum((1, 2))
        for chosen, part in zip(numbers.reshape(-1).split(few), rows.split(few), strict=True)
    ]
    peaks = -factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -0.5 * torch.cat(squares).reshape(batch) + peaks[numbers] - _HALF_LOG_TWO_PI * observed.sum(-1)


_MOST_NUMBERS = 2**22
"""Entries of factors that are copied at a time."""


def _factors(scale_tril: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of the observed entries' covariances, each beside ones for the missing entries, and which one is whose.

    Where that is less work, each pattern of missing entries and each covariance are taken once.

    Returns:
        factors (F, D, D) and numbers (...) in 0..F - 1, which broadcast with the batch.
    """
    own, size = scale_tril.shape[:-2], observed.shape[-1]
    batch = torch.broadcast_shapes(own, observed.shape[:-1])
    patterns, which = observed.reshape(-1, size).unique(dim=0, return_inverse=True)
    if len(patterns) * own.numel() >= batch.numel():
        each = _factor(scale_tril, observed).reshape(-1, size, size)
        return each, torch.arange(len(each), device=observed.device).reshape(batch)
    each = _factor(scale_tril.reshape(1, -1, size, size), patterns[:, None])  # (patterns, covariances, D, D)
    number = torch.arange(own.numel(), device=observed.device).reshape(own)
    return each.flatten(0, 1), which.reshape(observed.shape[:-1]) * own.numel() + number


def _factor(scale_tril: Tensor, observed: Tensor) -> Tensor:
    """The triangular F with F F' = S_oo beside the identity, from L by a QR decomposition: S itself is not formed."""
    there = observed.to(scale_tril.dtype)
    rows = torch.cat(torch.broadcast_tensors(scale_tril * there[..., None], torch.diag_embed(1 - there)), dim=-1)
    return triangles.of_rows(rows.mT).mT


class PartlyObserved(TorchDistribution):
    """A law whose density leaves out the entries that are missing; its draws are those of the law itself.

    Args:
        law: the law of whole observations.
        observed: as for `observed_log_prob`; it broadcasts to the law's batch.

    Example:
        >>> import pyro.distributions as dist
        >>> law = PartlyObserved(dist.Normal(torch.zeros(2), 1.0).to_event(1), torch.tensor([True, False]))
        >>> bool(law.log_prob(torch.zeros(2)) == dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.0)))
        True
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)

    def __init__(self, law: TorchDistribution, observed: Tensor) -> None:
        self.law, self.observed = law, observed
        self.has_rsample = bool(law.has_rsample)
        super().__init__(law.batch_shape, law.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the law."""
        return self.law.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> "PartlyObserved":
        """The same law for a larger batch."""
        return PartlyObserved(self.law.expand(batch_shape), self.observed)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the observed entries, nats, batch shape."""
        return observed_log_prob(self.law, value, self.observed)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Whole observations that follow their parameters."""
        return self.law.rsample(sample_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Whole observations, without gradient."""
        return self.law.sample(sample_shape)


def partly(law: TorchDistribution, observed: Tensor | None) -> TorchDistribution:
    """The law itself where nothing is missing, else `PartlyObserved`."""
    return law if observed is None else PartlyObserved(law, observed)
