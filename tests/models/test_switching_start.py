"""A start from the data finds regimes that differ in their dynamics, and begins a fit nearer to the data."""

import pytest
import torch

from pgm_rnn.inference import mixture_kalman
from pgm_rnn.models import SwitchingLinearSSM
from pgm_rnn.models.switching_start import switching_start
from pgm_rnn.report.chain_starts import move_near
from pgm_rnn.sequences import Sequences


def truth() -> SwitchingLinearSSM:
    """One regime stays, the other turns by a quarter at each step."""
    eye = torch.eye(2)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    half = torch.full((2,), 0.5)
    moves = torch.tensor([[0.95, 0.05], [0.05, 0.95]])
    both = torch.stack([eye, eye])
    return SwitchingLinearSSM(
        half, moves, torch.zeros(2, 2), 4 * both, torch.stack([eye, turn]), 0.01 * both, both, 0.01 * both
    )


def test_it_finds_the_dynamics_of_the_regimes() -> None:
    batch = truth().sample(30, 25, seed=0)
    start = switching_start(batch.x, num_regimes=2, latent_dim=2)
    values = torch.linalg.eigvals(start.transition_matrix.detach())  # they do not depend on the basis of y
    order = values.imag.abs().amax(-1).argsort()
    assert float((values[order[0]] - 1).abs().max()) < 0.1
    assert float((values[order[1]].abs() - 1).abs().max()) < 0.1
    assert float((values[order[1]].imag.abs() - 1).abs().max()) < 0.1
    found = mixture_kalman.filter(start, batch.x, num_particles=50, seed=0).filtered_probs.argmax(-1)
    assert batch.z is not None
    same = (order.argsort()[found] == batch.z[..., 0]).double()[:, 1:].mean()
    assert float(same) > 0.85


def test_it_is_nearer_to_the_data_than_a_random_model_and_one_regime() -> None:
    x = truth().sample(20, 20, seed=1).x
    lengths = torch.randint(5, 21, (20,), generator=torch.Generator().manual_seed(0))
    x[3, 2] = torch.nan

    def score(model: SwitchingLinearSSM) -> float:
        return float(mixture_kalman.filter(model, x, lengths, num_particles=50, seed=0).log_marginal_likelihood.sum())

    two, one = (switching_start(x, lengths, num_regimes=k, latent_dim=2) for k in (2, 1))
    assert score(two) > score(one) > score(SwitchingLinearSSM.random(2, 2, 2, seed=0))
    again = switching_start(x, lengths, num_regimes=2, latent_dim=2)
    assert torch.equal(again.transition_matrix, two.transition_matrix)


def test_more_regimes_than_moves_and_bad_sizes() -> None:
    few = switching_start(torch.randn(1, 3, 1), num_regimes=4, latent_dim=1)
    assert all(bool(p.isfinite().all()) for p in few.parameters())
    with pytest.raises(ValueError, match="num_regimes to be an integer of at least 1, got 0"):
        switching_start(torch.randn(1, 3, 1), num_regimes=0, latent_dim=1)
    with pytest.raises(ValueError, match="latent_dim"):
        switching_start(torch.randn(1, 3, 1), num_regimes=2, latent_dim=9)


def test_fits_at_the_command_line_begin_there() -> None:
    x, lengths = truth().sample(4, 10, seed=0).x, torch.tensor([10, 10, 4, 7])
    x[0, 3, 1] = torch.nan
    near = switching_start(x, lengths, num_regimes=2, latent_dim=2, seed=3)
    model, data = SwitchingLinearSSM.random(2, 2, 2, seed=0), Sequences(x.nan_to_num(), lengths, mask=~x.isnan())
    assert move_near(model, data, 3)
    torch.testing.assert_close(model.state_dict(), near.state_dict())
