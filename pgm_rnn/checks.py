"""Checks of arguments for public functions; each raises an error of one clear sentence.

The checks of tensors import torch when they run, so that the command line answers a wrong name before that.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from numbers import Integral
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
Result = TypeVar("Result")


def by_keyword(function: Callable[P, Result]) -> Callable[P, Result]:
    """Wraps a function so that its error for too many positional arguments shows how to write them as keywords.

    Keyword-only arguments must be in the order in which earlier versions took them by position.

    Raises:
        TypeError: by the wrapped function, for too many positional arguments.
    """
    parameters = inspect.signature(function).parameters.values()
    positional = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
    later = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Result:
        if len(args) > positional:
            extra = ", ".join(f"{name}=..." for name in later[: len(args) - positional])
            raise TypeError(
                f"expected at most {positional} arguments of {function.__name__} by position, got {len(args)}; "
                f"write {extra}"
            )
        return function(*args, **kwargs)

    return checked


LONG = 20
"""Number of choices above which an error lists them at its end, after what was probably meant."""


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise an error that lists `choices` unless `value` is one of them.

    Raises:
        ValueError: another value; the closest choice is suggested.
    """
    choices = list(choices)
    if value not in choices:
        close = difflib.get_close_matches(str(value).lower(), choices, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        listed = ", ".join(choices)
        if len(choices) > LONG:
            choose = " All of them:" if close else "; choose among"
            raise ValueError(f"expected {name} to be one of {len(choices)} names, got {value!r}{hint}{choose} {listed}")
        raise ValueError(f"expected {name} to be one of {listed}, got {value!r}{hint}")


def check_frozen(frozen: Collection[str], parts: Collection[str]) -> frozenset[str]:
    """The checked names of the parts of a model that a fit keeps fixed.

    Raises:
        TypeError: one string in place of a collection of them.
        ValueError: a name that is not among the parts, or all of them.
    """
    if isinstance(frozen, str):
        raise TypeError(f"expected frozen as a collection of names, got {frozen!r}; use frozen=[{frozen!r}]")
    for part in frozen:
        check_choice("frozen", part, parts)
    if set(frozen) == set(parts):
        raise ValueError(
            f"expected at least one part left to fit, got all of {', '.join(parts)} in frozen; leave one out"
        )
    return frozenset(frozen)


def check_counts(**counts: object) -> None:
    """Raise unless every count is an integer of at least 1.

    Raises:
        ValueError: another number or type.
    """
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"expected {name} to be an integer of at least 1, got {value!r}")


def check_probs(name: str, probs: "Tensor", shape: tuple[int | None, ...]) -> None:
    """Raise unless `probs` has `shape` (None for any size) and non-negative rows that sum to one.

    Raises:
        ValueError: another shape, another kind of numbers, negative numbers or NaN, or rows with another sum.
    """
    import torch

    if probs.dim() != len(shape) or any(n not in (None, m) for n, m in zip(shape, probs.shape, strict=True)):
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"expected {name} of shape ({expected}), got {tuple(probs.shape)}")
    if not probs.is_floating_point() or 0 in probs.shape:
        raise ValueError(
            f"expected {name} as a floating-point tensor that is not empty, got dtype {probs.dtype} and shape "
            f"{tuple(probs.shape)}"
        )
    probs = probs.detach()
    if not bool((probs >= 0).all()):
        raise ValueError(f"expected {name} to be non-negative numbers, got {float(probs.min())}")
    error = (probs.sum(-1) - 1).abs().reshape(-1)
    if bool((error > 4 * probs.shape[-1] * torch.finfo(probs.dtype).eps + 1e-6).any()):
        row = int(error.argmax())
        total = float(probs.sum(-1).reshape(-1)[row])
        raise ValueError(
            f"expected each row of {name} to sum to one, got a sum of {total:.8g} in row {row}; normalise it first"
        )


def check_symmetric(name: str, cov: "Tensor", size: int) -> "Tensor":
    """A symmetric matrix of numbers, (size, size), without its gradient.

    Raises:
        ValueError: another shape, NaN, or not symmetric.
    """
    import torch

    if cov.shape != (size, size) or not cov.is_floating_point():
        raise ValueError(
            f"expected {name} of shape ({size}, {size}) and floating point, got shape {tuple(cov.shape)} and dtype "
            f"{cov.dtype}"
        )
    cov = cov.detach()
    largest = float(cov.abs().max()) if size else 0.0
    if size and not (difference := float((cov - cov.mT).abs().max())) <= 100 * torch.finfo(cov.dtype).eps * largest:
        got = "NaN or infinity" if difference != difference else f"a difference of {difference:.3g} from its transpose"
        raise ValueError(f"expected {name} to be a symmetric matrix of numbers, got {got}; use (cov + cov.mT) / 2")
    return cov


def check_covariance(name: str, cov: "Tensor", size: int) -> "Tensor":
    """The Cholesky factor of a checked covariance, (size, size).

    Raises:
        ValueError: another shape, NaN, not symmetric, or not positive definite.
    """
    import torch

    cov = check_symmetric(name, cov, size)
    factor, failed = torch.linalg.cholesky_ex(cov)
    if int(failed):
        smallest = float(torch.linalg.eigvalsh(cov)[0])
        raise ValueError(
            f"expected {name} to be positive definite, got a smallest eigenvalue of {smallest:.3g}; add a small "
            "variance to its diagonal"
        )
    return factor
