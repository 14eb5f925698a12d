"""Bootstrap filters as they are defined, a loop over sequences, steps and particles, on given noise."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.kernels.particle_runs import Run

B, T = 3, 6
LENGTHS = torch.tensor([6, 1, 4])
Move = Callable[[int, int, NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
Weigh = Callable[[int, int, NDArray[np.float64]], NDArray[np.float64]]


def by_steps(
    move: Move, weigh: Weigh, noise: Tensor, uniforms: Tensor, threshold: float
) -> dict[str, list[NDArray[np.float64]]]:
    """The filter as it is defined: resample, move, weigh; one sequence after the other."""
    found: dict[str, list[NDArray[np.float64]]] = {
        name: [] for name in ("z", "log_weights", "log_normalizers", "ess", "resampled")
    }
    for b in range(B):
        num = noise.shape[2]
        log_w, z = np.full(num, -math.log(num)), np.zeros(noise.shape[2:])
        rows = {name: np.zeros(T) for name in ("log_normalizers", "ess", "resampled")}
        for t in range(T):
            if t >= int(LENGTHS[b]):
                rows["ess"][t] = rows["ess"][t - 1]
                continue
            if t and rows["ess"][t - 1] <= threshold:
                sums = np.exp(log_w).cumsum()
                points = (np.arange(num) + float(uniforms[b, t])) / num * sums[-1]
                z, log_w = z[np.searchsorted(sums, points, side="right")], np.full(num, -math.log(num))
                rows["resampled"][t] = 1
            z = move(b, t, z, noise[b, t].numpy())
            joint = log_w + weigh(b, t, z)
            rows["log_normalizers"][t] = np.logaddexp.reduce(joint)
            log_w = joint - rows["log_normalizers"][t]
            rows["ess"][t] = 1 / np.exp(2 * log_w).sum()
        for name, row in {"z": z, "log_weights": log_w, **rows}.items():
            found[name].append(row)
    return found


def assert_agrees(run: Run, expected: dict[str, list[NDArray[np.float64]]]) -> None:
    for name, rows in expected.items():
        torch.testing.assert_close(getattr(run, name).double(), torch.from_numpy(np.stack(rows)), rtol=1e-9, atol=1e-9)
    assert not bool(run.lost.any())


def drawn(num: int, dim: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """The uniforms of resampling and the noise of the states that a run draws, if one block has all of its steps."""
    torch.manual_seed(seed)
    uniforms = torch.rand(B, T, dtype=torch.float64)
    noise = torch.rand(B, T, num) if dim is None else torch.randn(B, T, num, dim)
    torch.manual_seed(seed)
    return uniforms, noise
