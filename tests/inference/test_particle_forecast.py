"""Forecasts by particles, against the exact ones of a linear-Gaussian model and the definition for a network."""

import pytest
import torch

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import smc
from pgm_rnn.models import RNN, LinearGaussianSSM, NoisyRNN
from pgm_rnn.sequence_model import SequenceModel
from tests.inference.test_bounds import scalar_network
from tests.instances import make_model, ragged
from tests.latent_toy import LatentToy

LIMIT = 4.5  # standard errors
LENGTHS = torch.tensor([5, 1, 3])


@pytest.mark.parametrize("length", [5, 1, 3])
def test_draws_have_the_exact_forecasts_moments_and_not_those_from_elsewhere(length: int) -> None:
    model = LinearGaussianSSM.random(2, 2, seed=0).double()
    x = model.sample(3, 5, seed=1).x
    draws = smc.forecast(model, x, 4, lengths=LENGTHS, num_samples=20_000, num_particles=20_000, seed=0).x
    row = LENGTHS.tolist().index(length)
    found = draws[:, row]
    exact = model.forecast(x[row : row + 1, :length], 4, num_samples=100_000, seed=1).x[:, 0]
    errors = found.std(0) / 20_000**0.5 * 1.5  # particles, their draws, and the exact draws
    assert bool(((found.mean(0) - exact.mean(0)).abs() < LIMIT * errors).all())
    ratio = found.var(0) / exact.var(0)
    assert bool(((ratio - 1).abs() < LIMIT * (2 / 20_000) ** 0.5 * 1.5).all())
    other = draws[:, (row + 1) % 3]
    assert not bool(((other.mean(0) - exact.mean(0)).abs() < LIMIT * errors).all())


def test_a_networks_next_observation_has_the_mean_of_the_definition() -> None:
    """E(x_{L+1} | x_{1:L}) = sum_n W^n C E tanh(A z^n + W x_L), the filtered weights by a finer filter."""
    model = scalar_network()
    x = model.sample(1, 5, seed=1).x
    found = smc.forecast(model, x, 1, num_samples=20_000, num_particles=5_000, seed=0).x[:, 0, 0]
    fine = smc.filter(model, x, num_particles=100_000, seed=1)
    assert fine.memory is not None
    means = model.emission_mean(model.transition_mean(fine.particles, x[:, -1].expand_as(fine.memory)))
    expected = (fine.log_weights.softmax(0)[..., None] * means).sum(0)[0]
    assert abs(float((found.mean(0) - expected).detach())) < LIMIT * float(found.std()) / 20_000**0.5 * 1.5
    start = model.emission_mean(model.transition_mean(model.initial_mean[None]))[0]
    assert abs(float((found.mean(0) - start).detach())) > LIMIT * float(found.std()) / 20_000**0.5 * 1.5


@pytest.mark.parametrize("name", ["hmm", "lgssm", "noisy-rnn"])
def test_shapes_are_those_of_the_exact_forecast(name: str) -> None:
    model, x = make_model(name, Gaussian(2)), ragged(Gaussian(2), LENGTHS)
    one = smc.forecast(model, x, 3, lengths=LENGTHS, num_particles=20, seed=0)
    many = smc.forecast(model, x, 3, lengths=LENGTHS, num_samples=4, num_particles=20, seed=0)
    assert (one.x.shape, many.x.shape) == ((3, 3, 2), (4, 3, 3, 2))
    assert one.z is not None
    assert many.z is not None
    assert (one.z.shape, many.z.shape) == ((3, 3, *one.z.shape[2:]), (4, 3, 3, *one.z.shape[2:]))


def test_the_memory_goes_on_where_the_filter_ended() -> None:
    model, x = LatentToy(), torch.randn(2, 3)
    result = smc.filter(model, x, torch.tensor([3, 1]), num_particles=7, seed=0)
    assert result.memory is not None
    assert result.memory.shape == (7, 2, 1)
    assert model.initial_memory is not None
    assert torch.equal(result.memory[:, 1], model.initial_memory.detach().expand(7, 1))  # one step: still h_1


def test_the_same_seed_gives_the_same_draws() -> None:
    model, x = LatentToy(), torch.randn(2, 3)
    first, again, other = (smc.forecast(model, x, 2, num_samples=3, num_particles=9, seed=s).x for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_inputs_reach_the_states() -> None:
    model = NoisyRNN.random(1, 1, input_dim=2, seed=0).double()
    x, inputs = torch.zeros(2, 3, 1), torch.zeros(2, 3, 2)
    still, pushed = (
        smc.forecast(model, x, 2, inputs=inputs, future_inputs=torch.full((2, 2, 2), push), num_particles=9, seed=0).x
        for push in (0.0, 5.0)
    )
    assert not torch.equal(still, pushed)
    with pytest.raises(ValueError, match="inputs"):
        smc.forecast(model, x, 2, inputs=inputs)


def test_bad_input_is_an_error() -> None:
    model: SequenceModel = LatentToy()
    with pytest.raises(ValueError, match="expected num_steps to be an integer of at least 1, got 0"):
        smc.forecast(model, torch.zeros(1, 3), 0)
    with pytest.raises(ValueError, match="expected num_samples to be an integer of at least 1, got 0"):
        smc.forecast(model, torch.zeros(1, 3), 1, num_samples=0)
    with pytest.raises(TypeError, match="expected a model with latent states for smc, RNN has none"):
        smc.forecast(RNN("gru", num_symbols=3), torch.zeros(1, 2, dtype=torch.int64), 1)
