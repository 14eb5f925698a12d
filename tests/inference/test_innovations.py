from typing import Any

import pytest
import torch

from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.inference import kalman
from pgm_rnn.inference.kalman.innovations import one_step_residuals, rebuilt
from pgm_rnn.models import LinearGaussianSSM
from pgm_rnn.sequences import Sequences, length_mask
from tests.instances import make_hmm, make_model

LIMIT = 5.0  # standard errors
LENGTHS = torch.tensor([6, 3, 1])


def model(**sizes: Any) -> Any:
    return make_model("lgssm", Gaussian(2), **sizes)


@pytest.mark.parametrize("input_dim", [None, 1])
def test_sequences_are_rebuilt_from_their_residuals(input_dim: int | None) -> None:
    made = model() if input_dim is None else model(input_dim=input_dim)
    u = None if input_dim is None else torch.randn(3, 6, input_dim)
    data = made.sample(3, 6, seed=0, inputs=u)._replace(lengths=LENGTHS)
    again = rebuilt(made, data._replace(x=torch.zeros_like(data.x)), one_step_residuals(made, data).values)
    inside = length_mask(LENGTHS, 6)
    torch.testing.assert_close(again[inside], data.x[inside])


def test_residuals_are_errors_of_the_big_joint_normal() -> None:
    """The Cholesky factor of Cov(x_{1:T}) whitens x; residuals have the same squares, step by step."""
    made = model()
    data = made.sample(1, 4, seed=0)
    draws = torch.eye(8).reshape(8, 4, 2)
    mean = rebuilt(made, torch.zeros(1, 4, 2), torch.zeros(1, 4, 2))
    columns = torch.cat([rebuilt(made, torch.zeros(1, 4, 2), one[None]) - mean for one in draws])
    cov = columns.reshape(8, 8).mT @ columns.reshape(8, 8)  # x is a linear function of N(0, I)
    law = torch.distributions.MultivariateNormal(mean.reshape(8), cov)
    torch.testing.assert_close(law.log_prob(data.x.reshape(8)), made.log_prob(data._replace(z=None))[0].detach())
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(cov), (data.x - mean).reshape(8, 1), upper=False)
    squares = white.reshape(4, 2).square().sum(-1)
    torch.testing.assert_close(one_step_residuals(made, data).values[0].square().sum(-1), squares)


def test_residuals_are_standard_normal_under_the_model_and_not_under_another() -> None:
    made, n = model(), 800
    data = made.sample(n // 4, 4, seed=0)
    wrong = LinearGaussianSSM.random(latent_dim=2, obs_dim=2, seed=5)
    for judge, holds in ((made, True), (wrong, False)):
        values = one_step_residuals(judge, data).values.reshape(n, 2)
        cov_error = (values.mT @ values / n - torch.eye(2)).abs().max()
        assert (float(cov_error) < LIMIT * (2 / n) ** 0.5) == holds


def test_residuals_of_steps_with_gaps_are_left_out() -> None:
    made = model()
    data = made.sample(2, 5, seed=0)
    x = data.x.clone()
    x[0, 1, 0] = torch.nan
    found = one_step_residuals(made, Sequences(x, data.lengths))
    assert found.whole.sum() == 9
    assert not bool(found.whole[0, 1])
    assert bool((found.values[0, 1] == 0).all())
    filtered = kalman.filter(made, Sequences(x, data.lengths))
    assert torch.equal(one_step_residuals(made, data).values[1], found.values[1])
    assert filtered.log_normalizers.isfinite().all()


def test_models_without_residuals_are_errors() -> None:
    with pytest.raises(TypeError, match="a model with linear Gaussian states for the residual bootstrap, HMM has"):
        one_step_residuals(make_hmm(Categorical(2)), torch.zeros(1, 3, dtype=torch.int64))
    one = torch.eye(1)
    vague: Any = LinearGaussianSSM(torch.zeros(1), one, one, one, one, one, diffuse=[True])
    with pytest.raises(ValueError, match="expected initial_cov for one-step residuals, got a diffuse start"):
        one_step_residuals(vague, torch.zeros(1, 3, 1))
