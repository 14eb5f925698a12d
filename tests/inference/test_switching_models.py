"""Every engine on a reader's own models with finitely many states: a memory of x, and transitions that read inputs."""

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import pgm_rnn
from pgm_rnn.inference import forward_backward, mcmc, pmmh, smc, svi
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.sequences import Sequences
from tests.switching import Driven, SwitchingAR

LENGTHS = torch.tensor([5, 3, 4])
LIMIT = 5.0  # standard errors


@pytest.fixture(params=[SwitchingAR, Driven])
def problem(request: pytest.FixtureRequest) -> tuple[SequenceModel, Sequences]:
    model = request.param(2)
    u = None if model.input_dim is None else torch.randn(3, 5, 1)
    drawn = model.sample(3, 5, seed=0, inputs=u)
    assert drawn.x.shape == (3, 5, 1)
    assert drawn.z is not None
    assert drawn.z.shape == (3, 5)
    return model, Sequences(drawn.x, LENGTHS, inputs=u)


def options(data: Sequences) -> dict[str, Any]:
    return {} if data.inputs is None else {"inputs": data.inputs}


def test_gradient_steps_raise_the_likelihood(problem: tuple[SequenceModel, Sequences]) -> None:
    model, data = problem
    before = float(model.log_prob(data).sum().detach())
    fit = svi.fit(model, data, valid=data, num_epochs=5, learning_rate=0.05, progress=False)
    assert fit.objective == "mle"
    assert float(model.log_prob(data).sum().detach()) > before
    assert svi.evaluate(model, data).log_likelihoods.shape == (3,)


@pytest.mark.slow
def test_the_posterior_of_a_parameter_is_that_of_a_grid(problem: tuple[SequenceModel, Sequences]) -> None:
    model, data = problem
    second = float(dict(model.named_parameters())["b"][1].detach())
    law = dist.Normal(torch.tensor([[0.0], [second]]), torch.tensor([[2.0], [0.3]]))
    pairs = torch.cartesian_prod(torch.linspace(-6, 6, 81), second + torch.linspace(-1.2, 1.2, 9))

    @torch.no_grad()
    def log_joint(b: Tensor) -> float:
        return float(torch.func.functional_call(_LogProb(model), {"model.b": b}, (data,)) + law.log_prob(b).sum())

    weights = torch.tensor([log_joint(pair[:, None]) for pair in pairs]).softmax(0)
    mean = float((weights * pairs[:, 0]).sum())
    spread = float((weights * (pairs[:, 0] - mean).square()).sum()) ** 0.5
    few: dict[str, Any] = {"num_samples": 150, "num_warmup": 50, "progress": False}
    found = mcmc.run(WithPriors(model, {"b": law}), data.x, data.lengths, options=options(data), **few)
    assert pgm_rnn.to_arviz(found).posterior["b"].shape == (1, 150, 2, 1)
    worth = float(found.effective_sample_sizes["b"][0, 0])
    error = LIMIT * spread / worth**0.5
    assert abs(float(found.samples["b"][0, :, 0, 0].mean()) - mean) < error
    assert spread < 2 / 1.5  # narrower than the prior


class _LogProb(torch.nn.Module):
    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, data: Sequences) -> Tensor:
        return self.model.log_prob(data).sum()


def test_particle_engines_run_and_arviz_takes_their_draws(problem: tuple[SequenceModel, Sequences]) -> None:
    model, data = problem
    program = WithPriors(model, {"b": dist.Normal(torch.zeros(2, 1), 1.0)})
    few: dict[str, Any] = {"num_samples": 3, "num_warmup": 2, "num_particles": 10, "progress": False}
    draws = pmmh.run(program, data.x, data.lengths, **few, **options(data))
    assert pgm_rnn.to_arviz(draws).posterior["b"].shape == (1, 3, 2, 1)
    paths = smc.smooth(model, data, num_particles=20, num_paths=4, method="ancestors", seed=0)
    assert pgm_rnn.to_arviz(paths).posterior["z"].shape == (1, 4, 3, 5)


def test_a_forecast_has_the_mean_of_the_prediction(problem: tuple[SequenceModel, Sequences]) -> None:
    model, data = problem
    u = None if data.inputs is None else torch.randn(3, 1, 1)
    ahead = model.forecast(data, 1, num_samples=4000, seed=0, future_inputs=u).x[:, :, 0, 0]  # (num_samples, 3)
    law = forward_backward.predict(model, data, future_inputs=u)
    means = law.mean[torch.arange(3), LENGTHS - 1, 0]
    errors = (ahead.mean(0) - means).abs() / (ahead.std(0) / 4000**0.5)
    assert float(errors.max()) < LIMIT
    other = law.mean[torch.arange(3), LENGTHS - 2, 0]
    assert float(((ahead.mean(0) - other).abs() / (ahead.std(0) / 4000**0.5)).max()) > LIMIT


def test_draws_of_the_states_have_their_posterior(problem: tuple[SequenceModel, Sequences]) -> None:
    model, data = problem
    draws = forward_backward.sample_states(model, data, num_samples=4000, seed=0)
    smoothed = forward_backward.smooth(model, data).smoothed_probs
    inside = data.mask
    for k in range(2):
        share, p = (draws == k).double().mean(0)[inside], smoothed[..., k][inside]
        errors = (share - p).abs() / (p * (1 - p) / 4000).sqrt().clamp(min=1e-4)
        assert float(errors.max()) < LIMIT
