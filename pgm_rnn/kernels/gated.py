"""A GRU layer over all steps of a batch, compiled, with an analytic gradient.

    r, s = sigmoid(a_t + U h + c),   n = tanh(a_t + r (U h + c)),   h' = s h + (1 - s) n,   a_t = W x_t + b given

The parts r, s, n are in torch's order. torch's own layer spends most of a step of a small network on starting
operations; here a step of eight sequences is one pass over U. Backward, the chain of the states is compiled, and the
derivatives by U and c are one matrix product over all steps. (torch's LSTM is fused, and as fast as such a kernel.)

Sequences of different lengths may stand one after the other, packed: no step is computed for padding, and the network
may run from the ends to the starts.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import has_torch_function
from typing_extensions import override

from pgm_rnn.kernels import doors, gates, transforms
from pgm_rnn.kernels.hmm_lanes import LANES
from pgm_rnn.kernels.threads import run_alone, run_compiled

Integers = NDArray[np.int64]

LARGEST = 256
"""Largest number H of units of a layer, as far as it was measured to be faster than torch's operations."""


def suits(*tensors: Tensor, units: int) -> bool:
    """Whether a layer with tensors like these runs compiled: the one rule by which others fall back to torch.

    Args:
        tensors: inputs, states and weights.
        units: H.
    """
    here = all(tensor.device.type == "cpu" and tensor.dtype == tensors[0].dtype for tensor in tensors)
    plain = not (has_torch_function(tensors) or transforms.is_transformed(tensors) or torch.jit.is_tracing())  # type: ignore[attr-defined]
    return here and plain and tensors[0].dtype in doors.FLOATS and units <= LARGEST and tensors[0].numel() > 0


def gru(from_x: Tensor, start: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """h_1, ..., h_T of a GRU layer, (T, B, H), differentiable in every argument.

    Args:
        from_x: W x_t + b in parts r, s, n, (T, B, 3 H).
        start: h_0, (B, H).
        matrix: U, (3 H, H).
        bias: c, (3 H,).

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other, or no step.
    """
    _, batch, size = doors.main_tensor("from_x", from_x, "T, B, 3 H")
    if size % 3:
        raise ValueError(f"expected from_x with 3 parts of H numbers, got {size} numbers per step")
    doors.tensor("start", start, from_x, batch, size // 3)
    doors.tensor("matrix", matrix, from_x, size, size // 3)
    doors.tensor("bias", bias, from_x, size)
    if not suits(from_x, start, matrix, bias, units=size // 3):
        return _gru_by_torch(from_x, start, matrix, bias)
    rows = from_x.reshape(-1, size)
    return _run_along(_time_first(*from_x.shape[:2]), rows, start, matrix, bias).view(*from_x.shape[:2], -1)


def packed_gru(
    from_x: Tensor, start: Tensor, matrix: Tensor, bias: Tensor, lengths: Tensor, *, backwards: bool = False
) -> Tensor:
    """The same for packed sequences, h of every row: (R, H).

    Args:
        from_x: W x_t + b, the L_1 steps of the first sequence, then those of the next: (R, 3 H) for R steps in all.
        start: h_0 of every sequence, (B, H).
        matrix: U, (3 H, H).
        bias: c, (3 H,).
        lengths: L_1, ..., L_B, (B,), on the CPU.
        backwards: whether each sequence is read from its end: a row has read its own step and those after it.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other, or lengths that are not positive or do not add to R.
    """
    num_rows, size = doors.main_tensor("from_x", from_x, "R, 3 H")
    if size % 3:
        raise ValueError(f"expected from_x with 3 parts of H numbers, got {size} numbers per step")
    batch = doors.main_tensor("start", start, "B, H")[0]
    doors.lengths(lengths, from_x, batch, num_rows)
    if (total := int(lengths.sum())) != num_rows:
        raise ValueError(f"expected lengths that add to {num_rows} rows, got {total}")
    doors.tensor("start", start, from_x, batch, size // 3)
    doors.tensor("matrix", matrix, from_x, size, size // 3)
    doors.tensor("bias", bias, from_x, size)
    along = _packed(lengths, backwards=backwards)
    if not suits(from_x, start, matrix, bias, units=size // 3):
        return _along_by_torch(along, from_x, start, matrix, bias)
    return _run_along(along, from_x, start, matrix, bias)


class _Along(NamedTuple):
    """Where the steps of B sequences stand among R rows, and which eight of them go together (`gated_compiled`).

    Attributes:
        origins: row of the first step of each sequence, (B,).
        lengths: (B,).
        order: the sequences, longest first, (B,).
        begins: number of steps of the groups before each, and of all, (groups + 1,).
        stride: from the row of a step to that of the next.
    """

    origins: Integers
    lengths: Integers
    order: Integers
    begins: Integers
    stride: int


def _time_first(num_steps: int, batch: int) -> _Along:
    """Steps (T, B, ...)."""
    rows, groups = np.arange(batch), -(-batch // LANES)
    return _Along(rows, np.full(batch, num_steps), rows, num_steps * np.arange(groups + 1), batch)


def _packed(lengths: Tensor, *, backwards: bool) -> _Along:
    steps = lengths.numpy().copy()  # the caller's may change before the gradient is taken
    ends, order = steps.cumsum(), np.argsort(-steps, kind="stable")
    begins = np.zeros(-(-len(steps) // LANES) + 1, np.int64)
    steps[order[::LANES]].cumsum(out=begins[1:])
    return _Along(ends - 1 if backwards else ends - steps, steps, order, begins, -1 if backwards else 1)


def _run_along(along: _Along, from_x: Tensor, start: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    keep = torch.is_grad_enabled() and any(part.requires_grad for part in (from_x, start, matrix, bias))
    found: Tensor = _GRU.apply(keep, along, from_x, start, matrix, bias)[0]
    return found


def _gru_by_torch(from_x: Tensor, start: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    states = [start]
    for given in from_x.unbind(0):
        states.append(gates.gru(given, torch.nn.functional.linear(states[-1], matrix, bias), states[-1]))
    return torch.stack(states[1:])


def _along_by_torch(along: _Along, from_x: Tensor, start: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """h of every row, (R, H), from padded steps."""
    steps = np.arange(along.lengths.max())[:, None]
    rows = along.origins + np.minimum(steps, along.lengths - 1) * along.stride  # (T, B), the last again in the padding
    found = _gru_by_torch(from_x[torch.from_numpy(rows)], start, matrix, bias)
    inside = steps < along.lengths
    return found[torch.from_numpy(inside)][torch.from_numpy(rows[inside].argsort())]


def run_lanes(function: Any, batch: int, *arguments: Tensor | float) -> None:
    """Call a compiled function with flat arrays of the tensors and with B; in one thread if B needs no other.

    Args:
        function: takes arrays of tensors, B, and numbers, in this order.
        batch: B.
        arguments: tensors, and the numbers.
    """
    arrays = [flat(argument) for argument in arguments if isinstance(argument, Tensor)]
    numbers = [argument for argument in arguments if not isinstance(argument, Tensor)]
    run_rows(batch, function, *arrays, batch, *numbers)


def run_rows(batch: int, function: Any, *arguments: Any) -> None:
    """Call a compiled function that is parallel over groups of eight of B rows, in one thread if B needs no other."""
    (run_alone if batch <= LANES else run_compiled)(function, *arguments)


def flat(part: Tensor) -> Tensor:
    """A tensor's numbers one after the other, as compiled functions read them."""
    return part.detach().contiguous().view(-1)


def _run(name: str, batch: int, *arguments: Tensor | Integers | int) -> None:
    from pgm_rnn.kernels import gated_compiled

    given = (flat(part) if isinstance(part, Tensor) else part for part in arguments)
    run_rows(batch, getattr(gated_compiled, name), *given)


def with_zeros(grads: Sequence[Tensor | None], values: Sequence[Tensor]) -> list[Tensor]:
    """Derivatives by some values, zeros by those on which nothing depends."""
    return [torch.zeros_like(of) if grad is None else grad for grad, of in zip(grads, values, strict=True)]


class _GRU(transforms.Function):
    """h of every row, and the activations that the gradient reads; the first argument says whether to keep them."""

    @staticmethod
    @override
    def forward(
        keep: bool, along: _Along, from_x: Tensor, start: Tensor, matrix: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        *places, stride = along
        size, num_groups = start.shape[1], len(along.begins) - 1
        hidden = from_x.new_empty(len(from_x) + 1, size)
        kept = from_x.new_empty(int(along.begins[-1]) if keep else num_groups, 4, size, LANES)
        _run("gru", len(start), from_x, start, matrix, bias, *places, hidden, kept, stride)
        return hidden[:-1], kept

    @staticmethod
    @override
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the gradient reads."""
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # or the gradient of what is kept would be made, all zeros
        ctx.along = inputs[1]
        ctx.save_for_backward(*inputs[2:], *output)

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        from_x, start, matrix, bias, hidden, kept = ctx.saved_tensors
        (grad,) = with_zeros((grad,), (hidden,))
        *places, stride = along = ctx.along
        if torch.is_grad_enabled() or transforms.is_transformed((grad,)):
            given = from_x, start, matrix, bias
            return None, None, *torch.func.vjp(partial(_along_by_torch, along), *given)[1](grad)
        size = start.shape[1]
        of_x, of_inside, earlier = (from_x.new_empty(len(from_x) + 1, parts * size) for parts in (3, 1, 1))
        of_start = from_x.new_empty(start.shape)
        filled = of_x, of_inside, earlier, of_start
        _run("gru_backward", len(start), grad, start, hidden, kept, matrix.mT, *places, *filled, stride)
        of_x, of_inside, earlier = of_x[:-1], of_inside[:-1], earlier[:-1]
        of_h = of_x[:, :-size], of_inside
        of_matrix = torch.cat([part.mT @ earlier for part in of_h])
        return None, None, of_x, of_start, of_matrix, torch.cat([part.sum(0) for part in of_h])
