from itertools import pairwise

import pytest
import torch

from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.inference import em
from pgm_rnn.inference.em.baum_welch import BaumWelch
from pgm_rnn.inference.forward_backward import ImpossibleSequenceError
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequences import Sequences, length_mask
from tests.definitions import path_probs
from tests.instances import LENGTHS, every_estimated_family, make_hmm, ragged

NUM_STATES = 3


def batch(family: Emission) -> Sequences:
    drawn = make_hmm(family, num_states=NUM_STATES).sample(30, 12, seed=1)
    return Sequences(drawn.x, torch.arange(30) % 12 + 1)


def start(family: Emission) -> HMM:
    """A random model that `start="auto"` takes as it is, for its parameters were given to it."""
    drawn = HMM.random(NUM_STATES, emission=family, seed=5).double()
    return HMM(drawn.initial_probs.detach(), drawn.transition_probs.detach(), drawn.emission_table)


@every_estimated_family
def test_the_likelihood_never_decreases(family: Emission) -> None:
    data = batch(family)
    result = em.fit(start(family), data, num_iterations=30, tolerance=0.0, progress=False)
    gains = result.log_likelihoods.diff()
    rounding = 64 * torch.finfo(torch.float64).eps * float(result.log_likelihoods.abs().max())
    assert float(gains.min()) > -rounding
    assert float(gains[0]) > 0.1
    assert isinstance(result.model, HMM)
    final = result.model.log_marginal_likelihood(data.x, data.lengths).sum().detach()
    torch.testing.assert_close(result.log_likelihoods[-1], final)


def test_an_iteration_is_normalised_expected_counts_over_all_paths() -> None:
    family, pseudo_count = Categorical(3), 0.25
    hmm, x = start(family), ragged(family)
    first = torch.full((NUM_STATES,), pseudo_count)
    moves = torch.full((NUM_STATES, NUM_STATES), pseudo_count)
    symbols = torch.full((NUM_STATES, 3), pseudo_count)
    for row, length in zip(x, LENGTHS.tolist(), strict=True):
        emission_probs = hmm.emission_log_probs(row[None, :length])[0].exp().detach()
        joint = path_probs(hmm.initial_probs.detach(), hmm.transition_probs.detach(), emission_probs)
        total = sum(float(p) for p in joint.values())
        for path, prob in joint.items():
            weight = float(prob) / total
            first[path[0]] += weight
            for i, j in pairwise(path):
                moves[i, j] += weight
            for state, symbol in zip(path, row[:length].tolist(), strict=True):
                symbols[state, symbol] += weight
    em.fit(hmm, x, LENGTHS, num_iterations=1, pseudo_count=pseudo_count, progress=False)
    torch.testing.assert_close(hmm.initial_probs.detach(), first / first.sum())
    torch.testing.assert_close(hmm.transition_probs.detach(), moves / moves.sum(-1, keepdim=True))
    torch.testing.assert_close(hmm.emission_probs.detach(), symbols / symbols.sum(-1, keepdim=True))


@every_estimated_family
def test_what_stands_in_the_padding_is_not_counted(family: Emission) -> None:
    data = batch(family)
    mask = length_mask(data.lengths, 12)[(...,) + (None,) * len(family.event_shape)]
    cleared = Sequences(data.x.where(mask, 0), data.lengths)
    results = [em.fit(start(family), d, num_iterations=3, progress=False).log_likelihoods for d in (data, cleared)]
    assert torch.equal(*results)


def test_a_zero_probability_stays_zero_without_pseudo_counts() -> None:
    left_to_right = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    hmm = HMM(torch.tensor([1.0, 0.0, 0.0]), left_to_right, torch.rand(3, 4).softmax(-1))
    em.fit(hmm, torch.randint(4, (20, 6)), num_iterations=5, progress=False)
    assert bool((hmm.transition_probs[left_to_right == 0] == 0).all())
    assert hmm.initial_probs.tolist() == [1, 0, 0]


def test_it_stops_when_it_gains_too_little() -> None:
    result = em.fit(start(Categorical(3)), batch(Categorical(3)), num_iterations=500, tolerance=1e-3, progress=False)
    assert result.stopped_by == "tolerance"
    assert len(result.log_likelihoods) < 500


def test_the_true_parameters_are_found_again_and_a_wrong_model_is_not() -> None:
    true = HMM(torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[0.8, 0.2], [0.1, 0.9]]))
    data = true.sample(400, 50, seed=0)
    hmm = HMM(torch.tensor([0.5, 0.5]), torch.tensor([[0.6, 0.4], [0.4, 0.6]]), torch.tensor([[0.6, 0.4], [0.4, 0.6]]))
    em.fit(hmm, data, num_iterations=200, progress=False)
    bound = 0.03  # about five standard errors of a proportion from some thousand effective transitions
    assert float((hmm.transition_probs - true.transition_probs).abs().max().detach()) < bound
    one = HMM(torch.ones(1), torch.ones(1, 1), torch.tensor([[0.5, 0.5]]))
    best = em.fit(one, data, progress=False).log_likelihoods[-1]
    assert float(best) < float(true.log_marginal_likelihood(data.x).sum().detach()) - 100


def test_an_interrupted_fit_has_the_parameters_of_its_last_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    maximise, calls = BaumWelch.maximise, []

    def interrupted(self: BaumWelch) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        maximise(self)

    expected = em.fit(start(Categorical(3)), batch(Categorical(3)), num_iterations=2, progress=False)
    monkeypatch.setattr(BaumWelch, "maximise", interrupted)
    result = em.fit(start(Categorical(3)), batch(Categorical(3)), num_iterations=9, progress=False)
    assert result.stopped_by == "interrupt"
    assert torch.equal(result.log_likelihoods[:3], expected.log_likelihoods)
    assert isinstance(result.model, HMM)
    assert isinstance(expected.model, HMM)
    pairs = zip(result.model.parameters(), expected.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_impossible_sequence_is_a_named_error() -> None:
    hmm = HMM(torch.tensor([1.0, 0.0]), torch.eye(2), torch.eye(2))
    with pytest.raises(ImpossibleSequenceError, match="probability zero for sequence 0 from step 2 on; start from"):
        em.fit(hmm, torch.tensor([[0, 1]]), progress=False)


@pytest.mark.parametrize("option", ["tolerance", "pseudo_count", "pseudo_observations"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_negative_options_are_an_error(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"expected {option} to be at least 0, got {value}"):
        em.fit(start(Categorical(3)), batch(Categorical(3)), progress=False, **{option: value})  # type: ignore[arg-type]
