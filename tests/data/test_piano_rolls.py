from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from pgm_rnn.data.piano_rolls import read_piano_rolls

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
