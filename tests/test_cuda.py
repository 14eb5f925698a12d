"""Every model and engine on a GPU, against the CPU; without a GPU these tests are left out."""

import copy

import pytest
import torch

from pgm_rnn.emissions import Emission, Gaussian
from pgm_rnn.inference import forward_backward, kalman
from pgm_rnn.sequences import Sequences
from tests import instances
from tests.cases import every
from tests.instances import LENGTHS, every_exact_law, every_law, gradients, make_model, ragged

DEVICE = torch.device("cuda")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@every_exact_law
def test_the_likelihood_and_its_gradient_are_those_of_the_cpu(name: str, family: Emission) -> None:
    model, x = make_model(name, family), ragged(family)
    value = model.log_prob(x, lengths=LENGTHS)
    expected = gradients(value.sum(), model)
    moved = copy.deepcopy(model).to(DEVICE)
    found = moved.log_prob(x.to(DEVICE), lengths=LENGTHS.to(DEVICE))
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), value)
    for parameter, gradient in gradients(found.sum(), moved).items():
        torch.testing.assert_close(gradient.cpu(), expected[parameter], rtol=1e-6, atol=1e-8, msg=parameter)


@every_law
def test_draws_are_made_where_the_parameters_are(name: str, family: Emission) -> None:
    drawn = make_model(name, family).to(DEVICE).sample(2, 3, seed=0)
    assert {field.device.type for field in (drawn.x, drawn.lengths)} == {"cuda"}


@pytest.mark.filterwarnings("ignore:Almost none of the data")
@every("engine on an exact model of vectors")
def test_every_engine_runs_on_a_ragged_batch(engine: str, name: str) -> None:
    entry, model = instances.REGISTRIES.engines[engine], make_model(name, Gaussian(2)).to(DEVICE)
    if entry.takes(model):
        entry.example(model, Sequences(ragged(Gaussian(2)), LENGTHS).to(DEVICE))
        assert {p.device.type for p in model.parameters()} == {"cuda"}
        assert all(p.isfinite().all() for p in model.parameters())


@every_exact_law
def test_posteriors_are_those_of_the_cpu(name: str, family: Emission) -> None:
    model, x = make_model(name, family), ragged(family)
    moved = copy.deepcopy(model).to(DEVICE), x.to(DEVICE), LENGTHS.to(DEVICE)
    if instances.REGISTRIES.engines["forward_backward"].takes(model):
        expected = forward_backward.smooth(model, x, LENGTHS).smoothed_probs
        torch.testing.assert_close(forward_backward.smooth(*moved).smoothed_probs.cpu(), expected)
        paths = forward_backward.most_likely_states(model, x, LENGTHS)
        found = forward_backward.most_likely_states(*moved)
        torch.testing.assert_close(found.log_prob.cpu(), paths.log_prob)
    if instances.REGISTRIES.engines["kalman"].takes(model):
        smoothed, there = kalman.smooth(model, x, LENGTHS), kalman.smooth(*moved)
        torch.testing.assert_close(there.smoothed_means.cpu(), smoothed.smoothed_means)
        torch.testing.assert_close(there.smoothed_covs.cpu(), smoothed.smoothed_covs)
