"""The start that is read off the data: near the law that drew them, whatever the units, gaps included."""

import pytest
import torch
from torch import Tensor

from pgm_rnn.models import LinearGaussianSSM
from pgm_rnn.models.linear_start import linear_start

UNITS = torch.tensor([1e-6, 1.0, 1e6])


def drawn(num_sequences: int = 20, num_steps: int = 200) -> tuple[LinearGaussianSSM, Tensor]:
    truth = LinearGaussianSSM.random(latent_dim=2, obs_dim=3, seed=0)
    return truth, truth.sample(num_sequences, num_steps, seed=1).x


def nats_per_step(model: LinearGaussianSSM, x: Tensor) -> float:
    return -float(model.log_marginal_likelihood(x).detach().sum()) / x[..., 0].numel()


def test_the_start_is_near_the_law_that_drew_the_data() -> None:
    truth, x = drawn()
    independent = torch.distributions.Normal(x.mean((0, 1)), x.std((0, 1))).log_prob(x).sum(-1)
    start, best = nats_per_step(linear_start(x, latent_dim=2), x), nats_per_step(truth, x)
    assert best < start < best + 0.35 * (-float(independent.mean()) - best)


def test_the_start_is_in_the_units_of_the_data() -> None:
    _, x = drawn()
    model, scaled = linear_start(x, latent_dim=2), linear_start(x * UNITS, latent_dim=2)
    jacobian = float(UNITS.log().sum())
    assert nats_per_step(scaled, x * UNITS) == pytest.approx(nats_per_step(model, x) + jacobian, abs=1e-6)


def test_a_level_stays_and_its_noise_is_found() -> None:
    """A random walk seen through noise, the steps' variance 1, the noise's 4: within a factor of two of both."""
    one = torch.eye(1)
    x = LinearGaussianSSM(100 * torch.ones(1), one, one, one, one, 4 * one).sample(1, 2000, seed=0).x
    model = linear_start(x, latent_dim=1)
    C = model.emission_matrix
    assert float(model.transition_matrix.detach()) == pytest.approx(1, abs=0.02)
    assert 2 < float(model.emission_cov.detach()) < 8
    assert 0.3 < float((C @ model.transition_cov @ C.mT).detach()) < 3


def test_states_may_outnumber_variables() -> None:
    """An oscillation of period 8, whose A has eigenvalues at angle 2 pi / 8: one variable, two states."""
    x = torch.sin(2 * torch.pi * torch.arange(200.0) / 8)[None, :, None]
    eigenvalues = torch.linalg.eigvals(linear_start(x, latent_dim=2).transition_matrix.detach())
    torch.testing.assert_close(eigenvalues.abs(), torch.ones(2), rtol=0, atol=1e-3)
    torch.testing.assert_close(eigenvalues.angle().abs(), torch.full((2,), torch.pi / 4), rtol=0, atol=1e-3)


def test_gaps_and_padding_are_bridged() -> None:
    _, x = drawn()
    lengths = torch.full((20,), 200)
    lengths[3:] = 150
    spoiled = x.clone()
    spoiled[0, 10:12] = spoiled[1, :, 2] = spoiled[5, 150:] = torch.nan
    model, whole = linear_start(spoiled, lengths, latent_dim=2), linear_start(x, latent_dim=2)
    assert nats_per_step(model, x) == pytest.approx(nats_per_step(whole, x), abs=0.05)


def test_padding_says_nothing() -> None:
    _, x = drawn(4, 20)
    lengths = torch.tensor([20, 3, 1, 8])
    garbage = x.clone()
    for row, length in zip(garbage, lengths.tolist(), strict=True):
        row[length:] = 1e9
    one, other = (linear_start(data, lengths, latent_dim=2) for data in (x, garbage))
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_variable_that_never_changes_is_no_error(value: float) -> None:
    model = linear_start(torch.full((1, 9, 1), value), latent_dim=1)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_the_start_is_in_double_precision_whatever_the_data_are_in() -> None:
    model = linear_start(torch.arange(20)[None, :, None], latent_dim=1)
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_what_cannot_be_started_from_is_an_error() -> None:
    x = torch.randn(1, 4, 2)
    with pytest.raises(ValueError, match=r"expected latent_dim of at most M \(T - 1\) = 6, got 7; the longest"):
        linear_start(x, latent_dim=7)
    assert linear_start(x, latent_dim=6).latent_dim == 6
    with pytest.raises(ValueError, match="expected latent_dim to be an integer of at least 1, got 0"):
        linear_start(x, latent_dim=0)
    with pytest.raises(ValueError, match=r"expected latent_dim of at most M \(T - 1\) = 0"):
        linear_start(x[:, :1], latent_dim=1)
    with pytest.raises(ValueError, match=r"expected x of shape \(batch, T, M\), got \(1, 4\)"):
        linear_start(x[..., 0], latent_dim=1)
    x[..., 1] = torch.nan
    with pytest.raises(ValueError, match="expected observations of every variable, got none of variable 2"):
        linear_start(x, latent_dim=1)
