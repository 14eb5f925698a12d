"""The series of the comparisons, in float64."""

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.data import load

NILE = [
    1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140, 995, 935, 1110, 994, 1020, 960, 1180, 799, 958, 1140,
    1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100, 774, 840, 874, 694, 940, 833, 701, 916, 692, 1020, 1050, 969,
    831, 726, 456, 824, 702, 1120, 1100, 832, 764, 821, 768, 845, 864, 862, 698, 845, 744, 796, 1040, 759,
    781, 865, 845, 944, 984, 897, 822, 1010, 771, 676, 649, 846, 812, 742, 801, 1040, 860, 874, 848, 890,
    744, 749, 838, 1050, 918, 986, 797, 923, 975, 815, 1020, 906, 901, 1170, 912, 746, 919, 718, 714, 740,
]  # fmt: skip
"""Annual flow of the Nile at Aswan, 1871 to 1970, in 10^8 cubic metres; in the public domain."""
NILE_WORDS, GNP_WORDS, SYMBOL_WORDS = "Nile, 1871-1970", "US GNP growth", "US GNP growth above its median, or not"


def nile() -> Tensor:
    """The Nile's flow, (1, 100, 1)."""
    return torch.tensor(NILE, dtype=torch.float64)[None, :, None]


def growth() -> Tensor:
    """Growth of American GNP, per cent per quarter, (1, 135, 1)."""
    return load("gnp").train.x[..., None]


def symbols() -> Tensor:
    """Whether the growth is above its median, (1, 135), 0 or 1."""
    x = growth()[..., 0]
    return (x > x.median()).long()


def pound() -> Tensor:
    """The first 200 daily returns of the pound in US dollars, (1, 200)."""
    return load("pound-dollar").train.x[:, :200]


def column(x: Tensor) -> np.ndarray:
    """A single series as an array, (T, 1)."""
    found: np.ndarray = x.reshape(-1, 1).numpy()
    return found
