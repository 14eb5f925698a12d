from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian
from pgm_rnn.inference import svi
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.markov_chain import MarkovChain
from pgm_rnn.sequences import Sequences
from tests.definitions import all_words
from tests.instances import LENGTHS, draw, ragged, spoiled

INITIAL = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
TRANSITION = torch.tensor([[0.1, 0.9, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
DISCRETE = pytest.mark.parametrize("family", [Categorical(3), Bernoulli(), Bernoulli(2)], ids=str)


def chain() -> MarkovChain:
    return MarkovChain(INITIAL, TRANSITION)


def frequencies(rows: list[list[int]], num_symbols: int) -> tuple[Tensor, Tensor]:
    """First symbols and pairs in sequences, counted one by one: (K,) and (K, K)."""
    initial, pairs = torch.zeros(num_symbols), torch.zeros(num_symbols, num_symbols)
    for row in rows:
        initial[row[0]] += 1
        for old, new in pairwise(row):
            pairs[old, new] += 1
    return initial, pairs


def test_the_log_prob_is_the_product_of_the_transitions_zeros_included() -> None:
    words = all_words(3, 3)
    expected = [INITIAL[a] * TRANSITION[a, b] * TRANSITION[b, c] for a, b, c in words]
    torch.testing.assert_close(chain().log_prob(words).exp(), torch.stack(expected))


def test_each_bit_is_a_chain_of_its_own() -> None:
    family, x = Bernoulli(2), draw(Bernoulli(2), 5, 4)
    whole = MarkovChain.random(emission=family, seed=0)
    parts = [
        MarkovChain(whole.initial_probs[j], whole.transition_probs[:, j], emission=Bernoulli()).log_prob(x[..., j])
        for j in range(2)
    ]
    torch.testing.assert_close(whole.log_prob(x), parts[0] + parts[1])


def test_a_chain_of_one_bit_is_a_chain_over_two_symbols() -> None:
    bit = MarkovChain.random(emission=Bernoulli(), seed=0)
    rows = [torch.stack([1 - p, p], -1) for p in (bit.initial_probs, bit.transition_probs)]
    symbols, x = MarkovChain(*rows), draw(Categorical(2), 5, 4)
    torch.testing.assert_close(bit.log_prob(x), symbols.log_prob(x))


def test_it_is_the_hidden_markov_model_that_shows_its_states() -> None:
    hmm, x = HMM(INITIAL, TRANSITION, torch.eye(3)), draw(Categorical(3), 20, 6)
    torch.testing.assert_close(chain().log_prob(x), hmm.log_marginal_likelihood(x))


def test_the_memory_is_the_observation_before() -> None:
    model, x = MarkovChain.random(emission=Bernoulli(2), seed=0), draw(Bernoulli(2), 3, 4)
    expected = torch.cat([torch.full((3, 1, 2), -1.0), x[:, :-1]], dim=1)
    assert torch.equal(model.unroll_memory(x), expected)
    assert torch.equal(model.recurrence(expected[:, 0], None, x[:, 0]), x[:, 0])


@DISCRETE
def test_probabilities_are_parameters_by_name(family: Emission) -> None:
    model, wanted = MarkovChain.random(emission=family, seed=0), MarkovChain.random(emission=family, seed=1)
    for name in ("initial_probs", "transition_probs"):
        raw, value = model.unconstrained(name, getattr(wanted, name).detach())
        with torch.no_grad():
            model.get_parameter(raw).copy_(value)
        torch.testing.assert_close(getattr(model, name), getattr(wanted, name))
    assert model.unconstrained("initial_logits", value) == ("initial_logits", value)


# Counts.


def test_the_estimate_is_the_relative_frequencies() -> None:
    x = ragged(Categorical(3))
    rows = [row[:n].tolist() for row, n in zip(x, LENGTHS.tolist(), strict=True)]
    initial, pairs = frequencies(rows, 3)
    model = MarkovChain.from_counts(spoiled(x, LENGTHS, 1), LENGTHS, num_symbols=3)
    torch.testing.assert_close(model.initial_probs, initial / 3)
    totals = pairs.sum(1, keepdim=True)
    expected = torch.where(totals > 0, pairs / totals, 1 / 3)
    torch.testing.assert_close(model.transition_probs, expected)


def test_pseudo_counts_are_added_to_every_count() -> None:
    x = ragged(Categorical(3))
    initial, pairs = frequencies([row[:n].tolist() for row, n in zip(x, LENGTHS.tolist(), strict=True)], 3)
    model = MarkovChain.from_counts(Sequences(x, LENGTHS), num_symbols=3, pseudo_count=0.5)
    torch.testing.assert_close(model.initial_probs, (initial + 0.5) / 4.5)
    torch.testing.assert_close(model.transition_probs, (pairs + 0.5) / (pairs.sum(1, keepdim=True) + 1.5))


def test_the_estimate_of_bits_is_that_of_each_bit_as_a_symbol() -> None:
    x = ragged(Bernoulli(2))
    model = MarkovChain.from_counts(x, LENGTHS, emission=Bernoulli(2), pseudo_count=1.0)
    for j in range(2):
        one = MarkovChain.from_counts(x[..., j].long(), LENGTHS, num_symbols=2, pseudo_count=1.0)
        torch.testing.assert_close(model.initial_probs[j], one.initial_probs[1])
        torch.testing.assert_close(model.transition_probs[:, j], one.transition_probs[:, 1])


@DISCRETE
def test_the_estimate_is_a_stationary_point_and_its_neighbours_are_not(family: Emission) -> None:
    x = draw(family, 200, 6)
    model = MarkovChain.from_counts(x, emission=family)
    parameters = list(model.parameters())
    for moved, limit in ((0.0, True), (0.1, False)):
        with torch.no_grad():
            for p in parameters:
                p.add_(moved * torch.randn_like(p))
        found = torch.autograd.grad(model.log_prob(x).sum(), parameters)
        assert (max(float(g.abs().max()) for g in found) < 1e-9) == limit


def test_gradient_steps_approach_the_counts() -> None:
    data = chain().sample(300, 6, seed=0)
    counted = MarkovChain.from_counts(data, num_symbols=3)
    trained = MarkovChain.random(3, seed=0)
    start = float((trained.transition_probs - counted.transition_probs).detach().abs().max())
    svi.fit(trained, data, num_epochs=300, batch_size=300, learning_rate=0.1, progress=False)
    assert float((trained.transition_probs - counted.transition_probs).detach().abs().max()) < 0.01 < start
    best = svi.evaluate(counted, data).nats_per_step
    assert best < svi.evaluate(trained, data).nats_per_step < best + 5e-3


def test_bits_that_never_change_keep_the_likelihood_finite() -> None:
    x = torch.zeros(3, 4, 2)
    model = MarkovChain.from_counts(x, emission=Bernoulli(2))
    assert model.log_prob(x).isfinite().all()
    assert model.log_prob(1 - x).isfinite().all()


def test_the_counts_are_in_the_dtype_of_the_observations() -> None:
    x = draw(Bernoulli(2), 3, 4)
    assert MarkovChain.from_counts(x.float(), emission=Bernoulli(2)).initial_logits.dtype == torch.float32
    assert MarkovChain.from_counts(x.to(torch.uint8), emission=Bernoulli(2)).initial_logits.dtype == torch.float64


# Errors.


def test_other_families_are_an_error() -> None:
    with pytest.raises(TypeError, match=r"expected symbols or bits, .*, got Gaussian\(size=2\); use RNN or HMM"):
        MarkovChain.random(emission=Gaussian(2))


def test_probabilities_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ValueError, match="each row of initial_probs to sum to one"):
        MarkovChain(2 * INITIAL, TRANSITION)
    with pytest.raises(ValueError, match="each row of transition_probs to sum to one"):
        MarkovChain(INITIAL, 2 * TRANSITION)
    with pytest.raises(ValueError, match=r"expected transition_probs of shape \(3, 3\), got \(2, 3\)"):
        MarkovChain(INITIAL, TRANSITION[:2])
    with pytest.raises(ValueError, match=r"of shape \(2,\) and transition_probs of shape \(2, 2\)"):
        MarkovChain(torch.rand(2), torch.rand(3, 2), emission=Bernoulli(2))
    with pytest.raises(ValueError, match="bits strictly between 0 and 1"):
        MarkovChain(torch.tensor(0.0), torch.tensor([0.5, 0.5]), emission=Bernoulli())


@pytest.mark.parametrize("pseudo_count", [-1.0, float("nan")])
def test_a_pseudo_count_is_not_negative(pseudo_count: float) -> None:
    with pytest.raises(ValueError, match="expected pseudo_count of at least 0, got"):
        MarkovChain.from_counts(draw(Categorical(3), 2, 3), num_symbols=3, pseudo_count=pseudo_count)
