"""Laws far from the unit scale, in both precisions: against textbook formulas in float64 and closed forms."""

import math
from collections.abc import Callable

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pgm_rnn.distributions.normal import Normal, ScaledNormal
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, FullGaussian, Gaussian, Mixture, Pen, Poisson
from pgm_rnn.emissions.nade import NadeLaw
from pgm_rnn.kernels import positive
from pgm_rnn.models.covariance import Covariance
from pgm_rnn.models.deep_markov import GatedTransition
from pgm_rnn.models.networks import NormalHead
from tests.definitions import log_density
from tests.instances import FAMILIES, draw, every_family, every_family_of_heads

PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
LEAST = {torch.float32: 2.3e-13, torch.float64: 2.8e-103}
"""The floors that README and docstrings name."""


@PRECISIONS
@pytest.mark.parametrize("size", [1e-3, 0.3, 1.0])
@every_family
def test_log_probs_are_the_textbook_densities_of_the_rounded_numbers(
    family: Emission, size: float, dtype: torch.dtype
) -> None:
    params = (size * torch.randn(50, family.num_params)).to(dtype)
    x = draw(family, 50)
    x = x.to(dtype) if x.is_floating_point() else x
    found, expected = family.distribution(params).log_prob(x), log_density(family, params.double(), x)
    assert found.dtype == dtype
    error = (found - expected).abs() / (1 + expected.abs())
    assert float(error.max()) < 1000 * torch.finfo(dtype).eps


@PRECISIONS
@pytest.mark.parametrize("power", [-36, -25, -12, 0, 12, 25, 36])
def test_a_normal_law_of_any_scale(power: int, dtype: torch.dtype) -> None:
    """A variance of 1e-72 or 1e72 is out of float32's range, its standard deviation is not."""
    scale = torch.tensor(10.0**power, dtype=dtype)
    x = torch.tensor([0.0, 1.5, -4.0], dtype=dtype) * scale
    expected = -0.5 * torch.tensor([0.0, 2.25, 16.0]) - power * math.log(10) - 0.5 * math.log(2 * math.pi)
    laws = [ScaledNormal(torch.zeros((), dtype=dtype), scale), Normal(torch.zeros(3, dtype=dtype), scale)]
    laws.append(Gaussian().table(torch.zeros(1, dtype=dtype), scale[None])(torch.zeros(3, dtype=torch.int64)))
    for law in laws:
        torch.testing.assert_close(law.log_prob(x).double(), expected, rtol=40 * torch.finfo(dtype).eps, atol=0.0)


def test_pyros_normal_law_does_not_take_such_a_scale() -> None:
    law = dist.Normal(torch.tensor(0.0, dtype=torch.float32), 1e-25, validate_args=False)
    assert not law.log_prob(torch.tensor(0.0, dtype=torch.float32)).isfinite()


@PRECISIONS
@pytest.mark.parametrize("ratio", [1e-30, 1e-12, 1.0, 1e12])
def test_the_divergence_between_normal_laws_of_very_different_scales(ratio: float, dtype: torch.dtype) -> None:
    """(r^2 - 1) / 2 - log r, r the ratio of the standard deviations."""
    one, zero = torch.ones(1, dtype=dtype), torch.zeros(1, dtype=dtype)
    found = kl_divergence(Normal(zero, ratio * one), Normal(zero, one))
    expected = (ratio**2 - 1) / 2 - math.log(ratio)
    assert float(found) == pytest.approx(expected, rel=8 * torch.finfo(dtype).eps, abs=torch.finfo(dtype).eps)


@PRECISIONS
@pytest.mark.parametrize("size", [2.0, 30.0, 1e3, 1e6])
def test_bits_with_large_logits_keep_the_probability_of_what_is_likely(size: float, dtype: torch.dtype) -> None:
    signs = torch.tensor([1.0, -1.0]).repeat(44)
    table = Bernoulli(88).table(torch.full((1, 88), 0.5, dtype=dtype))
    with torch.no_grad():
        table.params.copy_(size * signs)
    x = (signs > 0).to(dtype).repeat(2, 1)
    x[1, 0] = 0.0  # an unlikely bit
    of_one = math.log1p(math.exp(-size))
    expected = torch.tensor([[-88 * of_one], [-87 * of_one - size - of_one]])
    rtol, atol = 200 * torch.finfo(dtype).eps, 1e-10 if dtype == torch.float64 else 5e-5
    torch.testing.assert_close(table.log_probs(x).double(), expected, rtol=rtol, atol=atol)
    per_bit = table(torch.zeros(2, dtype=torch.int64)).log_prob(x)[:, None].double()
    torch.testing.assert_close(per_bit, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("logit", [20.5, 30.0])
def test_float64_keeps_what_torchs_softplus_drops(logit: float) -> None:
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    law = NadeLaw(torch.tensor([[logit]]), torch.zeros(1, 1), zero, zero)
    assert float(law.log_prob(one)) == pytest.approx(-math.log1p(math.exp(-logit)), rel=1e-12)
    softplus = logit + math.log1p(math.exp(-logit))
    assert float(positive.softplus(torch.tensor(logit))) == pytest.approx(softplus, rel=1e-15, abs=0)
    assert float(Poisson().distribution(torch.tensor([logit])).mean) > logit


@PRECISIONS
def test_a_mixture_of_symbols_keeps_the_rarest(dtype: torch.dtype) -> None:
    params = torch.tensor([[0.0, -200.0, -torch.inf], [0.0, -210.0, -torch.inf]], dtype=dtype)
    law = Categorical(3).mixture(params, torch.tensor([0.25, 0.75], dtype=dtype))
    expected = -200 + math.log(0.25 + 0.75 * math.exp(-10))  # of the second; the third is impossible
    assert float(law.log_prob(torch.tensor(1))) == pytest.approx(expected, rel=4 * torch.finfo(dtype).eps)
    assert float(law.log_prob(torch.tensor(2))) == -torch.inf
    assert float(law.log_prob(torch.tensor(0))) == pytest.approx(0, abs=1e-6)


# What networks ask for when they read large numbers.


@PRECISIONS
@pytest.mark.parametrize("size", [1e2, 1e3, 1e4])
@every_family_of_heads
def test_a_head_that_reads_large_features_has_finite_laws(family: Emission, size: float, dtype: torch.dtype) -> None:
    head = family.head(4).to(dtype)
    features = (size * torch.randn(64, 4)).to(dtype)
    law = head(features)
    drawn = law.sample()
    assert drawn.isfinite().all()
    inner = family.family if isinstance(family, Mixture) else family
    if not isinstance(inner, Pen | FullGaussian):  # whose entries multiply two such scales
        x = draw(family, 64)
        assert law.log_prob(x.to(dtype) if x.is_floating_point() else x).isfinite().all()
    assert law.log_prob(drawn).isnan().sum() == 0


def normal_head() -> Callable[[Tensor], Normal]:
    return NormalHead(4, 4)


def gated() -> Callable[[Tensor], Normal]:
    return GatedTransition(4, 4)


@PRECISIONS
@pytest.mark.parametrize("make", [normal_head, gated])
def test_laws_of_states_have_the_documented_floor(make: Callable[[], torch.nn.Module], dtype: torch.dtype) -> None:
    part = make().to(dtype)
    features = (1e6 * torch.randn(64, 4)).to(dtype).requires_grad_()
    law = part(features)
    assert float(law.scale.detach().min()) == pytest.approx(LEAST[dtype], rel=0.05)
    assert law.log_prob(law.sample()).isfinite().all()
    assert law.log_prob(law.mean).isfinite().all()
    (slope,) = torch.autograd.grad(law.scale.log().sum(), features)
    assert slope.isfinite().all()
    unit = part(torch.randn(64, 4, dtype=dtype)).scale
    assert float(unit.detach().min()) > 1e-3  # the floor is far from what networks with small features ask for


@PRECISIONS
def test_a_head_changes_no_scale_above_the_floor(dtype: torch.dtype) -> None:
    """To the bit, for saved models were trained without it."""
    params = torch.randn(100, 13).to(dtype) * 3
    for family in (Gaussian(6), FullGaussian(3), Pen(2)):
        kept = params[:, : family.num_params]
        assert torch.equal(family.within_range(kept), kept)
    for each in FAMILIES.values():
        far = -1e6 * torch.ones(2, each.num_params, dtype=dtype)
        assert torch.equal(each.within_range(far), far) == (not each.continuous)


@PRECISIONS
@pytest.mark.parametrize("raw", [-1e3, -200.0, 0.0])
def test_a_covariance_that_gradients_shrink_stays_positive_definite(raw: float, dtype: torch.dtype) -> None:
    cov = Covariance(torch.eye(2, dtype=dtype))
    with torch.no_grad():
        cov.raw.diagonal().fill_(raw)
    assert bool((cov.matrix.diagonal() >= torch.finfo(dtype).tiny * 0.99).all())
    law = dist.MultivariateNormal(torch.zeros(2, dtype=dtype), scale_tril=cov.scale_tril, validate_args=False)
    assert law.log_prob(torch.zeros(2, dtype=dtype)).isfinite()
