"""A linear-Gaussian model to start a fit from, estimated from the data by principal components.

    w_t = (y_t, ..., y_{t+L-1})    windows of y = x / scale, which puts the variables on one scale
    z_t = V' w_t                   V the D leading principal components of the windows, about zero
    A, Q  regression of z_{t+1} on z_t,   C  the first rows of V,   R  what C z_t leaves of y_t

Windows rather than single observations allow D to exceed the number of variables and separate noise from states.
Components are taken about zero rather than the mean, because the model has no constant term: a level is a state that
hardly moves.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.checks import check_counts
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.sequences import Data, as_sequences, length_mask

RIDGE = 1e-2
"""Added to every variance of y and z, which are 1 or more."""


class _Scale(NamedTuple):
    """Mean and standard deviation of each variable, (M,); a variable that never changes has its size as deviation."""

    mean: Tensor
    deviation: Tensor


def linear_start(x: Data, lengths: Tensor | None = None, *, latent_dim: int) -> LinearGaussianSSM:
    """A model near the data, without inputs, in the data's units and in float64.

    The law of z_1 is that of the states over all steps.

    Args:
        x: observations (batch, T, M), NaN where one is missing; gaps are filled by linear interpolation.
        lengths: (batch,) steps of each sequence, None for T.
        latent_dim: D, at most M (T - 1).

    Raises:
        ValueError: too large a D, or a variable that was never observed.

    Example:
        >>> model = linear_start(torch.arange(20.0)[None, :, None], latent_dim=1)
        >>> model.latent_dim, model.obs_dim
        (1, 1)
    """
    check_counts(latent_dim=latent_dim)
    x, lengths = as_sequences(x, lengths)[:2]
    if x.dim() != 3:
        raise ValueError(f"expected x of shape (batch, T, M), got {tuple(x.shape)}; one sequence (T, M) is x[None]")
    x = x.detach().cpu().double().where(length_mask(lengths.cpu(), x.shape[1])[..., None], torch.nan)
    scale, width = _scale(x), _window(latent_dim, x.shape[2], int(lengths.max()))
    sequences = [_bridged(one[:length], scale) for one, length in zip(x, lengths.tolist(), strict=True)]
    windows = [y.unfold(0, width, 1).mT.flatten(1) for y in sequences if len(y) >= width]  # (T_i - L + 1, L M)
    return _read_off(windows, latent_dim, scale.deviation)


def _window(latent_dim: int, obs_dim: int, num_steps: int) -> int:
    """Window length L: 4, or enough for 2 D components, but short enough for two windows."""
    width = min(max(4, 2 * -(-latent_dim // obs_dim)), num_steps - 1)
    if width * obs_dim < latent_dim:
        raise ValueError(
            f"expected latent_dim of at most M (T - 1) = {obs_dim * (num_steps - 1)}, got {latent_dim}; "
            f"the longest sequence has T = {num_steps} steps of M = {obs_dim} variables"
        )
    return width


def _scale(x: Tensor) -> _Scale:
    """The scale of observations (batch, T, M) with NaN in the padding and where one is missing."""
    count = (~x.isnan()).sum((0, 1))
    if bool((count == 0).any()):
        raise ValueError(
            f"expected observations of every variable, got none of variable {int(count.argmin()) + 1} (counted from "
            "1); leave it out"
        )
    mean = x.nansum((0, 1)) / count
    deviation = ((x - mean).square().nansum((0, 1)) / count).sqrt()
    size = mean.abs()
    deviation = deviation.where(deviation > 1e-8 * size, size)
    return _Scale(mean, deviation.where(deviation > 0, 1.0))


def _bridged(x: Tensor, scale: _Scale) -> Tensor:
    """y, (T, M), of observations (T, M), with gaps interpolated linearly; without any value, the variable's mean."""
    steps, columns = np.arange(len(x)), []
    for column, mean in zip(x.numpy().T, scale.mean.tolist(), strict=True):
        seen = ~np.isnan(column)
        columns.append(np.interp(steps, steps[seen], column[seen]) if seen.any() else np.full(len(x), mean))
    return torch.from_numpy(np.stack(columns, axis=-1)) / scale.deviation


def _read_off(windows: list[Tensor], latent_dim: int, deviation: Tensor) -> LinearGaussianSSM:
    """The model of states z = V' w for windows (T_i, L M) of some sequences."""
    together = torch.cat(windows)
    V = torch.linalg.eigh(together.mT @ together).eigenvectors[:, -latent_dim:]  # (L M, D)
    states = [w @ V for w in windows]
    before, after = torch.cat([z[:-1] for z in states]), torch.cat([z[1:] for z in states])
    A = _transition(before, after)
    C = V[: len(deviation)]
    R = _second_moment(together[:, : len(deviation)] - together @ V @ C.mT)
    z, units = torch.cat(states), deviation.diag()
    P, Q = _second_moment(z - z.mean(0)), _second_moment(after - before @ A.mT)
    return LinearGaussianSSM(z.mean(0), P, A, Q, units @ C, units @ R @ units)


def _transition(before: Tensor, after: Tensor) -> Tensor:
    """A of z_{t+1} = A z_t + noise by least squares, (D, D), shrunk to spectral radius 1 if it is larger."""
    products = before.mT @ before + RIDGE * torch.eye(before.shape[1], dtype=before.dtype)
    A = torch.linalg.solve(products, before.mT @ after).mT
    return A / torch.linalg.eigvals(A).abs().max().clamp(min=1)


def _second_moment(residuals: Tensor) -> Tensor:
    """Mean of r r' over rows r, with the ridge."""
    return residuals.mT @ residuals / len(residuals) + RIDGE * torch.eye(residuals.shape[1], dtype=residuals.dtype)
