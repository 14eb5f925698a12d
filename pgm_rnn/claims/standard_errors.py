"""Tests of averages of draws: the distance from the expectation in standard errors.

    z = |mean - expected| / (s / sqrt(n))

A normal variable exceeds `MANY` = 6 standard errors with probability 2e-9, so that ten thousand comparisons raise a
false alarm with probability 2e-5. Averages have at least `FEWEST` draws, for which Student's t has few more tails.
"""

import math

import torch
from torch import Tensor

MANY = 6.0
"""Largest number of standard errors that chance explains."""

FEWEST = 200
"""Least number of draws in an average."""


def z_score(draws: Tensor, expected: Tensor | float) -> float:
    """Largest distance of the draws' means from their expectations, in standard errors.

    Args:
        draws: independent draws along the first axis, (n, ...).
        expected: their expectations, (...).

    Raises:
        ValueError: fewer than `FEWEST` draws.
    """
    if len(draws) < FEWEST:
        raise ValueError(f"expected at least {FEWEST} draws, got {len(draws)}")
    distance = (draws.mean(0) - expected).abs()
    error = draws.std(0) / math.sqrt(len(draws))
    return float((distance / error.clamp(min=torch.finfo(draws.dtype).tiny)).max())


def log_slope(sizes: Tensor, errors: Tensor) -> float:
    """The slope of log errors against log sizes by least squares; an error of zero counts as one rounding error."""
    x, y = sizes.log(), errors.clamp(min=torch.finfo(errors.dtype).eps).log()
    x = x - x.mean()
    return float((x * y).sum() / (x**2).sum())


def slope_error(sizes: Tensor, num_draws: int) -> float:
    """Standard error of `log_slope` of root mean squares of n normal draws, whose logs are off by (2 n)^(-1/2)."""
    x = sizes.log()
    return 1 / math.sqrt(2 * num_draws) / float((x - x.mean()).norm())
