"""One-step laws from definitions: a known AR(1), a sum over paths, the laws of a network, a chain of two by hand."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from pgm_rnn.emissions import Gaussian, Poisson
from pgm_rnn.models import HMM, RNN, LinearGaussianSSM, NoisyRNN, SwitchingLinearSSM
from pgm_rnn.report.diagnostics.one_step import one_step
from pgm_rnn.report.diagnostics.particle_laws import of_particles
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequences import Sequences, pad
from tests import mixtures

PHI, SCALE = 0.8, 0.5


def matrix(value: float) -> torch.Tensor:
    return torch.tensor([[value]])


def autoregression(phi: float = PHI, scale: float = SCALE) -> LinearGaussianSSM:
    """x_t = phi x_{t-1} + N(0, scale^2), stationary, seen without noise to speak of."""
    start = scale**2 / (1 - phi**2)
    return LinearGaussianSSM(torch.zeros(1), matrix(start), matrix(phi), matrix(scale**2), matrix(1.0), matrix(1e-12))


def test_the_pit_of_an_autoregression_is_that_of_its_known_predictions() -> None:
    model = autoregression()
    x = model.sample(2, 40, seed=0).x
    found = one_step(model, checked(model, x))
    series = x[..., 0].numpy()
    expected = np.concatenate(
        [
            stats.norm(0, SCALE / (1 - PHI**2) ** 0.5).cdf(series[:, :1]),
            stats.norm(PHI * series[:, :-1], SCALE).cdf(series[:, 1:]),
        ],
        axis=1,
    )
    np.testing.assert_allclose(found.upto[..., 0], expected, atol=1e-9)
    np.testing.assert_allclose(found.residuals[:, 1:, 0], series[:, 1:] - PHI * series[:, :-1], atol=1e-9)
    assert found.how == "the exact normal laws of the Kalman filter"


TRANSITION = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
RATES = (1.0, 6.0)


def counts() -> HMM:
    return HMM(torch.tensor([0.6, 0.4]), TRANSITION, Poisson().table(torch.tensor(RATES)))


def test_the_pit_of_a_chain_is_a_sum_over_paths() -> None:
    """F(x_t | x_{1:t-1}) = sum over z_{1:t} of p(z_{1:t}, x_{1:t-1}) F(x_t | z_t), over the sum without F."""
    model, x = counts(), [2, 7, 0, 5]
    found = one_step(model, checked(model, torch.tensor([x], dtype=torch.float64)))
    for t in range(len(x)):
        numerator, denominator, below = 0.0, 0.0, 0.0
        for path in itertools.product((0, 1), repeat=t + 1):
            weight = (0.6, 0.4)[path[0]] * math.prod([float(TRANSITION[i, j]) for i, j in itertools.pairwise(path)])
            weight *= math.prod([stats.poisson(RATES[z]).pmf(value) for z, value in zip(path[:t], x[:t], strict=True)])
            numerator += weight * float(stats.poisson(RATES[path[t]]).cdf(x[t]))
            below += weight * float(stats.poisson(RATES[path[t]]).cdf(x[t] - 1))
            denominator += weight
        assert float(found.upto[0, t, 0]) == pytest.approx(numerator / denominator, rel=1e-9)
        assert float(found.below[0, t, 0]) == pytest.approx(below / denominator, rel=1e-9)


def test_a_missing_observation_is_left_out_and_not_read() -> None:
    """After a gap the belief is moved on once more: two steps of the chain."""
    model = counts()
    x = torch.tensor([[2.0, torch.nan, 5.0]])
    found = one_step(model, checked(model, x))
    assert bool(found.upto[0, 1].isnan())
    assert bool(found.residuals[0, 1].isnan())
    belief = torch.tensor([0.6 * stats.poisson(1.0).pmf(2), 0.4 * stats.poisson(6.0).pmf(2)])
    ahead = (belief / belief.sum()) @ TRANSITION @ TRANSITION
    expected = float(ahead @ torch.as_tensor(stats.poisson(RATES).cdf(5)))
    assert float(found.upto[0, 2, 0]) == pytest.approx(expected, rel=1e-9)


def test_a_networks_pit_is_the_distribution_function_of_its_law() -> None:
    model: Any = RNN("gru", emission=Gaussian(2), hidden_dim=3)
    x = model.sample(3, 6, seed=0).x
    found = one_step(model, checked(model, x))
    with torch.no_grad():
        h: Any = model.initial_memory.expand(3, -1)
        for t in range(6):
            law: Any = model.emission(None, h)
            np.testing.assert_allclose(found.upto[:, t], law.base_dist.cdf(x[:, t]), rtol=1e-9)
            h = model.recurrence(h, None, x[:, t])


def test_particles_tend_to_the_exact_laws() -> None:
    """A mean of N values in 0..1 has a standard error of at most 1 / (2 sqrt(N)), times a little for the weights."""
    noisy = LinearGaussianSSM(torch.zeros(1), matrix(1.0), matrix(0.7), matrix(0.4), matrix(1.0), matrix(0.6))
    x = noisy.sample(2, 5, seed=1).x
    data = checked(noisy, x)
    exact = one_step(noisy, data)
    laws, record = of_particles(noisy, data, 20_000, seed=0)
    np.testing.assert_allclose(laws.upto, exact.upto, atol=5 * 0.5 / 20_000**0.5)
    assert record.ess.shape == (2, 5)


@pytest.mark.parametrize("width", [1, 2])
def test_particles_of_regimes_tend_to_the_mixture_over_all_paths(width: int) -> None:
    """F(x_t) is the mean over paths s_{1:t} of normal distribution functions, with weights p(s_{1:t} | x_{1:t-1})."""
    model = SwitchingLinearSSM.random(2, 1, width, seed=0).double()
    x = model.sample(1, 3, seed=1).x.double()
    x[0, 1, 0] = torch.nan
    found = one_step(model, checked(model, x), num_particles=20_000)
    assert "each with a Kalman filter" in found.how
    before = x[0].clone()
    before[2] = torch.nan
    with torch.no_grad():
        paths = mixtures.all_paths(model, before)
        weights = torch.stack([path.log_joint for path in paths]).softmax(0)
        last = [path.regimes[-1] for path in paths]
        y, var = (
            torch.stack(part) for part in zip(*((path.mean[-1], path.cov[-1:, -1]) for path in paths), strict=True)
        )
        mean = model.emission_matrix[last][..., 0] * y + model.emission_offset[last]  # (paths, M)
        spread = model.emission_matrix[last][..., 0] ** 2 * var + model.emission_cov[last].diagonal(dim1=-2, dim2=-1)
        expected = weights @ torch.special.ndtr((x[0, 2] - mean) / spread.sqrt())
    np.testing.assert_allclose(found.upto[0, 2], expected, atol=5 * 0.5 / 20_000**0.5)
    atol = 5 * float((weights @ (mean - weights @ mean) ** 2).max()) ** 0.5 / 20_000**0.5
    np.testing.assert_allclose(x[0, 2] - found.residuals[0, 2], weights @ mean, atol=atol)
    assert found.upto[0, 1].isnan().tolist() == [True] + [False] * (width - 1)


def test_a_filter_of_the_whole_state_serves_regimes_that_read_it() -> None:
    model = SwitchingLinearSSM.random(2, 1, 1, seed=0, recurrent=True)
    found = one_step(model, checked(model, model.sample(1, 5, seed=0).x), num_particles=100)
    assert found.how == "100 particles"
    assert found.filtering is not None
    assert found.filtering.model is model


def test_steps_that_are_given_and_padding_have_no_pit() -> None:
    model = HMM.random(2, 3, first="condition", seed=0)
    data = pad([torch.tensor([0, 1, 2, 1]), torch.tensor([2, 0])])
    found = one_step(model, checked(model, data))
    assert found.upto[..., 0].isfinite().tolist() == [[False, True, True, True], [False, True, False, False]]
    assert bool(found.residuals.isnan().all())  # symbols have none


def test_steps_that_do_not_determine_a_diffuse_start_are_left_out() -> None:
    model = LinearGaussianSSM(
        torch.zeros(1), matrix(0.0), matrix(1.0), matrix(0.5), matrix(1.0), matrix(1.0), diffuse=torch.ones(1, 1)
    )
    found = one_step(model, checked(model, torch.randn(1, 5, 1)))
    assert found.upto[0, :, 0].isfinite().tolist() == [False, True, True, True, True]


def test_a_network_with_noise_has_a_record_of_its_filter() -> None:
    model = NoisyRNN.random(1, 1, seed=0)
    x = model.sample(2, 6, seed=0).x
    found = one_step(model, checked(model, Sequences(x, torch.tensor([6, 4]))), num_particles=100)
    assert found.filtering is not None
    assert found.filtering.num_particles == 100
    assert found.filtering.ess.isfinite().sum(1).tolist() == [6, 4]
    assert bool(((found.upto >= 0) & (found.upto <= 1))[0].all())
