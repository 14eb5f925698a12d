"""HMMs of maximum likelihood from counts, beside their definition and Baum-Welch."""

import pytest
import torch

from pgm_rnn.experiments.histories import all_sequences
from pgm_rnn.experiments.maximum_likelihood import (
    PSEUDO_COUNT,
    Logits,
    _is_clear,
    fit_hmm,
    sequence_counts,
    sequence_log_probs,
)
from pgm_rnn.experiments.settings import reproducible
from pgm_rnn.inference import em
from pgm_rnn.models import HMM

pytestmark = pytest.mark.slow

NUM_STEPS = 5


def random_hmm(seed: int) -> HMM:
    return HMM.random(2, 3, seed=seed).requires_grad_(False)


def test_counts_are_those_of_the_sequences() -> None:
    x = torch.tensor([[0, 2], [1, 1], [0, 2]])
    counts = sequence_counts(x, 3)
    assert {tuple(s.tolist()): int(c) for s, c in zip(all_sequences(3, 2), counts, strict=True) if c} == {
        (0, 2): 2,
        (1, 1): 1,
    }


def test_the_likelihood_on_the_tree_is_the_models() -> None:
    with reproducible():
        hmm = random_hmm(3)
        logits = Logits(hmm.initial_probs.log(), hmm.transition_probs.log() + 2, hmm.emission_probs.log() - 1)
        expected = hmm.log_prob(all_sequences(3, NUM_STEPS))
        torch.testing.assert_close(sequence_log_probs(logits.log_probs(), NUM_STEPS), expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(logits.hmm().transition_probs, hmm.transition_probs)


@torch.no_grad()
def objective(hmm: HMM, x: torch.Tensor) -> float:
    """What both climb: the log likelihood and a pseudo-count for every probability."""
    prior = sum(float(p.log().sum()) for p in (hmm.initial_probs, hmm.transition_probs, hmm.emission_probs))
    return float(hmm.log_prob(x).sum()) + PSEUDO_COUNT * prior


@pytest.mark.nightly
def test_it_is_where_baum_welch_ends_and_its_start_is_not() -> None:
    with reproducible():
        x = random_hmm(0).sample(2000, NUM_STEPS, seed=1).x
        counts = sequence_counts(x, 3)
        found = fit_hmm(counts, counts, NUM_STEPS, 2, seeds=[5])
        climbed = HMM.random(2, 3, seed=5)
        start = objective(climbed, x)
        em.fit(climbed, x, num_iterations=3000, tolerance=0.0, pseudo_count=PSEUDO_COUNT, progress=False)
        assert objective(found, x) == pytest.approx(objective(climbed, x), abs=0.05)  # nats, of about 8000
        assert start < objective(found, x) - 10


def test_an_earlier_model_is_taken_only_if_it_is_clearly_better() -> None:
    counts = torch.tensor([50.0, 50.0])
    assert _is_clear(torch.tensor([0.3, 0.1]), counts)
    assert not _is_clear(torch.tensor([1.0, -0.9]), counts)  # mean 0.05, standard error 0.095
    assert not _is_clear(torch.tensor([-0.1, -0.1]), counts)


def test_early_stopping_helps_where_parameters_are_many_and_sequences_few() -> None:
    """Eight states fitted to forty sequences: what held-out sequences choose predicts new ones better."""
    with reproducible():
        hmm = random_hmm(0)
        train, held_out, new = (hmm.sample(n, NUM_STEPS, seed=n).x for n in (40, 400, 5000))
        counts = sequence_counts(train, 3)
        stopped = fit_hmm(counts, sequence_counts(held_out, 3), NUM_STEPS, 8, seeds=[1])
        converged = fit_hmm(counts, counts, NUM_STEPS, 8, seeds=[1])
        assert stopped.log_prob(new).mean() > converged.log_prob(new).mean() + 0.05
        assert converged.log_prob(train).mean() > stopped.log_prob(train).mean()
