"""A switching linear model to start a fit from, estimated from the data by clusters of regressions.

    y_t    the D leading principal components of x_t, or smoothed means of one linear model where D > M
    s_t    the regression whose residual y_t - A_k y_{t-1} - b_k is shortest, in units of y's steps
    A, b   least squares over the moves of each regime; both steps are repeated until no move changes its regime

The best of several random beginnings is kept. C and R are the same in every regime. Source of the alternation: Späth
(1979), clusterwise linear regression.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import check_counts
from pgm_rnn.kernels import kalman
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.linear_start import RIDGE, linear_start
from pgm_rnn.models.switching_linear import SwitchingLinearSSM
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model.chains import chain_of, filtered
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequences import Data, Sequences, length_mask

_BEGINNINGS, _MOST_ROUNDS = 10, 50


class _Clusters(NamedTuple):
    """Regressions of the moves, and the one that each move (n,) belongs to.

    Attributes:
        regimes: the cluster of each move, (n,).
        maps: A and b side by side, (K, D, D + 1).
        loss: mean squared residual, in units of the steps.
    """

    regimes: Tensor
    maps: Tensor
    loss: float


def switching_start(
    x: Data, lengths: Tensor | None = None, *, num_regimes: int, latent_dim: int, seed: int | None = 0
) -> SwitchingLinearSSM:
    """A model near the data in the data's units and in float64; regimes differ in their dynamics alone.

    Args:
        x: observations (batch, T, M), NaN where one is missing.
        lengths: (batch,) steps of each sequence, None for T.
        num_regimes: K.
        latent_dim: D, at most M (T - 1).
        seed: makes the beginnings reproducible; None uses torch's global generator.

    Raises:
        ValueError: sizes below 1, too large a D, or a variable that was never observed.

    Example:
        >>> x = SwitchingLinearSSM.random(num_regimes=2, latent_dim=1, obs_dim=2, seed=0).sample(4, 20, seed=0).x
        >>> switching_start(x, num_regimes=2, latent_dim=1).transition_matrix.shape
        torch.Size([2, 1, 1])
    """
    check_counts(num_regimes=num_regimes)
    plain = linear_start(x, lengths, latent_dim=latent_dim).requires_grad_(False)
    data = checked(plain, x, lengths)
    y, C, R = _vectors(plain, data)
    inside = length_mask(data.lengths, y.shape[1])
    moves, every = inside[:, 1:], y[inside]
    before, after = y[:, :-1][moves], y[:, 1:][moves]
    steps = _second_moment(after - before, _second_moment(every - every.mean(0), torch.eye(latent_dim).to(y)))
    with seeded(seed):
        beginnings = [_clustered(before, after, torch.linalg.cholesky(steps), num_regimes) for _ in range(_BEGINNINGS)]
    found = min(beginnings, key=lambda each: each.loss)
    regimes = torch.zeros_like(moves, dtype=torch.long).masked_scatter(moves, found.regimes)
    shares, probs = _counts(regimes, moves, num_regimes)
    rest = after - _predicted(found.maps, before)[found.regimes, torch.arange(len(after))]
    covs = torch.stack([_second_moment(rest[found.regimes == k], RIDGE * steps) for k in range(num_regimes)])
    P = _second_moment(every - every.mean(0), steps)
    mean, P, C, R = (part.expand(num_regimes, *part.shape) for part in (every.mean(0), P, C, R))
    return SwitchingLinearSSM(shares, probs, mean, P, found.maps[..., :-1], covs, C, R, found.maps[..., -1])


def _vectors(plain: LinearGaussianSSM, data: Sequences) -> tuple[Tensor, Tensor, Tensor]:
    """y (batch, T, D), C (M, D) and R (M, M): principal components of single steps, or smoothed means where D > M."""
    smooth = filtered(chain_of(plain, data)).smooth(data.lengths).means
    dim = smooth.shape[-1]
    if dim > plain.obs_dim:
        return smooth, plain.emission_matrix, plain.emission_cov
    x = data.x.where(kalman.per_entry(data.mask, data.x), smooth @ plain.emission_matrix.mT)
    rows = x[length_mask(data.lengths, x.shape[1])]
    scale = rows.square().mean(0).sqrt()
    scale = scale.where(scale > 0, 1.0)
    V = torch.linalg.eigh((rows / scale).mT @ (rows / scale)).eigenvectors[:, -dim:]  # (M, D)
    left = rows - (rows / scale) @ V @ (scale[:, None] * V).mT
    return (x / scale) @ V, scale[:, None] * V, left.mT @ left / len(left) + RIDGE * scale.square().diag()


def _clustered(before: Tensor, after: Tensor, root: Tensor, num_regimes: int) -> _Clusters:
    """Alternate between the regressions and the clusters, from random clusters of neighbouring moves."""
    centres = before[torch.randint(len(before), (num_regimes,))] + after[torch.randint(len(before), (num_regimes,))]
    regimes = torch.cdist(before + after, centres).argmin(-1)
    for _ in range(_MOST_ROUNDS):
        maps = torch.stack([_regression(before, after, regimes == k) for k in range(num_regimes)])
        far = torch.linalg.solve_triangular(root, (after - _predicted(maps, before)).mT, upper=False)  # (K, D, n)
        squares = far.square().sum(1)
        old, regimes = regimes, squares.argmin(0)
        if torch.equal(old, regimes):
            break
    return _Clusters(regimes, maps, float(squares.amin(0).mean()))


def _predicted(maps: Tensor, before: Tensor) -> Tensor:
    """A_k y + b_k of every regression, (K, n, D)."""
    return before @ maps[..., :-1].mT + maps[:, None, :, -1]


def _regression(before: Tensor, after: Tensor, chosen: Tensor) -> Tensor:
    """A and b of the chosen moves by least squares with a ridge, (D, D + 1); those of all moves if none is chosen."""
    chosen = chosen if bool(chosen.any()) else torch.ones_like(chosen)
    inputs = torch.cat([before[chosen], torch.ones_like(before[chosen][:, :1])], dim=1)
    products = inputs.mT @ inputs + RIDGE * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    return torch.linalg.solve(products, inputs.mT @ after[chosen]).mT


def _second_moment(residuals: Tensor, like: Tensor) -> Tensor:
    """Mean of r r' over rows r, with one row's worth of `like` added."""
    return (residuals.mT @ residuals + like) / (len(residuals) + 1)


def _counts(regimes: Tensor, moves: Tensor, num_regimes: int) -> tuple[Tensor, Tensor]:
    """Shares of the regimes (K,), and p(s_t = j | s_{t-1} = i) from pairs of moves, one count spread over each row."""
    one_hot = torch.nn.functional.one_hot(regimes, num_regimes).double()
    pairs = (one_hot[:, :-1] * moves[:, 1:, None]).flatten(0, 1).mT @ one_hot[:, 1:].flatten(0, 1)
    pairs, total = pairs + 1 / num_regimes, (one_hot * moves[..., None]).sum((0, 1)) + 1 / num_regimes
    return total / total.sum(), pairs / pairs.sum(-1, keepdim=True)
