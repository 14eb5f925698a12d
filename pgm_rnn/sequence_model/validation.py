"""Laws that are made without torch's checks of their parameters."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributions import Distribution


@contextmanager
def without_validation() -> Iterator[None]:
    """A block in which new laws do not read the values of their parameters."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
