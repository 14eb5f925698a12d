"""Products of two densities: log p(x) + log q(x) = log r(x) + c at every x, where r has its own normalisation."""

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch

from pgm_rnn.distributions import densities, law_parameters
from pgm_rnn.distributions.normal import Normal as OurNormal


def full(*batch: int) -> Any:
    root = torch.randn(*batch, 2, 2)
    return dist.MultivariateNormal(torch.randn(*batch, 2), root @ root.mT + 0.5 * torch.eye(2))


FAMILIES: dict[str, Any] = {
    "Normal": lambda b: dist.Normal(torch.randn(b), torch.rand(b) + 0.1),
    "Normal of ours": lambda b: OurNormal(torch.randn(b), torch.tensor(0.7)),
    "Normal of torch": lambda b: torch.distributions.Normal(torch.randn(b), torch.rand(b) + 0.1),
    "Normal of two axes": lambda b: dist.Normal(torch.randn(*b, 2, 3), torch.rand(*b, 2, 3) + 0.1).to_event(2),
    "nested": lambda b: torch.distributions.Independent(dist.Normal(torch.randn(*b, 2, 3), 1.0).to_event(1), 1),
    "MultivariateNormal": lambda b: full(*b),
    "Categorical": lambda b: dist.Categorical(logits=torch.randn(*b, 4)),
    "Bernoulli": lambda b: dist.Bernoulli(logits=torch.randn(b)),
    "Beta": lambda b: dist.Beta(torch.rand(b) + 1, torch.rand(b) + 1),
    "Gamma": lambda b: dist.Gamma(torch.rand(b) + 1, torch.rand(b) + 1),
    "Dirichlet": lambda b: dist.Dirichlet(torch.rand(*b, 3) + 1),
}
every_family = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)


@every_family
def test_a_product_is_a_density_of_the_family_and_a_number(make: Any) -> None:
    p, q = make((5, 1)), make((4,))
    law, constant = densities.product(p, q)
    assert tuple(law.batch_shape) == tuple(constant.shape) == (5, 4)
    for value in (p.sample(), q.sample()):
        torch.testing.assert_close(law.log_prob(value) + constant, p.log_prob(value) + q.log_prob(value))


@every_family
def test_a_law_with_one_more_axis_is_the_same_law(make: Any) -> None:
    law = make((5, 4))
    value = law.sample()
    more = law_parameters.with_axis(law)
    assert tuple(more.batch_shape) == (5, 4, 1)
    event = tuple(law.event_shape)
    torch.testing.assert_close(more.log_prob(value.reshape(5, 4, 1, *event))[..., 0], law.log_prob(value))
    steps = law_parameters.without_steps(torch.distributions.Independent(law, 1))
    assert (tuple(steps.batch_shape), tuple(steps.event_shape)) == ((5, 4), event)
    torch.testing.assert_close(steps.log_prob(value), law.log_prob(value))


def test_disjoint_categories_have_a_product_of_nothing() -> None:
    p, q = (dist.Categorical(logits=torch.tensor([row, [0.5, 0.5]]).log()) for row in ([1.0, 0.0], [0.0, 1.0]))
    law, constant = densities.product(p, q)
    assert constant.tolist() == pytest.approx([-math.inf, math.log(0.5)])
    torch.testing.assert_close(law.probs.sum(-1), torch.ones(2))


def test_other_families_are_an_error() -> None:
    normal, poisson = dist.Normal(0.0, 1.0), dist.Poisson(1.0)
    for p, q in ((normal, poisson), (poisson, poisson), (normal.expand([2]).to_event(1), normal)):
        with pytest.raises(
            TypeError, match=r"expected two laws of the same family, one of Normal, Multi.*, got .* and "
        ):
            densities.product(p, q)
    with pytest.raises(TypeError, match=r"expected a law of one of the families Normal, .*, got Laplace"):
        law_parameters.with_axis(dist.Laplace(0.0, 1.0))
    with pytest.raises(TypeError, match="expected a law that is independent over steps, got Normal; use to_event"):
        law_parameters.without_steps(normal)
