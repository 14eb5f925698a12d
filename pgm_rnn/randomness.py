"""Reproducible randomness that leaves the caller's random state alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_STRIDE = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: no two (seed, stream) pairs of ordinary size coincide


@contextmanager
def seeded(seed: int | None, stream: int = 0) -> Iterator[None]:
    """Run a block from `seed` and restore the random states after it; None uses the global state as it is.

    Args:
        seed: any integer.
        stream: number of the purpose of the draws. Different streams of one seed are unrelated, so that a model drawn
            from a seed and data drawn from the same seed are independent.

    Raises:
        TypeError: the seed is no integer.
    """
    if seed is None:
        yield
        return
    if not isinstance(seed, int | np.integer):
        raise TypeError(f"expected seed as an integer or None, got {type(seed).__name__}")
    with torch.random.fork_rng():
        _seed(derived_seed(seed, stream))
        yield


def _seed(number: int) -> None:
    """`torch.manual_seed`, which without an accelerator takes most of its time for notes to those that may come."""
    if torch.accelerator.is_available():
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)


def derived_seed(seed: int, stream: int) -> int:
    """A seed of its own for each stream of a seed, for torch's generators."""
    return (int(seed) + _STRIDE * stream) % 2**63
