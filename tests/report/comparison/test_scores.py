"""Scores by sequence and by block, from the chain rule and from small sums done by hand."""

import math

import pytest
import torch

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import svi
from pgm_rnn.models import HMM, RNN, LinearGaussianSSM, MarkovChain, NoisyRNN
from pgm_rnn.report.comparison.scores import Bound, in_blocks, scored, series_terms
from pgm_rnn.report.one_step_terms import one_step_terms
from pgm_rnn.sequence_model import SequenceModel
from tests.switching import SwitchingAR

EXACT = {
    "HMM": HMM.random(2, 3, seed=0),
    "HMM given x_1": HMM.random(2, 3, seed=0, first="condition"),
    "LGSSM": LinearGaussianSSM.random(latent_dim=2, obs_dim=2, seed=0),
    "chain": MarkovChain.random(3, seed=0),
    "chain given x_1": MarkovChain.random(3, seed=0, first="condition"),
    "RNN": RNN("gru", num_symbols=3, hidden_dim=2),
}


@pytest.mark.parametrize("name", EXACT)
def test_terms_of_steps_add_up_to_the_likelihood(name: str) -> None:
    model = EXACT[name].double()
    data = EXACT[name.removesuffix(" given x_1")].double().sample(3, 6, seed=1)
    terms = one_step_terms(model, data)
    assert terms.shape == (3, 6)
    torch.testing.assert_close(terms.sum(1), model.log_marginal_likelihood(data).detach())


def test_a_term_is_the_ratio_of_two_likelihoods() -> None:
    model = EXACT["LGSSM"].double()
    x = model.sample(2, 6, seed=1).x
    longer, shorter = model.log_marginal_likelihood(x[:, :4]), model.log_marginal_likelihood(x[:, :3])
    torch.testing.assert_close(one_step_terms(model, model.sample(2, 6, seed=1))[:, 3], (longer - shorter).detach())


def test_missing_steps_have_terms_of_zero() -> None:
    model = HMM.random(2, emission=Gaussian(), seed=0)
    data = model.sample(2, 5, seed=1)
    x = data.x.clone()
    x[0, 2] = torch.nan
    terms = one_step_terms(model, data._replace(x=x))
    assert float(terms[0, 2]) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(terms.sum(1), model.log_marginal_likelihood(x).detach())


def test_several_sequences_are_scored_as_by_evaluate() -> None:
    model = EXACT["HMM"]
    data = model.sample(5, 7, seed=2)
    found, expected = scored(model, data, Bound()), svi.evaluate(model, data)
    assert (found.nats_per_step, found.standard_error) == (expected.nats_per_step, expected.standard_error)
    assert (found.label, found.unit) == ("exact", "sequences")


def test_a_single_series_has_the_same_score_and_an_error_over_blocks() -> None:
    model = EXACT["LGSSM"]
    data = model.sample(1, 64, seed=2)
    found = scored(model, data, Bound())
    assert found.nats_per_step == pytest.approx(svi.evaluate(model, data).nats_per_step)
    assert (len(found.nats), found.unit) == (16, "blocks of 4 steps")
    assert 0 < found.standard_error < math.inf


def test_blocks_are_sums_of_neighbours_and_empty_ones_are_left_out() -> None:
    nats, steps = torch.arange(8.0), torch.tensor([1.0, 1, 1, 0, 0, 0, 1, 1])
    found = in_blocks(nats, steps, "exact")  # of 8 ** (1 / 3) = 2 steps
    assert found.nats.tolist() == [0 + 1, 2 + 3, 6 + 7]
    assert found.steps.tolist() == [2, 1, 2]


def test_the_error_over_blocks_knows_of_dependent_steps_and_one_over_steps_does_not() -> None:
    innovations = torch.randn(2000)
    level = torch.zeros(2000)
    for t in range(1, 2000):
        level[t] = 0.9 * level[t - 1] + innovations[t]
    steps = torch.ones(2000)
    true = (1 / (1 - 0.9)) / 2000**0.5  # of the mean: the long-run standard deviation over sqrt(T)
    assert in_blocks(level, steps, "exact").standard_error > 0.5 * true
    assert svi.ratio_error(level, steps) < 0.3 * true


def test_a_model_without_a_likelihood_is_scored_by_the_bound() -> None:
    model = NoisyRNN.random(1, 1, seed=0)
    assert scored(model, model.sample(3, 4, seed=0), Bound("elbo")).label == "ELBO"
    assert scored(model, model.sample(1, 4, seed=0), Bound("fivo", 30)).label == "FIVO_30"
    with pytest.raises(ValueError, match=r"expected bound='fivo' for a single series, .*, got 'elbo'"):
        series_terms(model, model.sample(1, 4, seed=0), Bound("elbo"))


def test_a_class_of_ones_own_is_scored_step_by_step() -> None:
    model: SequenceModel = SwitchingAR()
    data = model.sample(1, 9, seed=0)
    terms = series_terms(model, data, Bound())[0]
    assert float(terms.sum()) == pytest.approx(float(model.log_marginal_likelihood(data).detach()[0]))
