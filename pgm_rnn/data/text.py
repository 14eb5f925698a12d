"""Text as sequences of characters: x_t in 0..num_symbols - 1 is an index into the sorted vocabulary.

The first 95 % of the characters are for training and the rest for validation, the fractions of char-rnn (Karpathy,
2015); each part is cut into windows of 100 characters that do not overlap, and its last window may be shorter.

Differences from the program: char-rnn lays the text out as 50 parallel streams and takes the last 5 % of every stream
for validation, carries the hidden state from one window to the next, and drops the characters that fill no batch.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pgm_rnn.data.dataset import Dataset
from pgm_rnn.data.source import SourceFile, fetch
from pgm_rnn.emissions import Categorical
from pgm_rnn.sequences import Sequences, pad

TRAIN_PERCENT = 95
WINDOW = 100

TINY_SHAKESPEARE = SourceFile(
    "tinyshakespeare.txt",
    "karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)


class TextSplits(NamedTuple):
    """A text in windows.

    Attributes:
        train: windows of the first 95 % of the text, x (N, 100), int64.
        valid: windows of the rest.
        vocabulary: the characters of the whole text, sorted.
    """

    train: Sequences
    valid: Sequences
    vocabulary: str


def tiny_shakespeare() -> Dataset:
    """One megabyte of Shakespeare's plays, 65 different characters; no test split.

    Raises:
        DataError: the file is missing and cannot be downloaded.
    """
    train, valid, vocabulary = read_text(fetch(TINY_SHAKESPEARE))
    description = f"A megabyte of Shakespeare's plays, one character per step, in windows of {WINDOW}"
    return Dataset("tiny-shakespeare", description, Categorical(len(vocabulary)), train, valid, vocabulary=vocabulary)


def read_text(path: Path) -> TextSplits:
    """Windows and vocabulary of a UTF-8 file of at least 20 characters, line ends as they are."""
    text = path.read_bytes().decode("utf-8")
    code_points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    symbols, codes = np.unique(code_points, return_inverse=True)
    vocabulary = "".join(map(chr, symbols))
    num_train = len(codes) * TRAIN_PERCENT // 100
    train, valid = torch.from_numpy(codes.astype(np.int64)).split([num_train, len(codes) - num_train])
    return TextSplits(pad(train.split(WINDOW)), pad(valid.split(WINDOW)), vocabulary)
