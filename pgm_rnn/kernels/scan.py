"""All prefixes of an associative operation in O(log T) rounds, by torch operations that autograd differentiates.

    s_1 = e_1,   s_t = s_{t-1} * e_t = e_1 * e_2 * ... * e_t          (e * f) * g = e * (f * g)

Neighbours are combined in pairs, the T / 2 results are scanned in the same way and give every second prefix, and one
more round gives those in between. That is 2 log2 T calls of the operator, each for many steps at once, and fewer than
2 T combinations. A loop needs T - 1 combinations and as many calls: it is faster on a CPU, the scan is on a GPU.

Blelloch (1990), Prefix sums and their applications, sec. 1.3; Martin & Cundy (2018), sec. 2.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pgm_rnn.sequences import length_mask

Elements = tuple[Tensor, ...]
"""The parts of the elements of all steps, such as matrices and vectors, with time on the same axis of each part."""
Operator = Callable[[Elements, Elements], Elements]
"""The elements earlier * later, for many steps at once: it must treat the axis of time as one of a batch."""


def associative_scan(
    operator: Operator, elements: Sequence[Tensor], dim: int = 0, *, reverse: bool = False
) -> Elements:
    """Every prefix e_1 * ... * e_t, or every suffix e_t * ... * e_T, of a sequence of elements.

    Args:
        operator: maps earlier and later elements, each a tuple like `elements` with n <= T steps, to their products,
            a tuple of the same shapes. The earlier ones are always on the left, so it need not commute.
        elements: the parts of e_1, ..., e_T: tensors with T >= 1 steps on axis `dim`.
        dim: the axis of time, counted from the front, 0 for the first.
        reverse: suffixes in place of prefixes.

    Returns:
        The prefixes, with the shapes of the parts.

    Raises:
        TypeError: parts that are no tensors.
        ValueError: no parts, an axis that a part does not have, no steps, parts with different numbers of steps, or an
            operator that returns other shapes than it gets.

    Example:
        >>> (sums,) = associative_scan(lambda s, e: (s[0] + e[0],), (torch.tensor([1, 2, 3, 4]),))
        >>> sums
        tensor([ 1,  3,  6, 10])
    """
    parts = _checked(elements, dim)
    if not reverse:
        return _prefixes(_watched(operator), parts, dim)
    swapped = _watched(lambda later, earlier: operator(earlier, later))
    found = _prefixes(swapped, tuple(part.flip(dim) for part in parts), dim)
    return tuple(part.flip(dim) for part in found)


def with_identities(elements: Sequence[Tensor], identity: Sequence[Tensor], lengths: Tensor, dim: int = 0) -> Elements:
    """Elements of sequences of different lengths, with the identity of the operation after the end of each.

    Prefixes then stay at the last one of the sequence, and suffixes begin at the end of the sequence.

    Args:
        elements: parts with T steps on axis `dim` and B sequences on the axis after it if dim is 0, before it if not:
            (T, B, ...) or (B, T, ...).
        identity: the parts of the identity, each of a shape that broadcasts to the part's shape without its first two
            axes.
        lengths: number of steps of each sequence, (B,).
        dim: 0 or 1.

    Raises:
        TypeError: parts that are no tensors.
        ValueError: another axis, or parts of different numbers of steps.
    """
    if dim not in (0, 1):
        raise ValueError(f"expected dim to be 0 or 1, for parts of shape (T, B, ...) or (B, T, ...), got {dim}")
    parts = _checked(elements, dim)
    inside = length_mask(lengths, parts[0].shape[dim])
    inside = inside.mT if dim == 0 else inside
    masks = [inside.reshape(*inside.shape, *[1] * (part.dim() - 2)) for part in parts]
    return tuple(part.where(mask, unit) for part, mask, unit in zip(parts, masks, identity, strict=True))


def _prefixes(operator: Operator, elements: Elements, dim: int) -> Elements:
    """s_1, ..., s_T: those at even places from the scan of the pairs, the others by one more combination."""
    num_steps = elements[0].shape[dim]
    if num_steps == 1:
        return elements
    firsts, seconds = _every_second(elements, 0, dim), _every_second(elements, 1, dim)
    num_pairs = num_steps // 2
    at_even = _prefixes(operator, operator(_head(firsts, num_pairs, dim), seconds), dim)  # s_2, s_4, ...
    if num_steps == 2:
        return tuple(torch.cat(pair, dim) for pair in zip(firsts, at_even, strict=True))
    later = tuple(part.narrow(dim, 1, part.shape[dim] - 1) for part in firsts)  # e_3, e_5, ...
    at_odd = operator(_head(at_even, later[0].shape[dim], dim), later)
    at_odd = tuple(torch.cat([part.narrow(dim, 0, 1), s], dim) for part, s in zip(firsts, at_odd, strict=True))
    return tuple(_interleaved(odd, even, dim) for odd, even in zip(at_odd, at_even, strict=True))


def _every_second(elements: Elements, start: int, dim: int) -> Elements:
    index = (slice(None),) * dim + (slice(start, None, 2),)
    return tuple(part[index] for part in elements)


def _head(elements: Elements, num_steps: int, dim: int) -> Elements:
    return tuple(part.narrow(dim, 0, num_steps) for part in elements)


def _interleaved(odd: Tensor, even: Tensor, dim: int) -> Tensor:
    """s_1, s_2, s_3, ... from s_1, s_3, ... and s_2, s_4, ..."""
    num_pairs = even.shape[dim]
    pairs = torch.stack([odd.narrow(dim, 0, num_pairs), even], dim + 1).flatten(dim, dim + 1)
    return pairs if odd.shape[dim] == num_pairs else torch.cat([pairs, odd.narrow(dim, num_pairs, 1)], dim)


def _watched(operator: Operator) -> Operator:
    """The operator, with a check of the shapes that it returns."""

    def combine(earlier: Elements, later: Elements) -> Elements:
        found = operator(earlier, later)
        shapes, expected = [tuple(part.shape) for part in found], [tuple(part.shape) for part in later]
        if shapes != expected:
            raise ValueError(f"expected the operator to return parts of shapes {expected}, as it gets, got {shapes}")
        return tuple(found)

    return combine


def _checked(elements: Sequence[Tensor], dim: int) -> Elements:
    parts = tuple(elements)
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(f"expected elements as a tuple of tensors, got {type(part).__name__} among them")
        if not 0 <= dim < part.dim():
            raise ValueError(f"expected dim counted from the front, in 0..{part.dim() - 1}, got {dim}")
    steps = sorted({part.shape[dim] for part in parts})
    if len(steps) != 1 or steps[0] < 1:
        raise ValueError(f"expected parts with one number of steps, at least 1, on axis {dim}, got {steps}")
    return parts
