from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from pgm_rnn.data import DataError, Dataset, list_datasets, load
from pgm_rnn.data.catalogue import DATASETS
from pgm_rnn.emissions import Bernoulli, Categorical, Gaussian, Pen
from pgm_rnn.sequences import Sequences


class Counts(NamedTuple):
    """What is known of a published split."""

    sequences: int
    steps: int
    shortest: int
    longest: int
    notes_on: int


PIANO_ROLLS = {
    "jsb": (
        Counts(229, 13_807, 25, 129, 53_824),
        Counts(76, 4_602, 32, 144, 17_811),
        Counts(77, 4_725, 32, 160, 18_367),
    ),
    "nottingham": (
        Counts(694, 176_561, 40, 1_788, 699_403),
        Counts(173, 45_513, 96, 1_473, 180_192),
        Counts(170, 44_463, 63, 1_793, 177_421),
    ),
}


SPLITS_OF_FILES = {
    "japanese-vowels": (Gaussian(12), [(216, 3_436), (54, 838), (370, 5_687)], (7, 29), 9),
    "kanji": (Pen(20), [(10_000, 406_111), (600, 25_455), (500, 20_793)], (2, 88), None),
    "pen-digits": (Gaussian(2), [(5_996, 47_968), (1_498, 11_984), (3_498, 27_984)], (8, 8), 10),
}
"""Family, sequences and steps, lengths, number of labels: the published counts, every fifth of the training split
set aside where no validation split was published."""


@pytest.fixture
def from_packed(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGM_RNN_DATA", str(packed))


@pytest.fixture
def from_originals(originals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGM_RNN_DATA", str(originals))


def count(split: Sequences | None) -> Counts:
    assert split is not None
    shortest, longest = int(split.lengths.min()), int(split.lengths.max())
    return Counts(len(split.x), split.num_steps, shortest, longest, int(split.x.sum()))


def splits_of(data: Dataset) -> list[Sequences]:
    return [split for split in (data.train, data.valid, data.test) if split is not None]


@pytest.mark.parametrize("name", list_datasets())
def test_every_data_set_holds_what_its_emission_can_emit(name: str, request: pytest.FixtureRequest) -> None:
    if name not in ("synthetic-hmm", "gnp", "pound-dollar"):
        request.getfixturevalue("from_packed" if name in (*SPLITS_OF_FILES, "uk-drivers") else "from_originals")
    data = load(name)
    assert data.name == name
    assert data.description
    entry = DATASETS[name]
    assert type(data.emission) is entry.family
    assert entry.licence
    assert entry.labels == ("sequences" if data.labels else "steps" if data.model else "")
    for split in splits_of(data):
        assert split.x.shape[2:] == data.emission.event_shape
        assert not bool(data.emission.invalid(split.x).any())
        assert int(split.lengths.min()) >= 1
        assert (split.z is None) == (data.model is None)
    if data.labels is not None:
        for split, labels in zip(splits_of(data), data.labels[1:], strict=True):
            assert labels is not None
            assert labels.shape == (len(split.x),)
            assert not bool(data.labels.family.invalid(labels).any())


@pytest.mark.usefixtures("from_originals")
@pytest.mark.parametrize("name", PIANO_ROLLS)
def test_piano_rolls_have_the_published_counts(name: str) -> None:
    data = load(name)
    assert (count(data.train), count(data.valid), count(data.test)) == PIANO_ROLLS[name]
    assert data.emission == Bernoulli(88)
    assert data.vocabulary is None


@pytest.mark.usefixtures("from_originals")
def test_tiny_shakespeare_has_the_published_counts() -> None:
    data = load("tiny-shakespeare")
    assert data.emission == Categorical(65)
    assert data.vocabulary is not None
    assert len(data.vocabulary) == 65
    assert data.valid is not None
    assert data.train.num_steps + data.valid.num_steps == 1_115_394
    assert data.test is None


@pytest.mark.usefixtures("from_packed")
@pytest.mark.parametrize("name", SPLITS_OF_FILES)
def test_speech_and_handwriting_have_the_published_counts(name: str) -> None:
    data = load(name)
    family, counts, (shortest, longest), num_labels = SPLITS_OF_FILES[name]
    assert data.emission == family
    assert [(len(split.x), split.num_steps) for split in splits_of(data)] == counts
    lengths = torch.cat([split.lengths for split in splits_of(data)])
    assert (int(lengths.min()), int(lengths.max())) == (shortest, longest)
    assert (data.labels and data.labels.family.num_symbols) == num_labels
    assert {split.x.dtype for split in splits_of(data)} == {torch.float32}


def test_the_synthetic_data_are_those_of_choe_et_al() -> None:
    data = load("synthetic-hmm")
    assert [tuple(split.x.shape) for split in splits_of(data)] == [(20_000, 8), (1_000, 8), (100, 8)]
    assert data.emission == Categorical(3)
    assert data.model is not None
    assert data.model.num_states == 2


def test_synthetic_data_follow_the_seed_and_its_default_is_zero() -> None:
    assert torch.equal(load("synthetic-hmm").train.x, load("synthetic-hmm", seed=0).train.x)
    assert not torch.equal(load("synthetic-hmm").train.x, load("synthetic-hmm", seed=1).train.x)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("japanese-vowels", "japanese_vowels.npz"),
        ("japanese-vowels", "JapaneseVowels_TRAIN.ts"),
        ("jsb", "JSB_Chorales.mat"),
        ("kanji", "kanji_strokes.npz"),
        ("nottingham", "Nottingham.mat"),
        ("pen-digits", "pen_digits.npz"),
        ("tiny-shakespeare", "tinyshakespeare.txt"),
        ("uk-drivers", "small_series.npz"),
    ],
)
def test_a_file_with_other_contents_is_not_read(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / file).write_bytes(b"something else")
    monkeypatch.setenv("PGM_RNN_DATA", str(tmp_path))
    remedy = "put the right one there" if file.endswith(".npz") else "delete it to download it again"
    with pytest.raises(DataError, match=f"expected SHA-256 .*{file}.*{remedy}"):
        load(name)


def test_an_unknown_name_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(ValueError, match=f"expected .* one of {', '.join(list_datasets())}, got 'x'$"):
        load("x")


def test_a_misspelt_name_is_an_error_that_knows_better() -> None:
    with pytest.raises(ValueError, match=r"got 'shakespeare'; did you mean 'tiny-shakespeare'\?"):
        load("shakespeare")
