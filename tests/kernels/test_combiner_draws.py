"""Compiled draws from a combiner along their own chain, against the same loop in torch and its gradient."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels import combiner_draws, gated
from pgm_rnn.kernels.combiner_draws import CombinerDraws, Weights

SIZES = [(1, 1, 1, 1), (3, 5, 4, 2), (17, 4, 9, 11), (8, 3, 16, 8), (20, 6, 32, 32), (9, 3, 160, 64)]
"""(B, T, G, D)."""


def written_out(features: Tensor, noise: Tensor, start: Tensor, *weights: Tensor) -> CombinerDraws:
    """One step after the other."""
    combiner, bias, head, head_bias = weights
    z, found = start, []
    for t in range(features.shape[1]):
        combined = features[:, t] + (z @ combiner.mT + bias).tanh() / 2
        loc, raw = (combined @ head.mT + head_bias).chunk(2, -1)
        scale = (1 + raw.exp()).log()
        z = loc + noise[:, t] * scale
        found.append((z, scale))
    return CombinerDraws(*(torch.stack(parts, 1) for parts in zip(*found, strict=True)))


def compiled(features: Tensor, noise: Tensor, start: Tensor, *weights: Tensor) -> CombinerDraws:
    return combiner_draws.combiner_draws(features, noise, start, Weights(*weights))


def arguments(*sizes: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    batch, steps, width, dim = sizes
    shapes = (batch, steps, width), (batch, steps, dim), (batch, dim)
    weights = (width, dim), (width,), (2 * dim, width), (2 * dim,)
    given = [torch.randn(shape, dtype=dtype) for shape in shapes]
    given += [torch.randn(shape, dtype=dtype) * shape[-1] ** -0.5 for shape in weights]
    return [part.requires_grad_() for part in given]


def values_and_gradients(function: Callable[..., Sequence[Tensor]], given: list[Tensor]) -> list[Tensor]:
    """The results, and the gradients of a random weighting of them."""
    torch.manual_seed(1)
    found = function(*given)
    weighted = torch.stack([(part * torch.randn_like(part)).sum() for part in found]).sum()
    return [*found, *torch.autograd.grad(weighted, given)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("sizes", SIZES)
def test_values_and_gradients_are_those_of_the_steps(
    sizes: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    given = arguments(*sizes, dtype=dtype)
    found, expected = (values_and_gradients(function, given) for function in (compiled, written_out))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.detach().abs().max()))


def test_each_result_has_its_own_gradient() -> None:
    given = arguments(3, 4, 5, 2)
    for place in range(2):
        found, expected = (
            torch.autograd.grad(function(*given)[place].square().sum(), given) for function in (compiled, written_out)
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_damaged_map_is_told_apart() -> None:
    given = arguments(4, 3, 5, 2)
    found, expected = compiled(*given), written_out(*given[:-1], given[-1].roll(2, 0))  # means and scales change places
    assert float((found.z - expected.z).detach().abs().max()) > 1e-3


def test_without_gradients_the_draws_are_the_same() -> None:
    given = arguments(9, 4, 5, 2)
    with torch.no_grad():
        found = compiled(*given)
    for one, other in zip(found, compiled(*given), strict=True):
        assert torch.equal(one, other)


def test_second_derivatives_are_those_of_the_steps() -> None:
    assert torch.autograd.gradgradcheck(compiled, tuple(arguments(2, 3, 2, 1)))


@pytest.mark.parametrize("factor", [1.0, 1e3, 1e6])
def test_extreme_features_have_finite_gradients(factor: float) -> None:
    given = arguments(3, 4, 4, 2)
    with torch.no_grad():
        given[0].mul_(factor)
        given[-1][2:] = -1e3  # the raw scales' part of m
    found, expected = (
        values_and_gradients(f, given) for f in (compiled, lambda *a: combiner_draws._by_torch(None, *a))
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("threads", [1, 2])
def test_draws_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    given = arguments(30, 6, 8, 4, dtype=torch.float32)
    torch.set_num_threads(threads)
    found = compiled(*given)
    torch.set_num_threads(1)
    assert torch.equal(found.z, compiled(*given).z)


def test_mapped_tensors_and_wide_layers_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [part.detach() for part in arguments(3, 4, 5, 2)]
    noise = torch.randn(6, *given[1].shape, dtype=torch.float64)
    mapped = torch.func.vmap(lambda e: compiled(given[0], e, *given[2:]).z)(noise)
    for one, e in zip(mapped, noise, strict=True):
        torch.testing.assert_close(one, compiled(given[0], e, *given[2:]).z)
    unseen = torch.func.vmap(lambda k: k * compiled(*given).z)(torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(unseen[1], compiled(*given).z)
    monkeypatch.setattr(combiner_draws._Draws, "apply", None)
    wide = arguments(2, 2, gated.LARGEST + 1, 2)
    torch.testing.assert_close(compiled(*wide).z, written_out(*wide).z)


def test_arguments_that_do_not_fit_are_named() -> None:
    given = [part.detach() for part in arguments(3, 4, 5, 2)]
    with pytest.raises(ValueError, match=r"expected noise of shape \(3, 4, 2\), got \(2, 4, 2\)"):
        compiled(given[0], given[1][:2], *given[2:])
    with pytest.raises(ValueError, match=r"expected combiner of shape \(5, 2\), got \(2, 5\)"):
        compiled(*given[:3], given[3].mT, *given[4:])
    with pytest.raises(TypeError, match=r"expected head of dtype torch.float64, .* got torch.float32"):
        compiled(*given[:5], given[5].float(), *given[6:])
