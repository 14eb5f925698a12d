"""The switching linear model: its four laws written out, its recurrent form, and its parameters under their names."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pgm_rnn import load_model, save_model
from pgm_rnn.inference import smc, svi
from pgm_rnn.models import SwitchingLinearSSM
from pgm_rnn.states import SwitchingStates
from tests import mixtures

PARTS = (
    *("initial_probs", "transition_probs", "initial_mean", "initial_cov", "transition_matrix", "transition_cov"),
    *("emission_matrix", "emission_cov", "transition_offset", "emission_offset", "regime_weights"),
)


def make(**options: Any) -> SwitchingLinearSSM:
    return SwitchingLinearSSM.random(3, 2, 2, seed=0, **options)


def written_out(model: SwitchingLinearSSM, x: Tensor, z: Tensor) -> Tensor:
    """log p(x, z) of one sequence, step by step."""
    total = torch.zeros(())
    for t in range(len(x)):
        k, y = int(z[t, 0]), z[t, 1:]
        if t == 0:
            logits, mean, cov = model.initial_probs.log(), model.initial_mean[k], model.initial_cov[k]
        else:
            j, before = int(z[t - 1, 0]), z[t - 1, 1:]
            logits = model.transition_probs[j].log()
            if model.regime_weights is not None:
                logits = logits + torch.stack([model.regime_weights[j, i] @ before for i in range(3)])
            mean = model.transition_matrix[k] @ before + model.transition_offset[k]
            cov = model.transition_cov[k]
        total = total + logits[k] - logits.exp().sum().log() + MultivariateNormal(mean, cov).log_prob(y)
        seen = model.emission_matrix[k] @ y + model.emission_offset[k]
        total = total + MultivariateNormal(seen, model.emission_cov[k]).log_prob(x[t])
    return total


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_density_is_the_product_of_the_four_laws(recurrent: bool) -> None:
    model = make(recurrent=recurrent)
    batch = model.sample(4, 5, seed=1)
    assert batch.z is not None
    expected = torch.stack([written_out(model, x, z) for x, z in zip(batch.x, batch.z, strict=True)])
    torch.testing.assert_close(model.log_prob(batch.x, batch.z), expected)
    torch.testing.assert_close(model.log_prob(batch.x, batch.z, torch.tensor([5, 5, 5, 5])), expected)
    other = make(recurrent=not recurrent)
    assert not torch.allclose(other.log_prob(batch.x, batch.z), expected)


def test_draws_of_regimes_follow_the_recurrent_law() -> None:
    """With weights far from zero the next regime is the sign of y, whatever the regime before."""
    weights = torch.zeros(2, 2, 1)
    weights[:, 1] = 1e4
    eye = torch.ones(2, 1, 1)
    even = torch.full((2,), 0.5)
    model = SwitchingLinearSSM(
        even, even.expand(2, 2), torch.zeros(2, 1), eye, 0.5 * eye, eye, eye, eye, regime_weights=weights
    )
    z = model.sample(500, 6, seed=0).z
    assert z is not None
    followed = (z[:, 1:, 0] == (z[:, :-1, 1] > 0)).double().mean()
    assert float(followed) > 0.999
    x = model.sample(1, 6, seed=1).x
    assert smc.filter(model, x, num_particles=100, seed=0).log_marginal_likelihood.isfinite().all()


@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_plain_particle_filter_has_its_likelihood_as_mean(num_steps: int) -> None:
    model = SwitchingLinearSSM.random(2, 1, 1, seed=0)
    x = model.sample(1, num_steps, seed=1).x
    found = smc.filter(model, x.expand(3_000, -1, -1), num_particles=20, seed=0).log_marginal_likelihood
    ratio = (found - mixtures.log_marginal(model, x[0]).detach()).exp()
    assert abs(float(ratio.mean()) - 1) < 4.5 * float(ratio.std()) / math.sqrt(3_000)


def test_a_copy_from_its_own_parameters_is_the_same_model() -> None:
    model = make(recurrent=True)
    again = SwitchingLinearSSM(*(getattr(model, name) for name in PARTS))
    batch = model.sample(2, 4, seed=0)
    torch.testing.assert_close(again.log_prob(batch.x, batch.z), model.log_prob(batch.x, batch.z))
    assert again.states == SwitchingStates(3, 2)
    assert (model.num_regimes, model.latent_dim, model.obs_dim, model.recurrent) == (3, 2, 2, True)


def test_natural_names_reach_every_covariance() -> None:
    model = make()
    cov = torch.eye(2).expand(3, 2, 2) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    name, raw = model.unconstrained("transition_cov", cov)
    dict(model.named_parameters())[name].data.copy_(raw)
    torch.testing.assert_close(model.transition_cov, cov)
    name, raw = model.unconstrained("emission_scale", torch.full((3, 2), 0.5))
    dict(model.named_parameters())[name].data.copy_(raw)
    torch.testing.assert_close(model.emission_cov.diagonal(dim1=-2, dim2=-1), torch.full((3, 2), 0.25))


def test_a_model_comes_back_from_its_folder(tmp_path: Any) -> None:
    for recurrent in (False, True):
        model = make(recurrent=recurrent, first="model")
        folder = tmp_path / str(recurrent)
        save_model(model, folder)
        again = load_model(folder)
        assert isinstance(again, SwitchingLinearSSM)
        batch = model.sample(2, 4, seed=0)
        assert torch.equal(again.log_prob(batch.x, batch.z), model.log_prob(batch.x, batch.z))


def test_a_fit_improves_the_bound() -> None:
    truth = SwitchingLinearSSM.random(2, 1, 2, seed=1)
    x = truth.sample(20, 10, seed=0).x
    model = SwitchingLinearSSM.random(2, 1, 2, seed=5)
    before = svi.evaluate(model, x, bound="fivo", num_particles=50, seed=0).nats_per_step
    svi.fit(model, x, objective="fivo", num_particles=10, num_epochs=15, learning_rate=3e-2, seed=0, progress=False)
    after = svi.evaluate(model, x, bound="fivo", num_particles=50, seed=0).nats_per_step
    assert after < before - 0.05


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("initial_probs", torch.tensor([0.5, 0.6, 0.1]), "each row of initial_probs to sum to one"),
        ("transition_probs", torch.eye(2), r"transition_probs of shape \(3, 3\), got \(2, 2\)"),
        ("initial_mean", torch.zeros(2), r"initial_mean of shape \(3, any\), got \(2,\)"),
        ("initial_cov", torch.zeros(3, 2, 2), r"initial_cov\[0\] to be positive definite"),
        ("transition_matrix", torch.zeros(2, 2), r"transition_matrix of shape \(3, 2, 2\), got \(2, 2\)"),
        ("transition_cov", torch.eye(2).expand(2, 2, 2), r"transition_cov of shape \(3, 2, 2\)"),
        ("emission_matrix", torch.full((3, 2, 2), torch.nan), "emission_matrix as finite"),
        ("emission_cov", -torch.eye(2).expand(3, 2, 2), r"emission_cov\[0\] to be positive definite"),
        ("transition_offset", torch.zeros(3), r"transition_offset of shape \(3, 2\), got \(3,\)"),
        ("regime_weights", torch.zeros(3, 2), r"regime_weights of shape \(3, 3, 2\), got \(3, 2\)"),
    ],
)
def test_bad_parameters_are_named(name: str, value: Tensor, message: str) -> None:
    model = make(recurrent=True)
    arguments = {part: getattr(model, part).detach() for part in PARTS}
    with pytest.raises(ValueError, match=message):
        SwitchingLinearSSM(**{**arguments, name: value})


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (torch.tensor([[[2.0, 0.0, 0.0]]]) + 1, r"regimes z\[..., 0\] in 0..2, got 3"),
        (torch.zeros(1, 1, 2), r"z of shape \(1, 1, 3\), got \(1, 1, 2\)"),
    ],
)
def test_bad_states_are_named(z: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().log_prob(torch.zeros(1, 1, 2), z)


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="num_regimes to be an integer of at least 1, got 0"):
        SwitchingLinearSSM.random(0, 1, 1)
    with pytest.raises(ValueError, match="dim to be an integer of at least 1, got 0"):
        SwitchingStates(1, 0)
