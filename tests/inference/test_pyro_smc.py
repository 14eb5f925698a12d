import pytest
import torch
from pyro.infer import SMCFilter
from torch import Tensor

from pgm_rnn.inference import forward_backward, kalman, smc
from pgm_rnn.inference.smc.pyro_steps import PyroSteps
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.noisy_rnn import NoisyRNN
from pgm_rnn.models.rnn import RNN
from pgm_rnn.models.stochastic_volatility import StochasticVolatility
from pgm_rnn.sequence_model import SequenceModel

LIMIT, REPEATS, NUM_PARTICLES = 4.5, 40, 200


def last_means(model: SequenceModel, x: Tensor) -> Tensor:
    """E(z_T | x_{1:T}) by Pyro's filter, one a repetition."""
    means = []
    for _ in range(REPEATS):
        program, guide = PyroSteps(model, NUM_PARTICLES), PyroSteps(model, NUM_PARTICLES, guide=True)
        run = SMCFilter(program, guide, num_particles=NUM_PARTICLES, max_plate_nesting=0)
        run.init(x[0])
        for x_t in x[1:]:
            run.step(x_t)
        weights = run.state._log_weights.softmax(0)
        means.append((weights[(...,) + (None,) * (run.state["z"].dim() - 1)] * run.state["z"]).sum(0))
    return torch.stack(means)


def close(found: Tensor, expected: Tensor) -> bool:
    """Within the standard error, and the bias of a ratio."""
    return bool(((found.mean(0) - expected).abs() < LIMIT * found.std(0) / REPEATS**0.5 + 2 / NUM_PARTICLES).all())


def test_pyros_filter_has_the_kalman_filters_means_and_not_its_predictions() -> None:
    model = LinearGaussianSSM.random(2, 2, seed=0).double()
    x = model.sample(1, 4, seed=2).x
    exact, found = kalman.filter(model, x), last_means(model, x[0])
    assert close(found, exact.filtered_means[0, -1])
    assert not close(found, exact.predicted_means[0, -1])


def test_pyros_filter_runs_on_finite_states() -> None:
    model = HMM.random(2, 3, seed=0).double()
    x = model.sample(1, 4, seed=1).x
    assert close(last_means(model, x[0]), forward_backward.filter(model, x).filtered_probs[0, -1, 1])


def test_pyros_filter_and_ours_agree_on_a_network_with_memory() -> None:
    model = NoisyRNN.random(2, 2, feedback=True, seed=0).double()
    x = model.sample(1, 4, seed=1).x
    ours = smc.filter(model, x, num_particles=20_000, functions={"z": lambda z, h: z}, seed=0).means["z"][0, -1]
    found = last_means(model, x[0])
    assert close(found, ours)
    assert not close(found, ours + 0.2)


def test_a_model_whose_guide_reads_the_whole_sequence_is_filtered_by_its_own_laws() -> None:
    model = StochasticVolatility(0.0, 0.9, 0.8, leverage=-0.5).double()
    with torch.no_grad():
        model.combiner.bias.add_(1.0)  # so that the guide is another law
    x = model.sample(1, 4, seed=1).x
    ours = smc.filter(
        model, x, num_particles=20_000, proposal="bootstrap", functions={"z": lambda z, h: z}, seed=0
    ).means["z"][0, -1]
    found = last_means(model, x[0])
    assert close(found, ours)
    assert not close(found, ours + 0.4)


def test_a_model_without_latent_states_is_an_error() -> None:
    with pytest.raises(TypeError, match="expected a model with latent states, got RNN, which has none"):
        PyroSteps(RNN("gru", num_symbols=3), 5)
    with pytest.raises(ValueError, match="expected num_particles to be an integer of at least 1, got 0"):
        PyroSteps(HMM.random(2, 3), 0)
