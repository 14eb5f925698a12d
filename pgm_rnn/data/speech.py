"""Speech: x_t in R^12, the linear-prediction cepstrum of one frame, of nine men who say the Japanese vowels ae.

Kudo, Toyama & Shimbo (1999), as the .ts files of aeon 1.6.0, or as one .npz of the same numbers in float32 if it
exists. The speaker is each sequence's label. Numbers stay in the units of the files, so a density is per such unit.

Differences from the publication: it has 270 training and 370 test utterances; every fifth of the 270 is for validation
here. They are sorted by speaker, 30 for each, so each speaker has 24 training and 6 validation utterances.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.data.dataset import Dataset, Labels
from pgm_rnn.data.source import DataError, SourceFile, fetch, find
from pgm_rnn.data.splits import every_fifth
from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.sequences import Sequences, pad

NUM_COEFFICIENTS = 12
NUM_SPEAKERS = 9

_FOLDER = "aeon-toolkit/aeon/v1.6.0/aeon/datasets/data/JapaneseVowels"
TRAIN = SourceFile(
    "JapaneseVowels_TRAIN.ts",
    f"{_FOLDER}/JapaneseVowels_TRAIN.ts",
    "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
)
TEST = SourceFile(
    "JapaneseVowels_TEST.ts",
    f"{_FOLDER}/JapaneseVowels_TEST.ts",
    "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
)
PACKED = SourceFile(
    "japanese_vowels.npz",
    None,
    "21d7291871743ff7635e4431c7e27a667061ea3d412d08fab464f393512388ae",
    "the two .ts files as arrays",
)


class Utterances(NamedTuple):
    """Sequences and their speakers.

    Attributes:
        data: the sequences, x (N, T, 12), float32.
        speakers: numbers of the speakers, 0..8, (N,), int64.
    """

    data: Sequences
    speakers: Tensor


def japanese_vowels() -> Dataset:
    """Frames of nine speakers: 216 / 54 / 370 sequences of 7 to 29 steps, 12 numbers per step.

    Raises:
        DataError: the files are missing and cannot be downloaded.
    """
    packed = find(PACKED)
    if packed is not None:
        published, test = (read_packed(packed, split) for split in ("train", "test"))
    else:
        published, test = (read_ts(fetch(file)) for file in (TRAIN, TEST))
    train, valid = every_fifth(len(published.speakers))
    return Dataset(
        "japanese-vowels",
        "Japanese vowels of nine speakers: 12 cepstrum coefficients per frame, one frame per step",
        Gaussian(NUM_COEFFICIENTS),
        published.data.select(train),
        published.data.select(valid),
        test.data,
        labels=Labels(Categorical(NUM_SPEAKERS), published.speakers[train], published.speakers[valid], test.speakers),
    )


def read_packed(path: Path, split: str) -> Utterances:
    """The utterances of the arrays SPLIT_x (sum T, 12), SPLIT_lengths and SPLIT_speaker 1..9 of a .npz."""
    with np.load(path, allow_pickle=False) as arrays:
        x, lengths, speakers = (arrays[f"{split}_{name}"] for name in ("x", "lengths", "speaker"))
    frames = torch.from_numpy(x).float().split(lengths.tolist())
    return Utterances(pad(frames), torch.from_numpy(speakers).long() - 1)


def read_ts(path: Path) -> Utterances:
    """The utterances of a .ts file, one per line: colons separate coefficients, commas frames; the speaker is last.

    Raises:
        DataError: a line holds something else.
    """
    lines = path.read_text(encoding="utf-8").partition("@data\n")[2].splitlines()
    frames, speakers = [], []
    for number, line in enumerate(lines, 1):
        *coefficients, speaker = line.split(":")
        try:
            table = np.array([[float(cell) for cell in cells.split(",")] for cells in coefficients])
            speakers.append(int(speaker) - 1)
        except ValueError:
            raise DataError(
                f"expected frames of numbers and a speaker in {path}, got others in sequence {number}"
            ) from None
        if table.ndim != 2 or len(table) != NUM_COEFFICIENTS:
            raise DataError(f"expected {NUM_COEFFICIENTS} coefficients in {path}, got others in sequence {number}")
        frames.append(torch.from_numpy(table.T.astype(np.float32)))  # (T, 12)
    if not frames:
        raise DataError(f"expected sequences after a line @data in {path}, got none")
    return Utterances(pad(frames), torch.tensor(speakers))
