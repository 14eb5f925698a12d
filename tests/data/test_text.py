from pathlib import Path

import pytest
import torch

from pgm_rnn.data.text import read_text
from pgm_rnn.sequences import Sequences

MADE = "To be, or not to be:\r\nthat is the quéstion — 𝄞.\n" * 91


@pytest.fixture(params=["made", "tinyshakespeare.txt"])
def text_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "made":
        path = tmp_path / "made.txt"
        path.write_bytes(MADE.encode("utf-8"))
        return path
    folder: Path = request.getfixturevalue("originals")
    return folder / request.param


def decode(split: Sequences, vocabulary: str) -> str:
    return "".join(vocabulary[code] for code in split.x[split.mask].tolist())


def test_the_windows_in_order_spell_the_text(text_file: Path) -> None:
    train, valid, vocabulary = read_text(text_file)
    assert decode(train, vocabulary) + decode(valid, vocabulary) == text_file.read_bytes().decode("utf-8")


def test_the_vocabulary_is_the_sorted_set_of_characters(text_file: Path) -> None:
    assert read_text(text_file).vocabulary == "".join(sorted(set(text_file.read_bytes().decode("utf-8"))))


def test_the_first_95_percent_are_for_training(text_file: Path) -> None:
    train, valid, _ = read_text(text_file)
    total = train.num_steps + valid.num_steps
    assert train.num_steps <= 0.95 * total < train.num_steps + 1


def test_every_window_but_the_last_has_100_characters(text_file: Path) -> None:
    for split in read_text(text_file)[:2]:
        assert isinstance(split, Sequences)
        assert split.lengths[:-1].unique().tolist() == [100]
        assert 1 <= int(split.lengths[-1]) <= 100


def test_codes_are_integers_that_can_index(text_file: Path) -> None:
    train, valid, vocabulary = read_text(text_file)
    assert train.x.dtype == valid.x.dtype == torch.int64
    assert int(train.x.min()) >= 0
    assert int(torch.cat([train.x.flatten(), valid.x.flatten()]).max()) == len(vocabulary) - 1


def test_a_part_shorter_than_a_window_is_one_short_sequence(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("abcdefghijklmnopqrst")
    train, valid, vocabulary = read_text(path)
    assert train.x.tolist() == [list(range(19))]
    assert valid.x.tolist() == [[19]]
    assert vocabulary == "abcdefghijklmnopqrst"
