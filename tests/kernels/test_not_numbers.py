"""Whether a tensor has a NaN, where sums are infinite, overflow or cancel."""

import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels.not_numbers import has_nan

INF, NAN = torch.inf, torch.nan


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(0),
        torch.ones(3),
        torch.tensor([INF, -INF]),
        torch.tensor([INF, 1.0]),
        torch.full((4,), 3e38),
        torch.full((4,), 6e4, dtype=torch.float16),
        torch.tensor([1, 2]),
        torch.tensor([True]),
    ],
    ids=str,
)
def test_there_is_none(values: Tensor) -> None:
    assert not has_nan(values)


@pytest.mark.parametrize("others", [[], [1.0], [INF], [INF, -INF], [3e38] * 4], ids=str)
def test_there_is_one(others: list[float]) -> None:
    assert has_nan(torch.tensor([*others, NAN]))
    assert has_nan(torch.tensor([NAN, *others]).requires_grad_())
