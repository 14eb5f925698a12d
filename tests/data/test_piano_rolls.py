from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from pgm_rnn.data.piano_rolls import read_piano_rolls, transposed
from pgm_rnn.emissions import Bernoulli
from pgm_rnn.inference import svi
from pgm_rnn.models.markov_chain import MarkovChain
from pgm_rnn.sequences import Sequences

KEYS = ("traindata", "validdata", "testdata")
LENGTHS = {"traindata": [3, 1, 5], "validdata": [2, 2], "testdata": [1]}


def cells(rolls: list[np.ndarray]) -> np.ndarray:
    array = np.empty((1, len(rolls)), dtype=object)
    for i, roll in enumerate(rolls):
        array[0, i] = roll
    return array


def made_rolls(dtype: type[np.generic] = np.uint8) -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return {key: [rng.integers(2, size=(t, 88)).astype(dtype) for t in LENGTHS[key]] for key in KEYS}


def write(path: Path, rolls: dict[str, list[np.ndarray]]) -> Path:
    savemat(path, {key: cells(rolls[key]) for key in KEYS})
    return path


@pytest.fixture(params=["made", "JSB_Chorales.mat", "Nottingham.mat"])
def roll_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "made":
        return write(tmp_path / "made.mat", made_rolls())
    folder: Path = request.getfixturevalue("originals")
    return folder / request.param


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_the_rolls_that_were_written_are_read(tmp_path: Path, dtype: type[np.generic]) -> None:
    rolls = made_rolls(dtype)
    splits = read_piano_rolls(write(tmp_path / "made.mat", rolls))
    for split, key in zip(splits, KEYS, strict=True):
        assert split.lengths.tolist() == LENGTHS[key]
        for x, length, roll in zip(split.x, split.lengths, rolls[key], strict=True):
            assert torch.equal(x[:length], torch.as_tensor(roll).to(torch.uint8))


def test_a_sequence_is_a_cell_of_the_file(roll_file: Path) -> None:
    contents = loadmat(roll_file)
    for split, key in zip(read_piano_rolls(roll_file), KEYS, strict=True):
        rolls = contents[key][0]
        assert split.lengths.tolist() == [len(roll) for roll in rolls]
        for x, length, roll in zip(split.x, split.lengths, rolls, strict=True):
            np.testing.assert_array_equal(x[:length].numpy(), roll)


def test_rolls_are_bytes_of_zero_and_one_on_88_keys(roll_file: Path) -> None:
    for split in read_piano_rolls(roll_file):
        assert split.x.dtype == torch.uint8
        assert split.x.shape == (len(split.lengths), int(split.lengths.max()), 88)
        assert int(split.x.max()) == 1


def test_padding_is_silent(roll_file: Path) -> None:
    for split in read_piano_rolls(roll_file):
        assert int(split.x[~split.mask].sum()) == 0


def bits_nats(rolls: list[np.ndarray], probs: list[np.ndarray]) -> float:
    """-sum log p over the rolls, for the probability of a sounding key at every step of each."""
    terms = (np.log(np.where(roll == 1, p, 1 - p)) for roll, p in zip(rolls, probs, strict=True))
    return -float(sum(term.sum() for term in terms))


@pytest.mark.slow
@pytest.mark.parametrize(
    "roll_file",
    ["made", "JSB_Chorales.mat", pytest.param("Nottingham.mat", marks=pytest.mark.nightly)],  # a gigabyte of counts
    indirect=True,
)
def test_a_chain_for_each_key_has_the_nats_of_its_counts_and_helps_in_music_not_in_noise(roll_file: Path) -> None:
    train, _, test = read_piano_rolls(roll_file)
    chain = MarkovChain.from_counts(train.x, train.lengths, emission=Bernoulli(88), pseudo_count=0.5)
    seen, held_out = ([r[:n].numpy() for r, n in zip(s.x, s.lengths, strict=True)] for s in (train, test))
    first, old = np.stack([r[0] for r in seen]), np.concatenate([r[:-1] for r in seen])
    new = np.concatenate([r[1:] for r in seen])
    start = (first.sum(0) + 0.5) / (len(first) + 1)
    after = [((new * (old == v)).sum(0) + 0.5) / ((old == v).sum(0) + 1) for v in (0, 1)]
    probs = [np.concatenate([start[None], np.where(r[:-1] == 1, after[1], after[0])]) for r in held_out]
    expected = bits_nats(held_out, probs) / test.num_steps
    assert svi.evaluate(chain, test).nats_per_step == pytest.approx(expected, rel=1e-10)
    alone = (sum(r.sum(0) for r in seen) + 0.5) / (train.num_steps + 1)
    helps = expected < bits_nats(held_out, [alone] * len(held_out)) / test.num_steps
    assert helps == (roll_file.name != "made.mat")


def test_a_transposed_copy_has_every_note_as_many_keys_off() -> None:
    x = torch.zeros(2, 3, 88, dtype=torch.uint8)
    x[0, 0, 2] = x[0, 1, 40] = x[1, 2, 84] = 1
    lengths = torch.tensor([2, 3])
    copies = transposed(Sequences(x, lengths), 2)
    assert copies.x.shape == (10, 3, 88)
    assert copies.lengths.tolist() == [2, 3] * 5
    assert torch.equal(copies.x[:2], x)
    for copy, shift in zip(copies.x.split(2), (0, -1, 1, -2, 2), strict=True):
        assert copy.nonzero().tolist() == [[0, 0, 2 + shift], [0, 1, 40 + shift], [1, 2, 84 + shift]]
    for keys in (0, 3):
        with pytest.raises(ValueError, match=f"expected a transposition by 1 to 2 keys.*got {keys}"):
            transposed(Sequences(x, lengths), keys)
