"""Compiled draws from an encoder along a GRU and an LSTM, against the same loop in torch and autograd's gradient."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels import encoder_draws, gated
from pgm_rnn.kernels.encoder_draws import EncoderDraws, Weights

SIZES = [(1, 1, 1, 1, 1), (3, 5, 4, 2, 3), (17, 4, 9, 11, 6), (8, 3, 8, 8, 16), (20, 6, 32, 32, 32), (9, 3, 160, 4, 5)]
"""(B, T, H, D, F)."""
CELLS = {"gru": (4, 1), "lstm": (5, 2)}
"""Parts of the features, and of the memory, of H numbers each."""
of_cells = pytest.mark.parametrize("cell", CELLS)


def written_out(features: Tensor, noise: Tensor, start: Tensor, *weights: Tensor) -> EncoderDraws:
    """One step after the other, one gate after the other."""
    recurrent, bias, head, head_bias, extract, extract_bias, from_state = weights
    found, memory, size = [], start, head.shape[1]
    for t in range(features.shape[1]):
        h, c = memory[:, :size], memory[:, size:]
        a, b = features[:, t, :size], features[:, t, size:]
        of_h = h @ recurrent.mT + bias
        u = (a + of_h[:, :size]).clamp(min=0)
        loc, raw = (u @ head.mT + head_bias).chunk(2, -1)
        scale = (1 + raw.exp()).log()
        z = loc + noise[:, t] * scale
        phi = (z @ extract.mT + extract_bias).clamp(min=0)
        found.append((z, memory, scale, phi))
        of_x, of_h = b + phi @ from_state.mT, of_h[:, size:]
        if features.shape[-1] == 4 * size:
            (a_r, a_s, a_n), (b_r, b_s, b_n) = of_x.chunk(3, -1), of_h.chunk(3, -1)
            r, s = 1 / (1 + (-a_r - b_r).exp()), 1 / (1 + (-a_s - b_s).exp())
            memory = s * h + (1 - s) * (a_n + r * b_n).tanh()
        else:
            i, f, g, o = (of_x + of_h).chunk(4, -1)
            c = c / (1 + (-f).exp()) + g.tanh() / (1 + (-i).exp())
            memory = torch.cat([c.tanh() / (1 + (-o).exp()), c], -1)
    return EncoderDraws(*(torch.stack(parts, 1) for parts in zip(*found, strict=True)))


def compiled(features: Tensor, noise: Tensor, start: Tensor, *weights: Tensor) -> EncoderDraws:
    return encoder_draws.encoder_draws(features, noise, start, Weights(*weights))


def arguments(*sizes: int, cell: str = "gru", dtype: torch.dtype = torch.float64) -> list[Tensor]:
    batch, steps, size, dim, width = sizes
    parts, memories = CELLS[cell]
    shapes = (batch, steps, parts * size), (batch, steps, dim), (batch, memories * size)
    of_h = (parts * size, size), (parts * size,)
    weights = *of_h, (2 * dim, size), (2 * dim,), (width, dim), (width,), ((parts - 1) * size, width)
    given = [torch.randn(shape, dtype=dtype) for shape in shapes]
    given += [torch.randn(shape, dtype=dtype) * shape[-1] ** -0.5 for shape in weights]
    return [part.requires_grad_() for part in given]


def values_and_gradients(function: Callable[..., Sequence[Tensor]], given: list[Tensor]) -> list[Tensor]:
    """The results, and the gradients of a random weighting of them."""
    torch.manual_seed(1)
    found = function(*given)
    weighted = torch.stack([(part * torch.randn_like(part)).sum() for part in found]).sum()
    return [*found, *torch.autograd.grad(weighted, given, materialize_grads=True)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("sizes", SIZES)
@of_cells
def test_values_and_gradients_are_those_of_the_steps(
    cell: str, sizes: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    given = arguments(*sizes, cell=cell, dtype=dtype)
    found, expected = (values_and_gradients(function, given) for function in (compiled, written_out))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.detach().abs().max()))


@of_cells
def test_each_result_has_its_own_gradient(cell: str) -> None:
    given = arguments(3, 4, 5, 2, 3, cell=cell)
    for place in range(4):
        found, expected = (
            torch.autograd.grad(function(*given)[place].square().sum(), given, materialize_grads=True)
            for function in (compiled, written_out)
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@of_cells
def test_a_damaged_map_is_told_apart(cell: str) -> None:
    given = arguments(4, 3, 5, 2, 3, cell=cell)
    damaged = [*given[:-1], given[-1].roll(5, 0)]  # the gates change places
    found, expected = compiled(*given), written_out(*damaged)
    assert float((found.z - expected.z).detach().abs().max()) > 1e-3


@of_cells
def test_without_gradients_the_draws_are_the_same(cell: str) -> None:
    given = arguments(9, 4, 5, 2, 3, cell=cell)
    with torch.no_grad():
        found = compiled(*given)
    for one, other in zip(found, compiled(*given), strict=True):
        assert torch.equal(one, other)


@of_cells
def test_second_derivatives_are_those_of_the_steps(cell: str) -> None:
    assert torch.autograd.gradgradcheck(compiled, tuple(arguments(2, 3, 2, 1, 2, cell=cell)))


def test_scales_have_a_least_one_and_no_gradient_there() -> None:
    given = arguments(2, 3, 4, 2, 3)
    with torch.no_grad():
        given[6][2:] = -1e4  # the raw scales' part of m
    found, expected = (values_and_gradients(f, given) for f in (compiled, lambda *a: encoder_draws._by_torch(None, *a)))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert float(found[2].detach().max()) < 1e-100


@pytest.mark.parametrize("factor", [1e3, 1e6])
@of_cells
def test_large_features_have_finite_gradients(cell: str, factor: float) -> None:
    given = arguments(3, 2, 4, 2, 3, cell=cell)
    with torch.no_grad():
        given[0].mul_(factor)
    found, expected = (values_and_gradients(f, given) for f in (compiled, lambda *a: encoder_draws._by_torch(None, *a)))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@of_cells
def test_nan_stays_nan(cell: str) -> None:
    given = arguments(3, 2, 4, 2, 3, cell=cell)
    with torch.no_grad():
        given[0][1, 0, 0] = torch.nan
    z = compiled(*given).z
    assert bool(z[1].isnan().any())
    assert bool(z[[0, 2]].isfinite().all())


@pytest.mark.parametrize("threads", [1, 2])
def test_draws_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    given = arguments(30, 6, 8, 4, 8, dtype=torch.float32)
    torch.set_num_threads(threads)
    found = compiled(*given)
    torch.set_num_threads(1)
    assert torch.equal(found.z, compiled(*given).z)


def test_mapped_tensors_and_wide_layers_are_left_to_torch() -> None:
    given = [part.detach() for part in arguments(3, 4, 5, 2, 3)]
    noise = torch.randn(6, *given[1].shape, dtype=torch.float64)
    mapped = torch.func.vmap(lambda e: compiled(given[0], e, *given[2:]).z)(noise)
    for one, e in zip(mapped, noise, strict=True):
        torch.testing.assert_close(one, compiled(given[0], e, *given[2:]).z)
    unseen = torch.func.vmap(lambda k: k * compiled(*given).z)(torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(unseen[1], compiled(*given).z)
    wide = arguments(2, 2, gated.LARGEST + 1, 2, 3)
    assert not encoder_draws._suits(wide[0], wide[1], wide[2], Weights(*wide[3:]))
    torch.testing.assert_close(compiled(*wide).z, written_out(*wide).z)


def test_arguments_that_do_not_fit_are_named() -> None:
    given = [part.detach() for part in arguments(3, 4, 5, 2, 3)]
    with pytest.raises(ValueError, match="expected features with 4 or 5 parts of 5 numbers, got 18 per step"):
        compiled(given[0][..., :18], *given[1:])
    with pytest.raises(ValueError, match=r"expected noise of shape \(3, 4, 2\), got \(2, 4, 2\)"):
        compiled(given[0], given[1][:2], *given[2:])
    with pytest.raises(ValueError, match=r"expected from_state of shape \(15, 3\), got \(3, 15\)"):
        compiled(*given[:-1], given[-1].mT)
    with pytest.raises(TypeError, match=r"expected head of dtype torch.float64, .* got torch.float32"):
        compiled(*given[:5], given[5].float(), *given[6:])
