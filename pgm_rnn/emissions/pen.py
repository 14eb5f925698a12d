"""Handwriting: an offset of the pen, from a mixture of correlated normal laws, and a bit for lifting the pen after it.

    p(dx, dy, up) = sum_j pi_j N((dx, dy); mu_j, sigma_j, rho_j)  e^up (1 - e)^(1 - up)
    pi = softmax,  mu = itself,  sigma = exp,  rho = tanh,  e = sigmoid  of the unconstrained numbers

Graves (2013), eq. (18)-(25); Chung et al. (2015), sec. 5.
Difference from the paper: e = sigmoid(e_hat), where eq. (18) has 1 / (1 + exp(e_hat)).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from typing_extensions import override

from pgm_rnn.checks import check_counts, check_probs
from pgm_rnn.distributions.entry_laws import EntryLaws, of_entries
from pgm_rnn.distributions.observed import entries_log_prob
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.info import FamilyInfo, normal_draws
from pgm_rnn.emissions.natural import IDENTITY, LOGARITHM, LOGIT, SOFTMAX, TANH, Natural, columns
from pgm_rnn.kernels import positive

_PER_COMPONENT = 6
"""Number of unconstrained parameters of a component: pi, mu (2), sigma (2) and rho."""
_PACKING: Mapping[int, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    1: (lambda own: own, lambda value: value),
    2: (lambda own: torch.stack(own.chunk(2, dim=-1), dim=-1), lambda value: torch.cat(value.unbind(-1), dim=-1)),
}
"""From the columns of a kind of parameter with one or two entries per component to its own axes, and back."""


@dataclass(frozen=True)
class Pen(Emission):
    """Observations (dx, dy, up): real offsets and a bit, event shape (3,).

    Sigma from a network is kept in s..1 / s and 1 - rho^2 at or above 4 s, where s =
    `pgm_rnn.kernels.positive.least_scale` is 2.3e-13 in float32 and 2.8e-103 in float64.
    """

    num_components: int = 20

    def __post_init__(self) -> None:
        check_counts(num_components=self.num_components)

    @property
    @override
    def event_shape(self) -> torch.Size:
        return torch.Size([3])

    @property
    @override
    def num_params(self) -> int:
        return _PER_COMPONENT * self.num_components + 1

    @property
    @override
    def support(self) -> str:
        return "finite offsets dx, dy and a bit 0 or 1 for the lifted pen"

    @property
    @override
    def continuous(self) -> bool:
        return True

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        num = self.num_components
        parts = {"probs": (SOFTMAX, 1), "loc": (IDENTITY, 2), "scale": (LOGARITHM, 2), "correlation": (TANH, 1)}
        found, start = {}, 0
        for name, (of, kinds) in parts.items():
            found[name] = columns("params", start, start + kinds * num, of, *_PACKING[kinds])
            start += kinds * num
        up = columns("params", start, start + 1, LOGIT, lambda own: own[..., 0], lambda value: value[..., None])
        return {**found, "up": up}

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        return PenLaw(params)

    @override
    def within_range(self, params: Tensor) -> Tensor:
        sizes = [3 * self.num_components, 2 * self.num_components, self.num_components, 1]
        first, log_sigma, r, up = params.split(sizes, dim=-1)
        limit = -math.log(positive.least_scale(params.dtype))
        return torch.cat([first, log_sigma.clamp(-limit, limit), r.clamp(-limit / 2, limit / 2), up], dim=-1)

    @override
    def invalid(self, x: Tensor) -> Tensor:
        up = x[..., 2:]
        return torch.cat([~x[..., :2].isfinite(), (up != 0) & (up != 1)], dim=-1)

    def table(self, probs: Tensor, loc: Tensor, scale: Tensor, correlation: Tensor, up: Tensor) -> EmissionTable:
        """One law for each state.

        Args:
            probs: pi, (num_states, num_components), rows sum to one.
            loc: mu, (num_states, num_components, 2).
            scale: sigma, positive, (num_states, num_components, 2).
            correlation: rho, strictly between -1 and 1, (num_states, num_components).
            up: e, the probability of a lifted pen, strictly between 0 and 1, (num_states,).

        Raises:
            ValueError: other shapes or values.
        """
        check_probs("probs", probs, (None, self.num_components))
        shape = tuple(probs.shape)
        expected = {"loc": (loc, (*shape, 2)), "scale": (scale, (*shape, 2)), "correlation": (correlation, shape)}
        for name, (value, wanted) in (expected | {"up": (up, shape[:1])}).items():
            if value.shape != wanted or not bool(value.isfinite().all()):
                got = tuple(value.shape) if value.shape != wanted else "NaN or infinity"
                raise ValueError(f"expected {name} of shape {wanted} and finite, got {got}")
        if not bool((scale > 0).all() and (correlation.abs() < 1).all() and ((up > 0) & (up < 1)).all()):
            raise ValueError(
                "expected scale > 0, correlation strictly between -1 and 1 and up strictly between 0 and 1, got "
                f"{float(scale.min()):.3g}, {float(correlation.abs().max()):.3g} (largest size) and "
                f"{float(up.min()):.3g} to {float(up.max()):.3g}"
            )
        parts = [probs.log(), *loc.unbind(-1), *scale.log().unbind(-1), correlation.atanh(), up.logit()[:, None]]
        return EmissionTable(self, torch.cat(parts, dim=-1))


class PenLaw(TorchDistribution):
    """The law of (dx, dy, up) given unconstrained numbers.

    Args:
        params: unconstrained parameters (..., 6 num_components + 1) of pi, mu_x, mu_y, sigma_x, sigma_y, rho and e.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.independent(constraints.real, 1)

    def __init__(self, params: Tensor) -> None:
        self.params = params
        super().__init__(params.shape[:-1], torch.Size([3]), validate_args=False)

    @override
    def expand(self, batch_shape: Any, _instance: Any = None) -> "PenLaw":
        return PenLaw(self.params.expand(*batch_shape, -1))

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """Log of the density of (dx, dy) times the probability of `up`, in nats; batch shape broadcast with x's.

        With rho = tanh(r), (b - rho a) / sqrt(1 - rho^2) = ((b - a) e^r + (b + a) e^-r) / 2, where a and b are the
        standardised offsets; the right-hand side loses no digits when rho is close to 1.
        """
        return self._log_prob(value, None)

    def entries_log_prob(self, value: Tensor, observed: Tensor) -> Tensor:
        """`log_prob` of the entries where `observed` (..., 3) is true, the others integrated out."""
        return self._log_prob(value, observed)

    def _log_prob(self, value: Tensor, observed: Tensor | None) -> Tensor:
        log_pi, mu_x, mu_y, log_sx, log_sy, r = self._components()
        a = (value[..., :1] - mu_x) * (-log_sx).exp()
        b = (value[..., 1:2] - mu_y) * (-log_sy).exp()
        c = 0.5 * ((b - a) * r.exp() + (b + a) * (-r).exp())
        log_cosh = r.abs() + F.softplus(-2 * r.abs()) - math.log(2)  # -log(1 - rho^2) / 2
        log_normal = -0.5 * (a.square() + c.square()) - log_sx - log_sy + log_cosh - math.log(2 * math.pi)
        up, logit = value[..., 2], self.params[..., -1]
        of_up = -positive.softplus((1 - 2 * up) * logit)
        if observed is not None:
            x, y = observed[..., :1], observed[..., 1:2]
            of_x, of_y = (-0.5 * d.square() - s - math.log(2 * math.pi) / 2 for d, s in ((a, log_sx), (b, log_sy)))
            log_normal = log_normal.where(x & y, of_x.where(x, of_y.where(y, 0.0)))
            of_up = of_up.where(observed[..., 2], 0.0)
        return (log_pi.log_softmax(-1) + log_normal).logsumexp(-1) + of_up

    @override
    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, *batch_shape, 3)."""
        law = self.expand([*sample_shape, *self.batch_shape])
        log_pi, *parts = law._components()
        chosen = torch.distributions.Categorical(logits=log_pi, validate_args=False).sample()[..., None]
        mu_x, mu_y, log_sx, log_sy, r = (part.gather(-1, chosen).squeeze(-1) for part in parts)
        a, c = torch.randn_like(mu_x), torch.randn_like(mu_x)
        dx, dy = mu_x + log_sx.exp() * a, mu_y + log_sy.exp() * (r.tanh() * a + c / r.cosh())
        return torch.stack([dx, dy, law.params[..., -1].sigmoid().bernoulli()], dim=-1)

    def _components(self) -> tuple[Tensor, ...]:
        """Unconstrained parameters of pi, mu_x, mu_y, sigma_x, sigma_y and rho, each (..., num_components)."""
        return self.params[..., :-1].chunk(_PER_COMPONENT, dim=-1)


@entries_log_prob.register
def _(law: PenLaw, x: Tensor, observed: Tensor) -> Tensor:
    return law.entries_log_prob(x, observed)


@of_entries.register
def _(law: PenLaw, x: Tensor) -> EntryLaws:
    log_pi, mu_x, mu_y, log_sx, log_sy, _ = law._components()
    weights, parts = log_pi.softmax(-1), []
    for offset, mu, log_sigma in ((x[..., :1], mu_x, log_sx), (x[..., 1:2], mu_y, log_sy)):
        upto = (weights * torch.special.ndtr((offset - mu) * (-log_sigma).exp())).sum(-1)
        parts.append(EntryLaws(upto, upto, (weights * mu).sum(-1).expand(upto.shape)))
    parts.append(of_entries(torch.distributions.Bernoulli(logits=law.params[..., -1]), x[..., 2]))
    return EntryLaws(*(torch.stack(values, dim=-1) for values in zip(*parts, strict=True)))


def _draw(family: Emission, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    x = normal_draws(family, shape, generator)
    x[..., 2] = (x[..., 2] > 0).double()
    return x


INFO = FamilyInfo("pen", Pen, _draw, examples={"strokes": Pen(2)}, estimated={"Pen1": Pen(1)})
