"""Values that depend only on parameters, computed once in a run instead of at every step.

A module that computes such a value is a `ComputedOnce`; an engine runs its steps inside `computed_once(model)`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from torch import nn

Value = TypeVar("Value")


class ComputedOnce(nn.Module, Generic[Value]):
    """A module with a value that is a function of its parameters, kept while an engine runs."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[Value] = []

    def compute(self) -> Value:
        """The value at the present parameters.

        Raises:
            NotImplementedError: a subclass that does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no value")

    @property
    def kept(self) -> Value | None:
        """The value that an engine keeps now, or None."""
        return self._kept[-1] if self._kept else None

    @property
    def value(self) -> Value:
        """The value, computed now or kept from the start of the run."""
        return self._kept[-1] if self._kept else self.compute()


@contextmanager
def computed_once(model: nn.Module) -> Iterator[None]:
    """A block in which every `ComputedOnce` of the model keeps the value that it has at the beginning.

    The parameters must not change inside the block.
    """
    parts = [part for part in model.modules() if isinstance(part, ComputedOnce)]
    for part in parts:
        part._kept.append(part.compute())
    try:
        yield
    finally:
        for part in parts:
            part._kept.pop()
