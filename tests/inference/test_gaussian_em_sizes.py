"""EM of linear-Gaussian models from a start that is far from the data: of any size, or far from zero."""

import math
import re
import warnings

import pytest
import torch
from torch import Tensor

from pgm_rnn.inference import em, kalman
from pgm_rnn.inference.em.regression import fraction_of
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.sequence_model.chains import CovarianceError

NUM_STEPS = 120


def walk(seed: int = 0) -> Tensor:
    """A random walk of unit steps, seen with noise of variance 1, (T,)."""
    steps, noise = torch.randn(2, NUM_STEPS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return steps.cumsum(0) + noise


def log_density(cov: Tensor, x: Tensor) -> float:
    return float(torch.distributions.MultivariateNormal(torch.zeros(len(x), dtype=x.dtype), cov).log_prob(x))


def unit_start(dim: int, obs_dim: int, dtype: torch.dtype, seed: int = 0) -> LinearGaussianSSM:
    one, wide = torch.eye(dim, dtype=dtype), torch.eye(obs_dim, dtype=dtype)
    emission = torch.randn(obs_dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return LinearGaussianSSM(torch.zeros(dim, dtype=dtype), one, 0.9 * one, one, emission, wide)


def fitted(model: LinearGaussianSSM, x: Tensor) -> em.EmFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", em.EmWarning)  # what is held at its floor is not the subject here
        return em.fit(model, x, num_iterations=40, progress=False)


def refusal(model: LinearGaussianSSM, x: Tensor) -> str:
    """The sentence of a fit that is refused, or nothing."""
    try:
        fitted(model, x)
    except CovarianceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1e7, 1e9, 1e12])
def test_a_walk_of_any_size_is_fitted_from_a_start_of_unit_size(factor: float, dtype: torch.dtype) -> None:
    x, time = walk(), torch.arange(1.0, NUM_STEPS + 1).double()
    truth = log_density(torch.minimum(time[:, None], time) + torch.eye(NUM_STEPS).double(), x)
    white = log_density(x.square().mean() * torch.eye(NUM_STEPS).double(), x)
    fit = fitted(unit_start(2, 1, dtype), (factor * x).to(dtype)[None, :, None])
    value = float(fit.log_likelihoods[-1]) + NUM_STEPS * math.log(factor)
    assert fit.stopped_by != "decrease"
    assert value > truth - 1  # a walk is one of the models with two states
    assert white < truth - 10  # the control: a model without memory would not do


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("dim", "obs_dim"), [(2, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("factor", [1e7, 1e9, 1e12])
def test_what_no_float_can_tell_apart_is_a_sentence_with_the_remedy(
    factor: float, dim: int, obs_dim: int, dtype: torch.dtype
) -> None:
    x = factor * torch.stack([walk(0), walk(1)][:obs_dim], -1).to(dtype)[None]
    model = unit_start(dim, obs_dim, dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    message = refusal(model, x)
    advice = r"column [01] .* times what the parameters that EM starts from expect: .*linear_start"
    assert not message or re.search(advice, message)
    assert not message or all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_level_far_from_zero_is_named_as_the_cause(seed: int, dtype: torch.dtype) -> None:
    level = {torch.float32: 1e5, torch.float64: 1e10}[dtype]
    x = (torch.stack([walk(0) + level, walk(1)], -1)).to(dtype)[None]
    advice = "subtract its median, or use float64$" if dtype == torch.float32 else "subtract its median$"
    message = refusal(unit_start(2, 2, dtype, seed), x)
    assert not message or re.search(rf"column 0 .* lies near 1e\+.*no constant term: {advice}", message)


@pytest.mark.parametrize("level", [1e5, 1e6, 1e7])
def test_a_level_far_from_zero_is_fitted_in_single_precision_and_the_model_has_the_likelihood_that_is_said(
    level: float,
) -> None:
    x = (walk() + level).float()[None, :, None]
    model = unit_start(2, 1, torch.float32)
    fit = fitted(model, x)
    exact = float(kalman.filter(model.double(), x.double()).log_marginal_likelihood)
    white = log_density(level**2 * torch.eye(NUM_STEPS).double(), x[0, :, 0].double())
    assert float(fit.log_likelihoods[-1]) == pytest.approx(exact, abs=25)  # parameters are rounded, too
    assert exact > white + 250  # the control: a model without memory


def test_a_fraction_of_a_singular_covariance_is_one_that_has_a_factor() -> None:
    one = torch.tensor([1e12, 3e-4, 7.0], dtype=torch.float64)
    cov = one[:, None] * one
    assert bool(torch.linalg.cholesky_ex(1e-10 * cov).info > 0)
    floor = fraction_of(cov, 1e-10, 1e-13)
    torch.linalg.cholesky(floor)
    correlations = floor / (one[:, None] * one)
    values = torch.linalg.eigvalsh(correlations)
    torch.testing.assert_close(values, torch.tensor([1e-13, 1e-13, 3e-10], dtype=torch.float64), rtol=1e-3, atol=0)


def test_a_fraction_of_an_ordinary_covariance_is_that_fraction() -> None:
    root = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cov = root @ root.mT
    torch.testing.assert_close(fraction_of(cov, 1e-4, 1e-12), 1e-4 * cov)
