"""Handwriting: strokes of kanji, x_t = (dx, dy, up), and points on the pen's path of a digit, x_t = (x, y).

kanji       KanjiVG (Apel), as drawn by Ha's sketch-rnn data: the pen moves by (dx, dy), y downwards, and draws a line
            on the way unless it was lifted; `up` is one where it is lifted after the move. The first move is from
            nowhere: it draws nothing.
pen-digits  Alpaydin & Alimoglu (1998): eight points at equal distances on the pen's path, in the order of writing,
            y upwards; the digit is each sequence's label.

The published numbers are integers n, of which the density of a continuous law has no bound. They are spread over
[n - 1/2, n + 1/2) by uniform noise u of a fixed seed, and then shifted and divided by fixed constants:

    x = (n + u - centre) / scale,    -log P(n_{1:T}) <= E_u[-log p(x_{1:T})] + 2 T log(scale)

because P(n) is the integral of the density over those cubes (Jensen's inequality). So adding 2 log(scale) nats per step
to the negative log density gives an upper bound on that of the integers, up to the noise being drawn only once.

The files are arrays made from the originals: the original of the kanji holds pickled objects, which are never read.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.data.dataset import Dataset, Labels
from pgm_rnn.data.source import SourceFile, fetch
from pgm_rnn.data.splits import every_fifth
from pgm_rnn.emissions import Categorical, Gaussian, Pen
from pgm_rnn.sequences import Sequences, as_sequences, pad

NOISE_SEED = 0
KANJI_SCALE = 100.0
"""Near the standard deviation of the training offsets, 99.7; 2 log(scale) = 9.21 nats."""
DIGIT_CENTRE, DIGIT_SCALE = 50.0, 50.0
"""The published square 0..100 becomes -1..1; 2 log(scale) = 7.82 nats."""

KANJI = SourceFile(
    "kanji_strokes.npz",
    None,
    "5e2b126708ada89f2eb87ad179c29a2fe7acb7addf03a035b9511a23f70d6387",
    "the drawings of kanji/short_kanji.npz in github.com/hardmaru/sketch-rnn-datasets as plain arrays, because the "
    "original holds pickled objects",
)
PEN_DIGITS = SourceFile(
    "pen_digits.npz",
    None,
    "b423f8f1b9a3c45efd734371df1f2b308866f1e812e0ff701ee06153a184a565",
    "the UCI repository's pendigits.tra and pendigits.tes as arrays",
)


def kanji() -> Dataset:
    """Drawings of kanji: 10 000 / 600 / 500 sequences of up to 88 steps, in units of 100 units of the drawings.

    Raises:
        DataError: the file is not there, or has other contents.
    """
    train, valid, test = read_kanji(fetch(KANJI))
    description = "Kanji: the pen's offset in units of 100 and whether it is lifted, one point per step"
    return Dataset("kanji", description, Pen(20), train, valid, test)


def pen_digits() -> Dataset:
    """Eight points of each of 5996 / 1498 / 3498 digits, in the square from -1 to 1.

    The test split has writers of its own. Every fifth of the 7494 published training digits is for validation; it has
    the same writers as the training split.

    Raises:
        DataError: the file is not there, or has other contents.
    """
    (published, digits), (test, test_digits) = read_pen_digits(fetch(PEN_DIGITS))
    train, valid = every_fifth(len(digits))
    return Dataset(
        "pen-digits",
        "Handwritten digits: 8 points on the pen's path in a square from -1 to 1, one point per step",
        Gaussian(2),
        published.select(train),
        published.select(valid),
        test,
        labels=Labels(Categorical(10), digits[train], digits[valid], test_digits),
    )


def read_kanji(path: Path) -> tuple[Sequences, Sequences, Sequences]:
    """Train, validation and test split of a .npz, each with x (N, T, 3), float32.

    Args:
        path: file with the arrays SPLIT_stroke (sum T, 3) of integers and SPLIT_lengths for train, valid and test.
    """
    noise = _noise()
    with np.load(path, allow_pickle=False) as arrays:
        train, valid, test = (
            _strokes(arrays[f"{split}_stroke"], arrays[f"{split}_lengths"], noise)
            for split in ("train", "valid", "test")
        )
    return train, valid, test


def read_pen_digits(path: Path) -> list[tuple[Sequences, Tensor]]:
    """x (N, 8, 2), float32, and the digits (N,), int64, of the published training and test data in a .npz.

    Args:
        path: file with the arrays SPLIT_xy (N, 8, 2) of integers 0..100 and SPLIT_digit for train and test.
    """
    noise = _noise()
    with np.load(path, allow_pickle=False) as arrays:
        return [
            (
                as_sequences(_spread(arrays[f"{split}_xy"], noise, DIGIT_CENTRE, DIGIT_SCALE)),
                torch.from_numpy(arrays[f"{split}_digit"]).long(),
            )
            for split in ("train", "test")
        ]


def _strokes(stroke: NDArray[Any], lengths: NDArray[Any], noise: np.random.Generator) -> Sequences:
    offsets = _spread(stroke[:, :2], noise, 0.0, KANJI_SCALE)
    x = torch.cat([offsets, torch.from_numpy(stroke[:, 2:]).float()], dim=-1)
    return pad(x.split(lengths.tolist()))


def _noise() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(NOISE_SEED))


def _spread(integers: NDArray[Any], noise: np.random.Generator, centre: float, scale: float) -> Tensor:
    """(n + u - centre) / scale with u uniform in [-1/2, 1/2), float32."""
    u = noise.random(integers.shape) - 0.5
    return torch.from_numpy((integers + u - centre) / scale).float()
