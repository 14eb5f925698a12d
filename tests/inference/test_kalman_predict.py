"""Laws of the next observation: their density is the filter's own, and their moments those of a walk by hand."""

from typing import Any

import numpy as np
import torch

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import kalman
from pgm_rnn.models import LinearGaussianSSM
from tests.instances import make_model


def test_densities_of_the_predictions_are_the_filters_terms() -> None:
    """log N(x_t; means, covs) = log p(x_t | x_{1:t-1}), of a model whose inputs reach states and observations."""
    eye = torch.eye(2)
    matrix, drive = torch.tensor([[1.0, 0.5], [0.0, 1.0], [0.3, -1.0]]), torch.tensor([[0.5], [-1.0]])
    feed = torch.tensor([[0.1], [0.2], [2.0]])
    model = LinearGaussianSSM(torch.ones(2), eye, 0.8 * eye, 0.5 * eye, matrix, torch.eye(3), drive, feed)
    inputs = torch.randn(2, 6, 1)
    x, lengths = model.sample(2, 6, seed=0, inputs=inputs).x, torch.tensor([6, 4])
    found = kalman.predict(model, x, lengths, inputs=inputs)
    law: Any = torch.distributions.MultivariateNormal(found.means, found.covs)
    inside = torch.arange(6) < lengths[:, None]
    expected = kalman.filter(model, x, lengths, inputs=inputs).log_normalizers
    np.testing.assert_allclose(law.log_prob(x).where(inside, 0.0), expected, rtol=1e-9)
    assert bool((found.means[1, 4:] == 0).all())


def test_scalar_observations_count_as_vectors_of_one_entry() -> None:
    """A walk seen with noise: m_{t+1} = m_t + K (x_t - m_t), P_{t+1} = (1 - K) P_t + q, K = P_t / (P_t + r)."""
    one = torch.ones(1, 1)
    model = LinearGaussianSSM(torch.zeros(1), one, one, 0.5 * one, one, 2.0 * one)
    x = torch.tensor([1.0, torch.nan, -0.5, 2.0])
    found = kalman.predict(model, x[None, :, None])
    mean, variance = 0.0, 1.0
    for t, value in enumerate(x.tolist()):
        np.testing.assert_allclose([found.means[0, t, 0], found.covs[0, t, 0, 0]], [mean, variance + 2.0], rtol=1e-9)
        gain = 0.0 if np.isnan(value) else variance / (variance + 2.0)
        mean, variance = mean + (gain * (value - mean) if gain else 0.0), (1 - gain) * variance + 0.5


def test_a_prediction_is_said_in_short() -> None:
    model = make_model("lgssm", Gaussian(2))
    found = kalman.predict(model, torch.zeros(1, 3, 2))
    assert repr(found) == "Predicted(means=tensor (1, 3, 2), covs=tensor (1, 3, 2, 2))"
