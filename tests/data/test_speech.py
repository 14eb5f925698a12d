from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pgm_rnn.data import DataError, load, source, speech
from pgm_rnn.data.speech import Utterances, read_packed, read_ts
from pgm_rnn.emissions import Gaussian
from pgm_rnn.models import BidirectionalRNN

LENGTHS, SPEAKERS = [3, 1, 4, 2, 2], [1, 1, 9, 4, 2]


def made_frames() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, 12)).round(6) for length in LENGTHS]


def write_ts(path: Path) -> Path:
    """A header, then a line a sequence: coefficients apart by colons, frames by commas, the speaker at the end."""
    lines = [
        ":".join([*(",".join(f"{value:.6f}" for value in row) for row in frames.T), str(speaker)])
        for frames, speaker in zip(made_frames(), SPEAKERS, strict=True)
    ]
    path.write_text("#about\n@dimensions 12\n@classLabel true 1 2 9\n@data\n" + "\n".join(lines) + "\n")
    return path


def write_npz(path: Path) -> Path:
    x = np.concatenate(made_frames()).astype(np.float32)
    parts = {"x": x, "lengths": np.array(LENGTHS), "speaker": np.array(SPEAKERS, np.int8)}
    arrays: dict[str, Any] = {f"{s}_{name}": part for s in ("train", "test") for name, part in parts.items()}
    np.savez(path, **arrays)
    return path


def read_made(folder: Path, kind: str) -> Utterances:
    if kind == "ts":
        return read_ts(write_ts(folder / "made.ts"))
    return read_packed(write_npz(folder / "made.npz"), "train")


@pytest.mark.parametrize("kind", ["ts", "npz"])
def test_the_frames_that_were_written_are_read(kind: str, tmp_path: Path) -> None:
    data, speakers = read_made(tmp_path, kind)
    assert data.lengths.tolist() == LENGTHS
    assert data.x.shape == (5, 4, 12)
    for x, length, frames in zip(data.x, LENGTHS, made_frames(), strict=True):
        np.testing.assert_array_equal(x[:length].numpy(), frames.astype(np.float32))
    assert speakers.tolist() == [speaker - 1 for speaker in SPEAKERS]


@pytest.mark.parametrize("found", ["ts", "npz"])
def test_either_kind_of_file_gives_the_data_set(found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ts, npz = write_ts(tmp_path / "made.ts"), write_npz(tmp_path / "made.npz")
    monkeypatch.setattr(speech, "find", lambda file: npz if found == "npz" else None)
    monkeypatch.setattr(speech, "fetch", lambda file: ts)
    data = load("japanese-vowels")
    assert data.valid is not None
    assert data.test is not None
    assert data.labels is not None
    assert data.emission == Gaussian(12)
    assert (data.train.lengths.tolist(), data.valid.lengths.tolist()) == (LENGTHS[:4], LENGTHS[4:])
    assert data.test.lengths.tolist() == LENGTHS
    assert [None if labels is None else labels.tolist() for labels in data.labels[1:]] == [
        [0, 0, 8, 3],
        [1],
        [0, 0, 8, 3, 1],
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (":".join(["1,x"] * 12) + ":1", "expected frames of numbers and a speaker in .*, got others in sequence 6"),
        (":".join(["1,2"] * 11 + ["1"]) + ":1", "expected frames of numbers and a speaker .* in sequence 6"),
        (":".join(["1,2"] * 11) + ":1", "expected 12 coefficients in .*, got others in sequence 6"),
        (":".join(["1,2"] * 12) + ":ae", "expected frames of numbers and a speaker .* in sequence 6"),
    ],
)
def test_a_line_of_something_else_is_an_error(line: str, message: str, tmp_path: Path) -> None:
    path = write_ts(tmp_path / "made.ts")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=message):
        read_ts(path)


def test_a_file_without_data_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.ts").write_text("#about\n")
    with pytest.raises(DataError, match="expected sequences after a line @data"):
        read_ts(tmp_path / "x.ts")


def test_without_any_file_the_originals_are_downloaded(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(source, "_default_cache", lambda: cache)
    asked: list[str] = []

    def download(file: source.SourceFile, cache: Path, url: str) -> Path:
        asked.append(url)
        raise DataError("no network")

    monkeypatch.setattr(source, "_download", download)
    with pytest.raises(DataError, match="no network"):
        load("japanese-vowels")
    assert asked == [f"{source.GITHUB}/{speech.TRAIN.path}"]


def test_the_original_files_hold_the_packed_numbers(packed: Path, utterances: Path) -> None:
    for file, split in ((speech.TRAIN, "train"), (speech.TEST, "test")):
        original, ours = read_ts(utterances / file.name), read_packed(packed / speech.PACKED.name, split)
        assert torch.equal(original.data.x, ours.data.x)
        assert torch.equal(original.data.lengths, ours.data.lengths)
        assert torch.equal(original.speakers, ours.speakers)


def test_a_bidirectional_network_takes_the_labels(tmp_path: Path) -> None:
    data, speakers = read_made(tmp_path, "ts")
    tagger = BidirectionalRNN(inputs=Gaussian(12), num_labels=9, hidden_dim=2, task="classification").float()
    assert tagger.log_prob(speakers, data.x, data.lengths).shape == (5,)
