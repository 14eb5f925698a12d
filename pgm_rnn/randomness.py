"""Reproducible randomness that leaves the caller's random state alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Run a block from `seed` and restore the random states after it; None uses the global state as it is.

    Raises:
        TypeError: the seed is no integer.
    """
    if seed is None:
        yield
        return
    if not isinstance(seed, int):
        raise TypeError(f"expected seed as an integer or None, got {type(seed).__name__}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
