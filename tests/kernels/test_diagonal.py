"""The diagonal recurrence against a loop: values, gradients, ragged batches, and no loop over T away from the CPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pgm_rnn.kernels.diagonal import by_scan, diagonal_recurrence

B, D = 2, 3
DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
EPS = {torch.float32: 2**-24, torch.float64: 2**-53, torch.complex64: 2**-24, torch.complex128: 2**-53}
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
every_shape = pytest.mark.parametrize("shape", [(0, B, D), (1, 1, D), (0, 1, 1), (1, B, 1), (0, 1, D), (1, 1, 1)])
"""Sizes of the axes of a, 0 for T."""
every_route = pytest.mark.parametrize("route", [diagonal_recurrence, by_scan], ids=["kernel", "scan"])
Route = Callable[[Tensor, Tensor, Tensor], Tensor]


def arguments(num_steps: int, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """|a| < 1, b and a start."""
    torch.manual_seed(num_steps)
    a = torch.randn(shape[0] or num_steps, *shape[1:], dtype=torch.complex128)
    a = a / (1 + a.abs())
    a = (a if dtype.is_complex else a.real).to(dtype)
    return a, torch.randn(num_steps, B, D, dtype=dtype), torch.randn(B, D, dtype=dtype)


def by_loop(a: Tensor, b: Tensor, start: Tensor, lengths: Tensor | None = None) -> Tensor:
    a, h, found = a.expand(b.shape), start, []
    for t in range(len(b)):
        after = a[t] * h + b[t]
        h = after if lengths is None else torch.where((t < lengths)[:, None], after, h)
        found.append(h)
    return torch.stack(found)


def tolerance(num_steps: int, dtype: torch.dtype, size: float) -> float:
    """|a| < 1 - 1/50: each of T steps adds at most four roundings of numbers of this size, and none is amplified."""
    return 8 * num_steps * EPS[dtype] * size


def loss(value: Tensor) -> Tensor:
    """A function of every entry, with both parts of complex ones."""
    weights = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).reshape(value.shape)
    return (value.real * weights).sum() + (value.imag.square().sum() if value.is_complex() else 0.0)


@every_route
@every_shape
@every_dtype
@pytest.mark.parametrize("num_steps", [1, 2, 3, 65, 1000])
def test_values_and_gradients_are_those_of_a_loop(
    num_steps: int, dtype: torch.dtype, shape: tuple[int, ...], route: Route
) -> None:
    given = arguments(num_steps, shape, dtype)
    exact = tuple(part.to(torch.complex128 if dtype.is_complex else torch.float64).requires_grad_() for part in given)
    given = tuple(part.clone().requires_grad_() for part in given)  # type: ignore[assignment]
    found, expected = route(*given), by_loop(*exact)
    size = 1 + float(expected.detach().abs().max()) + float(exact[1].detach().abs().max())
    atol = tolerance(num_steps, dtype, size)
    torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=atol)
    slopes = torch.autograd.grad(loss(found), given)
    for slope, true in zip(slopes, torch.autograd.grad(loss(expected), exact), strict=True):
        scale = 1 + float(true.abs().max())  # a sum of at most T B D products of h and d
        torch.testing.assert_close(slope, true.to(dtype), rtol=0, atol=atol * size * (scale + num_steps * B * D))


@every_route
@every_shape
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_first_and_second_derivatives_are_those_of_finite_differences(
    num_steps: int, dtype: torch.dtype, shape: tuple[int, ...], route: Route
) -> None:
    given = tuple(part.requires_grad_() for part in arguments(num_steps, shape, dtype))
    assert torch.autograd.gradcheck(route, given)
    assert torch.autograd.gradgradcheck(route, given)


def test_a_gradient_with_the_coefficients_of_the_same_step_is_wrong() -> None:
    """The control: d_t = g_t + a_t d_{t+1}, an index off by one, is told apart."""
    a, b, start = (part.requires_grad_() for part in arguments(5, (0, B, D), torch.float64))
    (slope,) = torch.autograd.grad(diagonal_recurrence(a, b, start).sum(), b)
    right, wrong = [torch.ones(B, D)], [torch.ones(B, D)]
    for t in (3, 2, 1, 0):
        right.insert(0, 1 + a[t + 1].detach() * right[0])
        wrong.insert(0, 1 + a[t].detach() * wrong[0])
    torch.testing.assert_close(slope, torch.stack(right))
    assert float((slope - torch.stack(wrong)).abs().max()) > 0.01


@every_route
def test_ragged_sequences_stay_at_their_last_value(route: Route) -> None:
    a, b, start = arguments(6, (0, B, D), torch.float64)
    lengths = torch.tensor([6, 2])
    expected = by_loop(a, b, start, lengths)
    spoiled_a, spoiled_b = a.clone(), b.clone()
    spoiled_a[2:, 1], spoiled_b[2:, 1] = torch.nan, torch.inf
    leaves = spoiled_a.requires_grad_(), spoiled_b.requires_grad_(), start.requires_grad_()
    found = diagonal_recurrence(*leaves, lengths=lengths)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found[2:, 1], found[1:2, 1].expand(4, D))
    assert all(bool(slope.isfinite().all()) for slope in torch.autograd.grad(found.sum(), leaves))
    torch.testing.assert_close(route(a[:2, 1:], b[:2, 1:], start[1:]), expected[:2, 1:])


def test_the_order_in_memory_and_a_pending_conjugate_do_not_count() -> None:
    a, b, start = arguments(7, (0, B, D), torch.complex128)
    expected = by_loop(a.conj(), b.conj(), start.conj())
    turned = b.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    torch.testing.assert_close(diagonal_recurrence(a.conj(), turned.conj(), start.conj()), expected)
    torch.testing.assert_close(
        diagonal_recurrence(a.resolve_conj().mH.mH.conj(), turned.conj(), start.conj()), expected
    )


def test_more_units_than_a_block_and_more_sequences() -> None:
    torch.manual_seed(0)
    a, b, start = torch.rand(9, 5, 131), torch.randn(9, 5, 131), torch.randn(5, 131)
    torch.testing.assert_close(diagonal_recurrence(a, b, start), by_loop(a, b, start))
    b.requires_grad_()
    (slope,) = torch.autograd.grad(diagonal_recurrence(a, b, start).square().sum(), b)
    torch.testing.assert_close(slope, torch.autograd.grad(by_loop(a, b, start).square().sum(), b)[0])


class Operations(TorchDispatchMode):
    """Counts the operations of torch that are run."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


def operations(num_steps: int, device: str, route: Route) -> tuple[int, int]:
    """The number of operations of the value and of the gradient."""
    shapes = (num_steps, B, D), (num_steps, B, D), (B, D)
    given = tuple(torch.ones(shape, device=device, requires_grad=True) for shape in shapes)
    with Operations() as forward:
        value = route(*given).sum()
    with Operations() as backward:
        torch.autograd.grad(value, given)
    return forward.number, backward.number


@pytest.mark.parametrize("doubled", [64, 1024])
def test_there_is_no_loop_over_the_steps_on_another_device(doubled: int) -> None:
    """On a device without numbers, whose operations are those of a GPU: eight times the steps are three more rounds."""
    once, later = operations(doubled, "meta", diagonal_recurrence), operations(8 * doubled, "meta", diagonal_recurrence)
    for few, many in zip(once, later, strict=True):
        assert few < 400
        assert 0 < many - few <= 3 * 40
    per_round = operations(2 * doubled, "meta", diagonal_recurrence)[0] - once[0]
    assert later[0] - once[0] == 3 * per_round  # in proportion to log T


def test_a_loop_is_told_from_a_scan() -> None:
    """The control: the operations of the definition grow in proportion to T."""
    few, many = operations(16, "cpu", by_loop)[0], operations(128, "cpu", by_loop)[0]
    assert many > 7 * few


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_dtype
def test_a_gpu_gives_the_numbers_of_the_cpu(dtype: torch.dtype) -> None:
    given = arguments(1000, (0, B, D), dtype)
    leaves = tuple(part.requires_grad_() for part in given)
    there = tuple(part.detach().cuda().requires_grad_() for part in given)
    value, other = diagonal_recurrence(*leaves), diagonal_recurrence(*there)
    atol = tolerance(1000, dtype, 1 + float(value.detach().abs().max()))
    torch.testing.assert_close(other.cpu(), value, rtol=0, atol=atol)
    slopes = torch.autograd.grad(loss(value), leaves)
    for slope, true in zip(torch.autograd.grad(loss(other.cpu()), there), slopes, strict=True):
        torch.testing.assert_close(slope.cpu(), true, rtol=1e-3, atol=100 * atol)


@every_shape
@pytest.mark.parametrize("axes", [(0, 1, 1), (2, None, None), (None, None, 0), (None, 3, 2), (1, 0, None)], ids=str)
def test_rows_of_vmap_are_further_sequences(axes: tuple[int | None, ...], shape: tuple[int, ...]) -> None:
    given = arguments(5, shape, torch.float64)
    rows = [
        part if axis is None else torch.stack([part, 0.5 * part, -part], axis)
        for part, axis in zip(given, axes, strict=True)
    ]
    found = torch.func.vmap(diagonal_recurrence, in_dims=axes)(*rows)
    for i in range(3):
        own = [part if axis is None else part.select(axis, i) for part, axis in zip(rows, axes, strict=True)]
        torch.testing.assert_close(found[i], by_loop(own[0], own[1], own[2]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, in forward mode
def test_functional_transforms_give_the_same() -> None:
    a, b, start = arguments(5, (0, B, D), torch.float64)
    rows = torch.stack([b, 2 * b, b + 1])
    found = torch.func.vmap(lambda row: diagonal_recurrence(a, row, start))(rows)
    torch.testing.assert_close(found, torch.stack([by_loop(a, row, start) for row in rows]))
    other = torch.func.vmap(lambda row: row + diagonal_recurrence(a, b, start))(rows)  # over another tensor alone
    torch.testing.assert_close(other, rows + by_loop(a, b, start))
    hessian = torch.func.hessian(lambda value: diagonal_recurrence(value, b, start).square().sum())(a)
    expected = torch.func.hessian(lambda value: by_loop(value, b, start).square().sum())(a)
    torch.testing.assert_close(hessian, expected)


def test_what_does_not_fit_is_one_sentence() -> None:
    a, b, start = arguments(4, (0, B, D), torch.float32)
    with pytest.raises(ValueError, match=r"expected a of shape \(1 or 4, 1 or 2, 1 or 3\), got \(3, 2, 3\)"):
        diagonal_recurrence(a[:3], b, start)
    with pytest.raises(ValueError, match=r"expected start of shape \(2, 3\), got \(3,\)"):
        diagonal_recurrence(a, b, start[0])
    with pytest.raises(ValueError, match=r"expected b of shape \(T, B, D\) and not empty, got \(0, 2, 3\)"):
        diagonal_recurrence(a, b[:0], start)
    with pytest.raises(
        TypeError, match=r"expected b as a real or complex tensor of single or double precision, got torch.float16"
    ):
        diagonal_recurrence(a, b.half(), start)
    with pytest.raises(TypeError, match=r"expected a of dtype torch\.float64"):
        diagonal_recurrence(a, b.double(), start)
    with pytest.raises(ValueError, match=r"expected lengths in 1..T = 1..4, got 5 at index 1"):
        diagonal_recurrence(a, b, start, torch.tensor([4, 5]))
