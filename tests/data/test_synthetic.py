import pytest
import torch
from torch import Tensor

from pgm_rnn.data import Dataset, dirichlet_hmm
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequences import Sequences


def small(seed: int, num_valid: int = 5, num_test: int = 3) -> Dataset:
    return dirichlet_hmm(
        num_states=2, num_symbols=3, num_steps=4, num_train=7, num_valid=num_valid, num_test=num_test, seed=seed
    )


def model_of(data: Dataset) -> HMM:
    assert data.model is not None
    return data.model


def states_of(split: Sequences) -> Tensor:
    assert split.z is not None
    return split.z


def largest_z_score(index: Tensor, outcome: Tensor, probs: Tensor) -> float:
    """Largest |frequency - probability| / standard error of outcome j given index i, where probs is (I, J)."""
    counts = torch.zeros(probs.shape).index_put_((index, outcome), torch.tensor(1.0), accumulate=True)
    totals = counts.sum(-1, keepdim=True)
    standard_error = (probs * (1 - probs) / totals).sqrt()
    return float(((counts / totals - probs).abs() / standard_error).max())


def z_scores(split: Sequences, hmm: HMM) -> tuple[float, float, float]:
    """How far first states, transitions and symbols of `split` are from the tables of `hmm`."""
    z = states_of(split)
    first = largest_z_score(torch.zeros(len(z), dtype=torch.int64), z[:, 0], hmm.initial_probs.detach()[None])
    moves = largest_z_score(z[:, :-1].flatten(), z[:, 1:].flatten(), hmm.transition_probs.detach())
    symbols = largest_z_score(z.flatten(), split.x.flatten(), hmm.emission_probs.detach())
    return first, moves, symbols


def test_splits_have_the_sizes_that_were_asked_for() -> None:
    data = small(seed=0)
    assert data.valid is not None
    assert data.test is not None
    for split, num_sequences in ((data.train, 7), (data.valid, 5), (data.test, 3)):
        assert split.x.shape == states_of(split).shape == (num_sequences, 4)
        assert split.lengths.tolist() == [4] * num_sequences


def test_a_split_of_no_sequences_is_none() -> None:
    data = small(seed=0, num_valid=0, num_test=0)
    assert data.valid is None
    assert data.test is None


def test_the_model_is_the_random_hmm_of_the_seed() -> None:
    model, expected = model_of(small(seed=3)), HMM.random(num_states=2, num_symbols=3, seed=3)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_data_are_reproducible_from_the_seed() -> None:
    assert torch.equal(small(seed=1).train.x, small(seed=1).train.x)
    assert not torch.equal(small(seed=1).train.x, small(seed=2).train.x)


def test_the_callers_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    small(seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_frequencies_agree_with_the_model_and_not_with_another() -> None:
    limit = 5.0  # standard errors
    data = dirichlet_hmm(num_states=2, num_symbols=3, num_steps=8, num_train=20_000, num_valid=0, num_test=0, seed=0)
    other = HMM.random(num_states=2, num_symbols=3, seed=1)
    assert max(z_scores(data.train, model_of(data))) < limit
    assert min(z_scores(data.train, other)) > limit


def test_one_state_one_symbol_one_step_one_sequence_are_enough() -> None:
    data = dirichlet_hmm(num_states=1, num_symbols=1, num_steps=1, num_train=1, num_valid=0, num_test=0, seed=0)
    assert data.train.x.tolist() == states_of(data.train).tolist() == [[0]]


def test_no_training_sequence_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected num_train to be an integer of at least 1, got 0"):
        dirichlet_hmm(num_states=2, num_symbols=3, num_steps=4, num_train=0, num_valid=1, num_test=1, seed=0)


@pytest.mark.parametrize(("num_valid", "num_test"), [(-1, 0), (0, -1)])
def test_a_negative_size_is_an_error(num_valid: int, num_test: int) -> None:
    with pytest.raises(ValueError, match="expected num_valid and num_test to be at least 0, got"):
        small(seed=0, num_valid=num_valid, num_test=num_test)
