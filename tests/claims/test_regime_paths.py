"""The mixture that claims compare switching systems with: against a definition of the tests, sums and quadrature."""

import math

import pytest
import torch

from pgm_rnn.claims.choe_2017.mixture_filter import evenly_moving
from pgm_rnn.claims.choe_2017.rao_blackwell import instance
from pgm_rnn.claims.regime_paths import regime_paths
from pgm_rnn.models import SwitchingLinearSSM
from tests import mixtures


@pytest.mark.parametrize("case", [(2, 1, 1), (3, 2, 1), (2, 2, 3)])
def test_the_mixture_is_that_of_the_tests(case: tuple[int, int, int]) -> None:
    model = SwitchingLinearSSM.random(*case, seed=0).double()
    with torch.no_grad():
        x = model.sample(1, 3, seed=1).x[0]
        paths = regime_paths(model, 3)
        torch.testing.assert_close((paths.log_probs + paths.densities(x)).logsumexp(0), mixtures.log_marginal(model, x))
        for found, expected in zip(paths.last(x, case[0]), mixtures.smoothed(model, x), strict=True):
            torch.testing.assert_close(found, expected[-1])
    assert float(paths.log_probs.exp().sum()) == pytest.approx(1)


@torch.no_grad()
def test_the_second_moment_of_a_weight_is_an_integral_over_the_vectors() -> None:
    model = SwitchingLinearSSM.random(2, 1, 1, seed=3).double()
    x, paths = torch.tensor([[0.7], [-0.4]]), regime_paths(model, 2)
    grid = torch.linspace(-12, 12, 1201)
    y_1, y_2 = torch.meshgrid(grid, grid, indexing="ij")
    area = float(grid[1] - grid[0]) ** 2
    for (first, second), found in zip(paths.regimes.tolist(), paths.second_moments(x), strict=True):
        start = torch.distributions.Normal(model.initial_mean[first, 0], model.initial_cov[first, 0, 0].sqrt())
        mean = model.transition_matrix[second, 0, 0] * y_1 + model.transition_offset[second, 0]
        move = torch.distributions.Normal(mean, model.transition_cov[second, 0, 0].sqrt())
        log_p = start.log_prob(y_1) + move.log_prob(y_2)
        for y, s, x_t in ((y_1, first, x[0]), (y_2, second, x[1])):
            seen = model.emission_matrix[s, 0, 0] * y + model.emission_offset[s, 0]
            log_p = log_p + 2 * torch.distributions.Normal(seen, model.emission_cov[s, 0, 0].sqrt()).log_prob(x_t)
        assert float(found.exp()) == pytest.approx(float(log_p.exp().sum() * area), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_an_instance_has_moderate_weights_and_less_variance_without_vectors(seed: int) -> None:
    given = instance((2, 1, 1), seed)
    v, w = given.second_moments()
    assert 1 < v < w < 5
    assert math.isfinite(float(given.log_marginal()))


def test_regimes_that_move_evenly_are_drawn_anew_at_each_step() -> None:
    model = instance((3, 1, 1), 0).model
    other = evenly_moving(model)
    torch.testing.assert_close(other.transition_probs, torch.full((3, 3), 1 / 3))
    assert not torch.allclose(model.transition_probs, other.transition_probs, atol=0.1)
