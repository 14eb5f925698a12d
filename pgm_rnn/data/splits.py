"""A validation split where nobody published one."""

import torch
from torch import Tensor

EVERY = 5
"""One training sequence in so many is for validation."""


def every_fifth(num_sequences: int) -> tuple[Tensor, Tensor]:
    """Places of the sequences to train on and of those to validate on, i % 5 == 4 of i = 0..num_sequences - 1."""
    index = torch.arange(num_sequences)
    is_valid = index % EVERY == EVERY - 1
    return index[~is_valid], index[is_valid]
