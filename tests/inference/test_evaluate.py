import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Categorical
from pgm_rnn.inference.svi import evaluate
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequences import Sequences
from tests.instances import draw, every_first, every_model, make_hmm, make_model, make_rnn, ragged
from tests.latent_toy import LatentToy

SYMBOLS = Categorical(3)
LENGTHS = torch.tensor([5, 2, 4, 5, 1, 3])


@every_first
@every_model
def test_nats_per_step_are_all_nats_over_all_steps(name: str, first: Any) -> None:
    model, x = make_model(name, SYMBOLS, first=first), ragged(SYMBOLS, LENGTHS)
    log_likelihoods = torch.stack(
        [model.log_prob(row[None, :n]).detach()[0] for row, n in zip(x, LENGTHS.tolist(), strict=True)]
    )
    steps = sum(LENGTHS.tolist()) - (6 if first == "condition" else 0)
    result = evaluate(model, x, LENGTHS)
    torch.testing.assert_close(result.log_likelihoods, log_likelihoods)
    assert result.num_steps == steps
    assert result.nats_per_step == pytest.approx(-float(log_likelihoods.sum()) / steps, rel=1e-12)
    assert result.bound == "exact"


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_the_batch_size_does_not_matter(batch_size: int) -> None:
    model, x = make_rnn("gru", SYMBOLS), ragged(SYMBOLS, LENGTHS)
    torch.testing.assert_close(
        evaluate(model, x, LENGTHS, batch_size=batch_size).log_likelihoods, evaluate(model, x, LENGTHS).log_likelihoods
    )


def test_a_padded_batch_and_its_parts_are_the_same_data() -> None:
    model, x = make_hmm(SYMBOLS), ragged(SYMBOLS, LENGTHS)
    assert evaluate(model, Sequences(x, LENGTHS)).nats_per_step == evaluate(model, x, LENGTHS).nats_per_step


def test_nothing_is_trained_or_drawn() -> None:
    model, before = make_rnn("gru", SYMBOLS), torch.get_rng_state()
    assert not evaluate(model, ragged(SYMBOLS, LENGTHS), LENGTHS).log_likelihoods.requires_grad
    assert torch.equal(torch.get_rng_state(), before)


def ratio(nats: Tensor, steps: Tensor) -> float:
    return float(nats.sum() / steps.sum())


def test_the_standard_error_is_close_to_the_jackknifes() -> None:
    lengths = torch.randint(1, 20, (300,))
    model, x = make_rnn("gru", SYMBOLS), ragged(SYMBOLS, lengths)
    result = evaluate(model, x, lengths)
    nats, keep = -result.log_likelihoods, ~torch.eye(300, dtype=torch.bool)
    left_out = torch.tensor([ratio(nats[rest], lengths[rest]) for rest in keep])
    jackknife = float(((left_out - left_out.mean()).square().sum() * 299 / 300).sqrt())
    assert result.standard_error == pytest.approx(jackknife, rel=0.02)


@pytest.mark.parametrize("num_sequences", [2, 3, 50])
def test_the_standard_error_for_equal_lengths_is_that_of_a_mean(num_sequences: int) -> None:
    x = draw(SYMBOLS, num_sequences, 4)
    result = evaluate(make_rnn("gru", SYMBOLS), x)
    expected = float((result.log_likelihoods / 4).std()) / math.sqrt(num_sequences)
    assert result.standard_error == pytest.approx(expected, rel=1e-12)


def test_the_standard_error_is_the_spread_of_the_estimate_over_data_sets() -> None:
    limit, num_sets, size = 5.0, 200, 50  # standard errors, data sets, sequences in each
    hmm = HMM.random(num_states=2, num_symbols=3, seed=1)
    lengths = torch.randint(1, 20, (num_sets * size,))
    x = hmm.sample(num_sets * size, 20, seed=0).x
    results = [evaluate(hmm, part, n) for part, n in zip(x.split(size), lengths.split(size), strict=True)]
    spread = float(torch.tensor([result.nats_per_step for result in results]).std())
    claimed = sum(result.standard_error for result in results) / num_sets
    uncertainty = spread / math.sqrt(2 * (num_sets - 1))  # of a standard deviation
    assert abs(claimed - spread) < limit * uncertainty
    # the control: the standard error of a sum whose number of steps is taken as fixed
    fixed = [float(r.log_likelihoods.std()) * math.sqrt(size) / r.num_steps for r in results]
    assert abs(sum(fixed) / num_sets - spread) > limit * uncertainty


def test_one_sequence_has_no_standard_error() -> None:
    result = evaluate(make_hmm(SYMBOLS), ragged(SYMBOLS, LENGTHS)[:1])
    assert math.isnan(result.standard_error)
    assert math.isfinite(result.nats_per_step)


def test_equal_sequences_have_no_spread() -> None:
    x = ragged(SYMBOLS, LENGTHS)[:1].expand(5, -1)
    assert evaluate(make_hmm(SYMBOLS), x).standard_error == pytest.approx(0, abs=1e-12)


def test_an_impossible_sequence_costs_infinitely_many_nats() -> None:
    hmm = HMM(torch.ones(1), torch.ones(1, 1), torch.tensor([[0.5, 0.5, 0.0]]))
    result = evaluate(hmm, torch.tensor([[0, 1], [1, 2]]))
    assert result.nats_per_step == math.inf
    assert result.log_likelihoods.isfinite().tolist() == [True, False]


def test_sequences_without_a_modelled_step_count_nothing() -> None:
    model, x = make_rnn("gru", SYMBOLS, first="condition"), ragged(SYMBOLS, LENGTHS)
    longer = LENGTHS > 1
    assert evaluate(model, x, LENGTHS).nats_per_step == pytest.approx(
        evaluate(model, x[longer], LENGTHS[longer]).nats_per_step, rel=1e-12
    )
    with pytest.raises(ValueError, match="expected at least one observation to score, got only first ones"):
        evaluate(model, x[:, :1])


def test_bad_input_is_an_error() -> None:
    model, x = make_hmm(SYMBOLS), ragged(SYMBOLS, LENGTHS)
    with pytest.raises(ValueError, match=r"expected bound to be one of exact, .*, got 'ebo'; did you mean 'elbo'"):
        evaluate(model, x, LENGTHS, bound="ebo")
    with pytest.raises(ValueError, match="expected normalisation to be one of sum, sequence, skip-first, got 'mean'"):
        evaluate(model, x, LENGTHS, normalisation="mean")
    with pytest.raises(ValueError, match="expected num_particles to be an integer of at least 1, got 0"):
        evaluate(model, x, LENGTHS, num_particles=0)
    with pytest.raises(ValueError, match="expected batch_size to be an integer of at least 1, got 0"):
        evaluate(model, x, LENGTHS, batch_size=0)
    with pytest.raises(ValueError, match=r"expected lengths in 1..T = 1..5, got 6"):
        evaluate(model, x, LENGTHS + 1)
    with pytest.raises(ValueError, match="expected lengths in one place"):
        evaluate(model, Sequences(x, LENGTHS), LENGTHS)
    with pytest.raises(ValueError, match="LatentToy has no exact likelihood"):
        evaluate(LatentToy(), torch.zeros(2, 3), bound="exact")
