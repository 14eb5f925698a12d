"""Weighted log densities from sufficient statistics, against the sum over all observations and states."""

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.distributions.normal import Normal, ScaledNormal
from pgm_rnn.distributions.sufficient_statistics import statistics_of

N, K, D = 12, 3, 2


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def factors(seed: int) -> Tensor:
    return drawn(K, D, D, seed=seed).tril(-1) + torch.diag_embed(drawn(K, D, seed=seed + 1).exp())


Laws = Callable[[int], Any]
LAWS: dict[str, Laws] = {
    "bits": lambda seed: dist.Bernoulli(logits=drawn(K, D, seed=seed)).to_event(1),
    "one bit": lambda seed: dist.Bernoulli(logits=drawn(K, seed=seed)),
    "bits by probabilities": lambda seed: dist.Bernoulli(drawn(K, D, seed=seed).sigmoid()).to_event(1),
    "the same bits in all states": lambda seed: dist.Bernoulli(logits=drawn(D, seed=seed)).to_event(1),
    "torch's bits": lambda seed: torch.distributions.Independent(
        torch.distributions.Bernoulli(logits=drawn(K, D, seed=seed)), 1
    ),
    "symbols": lambda seed: dist.Categorical(logits=drawn(K, 4, seed=seed)),
    "reals": lambda seed: dist.Normal(drawn(K, D, seed=seed), drawn(K, D, seed=seed + 1).exp()).to_event(1),
    "one real": lambda seed: dist.Normal(drawn(K, seed=seed), drawn(K, seed=seed + 1).exp()),
    "reals of one scale": lambda seed: Normal(drawn(K, D, seed=seed), drawn(1, 1, seed=seed + 1).exp(), event_dim=1),
    "scaled": lambda seed: ScaledNormal(drawn(K, D, seed=seed), drawn(K, D, seed=seed + 1).exp()).to_event(1),
    "vectors": lambda seed: dist.MultivariateNormal(drawn(K, D, seed=seed), scale_tril=factors(seed + 1)),
    "vectors of one covariance": lambda seed: dist.MultivariateNormal(
        drawn(K, D, seed=seed), scale_tril=factors(seed + 1)[0]
    ),
}
DEPENDENT = {"vectors", "vectors of one covariance"}
every_kind = pytest.mark.parametrize("kind", LAWS)


def observations(law: Any) -> Tensor:
    torch.manual_seed(0)
    return law.expand((K,)).sample((N,))[:, 0]


def by_definition(law: Any, x: Tensor, weights: Tensor, observed: Tensor | None = None) -> Tensor:
    """sum_n sum_k w_nk log p_k(x_n), one term at a time; entries of independent laws that are missing are left out."""
    total, law = torch.zeros((), dtype=torch.float64), law.expand((K,))
    for n in range(len(x)):
        if observed is None or observed.dim() == 1:
            terms = law.log_prob(x[n])
            terms = terms if observed is None or bool(observed[n]) else torch.zeros_like(terms)
        else:
            terms = (law.base_dist.log_prob(x[n]) * observed[n]).sum(-1)
        total = total + (weights[n] * terms).sum()
    return total


@every_kind
def test_it_is_the_sum_over_all_observations_and_that_of_no_other_weights(kind: str) -> None:
    law, others = LAWS[kind](1), LAWS[kind](7)
    x, weights = observations(law), drawn(N, K).exp()
    found = statistics_of(law, x, weights)
    assert found is not None
    for each in (law, others):
        torch.testing.assert_close(found.log_prob(each), by_definition(each, x, weights), rtol=1e-12, atol=1e-10)
    wrong = statistics_of(law, x, weights.roll(1, 0))
    assert wrong is not None
    assert float((wrong.log_prob(others) - by_definition(others, x, weights)).abs()) > 1e-3


@every_kind
def test_what_is_missing_is_left_out(kind: str) -> None:
    law = LAWS[kind](1)
    x, weights = observations(law), drawn(N, K).exp()
    masks = [torch.arange(N) % 3 > 0]
    if law.event_shape and kind not in DEPENDENT and kind != "reals of one scale":
        masks.append(drawn(N, D, seed=3) > 0)
    for observed in masks:
        found = statistics_of(law, x, weights, observed)
        assert found is not None
        torch.testing.assert_close(found.log_prob(law), by_definition(law, x, weights, observed))
        assert abs(float(found.log_prob(law) - by_definition(law, x, weights))) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_is_that_of_the_sum(dtype: torch.dtype) -> None:
    raw = drawn(K, D).to(dtype).requires_grad_()
    scale = drawn(D, seed=1).to(dtype).requires_grad_()
    weights = drawn(N, K, seed=2).exp().to(dtype)
    for law in (dist.Bernoulli(logits=raw).to_event(1), dist.Normal(raw, scale.exp()).to_event(1)):
        x = law.sample((N,))[:, 0]
        found: Any = statistics_of(law, x, weights)
        ours = torch.autograd.grad(found.log_prob(law), raw, retain_graph=True)[0]
        whole = (weights * law.log_prob(x[:, None])).sum()
        theirs = torch.autograd.grad(whole, raw, retain_graph=True)[0]
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, theirs, rtol=1e-4 if dtype == torch.float32 else 1e-10, atol=1e-4)


def test_values_that_never_occur_may_be_impossible() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 1.0]], dtype=torch.float64, requires_grad=True)
    found: Any = statistics_of(dist.Categorical(logits=torch.zeros(1, 3)), torch.tensor([0, 2, 2]), torch.ones(3, 1))
    value = found.log_prob(dist.Categorical(logits=logits, validate_args=False))
    assert float(value.detach()) == pytest.approx(0.0 + 1.0 + 1.0 - 3 * math.log(1 + math.e), rel=1e-12)
    gradient = torch.autograd.grad(value, logits)[0]
    assert bool(gradient.isfinite().all())
    possible = found.log_prob(dist.Categorical(logits=torch.tensor([[-torch.inf, 0.0, 0.0]]), validate_args=False))
    assert float(possible) == -torch.inf


@pytest.mark.parametrize("law", [LAWS["reals"], LAWS["vectors"]])
def test_small_deviations_far_from_zero_keep_their_digits(law: Laws) -> None:
    """Sums of squares about zero would lose all of them: 1e6^2 eps = 2e-4 against 1e-6^2."""
    centre, deviations = torch.tensor([1e6, -1e6], dtype=torch.float64), drawn(N, D, seed=4)
    x, weights = centre + (1e-3 * deviations), drawn(N, K).exp()
    near = dist.Normal(centre.expand(K, D), torch.full((K, D), 1e-3, dtype=torch.float64)).to_event(1)
    if law is LAWS["vectors"]:
        near = dist.MultivariateNormal(centre.expand(K, D), scale_tril=1e-3 * torch.eye(D).double().expand(K, D, D))
    found: Any = statistics_of(near, x, weights)
    # x - centre has a rounding error of 1e6 eps = 2e-10, 2e-7 of a deviation
    torch.testing.assert_close(found.log_prob(near), by_definition(near, x, weights), rtol=1e-6, atol=1e-6)


def test_other_laws_and_vectors_that_are_partly_missing_have_none() -> None:
    weights = torch.ones(N, K)
    assert statistics_of(dist.Poisson(torch.ones(K)), torch.ones(N), weights) is None
    assert statistics_of(dist.Laplace(torch.zeros(K), 1.0), torch.ones(N), weights) is None
    assert statistics_of(dist.StudentT(3.0, torch.zeros(K), 1.0), torch.ones(N), weights) is None
    partly = torch.tensor([[True, False]]).expand(N, D)
    assert statistics_of(LAWS["vectors"](1), torch.zeros(N, D), weights, partly) is None
