"""Pareto k: ArviZ's own on the same weights, the shape of a Pareto law, and its order for heavier tails."""

import warnings

import numpy as np
import pytest
import torch

from pgm_rnn.kernels.pareto import generalised_pareto_shape, pareto_k


@pytest.mark.parametrize("num", [30, 100, 1000])
def test_k_is_that_of_arviz(num: int) -> None:
    arviz = pytest.importorskip("arviz")
    if not hasattr(arviz, "psislw"):
        pytest.skip("from version 1 on ArviZ has it elsewhere")
    log_weights = torch.distributions.StudentT(3.0).sample(torch.Size([num, 4]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, expected = arviz.psislw(log_weights.numpy().T)
    np.testing.assert_allclose(pareto_k(log_weights), expected, rtol=1e-7)


@pytest.mark.parametrize("k", [0.2, 0.5, 1.0])
def test_the_shape_of_a_pareto_law_is_found(k: float) -> None:
    """Quantiles ((1 - p)^(-k) - 1) / k; the prior counts 10 of n = 4000, the error is about (1 + k) / sqrt(n)."""
    num = 4000
    p = (torch.arange(num, dtype=torch.float64) + 0.5) / num
    x = ((1 - p) ** -k - 1) / k
    found = float(generalised_pareto_shape(x[:, None]))
    assert abs(found - k) < 2 * (1 + k) / num**0.5


def test_heavier_tails_have_a_larger_k() -> None:
    noise = torch.randn(1000, 1)
    assert float(pareto_k(0.3 * noise)) < 0.5 < 0.7 < float(pareto_k(4 * noise))


def test_too_few_or_equal_weights_have_no_k() -> None:
    assert bool(pareto_k(torch.randn(20, 3)).isnan().all())
    assert bool(pareto_k(torch.zeros(200, 3)).isnan().all())
