import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from pgm_rnn.emissions import Emission, EmissionTable, Pen, Poisson
from pgm_rnn.inference.em.weighted_estimates import estimate
from tests.instances import draw, every_estimated_family

NUM_STATES = 2


def weighted_log_likelihood(table: EmissionTable, x: Tensor, weights: Tensor) -> Tensor:
    return (weights * table.log_probs(x)).sum()


@every_estimated_family
def test_the_estimate_is_a_stationary_point_and_its_neighbours_are_not(family: Emission) -> None:
    x, weights = draw(family, 1, 60)[0], torch.rand(60, NUM_STATES)
    table = estimate(family, x, weights, 0.0)
    (gradient,) = torch.autograd.grad(weighted_log_likelihood(table, x, weights), table.params)
    assert float(gradient.abs().max()) < 1e-9
    with torch.no_grad():
        table.params.add_(0.01 * torch.randn_like(table.params))
    (gradient,) = torch.autograd.grad(weighted_log_likelihood(table, x, weights), table.params)
    assert float(gradient.abs().max()) > 1e-3


def test_rates_of_large_counts_keep_single_precision() -> None:
    # One rounding of the rate and one of its softplus; sums of 30 000 counts in float32 were off by more.
    x, weights = torch.poisson(torch.full((30_000,), 1e7)).float(), torch.rand(30_000, NUM_STATES).float()
    expected = (weights.double().T @ x.double()) / weights.double().sum(0)
    rates = softplus(estimate(Poisson(), x, weights, 0.0).params.detach()[:, 0].double())
    assert float((rates / expected - 1).abs().max()) < 2 * torch.finfo(torch.float32).eps


@every_estimated_family
def test_a_state_without_observations_gets_a_law_all_the_same(family: Emission) -> None:
    x, weights = draw(family, 1, 20)[0], torch.rand(20, NUM_STATES)
    weights[:, 1] = 0
    assert not estimate(family, x, weights, 0.0).log_probs(x).isnan().any()


@every_estimated_family
def test_constant_observations_keep_the_likelihood_finite(family: Emission) -> None:
    x = draw(family, 1, 1)[0].expand(10, *family.event_shape)
    log_probs = estimate(family, x, torch.ones(10, 1), 0.0).log_probs(x)
    assert log_probs.isfinite().all()


def test_a_family_without_a_closed_form_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"expected Pen\(1\), one component per state"):
        estimate(Pen(2), torch.ones(1, 3), torch.ones(1, 1), 0.0)
    with pytest.raises(TypeError, match=r"closed form.*fit it by svi\.fit"):
        estimate(object(), torch.ones(1), torch.ones(1, 1), 0.0)  # type: ignore[arg-type]
