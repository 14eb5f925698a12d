"""`sample` and `forecast`: their law against exact tables, their shapes, and their use of randomness."""

from collections.abc import Callable
from itertools import count

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian
from pgm_rnn.sequence_model import Forecast, SequenceModel
from pgm_rnn.sequences import Sequences
from tests import instances
from tests.definitions import all_words, filtered_probs, largest_z_score, word_index
from tests.instances import (
    LENGTHS,
    every_exact_law,
    every_exact_model_of_vectors,
    every_first,
    every_model,
    every_model_of_symbols,
    make_hmm,
    make_model,
    ragged,
    randomised,
    spoiled,
)

LIMIT = 5.0  # standard errors
NUM = 20_000
SYMBOLS = Categorical(3)
HISTORY = torch.tensor([[0, 1, 2, 1], [2, 0, 0, 0], [1, 1, 0, 0]])
PASTS = [row[:n] for row, n in zip(HISTORY, LENGTHS.tolist(), strict=True)]


def strong(name: str) -> SequenceModel:
    """A model in which the past matters: what follows a history is not what follows it and its padding."""
    scale = 0.5 if instances.REGISTRIES.models[name].unbounded_memory else 1.5
    models = (randomised(make_model(name, SYMBOLS), seed=seed, scale=scale) for seed in count(2))
    return next(model for model in models if largest_effect_of_padding(model) > 0.05)


def largest_effect_of_padding(model: SequenceModel) -> float:
    """The largest change of a probability of two symbols to come when the padding is taken for observations."""
    pairs = [(next_law(model, past, 2), next_law(model, row, 2)) for past, row in zip(PASTS, HISTORY, strict=True)]
    return max(float((own - other).abs().max()) for own, other in pairs)


def next_law(model: SequenceModel, past: Tensor, num_steps: int) -> Tensor:
    """p(x_{L+1}, ..., x_{L+n} | past) for every word, from the exact likelihood: (3^n,)."""
    words = all_words(3, num_steps)
    joint = model.log_prob(torch.cat([past.expand(len(words), -1), words], 1)).detach()
    return (joint - model.log_prob(past[None]).detach()).exp()


@every_model_of_symbols
def test_samples_follow_the_exact_law_and_not_another(name: str) -> None:
    words = all_words(3, 3)
    model, other = make_model(name, SYMBOLS), make_model(name, SYMBOLS, seed=1)
    drawn = word_index(model.sample(NUM, 3, seed=0).x, 3)
    assert largest_z_score(drawn, model.log_prob(words).exp().detach()) < LIMIT
    assert largest_z_score(drawn, other.log_prob(words).exp().detach()) > LIMIT


def test_states_and_observations_are_drawn_together() -> None:
    hmm = make_hmm(SYMBOLS)
    batch = hmm.sample(NUM, 2, seed=0)
    assert batch.z is not None
    states = torch.cat([all_words(2, 2)] * 9)
    words = all_words(3, 2).repeat_interleave(4, 0)
    drawn = word_index(batch.x, 3) * 4 + word_index(batch.z, 2)
    assert largest_z_score(drawn, hmm.log_prob(words, states).exp().detach()) < LIMIT
    unrelated = word_index(batch.x, 3) * 4 + word_index(batch.z.roll(1, 0), 2)
    assert largest_z_score(unrelated, hmm.log_prob(words, states).exp().detach()) > LIMIT


@every_model
def test_gaussian_samples_have_the_mean_of_the_first_emission(name: str) -> None:
    model = make_model(name, Gaussian())
    x = model.sample(NUM, 2, seed=0).x[:, 0]
    grid = torch.linspace(-40, 40, 20_001)
    density = model.log_prob(grid[:, None]).exp().detach()
    mean = float(torch.trapezoid(grid * density, grid))
    standard_error = float(x.std()) / NUM**0.5
    assert abs(float(x.mean()) - mean) < LIMIT * standard_error
    assert abs(float(x.mean()) - mean - 0.1) > LIMIT * standard_error


@every_model_of_symbols
def test_a_forecast_starts_at_each_sequences_own_end(name: str) -> None:
    model = strong(name)
    drawn = model.forecast(spoiled(HISTORY, LENGTHS, -1), 2, lengths=LENGTHS, num_samples=NUM, seed=0).x
    for i, past in enumerate(PASTS):
        assert largest_z_score(word_index(drawn[:, i], 3), next_law(model, past, 2)) < LIMIT


@every_model_of_symbols
def test_a_forecast_that_ignored_the_lengths_would_be_found_out(name: str) -> None:
    model = strong(name)
    drawn = model.forecast(HISTORY, 2, num_samples=NUM, seed=0).x
    scores = [largest_z_score(word_index(drawn[:, i], 3), next_law(model, past, 2)) for i, past in enumerate(PASTS)]
    assert scores[0] < LIMIT  # this one has no padding
    assert max(scores[1:]) > LIMIT


def test_the_state_that_a_forecast_starts_from_is_the_filtered_one() -> None:
    hmm = make_hmm(SYMBOLS)
    drawn = hmm.forecast(HISTORY, 1, lengths=LENGTHS, num_samples=NUM, seed=0).z
    assert drawn is not None
    for i, past in enumerate(PASTS):
        emission = hmm.emission_probs.T[past].detach()
        last = filtered_probs(hmm.initial_probs.detach(), hmm.transition_probs.detach(), emission)[-1]
        assert largest_z_score(drawn[:, i, 0], (last @ hmm.transition_probs).detach()) < LIMIT
        assert largest_z_score(drawn[:, i, 0], last) > LIMIT


@every_model_of_symbols
def test_a_forecast_needs_no_law_of_the_first_observation(name: str) -> None:
    joint, conditional = make_model(name, SYMBOLS), make_model(name, SYMBOLS, first="condition")
    one, other = (m.forecast(HISTORY, 3, lengths=LENGTHS, num_samples=5, seed=0) for m in (joint, conditional))
    assert torch.equal(one.x, other.x)


# Shapes.


@every_exact_law
def test_samples_are_a_valid_batch(name: str, family: Emission) -> None:
    model = make_model(name, family)
    batch = model.sample(5, 4, seed=0)
    assert batch.x.shape == (5, 4, *family.event_shape)
    assert batch.lengths.tolist() == [4] * 5
    assert (batch.z is not None) == model.has_latent
    if batch.z is not None:
        assert batch.z.shape[:2] == (5, 4)
    assert torch.equal(model.check(batch.x, batch.lengths)[0], batch.x)


@pytest.mark.parametrize("num_samples", [None, 1, 6])
@every_exact_law
def test_forecasts_have_samples_in_front(name: str, family: Emission, num_samples: int | None) -> None:
    model, leading = make_model(name, family), () if num_samples is None else (num_samples,)
    ahead = model.forecast(ragged(family), 2, lengths=LENGTHS, num_samples=num_samples, seed=0)
    assert ahead.x.shape == (*leading, 3, 2, *family.event_shape)
    assert (ahead.z is not None) == model.has_latent
    if ahead.z is not None:
        assert ahead.z.shape[: len(leading) + 2] == (*leading, 3, 2)
    assert not family.invalid(ahead.x).any()


@every_exact_model_of_vectors
def test_one_sequence_of_one_step_is_enough(name: str) -> None:
    model = make_model(name, Gaussian(2))
    one = model.sample(1, 1, seed=0)
    assert one.x.shape == (1, 1, 2)
    assert model.forecast(one.x, 1).x.shape == (1, 1, 2)


@every_exact_model_of_vectors
def test_draws_carry_no_gradient(name: str) -> None:
    model = make_model(name, Gaussian(2))
    batch = model.sample(2, 3)
    assert not batch.x.requires_grad
    assert not model.forecast(batch.x, 2).x.requires_grad


def test_a_forecast_takes_integer_bits() -> None:
    model, bits = make_model("rnn-gru", Bernoulli()), torch.tensor([[0, 1, 1]])
    assert torch.equal(model.forecast(bits, 4, seed=0).x, model.forecast(bits.double(), 4, seed=0).x)


# Randomness.


def samplers(name: str) -> list[Callable[[int | None], Sequences | Forecast]]:
    model = make_model(name, SYMBOLS)
    return [
        lambda seed: model.sample(20, 8, seed=seed),
        lambda seed: model.forecast(HISTORY, 8, lengths=LENGTHS, num_samples=20, seed=seed),
    ]


@every_model_of_symbols
def test_the_same_seed_gives_the_same_draws_and_another_does_not(name: str) -> None:
    for drawn in samplers(name):
        assert torch.equal(drawn(3).x, drawn(3).x)
        assert not torch.equal(drawn(3).x, drawn(4).x)


@every_model_of_symbols
def test_the_global_random_state_is_left_alone_by_a_seed_and_used_without(name: str) -> None:
    for drawn in samplers(name):
        before = torch.get_rng_state()
        drawn(3)
        assert torch.equal(torch.get_rng_state(), before)
        first, second = drawn(None), drawn(None)
        assert not torch.equal(first.x, second.x)
        torch.set_rng_state(before)
        assert torch.equal(drawn(None).x, first.x)


@every_first
@every_model_of_symbols
def test_a_forecast_is_checked_like_any_observation(name: str, first: str) -> None:
    model = make_model(name, SYMBOLS, first=first)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected symbols in 0..2, got 7 in sequence 0 at step 1"):
        model.forecast(HISTORY + 7, 2)
    with pytest.raises(ValueError, match=r"expected lengths in 1..T = 1..4, got 5"):
        model.forecast(HISTORY, 2, lengths=LENGTHS + 1)
    with pytest.raises(TypeError, match="expected seed as an integer or None, got str"):
        model.forecast(HISTORY, 2, seed="0")  # type: ignore[arg-type]
