"""A validation split for data sets that were published without one."""

import torch
from torch import Tensor

EVERY = 5
"""One training sequence in every this many is for validation."""


def every_fifth(num_sequences: int) -> tuple[Tensor, Tensor]:
    """Indices of the training and of the validation sequences; the latter are those with i % 5 == 4."""
    index = torch.arange(num_sequences)
    is_valid = index % EVERY == EVERY - 1
    return index[~is_valid], index[is_valid]
