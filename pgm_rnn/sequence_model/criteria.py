"""Number of free parameters of a model, and the criteria that weigh it against the likelihood.

    AIC = 2 (n + k),   BIC = 2 n + k log N,   n = -log p(x) in nats, k free parameters, N steps; smaller is better

Akaike (1974); Schwarz (1978).
"""

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model.parameters import current_parameters


class Criteria(NamedTuple):
    """A model's number of free parameters, and the criteria of its fit to the data that it was fitted to.

    Attributes:
        num_free_parameters: k.
        aic: 2 (n + k).
        bic: 2 n + k log N.
    """

    num_free_parameters: int
    aic: float
    bic: float

    @classmethod
    def of(cls, model: nn.Module, nats: float, num_steps: int) -> Self:
        """Those of a model, from n = -log p(x) in nats and N steps of which something was observed."""
        free = num_free_parameters(model)
        return cls(free, aic(nats, free), bic(nats, free, num_steps))

    def cells(self) -> tuple[str, str, str]:
        """The three numbers as a table shows them."""
        return f"{self.num_free_parameters:,}", f"{self.aic:,.1f}", f"{self.bic:,.1f}"


def num_free_parameters(model: nn.Module) -> int:
    """Number of parameters that can vary independently of each other.

    A row of probabilities counts one less than it has positive entries, because it sums to one and a zero stays zero;
    a covariance counts its lower triangle. Every other number counts, those of a proposal network among them, and so do
    parameters that the likelihood cannot tell apart, such as the coordinates of a state vector.

    Example:
        >>> from pgm_rnn.models import HMM
        >>> num_free_parameters(HMM.random(num_states=3, num_symbols=4, seed=0))  # 2 + 3 * 2 + 3 * 3
        17
    """
    raw, total, seen = current_parameters(model), 0, set[tuple[str, bytes]]()
    with seeded(0):  # numbers that tell apart what two names of one tensor read
        probe = {name: torch.rand_like(value) for name, value in raw.items() if value.is_floating_point()}
    own = {f"{path}.{name}".lstrip("."): n for path, name, n in _own_counts(model)}
    for name, value in raw.items():
        total += own.get(name, value.numel())
    for path, part in model.named_modules():
        for natural in getattr(part, "natural_parameters", {}).values():
            natural = natural.within(path)
            if natural.support is not constraints.simplex:
                continue
            probs = natural.read(raw[natural.raw]).detach()
            key = (natural.raw, natural.read(probe[natural.raw]).detach().cpu().numpy().tobytes())
            if key not in seen:  # a model and its part may both name it
                seen.add(key)
                total -= _not_free(probs)
    return total


def aic(nats: float, num_free: int) -> float:
    """Akaike's criterion 2 (n + k).

    Args:
        nats: n = -log p(x) of all sequences, in nats.
        num_free: k, the number of free parameters.

    Source: Akaike (1974), with nats for the maximised log likelihood.
    """
    return 2 * (nats + num_free)


def bic(nats: float, num_free: int, num_steps: int) -> float:
    """The Bayesian information criterion 2 n + k log N.

    Args:
        nats: n = -log p(x) of all sequences, in nats.
        num_free: k, the number of free parameters.
        num_steps: N, the number of steps of all sequences of which something was observed.

    Source: Schwarz (1978), times -2.
    """
    return 2 * nats + num_free * math.log(num_steps)


def _own_counts(model: nn.Module) -> list[tuple[str, str, int]]:
    """Path, parameter and number of free entries of each module that says so of its parameters."""
    found = []
    for path, part in model.named_modules():
        counts: dict[str, int] = getattr(part, "num_free", {})
        found += [(path, name, num) for name, num in counts.items()]
    return found


def _not_free(probs: Tensor) -> int:
    """Entries of rows of probabilities that the other ones determine, and zeros."""
    positive = (probs > 0).sum(-1)
    return probs.numel() - int((positive - 1).clamp(min=0).sum())
