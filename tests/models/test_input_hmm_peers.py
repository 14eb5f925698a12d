"""The input-driven chain of the UK drivers beside statsmodels' Markov switching regression.

What statsmodels 0.15.0 found is recorded, and computed again where it is installed:

    peer = MarkovRegression(x, k_regimes=2, exog=u, switching_variance=True)
    peer.fit(start_params=START, em_iter=200, maxiter=2000, method="bfgs", gtol=1e-8)

with the inputs law, cos_year, sin_year, cos_half_year and sin_half_year, from parameters near the entry of the zoo:
from its own start it ends at singular probabilities. Its first state has the stationary law.
"""

import os
from typing import Any

import numpy as np
import pytest
import torch

import pgm_rnn as pr
from pgm_rnn.data import load
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import forward_backward
from pgm_rnn.models import InputHMM
from pgm_rnn.sequences import Sequences

pytestmark = pytest.mark.skipif("PGM_RNN_DATA" not in os.environ, reason="needs the data set uk-drivers")

NAMES = ["law", "cos_year", "sin_year", "cos_half_year", "sin_half_year"]
P00, P10 = 0.9791040221186031, 0.05309390247522802
MEANS = [7.388837271638663, 7.560179670858578]
EFFECTS = [
    [-0.22363836982721974, -0.2679995513708875],
    [0.07050515693596669, 0.06283857065855036],
    [-0.11490232362990364, -0.0876547082218424],
    [-0.009667032661932994, 0.025160533888678643],
    [-0.06757283888671138, -0.07759330340414189],
]
"""One row per input, one column per state."""
VARIANCES = [0.005890859655677156, 0.003959962750517431]
FOUND = 212.47539294801436
"""Their log likelihood at its maximum."""


def series() -> Sequences:
    return load("uk-drivers").with_inputs(NAMES).train


def model_of_theirs() -> InputHMM:
    moves = torch.tensor([[P00, 1 - P00], [P10, 1 - P10]], dtype=torch.float64)
    stationary = torch.tensor([P10, 1 - P00], dtype=torch.float64) / (P10 + 1 - P00)
    laws = Gaussian().table(torch.tensor(MEANS).double(), torch.tensor(VARIANCES).double().sqrt())
    model = InputHMM(stationary, moves, laws, len(NAMES), drives="emission").requires_grad_(False)
    model.emission_weight.copy_(torch.tensor(EFFECTS).double().mT[:, None])
    return model


def test_the_likelihood_is_that_of_statsmodels_at_its_maximum() -> None:
    model, data = model_of_theirs(), series()
    assert float(model.log_marginal_likelihood(data)) == pytest.approx(FOUND, rel=1e-10)
    later = data._replace(inputs=data.inputs.roll(1, 1))  # type: ignore[union-attr]
    assert float(model.log_marginal_likelihood(later)) < FOUND - 1  # a control: inputs a month late


@pytest.mark.filterwarnings("ignore")
def test_statsmodels_finds_the_same_likelihood_and_states() -> None:
    markov = pytest.importorskip("statsmodels.tsa.regime_switching.markov_regression")
    model, data = model_of_theirs(), series()
    assert data.inputs is not None
    options: dict[str, Any] = {"k_regimes": 2, "exog": data.inputs[0].numpy(), "switching_variance": True}
    peer = markov.MarkovRegression(data.x[0].numpy(), **options)
    values = {"p[0->0]": P00, "p[1->0]": P10}
    for k in range(2):
        values |= {f"const[{k}]": MEANS[k], f"sigma2[{k}]": VARIANCES[k]}
        values |= {f"x{i + 1}[{k}]": row[k] for i, row in enumerate(EFFECTS)}
    params = np.array([values[name] for name in peer.param_names])
    assert float(model.log_marginal_likelihood(data)) == pytest.approx(peer.loglike(params), rel=1e-10)
    assert np.abs(peer.score(params)).max() < 1e-3  # the slope at their maximum, where standard errors are below 0.05
    found = forward_backward.smooth(model, data).smoothed_probs[0]
    np.testing.assert_allclose(found, peer.smooth(params).smoothed_marginal_probabilities, atol=1e-8)


def test_the_entry_of_the_zoo_is_at_least_as_likely_and_has_the_same_states() -> None:
    """Its first state has a free law, so log p >= theirs >= log p + log pi_0, with pi the stationary law."""
    entry, data = pr.load_pretrained("input-hmm-uk-drivers").requires_grad_(False), series()
    assert isinstance(entry, InputHMM)
    moves = entry.transition_logits.softmax(-1)
    stationary = float(moves[1, 0] / (moves[1, 0] + moves[0, 1]))  # of state 0, where the entry begins
    assert float(entry.initial_logits.softmax(-1)[0]) > 0.999
    assert 0 <= float(entry.log_marginal_likelihood(data)) - FOUND < -np.log(stationary)
    ours, theirs = (forward_backward.most_likely_states(model, data).states for model in (entry, model_of_theirs()))
    assert torch.equal(ours, theirs)
