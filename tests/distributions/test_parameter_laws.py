"""Laws of parameters: the inverse Wishart law, ordered draws, sticky rows of transition probabilities."""

import itertools
import math
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from pyro.infer import HMC, MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoLowRankMultivariateNormal, AutoMultivariateNormal, AutoNormal
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch.distributions import biject_to

from pgm_rnn.distributions import InverseWishart, Ordered, StickyDirichlet
from pgm_rnn.kernels import triangles

LIMIT = 5.0
"""Standard errors."""
BASES = {
    "real": dist.Normal(0.0, 2.0),
    "positive": dist.Gamma(2.0, 1.0),
    "between": dist.Uniform(1.0, 3.0),
    "vectors": dist.Normal(torch.zeros(2), 1.0).to_event(1),
}


def some_cov(size: int) -> torch.Tensor:
    root = torch.randn(size, size)
    return root @ root.mT + torch.eye(size)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_inverse_wishart_density_is_scipys(size: int) -> None:
    law = InverseWishart(size + 1.5, some_cov(size))
    drawn = law.sample((5,))
    expected = [scipy.stats.invwishart(size + 1.5, law.scale_matrix.numpy()).logpdf(cov.numpy()) for cov in drawn]
    torch.testing.assert_close(law.log_prob(drawn), torch.tensor(expected))
    many = law.expand([3, 2])
    torch.testing.assert_close(many.log_prob(drawn[0]), torch.tensor(expected[0]).expand(3, 2))


def test_inverse_wishart_draws_have_the_mean_of_the_law() -> None:
    num, law = 20_000, InverseWishart(9.0, some_cov(3))
    drawn = law.sample((num,))
    error = (drawn.std(0) / math.sqrt(num)).clamp(min=1e-12)
    assert float(((drawn.mean(0) - law.mean).abs() / error).max()) < LIMIT
    assert float(((drawn.mean(0) - 1.1 * law.mean).abs() / error).max()) > LIMIT
    assert bool(InverseWishart(4.0, torch.eye(3)).mean.isinf().all())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_vectors_reach_covariances_one_to_one_with_the_jacobian_of_autograd(size: int) -> None:
    transform = biject_to(InverseWishart(float(size), torch.eye(size)).support)
    vector = torch.randn(size * (size + 1) // 2)
    cov, rows = transform(vector), tuple(torch.tril_indices(size, size))
    jacobian = torch.autograd.functional.jacobian(lambda v: transform(v)[rows], vector)
    torch.testing.assert_close(transform.log_abs_det_jacobian(vector, cov), torch.linalg.slogdet(jacobian).logabsdet)
    torch.testing.assert_close(transform.inv(cov), vector)
    assert transform.inverse_shape(cov.shape) == vector.shape
    assert transform.forward_shape(vector.shape) == cov.shape


def test_a_triangle_is_its_parts() -> None:
    factor = torch.linalg.cholesky(some_cov(3)).expand(2, 3, 3)
    torch.testing.assert_close(triangles.from_parts(*triangles.parts_of(factor)), factor)


def a_program() -> None:
    cov = pyro.sample("cov", InverseWishart(6.0, 3 * torch.eye(2)))
    pyro.sample("x", dist.MultivariateNormal(torch.zeros(2), cov), obs=torch.ones(2))


@pytest.mark.parametrize("kernel", [partial(NUTS, max_tree_depth=4), partial(HMC, num_steps=4)], ids=["nuts", "hmc"])
def test_nuts_and_hmc_move_in_covariances(kernel: Any) -> None:
    pyro.set_rng_seed(0)
    sampler = MCMC(kernel(a_program), num_samples=8, warmup_steps=4, disable_progbar=True)
    sampler.run()
    drawn = sampler.get_samples()["cov"]
    assert drawn.shape == (8, 2, 2)
    assert bool((torch.linalg.eigvalsh(drawn) > 0).all())
    assert float(drawn.std(0).min()) > 0


@pytest.mark.nightly
def test_the_posterior_by_nuts_is_the_conjugate_one() -> None:
    pyro.set_rng_seed(0)
    num = 4000
    sampler = MCMC(NUTS(a_program), num_samples=num, warmup_steps=500, disable_progbar=True)
    sampler.run()
    drawn, ones = sampler.get_samples()["cov"], torch.ones(2, 2)
    posterior = InverseWishart(7.0, 3 * torch.eye(2) + ones)  # the prior with one more observation of covariance 1 1'
    error = drawn.std(0) / math.sqrt(num / 4)  # an effective sample size of at least a quarter
    assert float(((drawn.mean(0) - posterior.mean).abs() / error).max()) < LIMIT
    prior = InverseWishart(6.0, 3 * torch.eye(2))
    assert float(((drawn.mean(0) - prior.mean).abs() / error).max()) > LIMIT


@pytest.mark.parametrize("guide", [AutoDelta, AutoNormal, AutoMultivariateNormal, AutoLowRankMultivariateNormal])
def test_automatic_guides_move_in_covariances(guide: Any) -> None:
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    made = guide(a_program)
    fit = SVI(a_program, made, Adam({"lr": 0.05}), Trace_ELBO())
    losses = [fit.step() for _ in range(5)]
    assert all(math.isfinite(loss) for loss in losses)
    found = made.median()["cov"] if guide is not AutoDelta else made()["cov"]
    assert bool((torch.linalg.eigvalsh(found) > 0).all())


@pytest.mark.parametrize("name", list(BASES))
def test_ordered_draws_have_the_density_of_all_orders_together(name: str) -> None:
    base = BASES[name]
    law = Ordered(base, 3)
    drawn = law.sample((4,))
    each = torch.stack([base.log_prob(drawn[:, order]).sum(-1).exp() for order in itertools.permutations(range(3))])
    torch.testing.assert_close(law.log_prob(drawn), each.sum(0).log())
    assert bool(law.support.check(drawn).all())
    assert not bool(law.support.check(drawn.flip(1)).any())
    assert law.log_prob(drawn.flip(1)).tolist() == [-torch.inf] * 4


@pytest.mark.parametrize("name", list(BASES))
def test_any_real_rows_reach_ordered_ones_with_the_jacobian_of_autograd(name: str) -> None:
    law = Ordered(BASES[name], 3)
    transform, value = biject_to(law.support), law.sample()
    free = transform.inv(value)
    torch.testing.assert_close(transform(free), value)
    jacobian = torch.autograd.functional.jacobian(lambda v: transform(v).flatten(), free)
    expected = torch.linalg.slogdet(jacobian.reshape(value.numel(), -1)).logabsdet
    torch.testing.assert_close(transform.log_abs_det_jacobian(free, value), expected)


def test_ordered_draws_keep_their_batch_and_follow_their_parameters() -> None:
    loc = torch.zeros(2, requires_grad=True)
    drawn = Ordered(dist.Normal(loc, 1.0), 3).expand([4, 2]).rsample((5,))
    assert drawn.shape == (5, 4, 2, 3)
    (gradient,) = torch.autograd.grad(drawn.sum(), loc)
    assert gradient.tolist() == [60.0, 60.0]


def test_sticky_rows_have_extra_weight_on_the_diagonal() -> None:
    law = StickyDirichlet(3, concentration=2.0, stickiness=torch.tensor([1.0, 0.0, 5.0]))
    expected = [dist.Dirichlet(torch.tensor(row)) for row in ([3.0, 2, 2], [2.0, 2, 2], [2.0, 2, 7])]
    rows = law.sample()
    each = torch.stack([one.log_prob(row) for one, row in zip(expected, rows, strict=True)])
    torch.testing.assert_close(law.log_prob(rows), each)
    assert law.to_event(1).expand([2]).sample().shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InverseWishart(1.0, torch.eye(2)), r"expected df above D - 1 = 1, got 1"),
        (lambda: InverseWishart(3.0, torch.ones(2)), r"of shape \(\*batch, D, D\), got \(2,\)"),
        (lambda: InverseWishart(3.0, -torch.eye(2)), "expected scale_matrix to be positive definite"),
        (lambda: Ordered(dist.Normal(0.0, 1.0), 0), "expected num to be an integer of at least 1, got 0"),
        (lambda: Ordered(dist.Poisson(3.0), 2), "in an interval for Ordered, got Poisson"),
        (lambda: Ordered(dist.Dirichlet(torch.ones(3)), 2), "in an interval for Ordered, got Dirichlet"),
        (lambda: StickyDirichlet(2, concentration=0.0), "expected concentration above 0 .* got 0 and 10"),
        (lambda: StickyDirichlet(2, stickiness=-1.0), "stickiness of at least 0, got 1 and -1"),
    ],
)
def test_arguments_that_make_no_law_are_errors(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
