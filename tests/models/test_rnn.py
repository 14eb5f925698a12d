import pytest
import torch

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from pgm_rnn.models.rnn import RNN
from pgm_rnn.sequence_model import First
from tests.definitions import rnn_step_log_probs
from tests.instances import (
    LENGTHS,
    assert_same,
    draw,
    every_cell,
    every_family,
    every_first,
    gradients,
    make_rnn,
    ragged,
    randomised,
)

ONE_OF_EACH = pytest.mark.parametrize("emission", [Categorical(3), Bernoulli(2), Gaussian(2), Poisson()])


@every_first
@every_family
@every_cell
def test_the_log_prob_is_the_recursion_written_out(name: str, family: Emission, first: First) -> None:
    rnn, x = make_rnn(name, family, num_layers=2), ragged(family)
    steps = rnn_step_log_probs(name, rnn, x) * (torch.arange(4) < LENGTHS[:, None])
    expected = steps[:, int(first == "condition") :].sum(1)
    torch.testing.assert_close(rnn.log_prob(x, lengths=LENGTHS, first=first), expected)


@every_cell
def test_the_gradient_is_that_of_the_recursion_written_out(name: str) -> None:
    rnn, x = make_rnn(name, Categorical(3), num_layers=2), draw(Categorical(3), 2, 5)
    actual = gradients(rnn.log_prob(x).sum(), rnn)
    expected = gradients(rnn_step_log_probs(name, rnn, x).sum(), rnn)
    assert_same(actual, expected, rtol=1e-9, atol=1e-12)
    for parameter, gradient in actual.items():
        assert bool(gradient.any()), f"{parameter} has no influence"


@every_cell
def test_the_unrolled_memory_starts_at_h_1_and_follows_the_recurrence(name: str) -> None:
    rnn, x = make_rnn(name, Gaussian(2), num_layers=2), draw(Gaussian(2), 3, 4)
    assert rnn.initial_memory is not None
    h = [rnn.initial_memory.expand(3, -1)]
    for t in range(3):
        h.append(rnn.recurrence(h[-1], None, x[:, t]))
    top = torch.stack(h, 1)[..., : rnn.cell.hidden_dim]
    torch.testing.assert_close(rnn.unroll_memory(x), top)


@every_family
def test_the_first_observation_is_the_emission_at_h_1(family: Emission) -> None:
    rnn, x = make_rnn("gru", family), draw(family, 3, 1)
    assert rnn.initial_memory is not None
    expected = rnn.emission(None, rnn.initial_memory.expand(3, -1)).log_prob(x[:, 0])
    torch.testing.assert_close(rnn.log_prob(x), expected)
    assert rnn.log_prob(x, first="condition").tolist() == [0, 0, 0]


def test_an_emission_reads_the_top_layer_only() -> None:
    rnn = make_rnn("lstm", Categorical(3), num_layers=2)
    state = torch.randn(5, rnn.cell.state_dim)
    top = state[:, : rnn.cell.hidden_dim]
    symbols = torch.tensor([0, 1, 2, 1, 0])
    assert torch.equal(rnn.emission(None, state).log_prob(symbols), rnn.emission(None, top).log_prob(symbols))


def test_the_last_observation_is_no_input() -> None:
    rnn, x = make_rnn("elman", Gaussian()), draw(Gaussian(), 1, 4)
    changed = x.clone()
    changed[0, 3] += 1
    assert torch.equal(rnn.unroll_memory(x), rnn.unroll_memory(changed))


def test_a_fresh_rnn_starts_at_zero_and_trains_its_start() -> None:
    rnn = RNN(num_symbols=3, hidden_dim=2)
    assert isinstance(rnn.initial_memory, torch.nn.Parameter)
    assert rnn.initial_memory.tolist() == [0, 0]


def test_num_symbols_is_short_for_a_categorical_emission() -> None:
    assert RNN(num_symbols=3).family == RNN(emission=Categorical(3)).family == Categorical(3)


@pytest.mark.parametrize(("embedding_dim", "width"), [(None, 4), (2, 2), (7, 7)])
def test_an_embedding_is_as_wide_as_was_asked_for(embedding_dim: int | None, width: int) -> None:
    rnn = randomised(RNN("elman", num_symbols=3, hidden_dim=4, embedding_dim=embedding_dim))
    assert rnn.embedding is not None
    assert rnn.embedding.weight.shape == (3, width)
    x = draw(Categorical(3), 2, 5)
    torch.testing.assert_close(rnn.log_prob(x), rnn_step_log_probs("elman", rnn, x).sum(1))


def test_any_integer_dtype_of_symbols_gives_the_same_value() -> None:
    rnn, x = make_rnn("gru", Categorical(3)), draw(Categorical(3), 2, 5)
    assert torch.equal(rnn.log_prob(x.to(torch.uint8)), rnn.log_prob(x))


@ONE_OF_EACH
def test_single_precision_stays_single_precision(emission: Emission) -> None:
    rnn, x = make_rnn("lstm", emission), draw(emission, 3, 5)
    exact = rnn.log_prob(x)
    single = rnn.float().log_prob(x if emission.needs_integers else x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-5)
    assert rnn.sample(2, 3, seed=0).x.dtype == (torch.int64 if emission.needs_integers else torch.float32)


def test_long_sequences_are_handled() -> None:
    rnn, x = make_rnn("gru", Bernoulli()), draw(Bernoulli(), 1, 2_000)
    torch.testing.assert_close(rnn.log_prob(x), rnn_step_log_probs("gru", rnn, x).sum(1))


@pytest.mark.parametrize(("cell", "hint"), [("ltsm", "lstm"), ("LSTM", "lstm"), ("deep_transition", "deep-transition")])
def test_an_unknown_cell_is_an_error_with_a_hint(cell: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"expected cell to be one of elman, .*got '{cell}'; did you mean '{hint}'"):
        RNN(cell, num_symbols=3)


def test_exactly_one_of_num_symbols_and_emission_is_needed() -> None:
    with pytest.raises(ValueError, match="expected exactly one of num_symbols and emission"):
        RNN()
    with pytest.raises(ValueError, match="expected exactly one of num_symbols and emission"):
        RNN(num_symbols=3, emission=Categorical(3))


@pytest.mark.parametrize("emission", [Gaussian, torch.ones(2, 2), "gaussian"])
def test_an_emission_that_is_no_family_is_an_error(emission: Emission) -> None:
    with pytest.raises(TypeError, match=r"expected a family such as Bernoulli\(88\) as emission, got"):
        RNN(emission=emission)


@pytest.mark.parametrize("name", ["num_symbols", "hidden_dim", "num_layers", "embedding_dim"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_sizes_are_positive_integers(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"expected {name} to be an integer of at least 1, got {value}"):
        RNN(**{"num_symbols": 3, name: value})  # type: ignore[arg-type]


def test_only_symbols_are_embedded() -> None:
    with pytest.raises(ValueError, match=r"expected embedding_dim only for symbols, got 4 for Gaussian\(size=2\)"):
        RNN(emission=Gaussian(2), embedding_dim=4)


def test_an_unknown_first_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected first to be one of model, condition, got 'conditional'; did you"):
        RNN(num_symbols=3, first="conditional")  # type: ignore[arg-type]


def test_an_option_that_is_a_typo_is_an_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'hiden_dim'"):
        RNN(num_symbols=3, hiden_dim=4)  # type: ignore[call-arg]


def test_a_latent_state_is_an_error_for_a_model_without_one() -> None:
    rnn, x = make_rnn("elman", Gaussian()), draw(Gaussian(), 2, 3)
    with pytest.raises((ValueError, TypeError), match="z"):
        rnn.log_prob(x, z=torch.zeros(2, 3))
