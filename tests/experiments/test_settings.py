"""Sizes and seeds of the experiments."""

import dataclasses

import pytest
import torch

from pgm_rnn.experiments.settings import Settings, reproducible


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_states": (1,)}, "expected m, the number of states, of at least 2, got 1"),
        ({"num_states": (2, 0)}, "of at least 2, got 0"),
        ({"num_sequences": (0,)}, "expected n, the number of training sequences, of at least 1, got 0"),
        ({"num_sequences": ()}, "expected num_sequences as one or more different values"),
        ({"num_sequences": (5, 5)}, "expected num_sequences as one or more different values"),
        ({"hidden_dims": (0,)}, "expected hidden_dim to be an integer of at least 1, got 0"),
        ({"replicates": 0}, "expected replicates to be an integer of at least 1, got 0"),
        ({"num_updates": 0}, "expected num_updates to be an integer of at least 1"),
    ],
)
def test_sizes_that_are_too_small_are_named(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Settings(), **wrong)  # type: ignore[arg-type]


def test_every_purpose_has_a_seed_of_its_own_and_keeps_it() -> None:
    settings = Settings()
    purposes = [
        ("hmm", 2, 0),
        ("hmm", 2, 1),
        ("hmm", 20, 1),
        ("train", 2, 0),
        (
            "hmm",
            21,
        ),
        ("hmm", 2, 11),
    ]
    seeds = [settings.seed_of(*purpose) for purpose in purposes]
    assert len(set(seeds)) == len(seeds)
    assert dataclasses.replace(settings, replicates=3).seed_of("hmm", 2, 1) == seeds[1]
    assert dataclasses.replace(settings, seed=1).seed_of("hmm", 2, 1) not in seeds


def test_replicates_are_grouped_without_a_loss() -> None:
    groups = dataclasses.replace(Settings(), replicates=7, group=3).replicate_groups()
    assert groups == [(0, 1, 2), (3, 4, 5), (6,)]


def test_narrow_networks_have_rates_and_starts_of_their_own() -> None:
    settings = Settings()
    assert (settings.rates(1), len(settings.starts(1))) == (settings.narrow_rates, settings.narrow_starts)
    assert (settings.rates(100), len(settings.starts(100))) == (settings.learning_rates, 1)


def test_a_cell_runs_on_one_thread_and_in_float64_whatever_the_caller_has() -> None:
    torch.set_default_dtype(torch.float32)
    with reproducible():
        assert (torch.get_num_threads(), torch.get_default_dtype()) == (1, torch.float64)
    assert torch.get_default_dtype() == torch.float32
