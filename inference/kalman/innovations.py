"""One-step residuals of a linear Gaussian model, and sequences rebuilt from them: the innovations form of the model.

    x_t = C m_t + d_t + L_t e_t,   m_{t+1} = A m_t + b_t + A P_t C' L_t'^{-1} e_t,   L_t L_t' = C P_t C' + R

m_t = E(z_t | x_{1:t-1}) and P_t = Cov(z_t | x_{1:t-1}) are those of the Kalman filter; P_t and L_t do not depend on x.
Under the model the residuals e_t = L_t^{-1} (x_t - E(x_t | x_{1:t-1})) are independent, each N(0, I). Residuals drawn
again with replacement make new sequences whose noise has the shape of the data's: the residual bootstrap.

Source: Stoffer & Wall (1991), eq. (2.3)-(2.7). Differences: residuals are centred, so that their mean is zero, and
those of all sequences and steps are drawn from together, the first steps included.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.inference.kalman.kinds import is_linear
from pgm_rnn.inference.kalman.problem import checked_gaussian, reads_observations
from pgm_rnn.inference.suitable import unsuitable
from pgm_rnn.kernels.gaussian_chain import GaussianChain
from pgm_rnn.sequence_model.chains import Chained, as_vectors, chain_of, filtered
from pgm_rnn.sequences import Data, Sequences, length_mask


class Residuals(NamedTuple):
    """Result of `one_step_residuals`.

    Attributes:
        values: e_t, (B, T, M), without unit; each is N(0, I) under the model. 0 in the padding.
        whole: True where every entry of x_t was observed, so that e_t is known, (B, T).
    """

    values: Tensor
    whole: Tensor


@torch.no_grad()
def one_step_residuals(model: Any, x: Data, lengths: Tensor | None = None) -> Residuals:
    """Standardised one-step residuals e_t = L_t^{-1} (x_t - E(x_t | x_{1:t-1})).

    Args:
        model: with linear Gaussian states, not driven by its own observations.
        x: a batch, observations (B, T, M), or one sequence (T, M), as any `Data`, NaN where one is missing.
        lengths: (B,) steps of each sequence, None for T.

    Raises:
        TypeError, ValueError: a model that has no such residuals, or observations that do not fit it.
    """
    data, chained = _chained(model, x, lengths)
    moments = filtered(chained).moments
    chain = chained.chain.with_all_axes()
    factor = _factor(chain, moments.predicted_covs)
    errors = chained.x - _times(chain.emission_matrix, moments.predicted_means)
    inside = length_mask(data.lengths, data.x.shape[1])
    whole = inside if chained.observed is None else inside & chained.observed.all(-1)
    values = torch.linalg.solve_triangular(factor, errors[..., None], upper=False)[..., 0]
    return Residuals(values.where(whole[..., None], 0.0), whole)


@torch.no_grad()
def rebuilt(model: Any, like: Data, residuals: Tensor) -> Tensor:
    """Observations that have these one-step residuals: x in the form of the model's events, (B, T, M) or (B, T).

    Args:
        model: as for `one_step_residuals`.
        like: sequences with the inputs and the lengths; their observations are not read.
        residuals: e_t, (B, T, M).

    Raises:
        TypeError, ValueError: as `one_step_residuals`.
    """
    data, chained = _chained(model, like, None)
    whole = chained._replace(x=torch.zeros_like(chained.x), observed=None)
    chain, covs = chained.chain.with_all_axes(), filtered(whole).moments.predicted_covs
    factor = _factor(chain, covs)
    shocks = _times(factor, residuals)  # (B, T, M)
    # A P_t C' L_t'^{-1} e_t = A P_t C' (L_t L_t')^{-1} (L_t e_t)
    weighted = torch.cholesky_solve(shocks[..., None], factor.expand(*shocks.shape[:2], -1, -1))[..., 0]
    updates = _times(covs, _times(chain.emission_matrix.mT, weighted))
    mean, means = chain.initial_mean.expand(len(data.x), -1), []
    steps = zip(_by_step(chain.transition_matrix, data), _by_step(chain.state_offset, data), strict=True)  # type: ignore[arg-type]
    later = list(steps)
    for t in range(data.x.shape[1]):
        means.append(mean)
        if t < len(later):
            matrix, offset = later[t]
            mean = _times(matrix, mean + updates[:, t]) + offset
    added = as_vectors(data.x) - chained.x
    x = _times(chain.emission_matrix, torch.stack(means, dim=1)) + added + shocks
    return x.reshape(data.x.shape)


def _chained(model: Any, x: Data, lengths: Tensor | None) -> tuple[Sequences, Chained]:
    """Checked data and their chain.

    Raises:
        TypeError: a model without linear Gaussian states.
        ValueError: one that is driven by its observations, or has a diffuse start.
    """
    if not is_linear(model):
        raise unsuitable("the residual bootstrap", "linear Gaussian states", model)
    if reads_observations(model):
        raise ValueError(
            f"expected a model that does not read its own observations for one-step residuals, got "
            f"{type(model).__name__}; use method='model'"
        )
    data = checked_gaussian(model, x, lengths)
    chained = chain_of(model, data)
    if chained.diffuse is not None:
        raise ValueError(
            "expected initial_cov for one-step residuals, got a diffuse start, whose first residuals have no finite "
            "variance; give the model initial_cov, or use method='model'"
        )
    return data, chained


def _factor(chain: GaussianChain, predicted_covs: Tensor) -> Tensor:
    """L_t, (1 or B, T, M, M)."""
    matrix = chain.emission_matrix
    return torch.linalg.cholesky(matrix @ predicted_covs @ matrix.mT + chain.emission_cov)


def _times(matrix: Tensor, vectors: Tensor) -> Tensor:
    """Matrices (..., n, m) times vectors (..., m)."""
    return (matrix @ vectors[..., None])[..., 0]


def _by_step(values: Tensor, data: Sequences) -> tuple[Tensor, ...]:
    """A parameter of steps 2..T, (1 or B, 1 or T - 1, ...), one for each of them."""
    return values.expand(values.shape[0], data.x.shape[1] - 1, *values.shape[2:]).unbind(1)
