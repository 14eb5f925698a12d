"""Distribution functions of entries: scipy's, sums of probabilities, and the marginals of joint laws."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pgm_rnn.distributions.entry_laws import of_entries
from pgm_rnn.distributions.singular_normal import SingularNormal
from pgm_rnn.emissions import FullGaussian, NadeBits, Pen
from pgm_rnn.emissions.registry import FAMILIES

CASES: list[tuple[Callable[[], Any], Any, list[float]]] = [
    (lambda: dist.Normal(0.5, 2.0), stats.norm(0.5, 2.0), [-3.0, 0.5, 4.0]),
    (lambda: dist.StudentT(3.0, 0.5, 2.0), stats.t(3.0, 0.5, 2.0), [-3.0, 0.5, 4.0]),
    (lambda: dist.Gamma(2.0, 3.0), stats.gamma(2.0, scale=1 / 3), [0.1, 0.5, 4.0]),
    (lambda: dist.Poisson(4.0), stats.poisson(4.0), [0.0, 3.0, 9.0]),
    (lambda: dist.Bernoulli(0.3), stats.bernoulli(0.3), [0.0, 1.0]),
    (lambda: dist.NegativeBinomial(3.0, probs=torch.tensor(0.4)), stats.nbinom(3, 0.6), [0.0, 2.0, 11.0]),
    (lambda: dist.Geometric(torch.tensor(0.4)), stats.geom(0.4, loc=-1), [0.0, 2.0, 11.0]),
]


@pytest.mark.parametrize(
    ("law", "known", "x"), CASES, ids=["normal", "t", "gamma", "poisson", "bernoulli", "nbinom", "geom"]
)
def test_scalar_laws_have_scipys_distribution_functions(law: Callable[[], Any], known: Any, x: list[float]) -> None:
    found = of_entries(law(), torch.tensor(x))
    np.testing.assert_allclose(found.upto, known.cdf(x), rtol=1e-9)
    below = known.cdf(np.array(x) - 1) if hasattr(known.dist, "pmf") else known.cdf(x)
    np.testing.assert_allclose(found.below, below, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found.mean, np.full(len(x), known.mean()), rtol=1e-6)


def test_symbols_are_summed_in_the_order_of_their_numbers() -> None:
    probs = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]])
    found = of_entries(dist.Categorical(probs), torch.tensor([2, 0]))
    np.testing.assert_allclose(found.below, [0.5, 0.0])
    np.testing.assert_allclose(found.upto, [1.0, 0.6])
    assert bool(found.mean.isnan().all())


def test_entries_of_a_normal_vector_have_its_marginal_laws() -> None:
    root = torch.tensor([[2.0, 0.0], [1.0, 0.5]])
    loc, x = torch.tensor([0.5, -1.0]), torch.tensor([1.0, 1.0])
    sds = (root @ root.mT).diagonal().sqrt()
    for law in (dist.MultivariateNormal(loc, scale_tril=root), SingularNormal(loc, root)):
        np.testing.assert_allclose(of_entries(law, x).upto, stats.norm(loc, sds).cdf(x), rtol=1e-9)


def test_a_mixture_averages_its_components() -> None:
    weights = dist.Categorical(torch.tensor([0.25, 0.75]))
    parts = dist.Normal(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), 1.0).to_event(1)
    found = of_entries(dist.MixtureSameFamily(weights, parts), torch.tensor([[0.5, 0.5]]))
    expected = 0.25 * stats.norm([0.0, 1.0]).cdf(0.5) + 0.75 * stats.norm([2.0, 3.0]).cdf(0.5)
    np.testing.assert_allclose(found.upto[0], expected, rtol=1e-9)
    np.testing.assert_allclose(found.mean[0], [1.5, 2.5])


FAMILY = [(name, label) for name, info in FAMILIES.items() for label in info.examples]


@pytest.mark.parametrize(("name", "label"), FAMILY)
def test_draws_of_every_family_have_uniform_randomised_distribution_functions(name: str, label: str) -> None:
    """With v uniform, below + v (upto - below) is uniform: means 1/2 and 1/3 of u and u^2 within 5 standard errors."""
    family = FAMILIES[name].examples[label]
    num = 4000
    law = family.head(2)(torch.randn(1, 2)).expand([num])
    x = law.sample()
    found = of_entries(law, x)
    assert found.upto.shape == x.shape
    u = found.below + torch.rand(found.upto.shape) * (found.upto - found.below)
    for power, mean, variance in ((1, 1 / 2, 1 / 12), (2, 1 / 3, 4 / 45)):
        error = 5 * (variance / num) ** 0.5
        assert bool(((u**power).mean(0) - mean).abs().max() < error)


def test_the_wrong_law_is_not_uniform() -> None:
    x = dist.Normal(0.0, 1.0).sample([4000])
    u = of_entries(dist.Normal(0.0, 1.5), x).upto
    assert abs(float((u**2).mean()) - 1 / 3) > 5 * (4 / 45 / 4000) ** 0.5


def test_a_pens_entries_have_the_marginals_of_its_density() -> None:
    """P(dx <= x) by integrating the density of dx, its other entries left out."""
    law: Any = Pen(2).distribution(torch.randn(13))
    grid = torch.linspace(-40, 0.7, 40001)
    values = torch.stack([grid, torch.zeros_like(grid), torch.zeros_like(grid)], dim=-1)
    density = law.entries_log_prob(values, torch.tensor([True, False, False])).exp()
    found = of_entries(law, torch.tensor([0.7, 0.0, 1.0]))
    np.testing.assert_allclose(found.upto[0], torch.trapezoid(density, grid), rtol=1e-4)
    np.testing.assert_allclose(found.below[2], 1 - law.params[-1].sigmoid())


@torch.no_grad()
def test_bits_of_a_nade_are_given_those_before_them() -> None:
    law = NadeBits(3, 4).head(2)(torch.randn(2))
    x = torch.tensor([1.0, 0.0, 1.0])
    upto = of_entries(law, x).upto[1]  # P(x_2 = 0 | x_1 = 1)
    pairs = [law.log_prob(torch.tensor([1.0, second, third])).exp() for second in (0.0, 1.0) for third in (0.0, 1.0)]
    np.testing.assert_allclose(float(upto), float((pairs[0] + pairs[1]) / sum(pairs)), rtol=1e-9)


def test_a_law_without_a_distribution_function_is_one_sentence() -> None:
    law = dist.Dirichlet(torch.ones(3))
    with pytest.raises(TypeError, match="a law whose entries have a distribution function, got Dirichlet; register"):
        of_entries(law, torch.tensor([0.2, 0.3, 0.5]))
    assert FullGaussian(2).event_shape == (2,)
