"""Laws of how long a state lasts, in steps d = 1..D, one for each state of a hidden semi-Markov model.

    CategoricalDurations        any table p(d)
    GeometricDurations          p(d) ~ stay^(d-1)                                          that of a Markov chain
    PoissonDurations            p(d) ~ rate^(d-1) / (d-1)!                                 d - 1 is Poisson
    NegativeBinomialDurations   p(d) ~ Gamma(d-1+count) / (d-1)! prob^(d-1)                d - 1 is negative binomial

The last three are cut off at D and made to sum to one over 1..D again. A D that is far in the tail changes nothing.
Source: Yu (2010), on parametric laws of durations.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts, check_probs
from pgm_rnn.emissions.natural import LOGARITHM, LOGIT, SOFTMAX, Natural, whole

_ETA = 40.0
"""Largest size of the logarithm of a rate, or of a probability to stay, that `fit` considers."""
_BISECTIONS = 80
_SECTIONS = 60
_LOG_COUNTS = (-4.0, 8.0)
"""Range of log count that `NegativeBinomialDurations.fit` considers."""


class Durations(nn.Module, ABC):
    """Laws of durations 1..D for each of K states; made by its subclasses."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """The name under which `random_durations` makes such laws."""

    @property
    @abstractmethod
    def num_states(self) -> int:
        """K."""

    @property
    @abstractmethod
    def max_duration(self) -> int:
        """D, in steps."""

    @abstractmethod
    def log_probs(self) -> Tensor:
        """log p(d = 1), ..., log p(d = D) in each state, (K, D), nats."""

    @abstractmethod
    def fit(self, counts: Tensor) -> None:
        """Set the parameters, in place, to the most likely ones for counts of durations (K, D), not negative.

        A state without any count keeps its law, and no law gets less likely than it was.
        """

    def probs(self) -> Tensor:
        """p(d = 1), ..., p(d = D) in each state, (K, D)."""
        return self.log_probs().exp()


class CategoricalDurations(Durations):
    """Any law of durations for each state.

    Args:
        probs: p(d = 1), ..., p(d = D), (K, D). A zero stays zero.

    Raises:
        ValueError: no column, negative numbers, or rows that do not sum to one.
    """

    kind = "categorical"

    def __init__(self, probs: Tensor) -> None:
        super().__init__()
        probs = torch.as_tensor(probs)
        if probs.dim() == 2:
            check_counts(max_duration=probs.shape[1])
        check_probs("durations", probs, (None, None))
        self.duration_logits = nn.Parameter(probs.log().contiguous())

    @property
    def num_states(self) -> int:
        """K."""
        return self.duration_logits.shape[0]

    @property
    def max_duration(self) -> int:
        """D, in steps."""
        return self.duration_logits.shape[1]

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """The probabilities, (K, D)."""
        return {"duration_probs": whole("duration_logits", SOFTMAX)}

    def log_probs(self) -> Tensor:
        """log p(d) in each state, (K, D), nats."""
        return self.duration_logits.log_softmax(-1)

    @torch.no_grad()
    def fit(self, counts: Tensor) -> None:
        """Set p(d) to the share of each duration among the counts (K, D)."""
        totals = counts.sum(-1, keepdim=True)
        shares = (counts / totals.where(totals > 0, 1.0)).log()
        self.duration_logits.copy_(shares.where(totals > 0, self.duration_logits))


class _Tilted(Durations):
    """p(d) ~ base(d) exp(eta (d - 1)), d = 1..D, with one eta for each state."""

    def __init__(self, max_duration: int) -> None:
        super().__init__()
        check_counts(max_duration=max_duration)
        self._max_duration = max_duration

    @property
    def max_duration(self) -> int:
        """D, in steps."""
        return self._max_duration

    def log_probs(self) -> Tensor:
        """log p(d) in each state, (K, D), nats."""
        log_base, eta = self._log_base(), self._eta()
        return (log_base + eta[:, None] * _before(log_base)).log_softmax(-1)

    @torch.no_grad()
    def fit(self, counts: Tensor) -> None:
        """Set the parameters to the most likely ones for counts of durations (K, D), by a search."""
        counts = counts.double()
        old, value = [parameter.clone() for parameter in self.parameters()], self._value(counts)
        self._search(counts)
        better = (self._value(counts) > value) & (counts.sum(-1) > 0)
        for parameter, before in zip(self.parameters(), old, strict=True):
            parameter.copy_(parameter.where(better, before))

    def _value(self, counts: Tensor) -> Tensor:
        """sum_d counts log p(d), (K,)."""
        return (counts * self.log_probs().double()).sum(-1)

    @abstractmethod
    def _log_base(self) -> Tensor:
        """log base(d), (K, D) or (1, D)."""

    @abstractmethod
    def _eta(self) -> Tensor:
        """eta, (K,)."""

    @abstractmethod
    def _search(self, counts: Tensor) -> None:
        """Set the parameters to the most likely ones."""


class GeometricDurations(_Tilted):
    """p(d) ~ stay^(d-1): up to the cut at D the durations of a Markov chain.

    Args:
        stay_probs: the probability to stay another step, (K,), between 0 and 1.
        max_duration: D, in steps.

    Raises:
        ValueError: numbers out of range, or D below 1.
    """

    kind = "geometric"

    def __init__(self, stay_probs: Tensor, max_duration: int) -> None:
        super().__init__(max_duration)
        stay_probs = _checked("stay_probs", stay_probs, most=1.0)
        self.stay_logits = nn.Parameter(stay_probs.logit())

    @property
    def num_states(self) -> int:
        """K."""
        return len(self.stay_logits)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """The probabilities to stay, (K,)."""
        return {"stay_probs": whole("stay_logits", LOGIT)}

    def _log_base(self) -> Tensor:
        return self.stay_logits.new_zeros(1, self.max_duration)

    def _eta(self) -> Tensor:
        return nn.functional.logsigmoid(self.stay_logits)

    def _search(self, counts: Tensor) -> None:
        eta = _most_likely_eta(counts, torch.zeros_like(counts[:1]), -1e-9)
        self.stay_logits.copy_(_logit_of_log(eta))


class PoissonDurations(_Tilted):
    """d - 1 is Poisson, given d <= D.

    Args:
        rates: mean of d - 1 without the cut, (K,), positive.
        max_duration: D, in steps.

    Raises:
        ValueError: numbers out of range, or D below 1.
    """

    kind = "poisson"

    def __init__(self, rates: Tensor, max_duration: int) -> None:
        super().__init__(max_duration)
        self.log_rates = nn.Parameter(_checked("rates", rates).log())

    @property
    def num_states(self) -> int:
        """K."""
        return len(self.log_rates)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """The rates, (K,)."""
        return {"duration_rates": whole("log_rates", LOGARITHM)}

    def _log_base(self) -> Tensor:
        steps = torch.arange(self.max_duration, device=self.log_rates.device, dtype=self.log_rates.dtype)
        return -(steps + 1).lgamma()[None]

    def _eta(self) -> Tensor:
        return self.log_rates

    def _search(self, counts: Tensor) -> None:
        self.log_rates.copy_(_most_likely_eta(counts, self._log_base().double(), _ETA))


class NegativeBinomialDurations(_Tilted):
    """d - 1 is negative binomial, given d <= D: a Poisson law whose rate varies, or a sum of geometric ones.

    Args:
        counts: (K,), positive; 1 is `GeometricDurations`.
        stay_probs: (K,), between 0 and 1; the mean of d - 1 is count stay / (1 - stay) without the cut.
        max_duration: D, in steps.

    Raises:
        ValueError: numbers out of range, or D below 1.
    """

    kind = "negative-binomial"

    def __init__(self, counts: Tensor, stay_probs: Tensor, max_duration: int) -> None:
        super().__init__(max_duration)
        counts, stay_probs = _checked("counts", counts), _checked("stay_probs", stay_probs, most=1.0)
        if counts.shape != stay_probs.shape:
            raise ValueError(f"expected stay_probs of shape {tuple(counts.shape)}, got {tuple(stay_probs.shape)}")
        self.log_counts, self.stay_logits = nn.Parameter(counts.log()), nn.Parameter(stay_probs.logit())

    @property
    def num_states(self) -> int:
        """K."""
        return len(self.stay_logits)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Counts and probabilities, (K,)."""
        return {"duration_counts": whole("log_counts", LOGARITHM), "stay_probs": whole("stay_logits", LOGIT)}

    def _log_base(self) -> Tensor:
        return _log_ways(self.log_counts, self.max_duration)

    def _eta(self) -> Tensor:
        return nn.functional.logsigmoid(self.stay_logits)

    def _search(self, counts: Tensor) -> None:
        """The best eta for each log count, and the best log count by golden sections."""

        def profile(log_counts: Tensor) -> Tensor:
            base = _log_ways(log_counts, self.max_duration)
            eta = _most_likely_eta(counts, base, -1e-9)
            return (counts * (base + eta[:, None] * _before(base)).log_softmax(-1)).sum(-1)

        best = _golden(profile, counts[:, 0])
        self.log_counts.copy_(best)
        base = _log_ways(self.log_counts.double(), self.max_duration)
        self.stay_logits.copy_(_logit_of_log(_most_likely_eta(counts, base, -1e-9)))


KINDS = ("categorical", "geometric", "poisson", "negative-binomial")
"""The names that `random_durations` takes."""


def random_durations(kind: str, num_states: int, max_duration: int) -> Durations:
    """Random laws of durations, drawn by torch's global generator.

    Args:
        kind: one of `KINDS`.
        num_states: K.
        max_duration: D, in steps.

    Raises:
        ValueError: an unknown kind, or sizes below 1.
    """
    check_choice("durations", kind, KINDS)
    check_counts(num_states=num_states, max_duration=max_duration)
    if kind == "categorical":
        rows = torch.empty(num_states, max_duration).exponential_()
        return CategoricalDurations(rows / rows.sum(-1, keepdim=True))
    mean = max(max_duration / 3, 0.5) * (0.5 + torch.rand(num_states))
    if kind == "poisson":
        return PoissonDurations(mean, max_duration)
    stay = mean / (1 + mean)
    if kind == "geometric":
        return GeometricDurations(stay, max_duration)
    counts = 1 + 2 * torch.rand(num_states)
    return NegativeBinomialDurations(counts, mean / (counts + mean), max_duration)


def _checked(name: str, values: Tensor, most: float = torch.inf) -> Tensor:
    """Positive finite numbers (K,) below `most`.

    Raises:
        ValueError: other numbers, or another shape.
    """
    values = torch.as_tensor(values)
    if values.dim() != 1 or not values.is_floating_point() or len(values) == 0:
        raise ValueError(f"expected {name} as floating point of shape (K,), got {values.dtype} {tuple(values.shape)}")
    if not bool(((values > 0) & (values < most)).all()):
        between = "between 0 and 1" if most == 1 else "positive and finite"
        raise ValueError(f"expected {name} {between}, got {values.tolist()}")
    return values.detach()


def _before(like: Tensor) -> Tensor:
    """d - 1 for d = 1..D, (D,)."""
    return torch.arange(like.shape[-1], device=like.device, dtype=like.dtype)


def _log_ways(log_counts: Tensor, max_duration: int) -> Tensor:
    """log Gamma(d - 1 + count) - log Gamma(count) - log (d - 1)!, (K, D)."""
    counts = log_counts.exp()[:, None]
    steps = torch.arange(max_duration, device=counts.device, dtype=counts.dtype)
    return (steps + counts).lgamma() - counts.lgamma() - (steps + 1).lgamma()


def _most_likely_eta(counts: Tensor, log_base: Tensor, high: float) -> Tensor:
    """The eta in -40..high for which the mean of d - 1 is that of the counts, (K,), by bisection."""
    steps, totals = _before(counts), counts.sum(-1)
    target = counts @ steps / totals.where(totals > 0, 1.0)
    low, high_ = torch.full_like(target, -_ETA), torch.full_like(target, high)
    for _ in range(_BISECTIONS):
        middle = (low + high_) / 2
        mean = (log_base + middle[:, None] * steps).softmax(-1) @ steps
        low, high_ = middle.where(mean < target, low), middle.where(mean >= target, high_)
    return (low + high_) / 2


def _golden(value: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The argument, (K,), in the range of log counts where a value, (K,), is largest, if it has one maximum."""
    ratio = (5**0.5 - 1) / 2
    low, high = (torch.full_like(like, bound) for bound in _LOG_COUNTS)
    for _ in range(_SECTIONS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        falls = value(left) > value(right)
        low, high = low.where(falls, left), right.where(falls, high)
    return (low + high) / 2


def _logit_of_log(log_probs: Tensor) -> Tensor:
    """logit(p) from log p < 0."""
    return log_probs - (-log_probs.expm1()).log()
