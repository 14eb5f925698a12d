import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pgm_rnn.data import DataError, handwriting, load, source
from pgm_rnn.data.handwriting import DIGIT_SCALE, KANJI_SCALE, read_kanji, read_pen_digits
from pgm_rnn.data.splits import every_fifth

LENGTHS = {"train": [3, 1, 5], "valid": [2, 2], "test": [1]}
SLACK = 1e-4
"""Of a sum of float32: values below 500 units carry errors below 500 * 2^-24."""


def made_strokes(split: str) -> np.ndarray:
    rng = np.random.default_rng(len(split))
    steps = sum(LENGTHS[split])
    return np.concatenate([rng.integers(-450, 451, size=(steps, 2)), rng.integers(2, size=(steps, 1))], axis=1)


@pytest.fixture(params=["made", "kanji_strokes.npz"])
def stroke_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param != "made":
        folder: Path = request.getfixturevalue("packed")
        return folder / request.param
    arrays: dict[str, Any] = {f"{split}_lengths": np.array(LENGTHS[split]) for split in LENGTHS}
    arrays |= {f"{split}_stroke": made_strokes(split).astype(np.int16) for split in LENGTHS}
    np.savez(tmp_path / "made.npz", **arrays)
    return tmp_path / "made.npz"


@pytest.fixture(params=["made", "pen_digits.npz"])
def digit_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param != "made":
        folder: Path = request.getfixturevalue("packed")
        return folder / request.param
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split in ("train", "test"):
        arrays[f"{split}_xy"] = rng.integers(101, size=(7, 8, 2)).astype(np.uint8)
        arrays[f"{split}_digit"] = rng.integers(10, size=7)
    np.savez(tmp_path / "made.npz", **arrays)
    return tmp_path / "made.npz"


def test_offsets_are_the_files_within_half_a_unit_and_bits_are_the_files(stroke_file: Path) -> None:
    with np.load(stroke_file) as arrays:
        for split, data in zip(LENGTHS, read_kanji(stroke_file), strict=True):
            stroke = torch.from_numpy(arrays[f"{split}_stroke"]).double()
            x = data.x[data.mask].double()
            assert data.lengths.tolist() == arrays[f"{split}_lengths"].tolist()
            assert torch.equal(x[:, 2], stroke[:, 2])
            assert float((x[:, :2] * KANJI_SCALE - stroke[:, :2]).abs().max()) <= 0.5 + SLACK


def test_points_are_the_files_within_half_a_unit(digit_file: Path) -> None:
    with np.load(digit_file) as arrays:
        for split, (data, digits) in zip(("train", "test"), read_pen_digits(digit_file), strict=True):
            points = data.x.double() * DIGIT_SCALE + handwriting.DIGIT_CENTRE
            assert float((points - torch.from_numpy(arrays[f"{split}_xy"]).double()).abs().max()) <= 0.5 + SLACK
            assert digits.tolist() == arrays[f"{split}_digit"].tolist()


def test_the_noise_is_uniform_and_the_same_every_time(packed: Path) -> None:
    """Kolmogorov's distance of n uniform numbers exceeds 2 / sqrt(n) once in 1500 times; the rounded ones fail."""
    first, again = (read_kanji(packed / "kanji_strokes.npz")[1] for _ in range(2))
    assert torch.equal(first.x, again.x)
    offsets = first.x[first.mask][:, :2].double().flatten() * KANJI_SCALE
    noise = (offsets - offsets.round() + 0.5).sort().values
    steps = torch.arange(1, len(noise) + 1) / len(noise)
    assert float((noise - steps).abs().max()) < 2 / math.sqrt(len(noise))
    rounded = offsets.round() - offsets.round() + 0.5
    assert float((rounded - steps).abs().max()) > 2 / math.sqrt(len(noise))


def test_the_scale_is_about_the_spread_of_the_offsets(packed: Path) -> None:
    train = read_kanji(packed / "kanji_strokes.npz")[0]
    assert float(train.x[train.mask][:, :2].std()) == pytest.approx(1, abs=0.01)


def test_the_pen_is_lifted_at_the_end_of_every_kanji(packed: Path) -> None:
    for split in read_kanji(packed / "kanji_strokes.npz"):
        assert bool((split.x[torch.arange(len(split.x)), split.lengths - 1, 2] == 1).all())


def test_the_integers_nats_are_bounded_by_the_densitys() -> None:
    """For a normal density in units of the scale: -log P(n) <= E_u[-log p(x)] + log(scale), not without that term."""
    scale, n = 7.0, torch.arange(-40, 41).double()
    law = torch.distributions.Normal(0.0, 1.0)
    grid = (torch.arange(2000).double() + 0.5) / 2000 - 0.5
    mean_nats = -law.log_prob((n[:, None] + grid) / scale).mean(1)
    exact = -(law.cdf((n + 0.5) / scale) - law.cdf((n - 0.5) / scale)).log()
    assert bool((exact <= mean_nats + math.log(scale)).all())
    assert not bool((exact <= mean_nats).all())


@pytest.mark.parametrize(("num", "valid"), [(4, []), (5, [4]), (11, [4, 9])])
def test_every_fifth_sequence_is_for_validation(num: int, valid: list[int]) -> None:
    train, chosen = every_fifth(num)
    assert chosen.tolist() == valid
    assert sorted([*train.tolist(), *valid]) == list(range(num))


@pytest.mark.parametrize(("name", "what"), [("kanji", "pickled objects"), ("pen-digits", "pendigits.tra")])
def test_without_its_file_a_data_set_says_what_the_file_is(
    name: str, what: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_default_cache", lambda: cache)
    with pytest.raises(
        DataError, match=rf"\.npz in the folder that PGM_RNN_DATA names .*{what}.*put it there yourself"
    ):
        load(name)


def test_a_file_of_pickled_objects_is_refused(tmp_path: Path) -> None:
    objects = np.empty(1, dtype=object)
    arrays: dict[str, Any] = {f"{split}_{name}": objects for split in LENGTHS for name in ("stroke", "lengths")}
    np.savez(tmp_path / "objects.npz", **arrays)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_kanji(tmp_path / "objects.npz")
