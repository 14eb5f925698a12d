"""Functions of eight numbers at a time against long doubles."""

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from pgm_rnn.kernels.lanes_compiled import LANES, load, logarithm, store


@numba.njit
def logarithms(values: NDArray[np.floating], found: NDArray[np.floating]) -> None:
    for k in range(0, values.shape[0], LANES):
        store(found, k, logarithm(load(values, k)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_logarithm_is_exact_to_rounding(dtype: type[np.floating]) -> None:
    """Of the smallest normal number, of the largest, near one and at the ends of the mantissas' range."""
    limits, generator = np.finfo(dtype), np.random.default_rng(0)
    powers = np.exp2(generator.uniform(np.log2(float(limits.tiny)), np.log2(float(limits.max)), 8000))
    near = [1, 4 / 3, 2 / 3, 2, np.nextafter(dtype(1), dtype(0)), np.nextafter(dtype(1), dtype(2)), limits.max]
    values = np.concatenate([powers, 1 + generator.uniform(-0.3, 0.3, 8000), near, [limits.tiny]]).astype(dtype)
    found = np.empty_like(values)
    logarithms(values, found)
    exact = np.log(values.astype(np.longdouble))
    assert float((np.abs(found - exact) / np.maximum(np.abs(exact), 0.25)).max()) < 2.5 * float(limits.eps)
