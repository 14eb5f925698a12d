"""Several draws of a model's parameters, and functions of the model under all of them in one call.

A value under several draws has the shape (*lead, *draws, *own): to the left of the draws are axes that Pyro's
enumeration makes, to the right are the sequences, steps and entries. A function of one draw sees (*lead, *own). All
draws are computed at once by `torch.func.vmap`, so that a matrix product or a compiled recursion runs over all of them.
Code that cannot be mapped, because it reads a value, runs draw after draw instead; the result is the same.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from pgm_rnn.sequence_model.conditionals import Conditionals
from pgm_rnn.sequence_model.parameters import call_with


class Rows(NamedTuple):
    """An argument of a function of one draw.

    Attributes:
        value: (num, ...), or the same value for all draws, or None.
        axis: 0, or None for a value that all draws share.
    """

    value: Tensor | None
    axis: int | None = None

    def at(self, index: int) -> Tensor | None:
        """The argument of one draw."""
        return self.value if self.value is None or self.axis is None else self.value[index]


class Draws:
    """Draws of some parameters of a model, arranged in a shape.

    Args:
        model: the model; its other parameters are shared by all draws.
        parameters: (num, ...) by their names in the module.
        shape: shape in which the draws are arranged; num is its number of entries.
    """

    def __init__(self, model: Conditionals, parameters: Mapping[str, Tensor], shape: torch.Size) -> None:
        self.model, self.parameters, self.shape = model, dict(parameters), torch.Size(shape)

    def first(self, function: Callable[..., Any], *rows: Rows) -> Any:
        """function(*arguments) under the first draw."""
        return self._one(0, function, *rows)

    def each(self, function: Callable[..., Tensor], *rows: Rows, random: bool = False) -> Tensor:
        """function(*arguments) under every draw, (num, ...); `random` says whether it draws numbers, one for each."""
        try:
            return self.at_once(function, *rows, random=random)
        except (RuntimeError, NotImplementedError, TypeError, ValueError):  # a true error comes again here
            return torch.stack([self._one(index, function, *rows) for index in range(self.shape.numel())])

    def at_once(self, function: Callable[..., Tensor], *rows: Rows, random: bool = False) -> Tensor:
        """`each` by one call of `torch.func.vmap`; whatever cannot be mapped raises an error."""

        def one(parameters: Mapping[str, Tensor], *arguments: Tensor | None) -> Tensor:
            return call_with(self.model, parameters, function, *arguments)

        axes = (0, *(row.axis for row in rows))
        with _without_validation():
            # numbers from a seed, inside a function that is not random, would differ between the draws
            mapped = torch.func.vmap(one, in_dims=axes, randomness="different" if random else "error")
            value: Tensor = mapped(self.parameters, *(row.value for row in rows))
        return value

    def _one(self, index: int, function: Callable[..., Any], *rows: Rows) -> Any:
        own = {name: values[index] for name, values in self.parameters.items()}
        return call_with(self.model, own, function, *(row.at(index) for row in rows))

    def rows(self, value: Tensor | None, own_axes: int) -> Rows:
        """A value (*lead, *draws, *own), or (*own) for all draws, as an argument of functions of one draw."""
        if value is None:
            return Rows(None)
        num_axes = len(self.shape)
        value = value[(None,) * (num_axes + own_axes - value.dim())]
        cut = value.dim() - own_axes
        lead, draws, own = value.shape[: cut - num_axes], value.shape[cut - num_axes : cut], value.shape[cut:]
        if draws.numel() == 1:
            return Rows(value.reshape(lead + own))
        places = range(len(lead), len(lead) + num_axes)
        front = value.expand(lead + self.shape + own).movedim(tuple(places), tuple(range(num_axes)))
        return Rows(front.reshape(-1, *lead, *own), 0)

    def arranged(self, value: Tensor, own_axes: int) -> Tensor:
        """The results of functions of one draw (num, *lead, *own), as (*lead, *draws, *own)."""
        num_axes, num_lead = len(self.shape), value.dim() - 1 - own_axes
        places = range(num_lead, num_lead + num_axes)
        return value.reshape(self.shape + value.shape[1:]).movedim(tuple(range(num_axes)), tuple(places))

    def chosen(self, index: Tensor) -> "Draws":
        """The draws at an index of any shape, which becomes their shape."""
        chosen = {name: values[index.flatten()] for name, values in self.parameters.items()}
        return Draws(self.model, chosen, index.shape)


@contextmanager
def _without_validation() -> Iterator[None]:
    """A block in which new laws do not read the values of their parameters, which `vmap` does not allow."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
