import math

import pytest
import torch

from pgm_rnn.claims.standard_errors import FEWEST, MANY, log_slope, slope_error, z_score


def test_a_z_score_is_the_distance_in_standard_errors() -> None:
    draws = torch.tensor([-1.0, 1.0]).repeat(200)
    error = math.sqrt(400 / 399) / 20
    assert z_score(draws, 0.3) == pytest.approx(0.3 / error)
    assert z_score(torch.stack([draws, 10 * draws], -1), torch.tensor([0.3, 0.0])) == pytest.approx(0.3 / error)


def test_z_scores_of_right_means_are_small_and_of_wrong_ones_are_not() -> None:
    draws = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0))
    assert z_score(draws, 0.0) < MANY < z_score(draws, 0.25)


def test_draws_that_do_not_vary_are_right_or_infinitely_wrong() -> None:
    assert z_score(torch.ones(FEWEST), 1.0) == 0
    assert z_score(torch.ones(FEWEST), 1.5) > 1e300


def test_an_average_of_few_draws_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 200 draws, got 199"):
        z_score(torch.zeros(199), 0.0)


def test_the_slope_of_a_power_is_its_exponent() -> None:
    sizes = torch.tensor([1.0, 2.0, 8.0])
    assert log_slope(sizes, 3 * sizes**-0.5) == pytest.approx(-0.5)
    assert log_slope(sizes, torch.zeros(3)) == pytest.approx(0.0)


def test_the_slopes_of_simulated_errors_scatter_by_its_standard_error() -> None:
    sizes, num_draws = torch.tensor([4.0, 16.0, 64.0, 256.0]), 200
    draws = torch.randn(500, num_draws, 4, generator=torch.Generator().manual_seed(0)) * sizes**-0.5
    slopes = torch.tensor([log_slope(sizes, errors) for errors in draws.square().mean(1).sqrt()])
    assert float(slopes.std()) == pytest.approx(slope_error(sizes, num_draws), rel=0.2)  # six of 1 / sqrt(1000)
