"""What may be wrong with a law that a model's method returns, each as an error that names the method and the step.

An error that a method raises itself, or that a law raises about the value of a parameter, says nothing of the method's
shapes. Then `Unclear` ends the check, and the run meets that error where it comes up.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from pgm_rnn.kernels.not_numbers import has_nan

WRAPPERS = ("Independent", "ExpandedDistribution", "MaskedDistribution")
_STRUCTURAL = (RuntimeError, ValueError, TypeError, AttributeError, IndexError)
_OF_SHAPES = re.compile(
    r"\b(sizes?|shapes?|broadcast\w*|dim(ension)?s?|NoneType|out of range|dtypes?|scalar type)\b", re.IGNORECASE
)
"""Words with which torch and Python say that arguments have the wrong shapes or kinds."""


_NO_MEMORY = (
    "; h is None, because the model has neither initial_memory, h_1, nor inputs: set self.initial_memory to a "
    "parameter or buffer (memory_dim,), or do not read h"
)


class Unclear(Exception):  # noqa: N818  (no error, but the end of a check)
    """A method failed for a reason that is not one of shapes or kinds."""


class Place(NamedTuple):
    """A method of a class at a step."""

    method: str
    model: str
    step: int

    def __str__(self) -> str:
        """Such as "emission of Walk at step 1"."""
        return f"{self.method} of {self.model} at step {self.step}"


def law_of(place: Place, method: Callable[..., Any], *given: Any, without_memory: bool = False) -> Distribution:
    """The law that a method returns; `without_memory` if the model has none, so that h is None.

    Raises:
        ValueError: the method fails, or does not broadcast over its arguments.
        TypeError: it returns something else.
    """
    try:
        law = method(*given)
    except Exception as error:
        check_structural(error)
        shapes = " and ".join("None" if each is None else str(tuple(each.shape)) for each in given)
        way_out = _NO_MEMORY if "NoneType" in str(error) and without_memory else ""
        raise ValueError(f"expected {place} to broadcast over {shapes}, got {reason(error)}{way_out}") from error
    if not isinstance(law, Distribution):
        raise TypeError(f"expected a law from {place}, such as pyro.distributions.Normal(...), got {kind(law)}")
    return law


def check_event(place: Place, law: Distribution, event: Sequence[int], of: str) -> None:
    """Raise unless a law has this event shape, which is that of `of`.

    Raises:
        ValueError: another one.
    """
    found, batch = tuple(law.event_shape), tuple(law.batch_shape)
    if found == tuple(event):
        return
    missing = len(event) - len(found)
    way_out = f"; use .to_event({missing})" if missing > 0 and batch[-missing:] + found == tuple(event) else ""
    raise ValueError(
        f"expected a law of event shape {tuple(event)} from {place}, as {of} has, got a {kind(law)} of event shape "
        f"{found} and batch shape {batch}{way_out}"
    )


def check_batch(place: Place, law: Distribution, shape: Sequence[int]) -> None:
    """Raise unless the batch shape of a law broadcasts to `shape`.

    Raises:
        ValueError: another one.
    """
    found = tuple(law.batch_shape)
    pairs = zip(reversed(found), reversed(tuple(shape)), strict=False)
    if len(found) > len(shape) or any(mine not in (1, its) for mine, its in pairs):
        raise ValueError(
            f"expected a law from {place} whose batch shape broadcasts to that of its arguments, {tuple(shape)}, got a "
            f"{kind(law)} of batch shape {found}; index by z, such as self.table[z], and read a memory as h[..., i]"
        )


def check_values(place: Place, law: Distribution, wanted: str, discrete: bool | None, num: int | None) -> None:
    """Raise if a law says of itself that its values are of another kind, or symbols of another number.

    Args:
        place: where it was made.
        law: the law.
        wanted: the values that are wanted, in words.
        discrete: whether they are whole numbers; None for no check.
        num: number of symbols; None for no check.

    Raises:
        ValueError: other values.
    """
    support = _support(law)
    if support is None:
        return
    if discrete is not None and support.is_discrete != discrete:
        values = "whole numbers" if support.is_discrete else "real numbers"
        raise ValueError(f"expected a law of {wanted} from {place}, got a {kind(law)}, a law of {values}")
    last = getattr(support, "upper_bound", None)
    if num is not None and last is not None and bool((torch.as_tensor(last) != num - 1).any()):
        values = f"0..{int(torch.as_tensor(last).max())}"
        raise ValueError(
            f"expected a law of {wanted} from {place}, got a {kind(law)} of {values}; give it {num} logits or probs"
        )


def log_probs_of(place: Place, law: Distribution, values: Tensor, *, nan: bool = False) -> Tensor:
    """log p(values) of a law; it may be NaN if `nan`.

    Raises:
        ValueError: it has none, or NaN.
    """
    try:
        found: Tensor = law.log_prob(values)
    except Exception as error:
        check_structural(error)
        raise ValueError(
            f"expected a law from {place} with a density at valid values of shape {tuple(values.shape)}, got a "
            f"{kind(law)}: {reason(error)}"
        ) from error
    if not nan and has_nan(found):
        raise ValueError(
            f"expected a law from {place} with a density at every valid value, got a {kind(law)} whose log density is "
            "NaN; check its parameters and its support"
        )
    return found


def drawn_from(place: Place, law: Distribution, shape: Sequence[int]) -> Tensor:
    """Draws from a law expanded to a batch shape.

    Raises:
        ValueError: it cannot be expanded or drawn from.
    """
    try:
        drawn: Tensor = law.expand(torch.Size(shape)).sample()
    except NotImplementedError as error:
        raise ValueError(
            f"expected a law from {place} that can be expanded and drawn from, got a {kind(law)}: {reason(error)}"
        ) from error
    except Exception as error:
        raise Unclear from error
    return drawn


def check_sum(place: Place, law: Distribution, num_states: int, log_probs: Tensor) -> None:
    """Raise unless the probabilities of the states, on the first axis, sum to one.

    Raises:
        ValueError: another sum.
    """
    total = log_probs.exp().sum(0).reshape(-1)
    error = (total - 1).abs()
    if bool((error > 4 * num_states * torch.finfo(total.dtype).eps + 1e-6).any()):
        raise ValueError(
            f"expected probabilities of the states 0..{num_states - 1} that sum to one from {place}, got a {kind(law)} "
            f"whose sum is {float(total[int(error.argmax())]):.6g}; normalise it"
        )


def check_structural(error: Exception) -> None:
    """Raise unless an error is one of wrong shapes or kinds.

    Raises:
        Unclear: it is another one, such as that of a law about the value of a parameter.
    """
    words = str(error)
    if not isinstance(error, _STRUCTURAL) or "satisfy the constraint" in words or not _OF_SHAPES.search(words):
        raise Unclear from error


def bad_recurrence(place: Place, error: Exception, *, blind: bool) -> NoReturn:
    """Raise the error of a recurrence that fails; `blind` if it gets None in place of z.

    Raises:
        TypeError: it reads z, which it does not get.
        ValueError: wrong shapes.
        Unclear: an error of another kind.
    """
    check_structural(error)
    if blind and "NoneType" in str(error):
        raise TypeError(
            f"expected {place} to read only h and x, because memory_reads_state is False and z is None, got "
            f"{reason(error)}; to read z, set memory_reads_state = True and use smc or svi"
        ) from error
    way_out = "; its z is None, because memory_reads_state is False, so that it cannot read z" if blind else ""
    raise ValueError(f"expected {place} to broadcast over its arguments, got {reason(error)}{way_out}") from error


def reason(error: Exception) -> str:
    """The kind and the first line of an error, without the values that torch lists in the lines below it."""
    first = str(error).strip().split("\n")[0].removesuffix(":").removesuffix(", but found invalid values")
    return f"{type(error).__name__}: {first}"


def kind(found: object) -> str:
    """The class of something; for a law, that inside its wrappers."""
    while type(found).__name__ in WRAPPERS and hasattr(found, "base_dist"):
        found = found.base_dist
    return type(found).__name__


def _support(law: Distribution) -> Any:
    """The support of one entry of a law's values, None where it does not say."""
    try:
        support: Any = law.support
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        return None if support is None or support.is_discrete is None else support
    except NotImplementedError:
        return None
