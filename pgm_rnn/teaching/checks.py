"""What a test asks of a value: that it is a number or an array of a shape, and close to what is expected."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Call = Callable[..., Any]
"""`call(name, *arguments, returns=1)`: the results of a student's function, several of them as a list."""


def check_close(got: Any, expected: Any, rtol: float = 1e-6, atol: float = 1e-8, what: str = "result") -> None:
    """Raise an error unless `got` has the shape of `expected` and |got - expected| <= atol + rtol |expected|.

    An infinite number must be met exactly.

    Args:
        got: a number, an array or a list of numbers.
        expected: what it should be.
        rtol: relative tolerance.
        atol: absolute tolerance.
        what: name of the value, for the message.

    Raises:
        AssertionError: no numbers, another shape, NaN where a number is expected, or a difference above the tolerance.
            The message never shows the expected value.
    """
    wanted = np.asarray(expected, dtype=float)
    value = numbers(got, what)
    if value.shape != wanted.shape:
        raise AssertionError(f"{what}: expected {_shape(wanted.shape)}, got {_shape(value.shape)}")
    if np.isnan(value).any() and not np.isnan(wanted).any():
        raise AssertionError(f"{what}: expected numbers, got NaN")
    with np.errstate(invalid="ignore"):
        near = np.isfinite(wanted) & (np.abs(value - wanted) <= atol + rtol * np.abs(wanted))
        near |= value == wanted
    if not near.all():
        wrong = int((~near).sum())
        raise AssertionError(f"{what}: {wrong} of {near.size} numbers differ" if near.ndim else f"{what} differs")


def numbers(got: Any, what: str = "result") -> np.ndarray[Any, np.dtype[np.float64]]:
    """A value as an array of floats.

    Raises:
        AssertionError: it is none.
    """
    try:
        array = np.asarray(got)
    except ValueError:
        raise AssertionError(f"{what}: expected an array, got rows of different lengths") from None
    if array.dtype.kind not in "biuf":
        raise AssertionError(f"{what}: expected a number or an array of numbers, got {type(got).__name__}")
    return array.astype(float)


def local(namespace: Mapping[str, Any]) -> Call:
    """`call` for functions of this very process, for nbgrader and Otter, whose tests run beside the student's code.

    Raises:
        AssertionError: by `call`, for a function that there is not, or another number of results.

    >>> local({"double": lambda x: 2 * x})("double", 4)
    8
    """

    def call(name: str, *arguments: Any, returns: int = 1) -> Any:
        if not callable(namespace.get(name)):
            raise AssertionError(f"expected a function {name}, got none")
        return counted(namespace[name](*arguments), name, returns)

    return call


def counted(value: Any, name: str, returns: int) -> Any:
    """The results of a function, as a list if there are to be several.

    Raises:
        AssertionError: there are more or fewer.
    """
    if returns == 1:
        return value
    if not isinstance(value, tuple | list) or len(value) != returns:
        got = len(value) if isinstance(value, tuple | list) else f"one {type(value).__name__}"
        raise AssertionError(f"{name}: expected {returns} results, got {got}")
    return list(value)


def _shape(shape: tuple[int, ...]) -> str:
    return f"an array of shape {shape}" if shape else "one number"
