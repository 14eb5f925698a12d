"""Hamilton's switching autoregression: a sum over paths of regimes, statsmodels, and his estimates for American GNP.

The data set `gnp` is the growth of real gross national product of the United States, per cent per quarter, 1951Q2 to
1984Q4, the series of Hamilton (1989).
"""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pgm_rnn.data import load
from pgm_rnn.emissions import Gaussian, Poisson
from pgm_rnn.inference import em, forward_backward
from pgm_rnn.models import SwitchingMeanAR
from tools.published.chains import HAMILTON

GROWTH = load("gnp").train.x

P = torch.tensor([[0.7, 0.3], [0.1, 0.9]], dtype=torch.float64)
STATIONARY = torch.tensor([0.25, 0.75], dtype=torch.float64)


def example(first: Any = "condition", order: int = 2) -> SwitchingMeanAR:
    return SwitchingMeanAR(
        P, torch.tensor([-1.0, 1.5]), torch.tensor([0.6, -0.3])[:order], torch.tensor([0.5, 1.2]), first=first
    )


def by_paths(model: SwitchingMeanAR, x: Tensor, given: int) -> float:
    """log of the sum over all regimes s_{1-p}, ..., s_T, for one series (T,)."""
    p, terms = model.order, []
    means, a, scales = model.means, model.coefficients, model.log_scales.exp()
    for path in itertools.product(range(2), repeat=len(x) + p):  # path[t + p] is the regime of x[t]
        total = float(STATIONARY[path[0]].log()) + sum(float(P[i, j].log()) for i, j in itertools.pairwise(path))
        for t in range(given, len(x)):
            loc = float(means[path[t + p]])
            for i in range(1, p + 1):
                if t - i >= 0:
                    loc += float(a[i - 1]) * float(x[t - i] - means[path[t + p - i]])
            scale = float(scales[path[t + p]])
            total += -0.5 * ((float(x[t]) - loc) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)
        terms.append(total)
    return float(torch.tensor(terms).logsumexp(0))


@pytest.mark.parametrize("first", ["model", "condition"])
@torch.no_grad()
def test_the_likelihood_is_the_sum_over_all_regimes(first: Any) -> None:
    model, x = example(first), torch.randn(5)
    expected = by_paths(model, x, model.num_given)
    assert float(model.log_prob(x[None])) == pytest.approx(expected, abs=1e-10)
    assert float(model.log_prob(x[None])) != pytest.approx(by_paths(model, x, 2 - model.num_given), abs=1e-3)


@torch.no_grad()
def test_columns_share_their_regimes() -> None:
    one, x = example(order=1), torch.randn(1, 6)
    twice = SwitchingMeanAR(
        P,
        one.means[:, None].expand(2, 2),
        one.coefficients[:, None].expand(1, 2),
        one.log_scales.exp()[:, None].expand(2, 2),
        emission=Gaussian(2),
        first="condition",
    )
    pairs = torch.stack([x, torch.zeros_like(x)], dim=-1)
    states = torch.tensor([[0, 1, 3, 3, 2, 0]])
    found = twice.log_prob(pairs, z=states) - one.log_prob(x, z=states)
    moves = one.log_prob(torch.zeros_like(x), z=states)
    laws = one.emission(states, one.unroll_memory(torch.zeros_like(x))).log_prob(torch.zeros_like(x))
    torch.testing.assert_close(found, laws.sum(1))
    assert not torch.allclose(found, moves)


@torch.no_grad()
def test_the_present_regime_is_summed_from_the_states() -> None:
    model, x = example(), torch.randn(2, 7)
    smoothed = forward_backward.smooth(model, x).smoothed_probs
    probs = model.regimes(smoothed)
    assert probs.shape == (2, 7, 2)
    torch.testing.assert_close(probs.sum(-1), torch.ones(2, 7))
    torch.testing.assert_close(probs[..., 0], smoothed[..., :4].sum(-1))
    best = forward_backward.most_likely_states(model, x).states
    regimes = model.regimes(best)
    assert torch.equal(regimes[:, :-1], best[:, 1:] // 2 % 2)  # the state after it remembers the same regime
    torch.testing.assert_close(model.stationary_probs(), STATIONARY)


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_statsmodels_finds_the_same_likelihood_and_regimes() -> None:
    markov = pytest.importorskip("statsmodels.tsa.regime_switching.markov_autoregression")
    model = SwitchingMeanAR(
        P, torch.tensor([-0.4, 1.2]), torch.tensor([0.1, -0.2, 0.05]), torch.tensor([0.8]), first="condition"
    )
    peer = markov.MarkovAutoregression(GROWTH[0].numpy(), k_regimes=2, order=3, switching_ar=False)
    values = {"p[0->0]": 0.7, "p[1->0]": 0.1, "const[0]": -0.4, "const[1]": 1.2, "sigma2": 0.64}
    values |= {"ar.L1": 0.1, "ar.L2": -0.2, "ar.L3": 0.05}
    params = np.array([values[name] for name in peer.param_names])
    assert float(model.log_prob(GROWTH)) == pytest.approx(peer.loglike(params), rel=1e-9)
    expected = peer.smooth(params).smoothed_marginal_probabilities
    found = model.regimes(forward_backward.smooth(model, GROWTH).smoothed_probs)[0, 3:]
    np.testing.assert_allclose(found, expected, atol=1e-8)


# Hamilton (1989): two regimes, order 4. The values are those that statsmodels and Stata print for his model.


def hamilton() -> SwitchingMeanAR:
    given: dict[str, Any] = {name: torch.tensor(value) for name, value in HAMILTON.items()}
    return SwitchingMeanAR(**given, first="condition")


def test_hamiltons_estimates_are_a_maximum_of_our_likelihood() -> None:
    model = hamilton()
    value = model.log_prob(GROWTH)
    assert float(value.detach()) == pytest.approx(-181.26339, abs=1e-4)
    gradients = torch.autograd.grad(value, list(model.parameters()))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 0.05
    wrong = hamilton()
    with torch.no_grad():  # a control
        wrong.coefficients[2] += 0.1
    away = torch.autograd.grad(wrong.log_prob(GROWTH), [wrong.coefficients])[0]
    assert float(away.abs().max()) > 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_em_reaches_hamiltons_estimates_from_a_plain_start() -> None:
    moves = torch.tensor([[0.8, 0.2], [0.2, 0.8]])
    model = SwitchingMeanAR(moves, torch.tensor([-0.5, 1.0]), torch.zeros(4), torch.ones(1), first="condition")
    fit = em.fit(model, GROWTH, num_iterations=40, progress=False)
    assert float(fit.log_likelihood) == pytest.approx(-181.26339, abs=1e-3)
    for name, tolerance in (("means", 0.01), ("coefficients", 0.01)):
        np.testing.assert_allclose(getattr(model, name).detach(), HAMILTON[name], atol=tolerance)
    np.testing.assert_allclose(model.regime_probs.detach(), HAMILTON["transition_probs"], atol=0.01)


def test_what_does_not_fit_is_one_sentence() -> None:
    means, a, scales = torch.zeros(2), torch.zeros(1), torch.ones(1)
    with pytest.raises(ValueError, match=r"expected means of shape \(2\), got \(3,\)"):
        SwitchingMeanAR(P, torch.zeros(3), a, scales)
    with pytest.raises(ValueError, match=r"expected coefficients of shape \(order\), got \(0,\)"):
        SwitchingMeanAR(P, means, torch.zeros(0), scales)
    with pytest.raises(ValueError, match=r"expected scales of shape \(2 or 1, 3\)"):
        SwitchingMeanAR(P, torch.zeros(2, 3), torch.zeros(1, 3), torch.ones(3), emission=Gaussian(3))
    with pytest.raises(ValueError, match="expected positive scales"):
        SwitchingMeanAR(P, means, a, -scales)
    with pytest.raises(TypeError, match="expected real observations"):
        SwitchingMeanAR(P, means, a, scales, emission=Poisson())
    with pytest.raises(ValueError, match="expected at most 4096 states, got 2 regimes over 13 steps, 8192"):
        SwitchingMeanAR(P, means, torch.zeros(12), scales)
