"""Checks of the recursions' arguments: sizes, dtypes, devices and ranges.

Compiled code does not check its indices, so a wrong size would read foreign memory. Each public function of
`pgm_rnn.kernels` therefore begins with one of these checks; inner functions trust their arguments. The numbers of
sequences B, of steps T, of states K or D and of outputs M are at least one.
"""

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from pgm_rnn.kernels.transforms import all_rows

Result = TypeVar("Result", bound=NamedTuple)
Size = int | tuple[int, ...]

FLOATS = (torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
ANY = -1
"""Stands for any size, such as the number of draws."""


def tensor(name: str, value: Any, like: Tensor, *axes: Size) -> None:
    """Raise unless `value` has the dtype and device of `like`, and axes of these sizes; a tuple lists allowed sizes.

    Raises:
        TypeError: no tensor, or another dtype.
        ValueError: another shape or device.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"expected {name} as a tensor, got {type(value).__name__}")
    if value.dtype != like.dtype:
        raise TypeError(f"expected {name} of dtype {like.dtype}, as the other tensors have, got {value.dtype}; use .to")
    fits = value.dim() == len(axes)
    if not fits or not all(
        n == m or m == ANY or (type(m) is tuple and n in m) for n, m in zip(value.shape, axes, strict=True)
    ):
        raise ValueError(f"expected {name} of shape {_shown(axes)}, got {tuple(value.shape)}")
    if value.device != like.device:
        raise ValueError(f"expected {name} on {like.device}, got {value.device}; move it with .to")


def _shown(axes: tuple[Size, ...]) -> str:
    sizes = [
        "any" if n == ANY else str(n) if isinstance(n, int) else " or ".join(map(str, dict.fromkeys(n))) for n in axes
    ]
    return f"({', '.join(sizes)}{',' if len(axes) == 1 else ''})"


def main_tensor(name: str, value: Any, axes: str) -> torch.Size:
    """The shape of the tensor that the other arguments must fit, such as x with the axes "B, T, M"; none is empty.

    Raises:
        TypeError: no tensor of single or double precision.
        ValueError: another number of axes, or an empty one.
    """
    if not isinstance(value, Tensor) or value.dtype not in FLOATS:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"expected {name} as a tensor of float32 or float64, got {got}; use .double()")
    if value.dim() != axes.count(",") + 1 or 0 in value.shape:
        raise ValueError(f"expected {name} of shape ({axes}) and not empty, got {tuple(value.shape)}")
    return value.shape


def lengths(value: Any, like: Tensor, batch: int, num_steps: int) -> None:
    """Raise unless `value` holds the steps of each sequence, (B,), int64, in 1..T.

    Raises:
        TypeError: another dtype.
        ValueError: another shape or device, or a number outside 1..T.
    """
    if not isinstance(value, Tensor) or value.dtype != torch.int64:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"expected lengths as a tensor of int64, got {got}; use torch.as_tensor(lengths).long()")
    if value.shape != (batch,) or value.device != like.device:
        raise ValueError(
            f"expected lengths of shape ({batch},) on {like.device}, got {tuple(value.shape)} on {value.device}"
        )
    value = all_rows(value).flatten()
    low, high = torch.aminmax(value)
    if int(low) < 1 or int(high) > num_steps:
        index = int(((value < 1) | (value > num_steps)).nonzero()[0])
        raise ValueError(
            f"expected lengths in 1..T = 1..{num_steps}, got {int(value[index])} at index {index}; "
            "drop empty sequences first"
        )


# A chain with finitely many states.


def finite_chain(initial: Any, transition: Any, log_emission: Any, steps: Any) -> None:
    """Raise unless the arguments of `pgm_rnn.kernels.hmm` fit each other: p(z_1), tables, log p(x_t | z_t), lengths.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    batch, num_steps, num_states = main_tensor("log_emission", log_emission, "B, T, K")
    if isinstance(initial, Tensor) and initial.dim() == 1:
        tensor("initial", initial, log_emission, num_states)
    else:
        tensor("initial", initial, log_emission, _part(initial, batch), num_states)
    tables(transition, log_emission)
    lengths(steps, log_emission, batch, num_steps)


def beliefs(value: Any, transition: Any) -> None:
    """Raise unless the tables fit the probabilities before each transition, (B, T - 1, K); T may be 1.

    Raises:
        TypeError: tables of another dtype.
        ValueError: probabilities that are not floating point, or shapes or devices that do not fit each other.
    """
    if not isinstance(value, Tensor) or value.dtype not in FLOATS or value.dim() != 3:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"expected beliefs of shape (B, T - 1, K) and floating point, got {got}")
    tables(transition, value, value.shape[1])


def tables(transition: Any, probs: Tensor, num_moves: int | None = None) -> None:
    """Raise unless the transition tables fit probabilities (B, T, K): T - 1 of them by default, else `num_moves`.

    Raises:
        TypeError: tables of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    batch, num_steps, num_states = probs.shape
    if isinstance(transition, Tensor) and transition.dim() == 2:
        tensor("transition", transition, probs, num_states, num_states)
        return
    moves = (1, num_steps - 1 if num_moves is None else num_moves)
    first = () if isinstance(transition, Tensor) and transition.dim() == 3 else (_part(transition, batch),)
    tensor("transition", transition, probs, *first, moves, num_states, num_states)


def _part(value: Any, batch: int) -> Size:
    """The sizes P that the first axis of a parameter may have: any that divides B."""
    num = len(value) if isinstance(value, Tensor) and value.dim() else 0
    return num if num and batch % num == 0 else (1, batch)


def finite_result(transition: Any, steps: Any, result: Result) -> Result:
    """The result of the forward recursion, made contiguous after a check that tables and lengths fit it.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    batch, num_steps, num_states = main_tensor("the result's emission", result.emission, "B, T, K")  # type: ignore[attr-defined]
    like = result.emission  # type: ignore[attr-defined]
    for name in ("log_normalizers", "scale"):
        tensor(f"the result's {name}", getattr(result, name), like, batch, num_steps)
    tensor("the result's filtered", result.filtered, like, batch, num_steps, num_states)  # type: ignore[attr-defined]
    tables(transition, like)
    lengths(steps, like, batch, num_steps)
    return contiguous(result)


def contiguous(result: Result) -> Result:
    """The result with contiguous tensors, because compiled functions fill new ones with the same memory layout."""
    parts: Any = (part.contiguous() if isinstance(part, Tensor) else part for part in result)
    return type(result)(*parts)


def uniforms(value: Any, *axes: int) -> None:
    """Raise unless `value` is a tensor of floating point in [0, 1) of this shape.

    Raises:
        TypeError: no tensor of floating point.
        ValueError: another shape, or a number outside [0, 1).
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"expected uniforms as a floating-point tensor, got {got}")
    fits = value.dim() == len(axes) and all(n == m or m == ANY for n, m in zip(value.shape, axes, strict=True))
    low, high = torch.aminmax(value) if value.numel() else (0.0, 0.0)
    if not fits or not (float(low) >= 0 and float(high) < 1):
        found = str(tuple(value.shape)) if not fits else f"numbers in [{float(low)}, {float(high)}]"
        raise ValueError(f"expected uniforms of shape {_shown(axes)} in [0, 1), got {found}")


# A linear-Gaussian chain.


def gaussian_chain(chain: Any, x: Any, steps: Any) -> None:
    """Raise unless a chain with all its axes, x (B, T, M) and lengths fit each other.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    batch, num_steps, obs_dim = main_tensor("x", x, "B, T, M")
    lengths(steps, x, batch, num_steps)
    gaussian_parameters(chain, x, batch, num_steps, obs_dim)


def gaussian_parameters(chain: Any, like: Tensor, batch: int, num_steps: int, obs_dim: int) -> None:
    """Raise unless each parameter of a chain with all its axes fits B sequences of T steps and M outputs.

    Raises:
        TypeError: a parameter of another dtype.
        ValueError: a parameter of another shape or device.
    """
    rows, moves, seen = (1, batch), (1, num_steps - 1), (1, num_steps)
    dim = chain.initial_mean.shape[-1]
    tensor("initial_mean", chain.initial_mean, like, rows, max(dim, 1))
    tensor("initial_cov", chain.initial_cov, like, rows, dim, dim)
    tensor("transition_matrix", chain.transition_matrix, like, rows, moves, dim, dim)
    tensor("transition_cov", chain.transition_cov, like, rows, moves, dim, dim)
    tensor("emission_matrix", chain.emission_matrix, like, rows, seen, obs_dim, dim)
    tensor("emission_cov", chain.emission_cov, like, rows, seen, obs_dim, obs_dim)
    tensor("state_offset", chain.state_offset, like, rows, moves, dim)


def gaussian_result(chain: Any, steps: Any, result: Result) -> Result:
    """The result of the Kalman filter, made contiguous after a check that a chain with all its axes and lengths fit it.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    found: Any = result
    batch, num_steps, dim = main_tensor("the result's filtered_means", found.filtered_means, "B, T, D")
    like, obs_dim = found.filtered_means, int(found.weighted.shape[-1]) if found.weighted.dim() else 0
    rows, square = (len(found.gain) if len(found.gain) in (1, batch) else (1, batch)), (dim, dim)
    shapes: dict[str, tuple[Size, ...]] = {
        "log_normalizers": (batch, num_steps),
        "predicted_means": (batch, num_steps, dim),
        "predicted_covs": (rows, num_steps, *square),
        "filtered_covs": (rows, num_steps, *square),
        "gain": (rows, num_steps, dim, obs_dim),
        "precision": (rows, num_steps, obs_dim, obs_dim),
        "weighted": (batch, num_steps, obs_dim),
    }
    for name, axes in shapes.items():
        tensor(f"the result's {name}", getattr(found, name), like, *axes)
    tensor("the result's steady", found.steady, steps, rows)
    lengths(steps, like, batch, num_steps)
    gaussian_parameters(chain, like, batch, num_steps, obs_dim)
    return contiguous(result)


def moments(value: Result, steps: Any | None = None) -> Result:
    """The result of a Gaussian filter, made contiguous after a check that its parts and lengths fit each other.

    Raises:
        TypeError: a part of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    found: Any = value
    batch, num_steps, dim = main_tensor("filtered_means", found.filtered_means, "B, T, D")
    like, rows, moves = found.filtered_means, (1, batch), (1, num_steps - 1)
    tensor("log_normalizers", found.log_normalizers, like, batch, num_steps)
    tensor("predicted_means", found.predicted_means, like, batch, num_steps, dim)
    tensor("filtered_covs", found.filtered_covs, like, rows, num_steps, dim, dim)
    tensor("predicted_covs", found.predicted_covs, like, len(found.filtered_covs), num_steps, dim, dim)
    tensor("transition_matrix", found.transition_matrix, like, rows, moves, dim, dim)
    tensor("transition_cov", found.transition_cov, like, rows, moves, dim, dim)
    if steps is not None:
        lengths(steps, like, batch, num_steps)
    return contiguous(value)


# Recurrences, masks.


def series(x: Any, steps: Any, observed: Any) -> None:
    """Raise unless x (B, T), lengths and a mask (B, T), or None, fit each other.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    batch, num_steps = main_tensor("x", x, "B, T")
    lengths(steps, x, batch, num_steps)
    if observed is not None:
        mask("observed", observed, x, batch, num_steps)


def gates(state: Tensor, *parts: tuple[Tensor, int]) -> None:
    """Raise unless each part has the state's dtype, its number of entries, and other axes that broadcast.

    It is cheap enough for every step of a loop.

    Raises:
        TypeError: a part of another dtype.
        ValueError: another number of entries, or axes that do not broadcast.
    """
    for value, size in parts:
        if value.dtype != state.dtype:
            raise TypeError(f"expected gates of dtype {state.dtype} as the state has, got {value.dtype}; use .to")
        if size == 0 or value.dim() == 0 or value.shape[-1] != size:
            raise ValueError(
                f"expected gates with {size} entries on the last axis for this state, got shape {tuple(value.shape)}"
            )
        if value.shape[:-1] != state.shape[:-1]:
            _broadcasts(value.shape[:-1], state.shape[:-1])


def diagonal(a: Any, b: Any, start: Any) -> None:
    """Raise unless coefficients and inputs (T, B, D), real or complex, and a start (B, D) fit each other.

    Raises:
        TypeError: no tensor of single or double precision, or tensors of different dtypes.
        ValueError: shapes or devices that do not fit each other.
    """
    if not isinstance(b, Tensor) or b.dtype not in FLOATS + COMPLEX:
        got = b.dtype if isinstance(b, Tensor) else type(b).__name__
        raise TypeError(f"expected b as a real or complex tensor of single or double precision, got {got}")
    if b.dim() != 3 or 0 in b.shape:
        raise ValueError(f"expected b of shape (T, B, D) and not empty, got {tuple(b.shape)}")
    tensor("a", a, b, *((1, size) for size in b.shape))
    tensor("start", start, b, *b.shape[1:])


def _broadcasts(left: torch.Size, right: torch.Size) -> None:
    for n, m in zip(reversed(left), reversed(right), strict=False):
        if n != m and 1 not in (n, m):
            raise ValueError(
                f"expected gates whose leading axes broadcast to those of the state, {tuple(right)}, got {tuple(left)}"
            )


def step_mask(value: Any, log_emission: Any) -> None:
    """Raise unless `value` has one truth value per step of log_emission (B, T, K).

    Raises:
        TypeError: no tensor of truth values.
        ValueError: another shape or device.
    """
    batch, num_steps, _ = main_tensor("log_emission", log_emission, "B, T, K")
    if isinstance(value, Tensor) and value.dim() > 2:
        raise ValueError(
            f"expected mask of shape (B, T), one truth value per step, for finitely many states, got "
            f"{tuple(value.shape)}"
        )
    mask("mask", value, log_emission, batch, num_steps)


def mask(name: str, value: Any, like: Tensor, *axes: Size) -> None:
    """Raise unless `value` is a tensor of truth values of this shape, on the device of `like`.

    Raises:
        TypeError: no tensor of truth values.
        ValueError: another shape or device.
    """
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"expected {name} as a tensor of truth values, got {got}; use .bool()")
    tensor(name, value, value, *axes)
    if value.device != like.device:
        raise ValueError(f"expected {name} on {like.device}, got {value.device}; move it with .to")
