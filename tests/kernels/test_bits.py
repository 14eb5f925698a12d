"""Densities of bits by matrix products, against the sum over bits."""

import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels import bits


def drawn(dtype: torch.dtype, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return (
        torch.randint(2, (4, 5, 6)).to(dtype),
        scale * torch.randn(3, 6, dtype=dtype),
        torch.randint(2, (4, 5, 6)).bool(),
    )


def by_definition(x: Tensor, logits: Tensor, observed: Tensor | None = None) -> Tensor:
    """sum_d log p(x_d | k) in float64, each probability from its own sigmoid."""
    values = torch.where(x[..., None, :] > 0, logits.double(), -logits.double())
    terms = values.sigmoid().log()
    return (terms if observed is None else terms * observed[..., None, :]).sum(-1)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_sum_over_the_bits(dtype: torch.dtype, scale: float) -> None:
    x, logits, observed = drawn(dtype, scale)
    rounding = 64 * torch.finfo(dtype).eps
    for mask in (None, observed):
        found, expected = bits.log_density(x, logits, mask), by_definition(x, logits, mask)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=rounding, atol=rounding * 200)
        assert float((found.double() - by_definition(1 - x, logits, mask)).abs().max()) > 0.1


def test_large_logits_of_ones_do_not_cancel() -> None:
    x, logits = torch.ones(1, 88), torch.full((1, 88), 20.0)
    torch.testing.assert_close(bits.log_density(x, logits), torch.full((1, 1), -88 * 2.061e-9), rtol=1e-3, atol=0.0)


def test_the_gradient_is_that_of_the_sum() -> None:
    x, logits, observed = drawn(torch.float64, 1.0)
    for mask in (None, observed):
        logits.requires_grad_()
        found = torch.autograd.grad(bits.log_density(x, logits, mask).sum(), logits)[0]
        expected = torch.autograd.grad(by_definition(x, logits, mask).sum(), logits)[0]
        torch.testing.assert_close(found, expected)
