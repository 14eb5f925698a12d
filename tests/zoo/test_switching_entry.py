"""The switching linear entry on the Japanese vowels: its filter beside the exact mixture over all paths of regimes."""

import os
from typing import Any

import pytest
import torch

import pgm_rnn as pr
from pgm_rnn.data import load
from pgm_rnn.inference import mixture_kalman
from pgm_rnn.models import SwitchingLinearSSM
from pgm_rnn.zoo import entries, references
from pgm_rnn.zoo.entries import describe_pretrained
from tests.mixtures import log_marginal

NAME = "switching-lgssm-japanese-vowels"
NUM_STEPS, NUM_SEQUENCES, NUM_RUNS, NUM_PARTICLES = 5, 4, 32, 128
needs_data = pytest.mark.skipif("PGM_RNN_DATA" not in os.environ, reason="needs the data set japanese-vowels")


def entry() -> SwitchingLinearSSM:
    found = pr.load_pretrained(NAME)
    assert isinstance(found, SwitchingLinearSSM)
    return found.double().requires_grad_(False)


def score(name: str, split: str) -> Any:
    return next(score for score in describe_pretrained(name).info["scores"] if score["split"] == split)


@needs_data
def test_on_short_prefixes_its_filter_is_the_sum_over_all_paths_of_regimes() -> None:
    """exp of the estimate is unbiased: the mean over runs is within 5 of its standard errors.

    To this comes what paths weigh that no particle drew: of a mass q, all draws miss it with probability (1 - q)^n.
    """
    model, x = entry(), load("japanese-vowels").test.x[:NUM_SEQUENCES, :NUM_STEPS].double()  # type: ignore[union-attr]
    exact = torch.stack([log_marginal(model, row) for row in x])
    data = pr.Sequences(x, torch.full((NUM_SEQUENCES,), NUM_STEPS))
    found, errors = references.estimated(model, data, num_runs=NUM_RUNS, num_particles=NUM_PARTICLES)
    within = 5 * errors + 5 / (NUM_RUNS * NUM_PARTICLES)
    assert (errors < 0.05).all()
    assert ((found - exact).abs() < within).all()
    other = entry()
    other.transition_offset.add_(0.05)
    moved = torch.stack([log_marginal(other, row) for row in x])
    assert ((found - moved).abs() > within).any()  # a control


@needs_data
def test_a_collapsed_filter_is_close_to_the_sum_over_all_paths_of_regimes() -> None:
    """Within a hundredth of a nat per step: the first step is exact, and collapses afterwards lose little."""
    model, x = entry(), load("japanese-vowels").test.x[:NUM_SEQUENCES, :NUM_STEPS].double()  # type: ignore[union-attr]
    exact = torch.stack([log_marginal(model, row) for row in x])
    found = mixture_kalman.approximate(model, x, method="gpb2").log_marginal_likelihood
    assert float((found - exact).abs().max()) / NUM_STEPS < 0.01


def test_it_stands_where_its_card_says() -> None:
    """Better than one linear system on the validation split and on the test split, by more than both errors."""
    for split in ("valid", "test"):
        ours, linear = score(NAME, split), score("lgssm-japanese-vowels", split)
        assert linear["nats_per_step"] - ours["nats_per_step"] > 2 * (linear["standard_error"] + ours["standard_error"])
    card = (entries.HOME / NAME / entries.CARD).read_text()
    assert "lgssm-japanese-vowels" in card
    assert "autoregressive-hmm-japanese-vowels" in card
