"""Particles that are paths of regimes, the vectors given them summed out: sec. 2.3 for a switching linear system.

    whole state         w = p(x | y, s),   s, y ~ p(s) p(y | s)          E w = p(x_{1:T})
    Rao-Blackwell       v = p(x | s) = E(w | s),   s ~ p(s)              Var w = Var v + E Var(w | s)

v comes from a Kalman filter along the path. Nothing of this is in the paper: the theorem is Rao's and Blackwell's,
the filter that of Chen & Liu (2000) and of Doucet, Godsill & Andrieu (2000), sec. 4.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.choe_2017 import PAPER
from pgm_rnn.claims.claim import Claim, largest
from pgm_rnn.claims.regime_paths import RegimePaths, regime_paths
from pgm_rnn.claims.standard_errors import MANY, z_score
from pgm_rnn.inference import mixture_kalman, smc
from pgm_rnn.models.switching_linear import SwitchingLinearSSM

NUM_STEPS = 3
Case = tuple[int, int, int]
"""Regimes, entries of a vector, entries of an observation."""


class Instance(NamedTuple):
    """A switching model, one sequence (T, M), and the stacked normal laws of all paths."""

    model: SwitchingLinearSSM
    x: Tensor
    paths: RegimePaths

    def log_marginal(self) -> Tensor:
        """log p(x_{1:T}), ()."""
        return (self.paths.log_probs + self.paths.densities(self.x)).logsumexp(0)

    def second_moments(self) -> tuple[float, float]:
        """E v^2 and E w^2 over p(x)^2."""
        densities, twice = self.paths.densities(self.x), 2 * self.log_marginal()
        both = (2 * densities, self.paths.second_moments(self.x))
        v, w = ((self.paths.log_probs + log_square).logsumexp(0) - twice for log_square in both)
        return float(v.exp()), float(w.exp())


@torch.no_grad()
def instance(case: Case, seed: int) -> Instance:
    """A random system whose weights w have a relative variance between 0.5 and 4, at least twice that of v.

    Larger ones have tails in which means of squares of a few thousand draws are far from normal.
    """
    while True:
        model = SwitchingLinearSSM.random(*case, seed=seed % 2**31).double()
        found = Instance(model, model.sample(1, NUM_STEPS, seed=seed).x[0], regime_paths(model, NUM_STEPS))
        v, w = found.second_moments()
        if 0.5 < w - 1 < 4 and w - 1 > 2 * (v - 1):
            return found
        seed += 1_000_003


class RaoBlackwell(Claim):
    """Squares of the engines' weights, beside sums over all paths of the closed forms."""

    id = "rao-blackwell"
    source = f"{PAPER}, sec. 2.3, with part of the state summed out"
    statement = "summing out y given the regimes lowers the variance of a weight by the mean of its variance given them"
    quotation = "Propagate the particles H_t^(i) ~ q(H_t | H_{t-1})."
    meaning = (
        "The paper's particle is a whole state. Where part of the state has a formula given the rest, that part need "
        "not be drawn: a particle is then a path of regimes with a Kalman filter, and its weight is the average of the "
        "weights that all vectors would have had. An average varies less than what it averages. The paper does not "
        "say this; the result is the theorem of Rao and Blackwell."
    )
    hypotheses = "the regimes are drawn from the same law in both filters, and nothing is resampled in between"
    routes = (
        "30 000 weights of mixture_kalman.filter and of smc.filter, their means against p(x) and the means of their "
        "squares against sums over all K^T paths of stacked normal laws, in standard errors; infinite if the exact "
        "variance is not the smaller one"
    )
    control = "vectors that are drawn with the regimes: squares of these weights against those of the theorem"
    kind = "statistical"
    unit = "standard errors"
    proof = (
        "Let w = p(x | y, s) with s, y drawn from the model. Given s, E(w | s) is the integral of p(y | s) p(x | y, s) "
        "over y, which is v = p(x | s). So E w = E v = p(x), and by the law of total variance Var w = Var E(w | s) + "
        "E Var(w | s) = Var v + E Var(w | s). The last term is zero only if w does not depend on y. Given a path, y "
        "and x are jointly normal, so v is a normal density, and as N(x; Cy, R)^2 = |4 pi R|^{-1/2} N(x; Cy, R / 2), "
        "E(w^2 | s) = |4 pi R|^{-1/2} N(x; C m, C S C' + R / 2) for y ~ N(m, S). If the two filters draw regimes from "
        "different laws, E(w | s) is no longer v, and nothing follows."
    )

    num_draws = 30_000

    @override
    def cases(self) -> Sequence[Case]:
        return [(2, 1, 1), (2, 2, 1), (3, 1, 1), (2, 2, 2)]

    @property
    @override
    def tolerance(self) -> float:
        return MANY

    @override
    def residual(self, case: Case, seed: int) -> float:
        given = instance(case, seed)
        v, w = given.second_moments()
        summed, drawn = self._weights(given, seed, mixture_kalman), self._weights(given, seed, smc)
        found = [z_score(weights, 1.0) for weights in (summed, drawn)]
        found += [z_score(summed.square(), v), z_score(drawn.square(), w)]
        return largest(found) if v < w else math.inf

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        given = instance(case, seed)
        return z_score(self._weights(given, seed, smc).square(), given.second_moments()[0])

    def _weights(self, given: Instance, seed: int, engine: Any) -> Tensor:
        """Independent weights over p(x), (n,): those of a filter that never resamples."""
        options = {"num_particles": self.num_draws, "proposal": "bootstrap", "ess_threshold": 0.0}
        found = engine.filter(given.model, given.x[None], seed=seed, **options)
        return self.num_draws * (found.log_weights[:, 0] - given.log_marginal()).exp()

    @override
    def notes(self, seed: int) -> Sequence[str]:
        """Exact variances of one instance, and of regimes from another law."""
        given = instance((2, 2, 1), seed)
        v, w = given.second_moments()
        count = torch.tensor(float(len(given.paths.regimes)))
        joint = given.paths.log_probs + given.paths.densities(given.x) - given.log_marginal()
        evenly = float((2 * joint + count.log()).logsumexp(0).exp())
        return [
            f"Var w / p(x)^2 = {w - 1:.3f} and Var v / p(x)^2 = {v - 1:.3f}, two regimes, seed {seed}.",
            f"With paths drawn evenly from all {len(given.paths.regimes)} it is {evenly - 1:.3f}.",
        ]
