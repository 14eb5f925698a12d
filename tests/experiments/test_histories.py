"""All histories and networks fitted to them, from their definitions."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from pgm_rnn.experiments.histories import all_histories, all_sequences, fit, history_log_probs
from pgm_rnn.experiments.scores import divergence
from pgm_rnn.experiments.settings import reproducible
from pgm_rnn.experiments.taggers import initial_weights, label_log_probs
from pgm_rnn.models import HMM

pytestmark = pytest.mark.slow

NUM_STEPS = 4


def sum_over_paths(hmm: HMM, x: tuple[int, ...]) -> Tensor:
    """p(z_t, x_{1:t}) by adding up every path of states, (m,)."""
    initial, transition, emission = hmm.initial_probs, hmm.transition_probs, hmm.emission_probs
    total = torch.zeros(hmm.num_states, dtype=torch.float64)
    for z in itertools.product(range(hmm.num_states), repeat=len(x)):
        probability = initial[z[0]] * emission[z[0], x[0]]
        for before, now, symbol in zip(z, z[1:], x[1:], strict=False):
            probability = probability * transition[before, now] * emission[now, symbol]
        total[z[-1]] += probability
    return total


def random_hmm(num_states: int = 2, seed: int = 0) -> HMM:
    return HMM.random(num_states, 3, seed=seed).requires_grad_(False)


def test_sequences_are_all_there_are_and_each_once() -> None:
    found = all_sequences(3, NUM_STEPS)
    assert found.tolist() == [list(x) for x in itertools.product(range(3), repeat=NUM_STEPS)]
    assert all_sequences(3, 1).tolist() == [[0], [1], [2]]


def test_histories_have_their_probabilities_and_beliefs() -> None:
    with reproducible():
        hmm = random_hmm()
        found = all_histories(hmm, NUM_STEPS)
        every = [x for t in range(1, NUM_STEPS + 1) for x in itertools.product(range(3), repeat=t)]
        joint = torch.stack([sum_over_paths(hmm, x) for x in every])
        torch.testing.assert_close(found.probs, joint.sum(1), rtol=1e-12, atol=0)
        torch.testing.assert_close(found.beliefs, joint / joint.sum(1, keepdim=True), rtol=1e-12, atol=0)
        assert [every[number] for number in found.numbers(torch.tensor([[2, 0, 1, 1]]))[0]] == [
            (2,),
            (2, 0),
            (2, 0, 1),
            (2, 0, 1, 1),
        ]
        assert found.mean(torch.ones(len(every))) == pytest.approx(1)


@pytest.mark.parametrize("hidden_dim", [1, 3])
def test_a_network_on_the_tree_is_the_network_on_sequences(hidden_dim: int) -> None:
    with reproducible():
        weights = {name: value.double() for name, value in initial_weights(3, 2, hidden_dim, [5]).items()}
        weights["h_0"] += 0.3
        x = all_sequences(3, NUM_STEPS)
        direct = label_log_probs(weights, x[None])[0]  # (T, N, m)
        tree = history_log_probs(weights, NUM_STEPS).mT
        firsts = [direct[t, :: 3 ** (NUM_STEPS - 1 - t)] for t in range(NUM_STEPS)]
        torch.testing.assert_close(tree, torch.cat(firsts), rtol=1e-12, atol=1e-12)


def test_a_fit_lowers_the_expected_divergence_to_what_it_says() -> None:
    with reproducible():
        hmm = random_hmm()
        histories = all_histories(hmm, NUM_STEPS)
        first = initial_weights(3, 2, 2, [1])
        fitted = fit(histories, first, 50)
        log_probs = label_log_probs(fitted.weights, histories.x[None])[0].transpose(0, 1)
        weights = histories.probs[-len(histories.x) :]
        beliefs = torch.stack(  # at every step of every sequence, each weighted by its whole sequence's probability
            [
                torch.stack([sum_over_paths(hmm, tuple(x[: t + 1])) for t in range(NUM_STEPS)])
                for x in histories.x.tolist()
            ]
        )
        beliefs = beliefs / beliefs.sum(-1, keepdim=True)
        assert fitted.kl == pytest.approx(float(weights @ divergence(beliefs, log_probs).mean(1)), rel=1e-8)
        before = histories.kl(history_log_probs({n: v.double() for n, v in first.items()}, NUM_STEPS).mT)
        assert fitted.kl < before / 10
        assert not fitted.weights["h_0"].any()
        assert fit(histories, first, 5, trains_start=True).weights["h_0"].any()


@pytest.mark.nightly
def test_one_unit_is_exact_without_memory_and_not_with_it() -> None:
    """States drawn anew at every step have log-odds of the last symbol alone, which W and U = 0 give."""
    with reproducible():
        initial, emission = torch.tensor([0.3, 0.7]), random_hmm().emission_probs
        forgetful = HMM(initial, initial.expand(2, 2), emission).requires_grad_(False)
        least = [
            min(fit(all_histories(hmm, NUM_STEPS), initial_weights(3, 2, 1, [seed]), 500).kl for seed in range(4))
            for hmm in (forgetful, random_hmm(seed=1))
        ]
        assert least[0] < 1e-8
        assert least[1] > 1e-6


def test_divergence_from_itself_is_zero() -> None:
    with reproducible():
        histories = all_histories(random_hmm(3), 2)
        assert histories.kl(histories.beliefs.log()) == 0
        uniform = torch.full_like(histories.beliefs, -math.log(3))
        assert histories.kl(uniform) > 0
