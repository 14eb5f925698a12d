"""Normal log densities under all states: torch's own law, numbers of autograd, finite differences, every layout."""

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.distributions.normal import Normal, ScaledNormal, entries_of
from pgm_rnn.kernels import normal_density

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, in forward mode
K, B, T, D = 3, 2, 5, 2
SHAPES = {
    "one law": ((1, 1, 1, 1), (1, 1, 1, 1)),
    "by state": ((K, 1, 1, D), (K, 1, 1, 1)),
    "means by row": ((K, B, T, D), (K, 1, 1, D)),
    "all by row": ((K, B, T, D), (K, B, T, D)),
    "rows alone": ((1, B, T, 1), (K, 1, 1, D)),
    "by sequence": ((K, B, 1, D), (1, B, 1, 1)),
    "by step": ((K, 1, T, D), (1, 1, T, D)),
}


def parameters(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    loc, scale = torch.randn(shapes[0]), torch.rand(shapes[1]) + 0.5
    return loc.requires_grad_(), scale.requires_grad_()


def by_law(x: Tensor, loc: Tensor, scale: Tensor, observed: Tensor | None) -> Tensor:
    """The densities of torch's law, (B, T, K)."""
    entries = torch.distributions.Normal(loc.expand(K, B, T, D), scale.expand(K, B, T, D)).log_prob(x)
    return (entries if observed is None else entries.where(observed, 0.0)).sum(-1).permute(1, 2, 0)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("rows", [2, 256])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES.keys())
def test_values_and_gradients_are_those_of_torchs_law(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], rows: int, gaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(normal_density, "_ROWS", rows)
    x, given, weights = torch.randn(B, T, D), parameters(shapes), torch.randn(B, T, K)
    observed = torch.rand(B, T, D) < 0.6 if gaps else None
    value = normal_density.log_density(x, *given, observed).expand(B, T, K)
    expected = by_law(x, *given, observed)
    torch.testing.assert_close(value, expected)
    found = torch.autograd.grad((value * weights).sum(), given)
    torch.testing.assert_close(found, torch.autograd.grad((expected * weights).sum(), given))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 2, 0, 3), (3, 0, 2, 1), (2, 1, 0, 3)])
def test_the_order_in_memory_does_not_count(order: tuple[int, ...], dtype: torch.dtype) -> None:
    whole = torch.randn(K, B, T, D, dtype=dtype)
    stored = whole.permute(order).contiguous()
    loc = stored.permute(tuple(order.index(axis) for axis in range(4))).requires_grad_()
    scale = torch.tensor(0.7, dtype=dtype, requires_grad=True)
    x, weights = torch.randn(B, T, D, dtype=dtype), torch.randn(B, T, K, dtype=dtype)
    value = normal_density.log_density(x, loc, scale.expand(K, B, T, D))
    expected = by_law(x, loc, scale, None)
    torch.testing.assert_close(value, expected)
    found = torch.autograd.grad((value * weights).sum(), (loc, scale))
    torch.testing.assert_close(found, torch.autograd.grad((expected * weights).sum(), (loc, scale)))


def test_second_derivatives_are_finite_differences() -> None:
    x, given = torch.randn(B, T, D), parameters(SHAPES["means by row"])
    assert torch.autograd.gradgradcheck(lambda m, s: normal_density.log_density(x, m, s), given)


@pytest.mark.parametrize("transform", ["vmap", "hessian"])
def test_transformations_of_torch_func_see_torch_operations(transform: str) -> None:
    x, scale = torch.randn(B, T, D), torch.rand(K, 1, 1, 1) + 0.5

    def value(loc: Tensor) -> Tensor:
        return normal_density.log_density(x, loc, scale).sum()

    if transform == "hessian":
        found = torch.func.hessian(lambda m: value(m.expand(K, 1, 1, D)))(torch.zeros(1))
        torch.testing.assert_close(found, -(B * T * D / scale.square()).sum().reshape(1, 1))
    else:
        loc = torch.randn(4, K, 1, 1, D)
        torch.testing.assert_close(torch.func.vmap(value)(loc), torch.stack([value(row) for row in loc]))


def test_gradients_in_x_are_those_of_torchs_law() -> None:
    x, given = torch.randn(B, T, D, requires_grad=True), parameters(SHAPES["by state"])
    found, expected = (
        torch.autograd.grad(value.sum(), x)
        for value in (normal_density.log_density(x, *given), by_law(x, *given, None))
    )
    torch.testing.assert_close(found, expected)


def test_a_state_without_weight_adds_no_gradient_though_its_density_overflows() -> None:
    x, scale = torch.full((1, 1, 1), 1e200), torch.ones(K, 1, 1, 1, requires_grad=True)
    value = normal_density.log_density(x, torch.zeros(1, 1, 1, 1), scale)
    assert bool(value.isinf().all())
    found = torch.autograd.grad((value * torch.tensor([0.0, 0.0, 0.0])).nan_to_num().sum(), scale)[0]
    assert bool((found == 0).all())


def test_a_negative_scale_has_no_density() -> None:
    scale = torch.tensor([1.0, -1.0, 1.0]).reshape(K, 1, 1, 1)
    value = normal_density.log_density(torch.zeros(B, T, D), torch.zeros(1, 1, 1, D), scale)
    assert value.isnan().any(0).any(0).tolist() == [False, True, False]


def test_laws_of_independent_normal_entries_are_recognised_and_no_others() -> None:
    loc, scale = torch.zeros(4, D), torch.ones(D)
    known = [
        (dist.Normal(loc, scale), 0),
        (dist.Normal(loc, scale).to_event(1), 1),
        (torch.distributions.Independent(torch.distributions.Normal(loc, scale), 1), 1),
        (ScaledNormal(loc, scale).to_event(1), 1),
        (Normal(loc, scale, event_dim=1), 1),
    ]
    for law, event_dim in known:
        found = entries_of(law)
        assert found is not None
        assert found.event_dim == event_dim
        torch.testing.assert_close(found.scale.expand(4, D), torch.ones(4, D))

    class Shifted(dist.Normal):
        def log_prob(self, value: Tensor) -> Tensor:
            return super().log_prob(value - 1)

    others = [Shifted(loc, scale), dist.LogNormal(loc, scale), dist.Normal(loc, scale).mask(False), dist.StudentT(3.0)]
    assert [entries_of(law) for law in others] == [None] * len(others)
