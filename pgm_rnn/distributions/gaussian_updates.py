"""What observations make of the parameters of a linear-Gaussian chain: its product with densities, its later steps.

All parameters but the initial ones have an axis of time, with one entry if all steps share them; batch axes broadcast.
"""

import torch
from torch import Tensor

from pgm_rnn.distributions import gaussian_states
from pgm_rnn.distributions.chain_parameters import earlier, later
from pgm_rnn.distributions.gaussian_states import times
from pgm_rnn.kernels.gaussian_chain import GaussianChain


def product(chain: GaussianChain, x: Tensor, noise_cov: Tensor) -> tuple[GaussianChain, Tensor]:
    """The law of all z_t and x_t that is proportional to that of the chain times prod_t N(x_t; y_t, S_t).

    Given z_t, x_t has the mean C z_t + G_t (y_t - C z_t) and the covariance (I - G_t) R, G_t = R (R + S_t)^{-1}.

    Args:
        chain: the chain.
        x: y, (*batch, T, M).
        noise_cov: S, (*batch, 1 or T, M, M).

    Returns:
        The parameters of that law, and the mean G_t y_t of the noise of x_t, (*batch, T, M).
    """
    C, R, S = chain.emission_matrix, chain.emission_cov, noise_cov
    states = gaussian_states.given(chain._replace(emission_cov=R + S), x)
    gain = torch.cholesky_solve(R, torch.linalg.cholesky(R + S)).mT
    rest = torch.eye(R.shape[-1], dtype=R.dtype, device=R.device) - gain
    updated = GaussianChain(
        initial_mean=states.mean,
        initial_cov=states.root @ states.root.mT,
        transition_matrix=states.matrix,
        transition_cov=states.roots @ states.roots.mT,
        emission_matrix=rest @ C,
        emission_cov=rest @ R @ rest.mT + gain @ S @ gain.mT,
        state_offset=states.offset,
    )
    return updated, times(gain, x)


def first_steps(chain: GaussianChain, num_steps: int) -> GaussianChain:
    """The parameters of z_{1:t} and x_{1:t}."""
    m, P, A, Q, C, R, b = chain
    assert b is not None  # the laws always give one
    moves = num_steps - 1
    A, Q, b = earlier(A, moves, 3), earlier(Q, moves, 3), earlier(b, moves, 2)
    return GaussianChain(m, P, A, Q, earlier(C, num_steps, 3), earlier(R, num_steps, 3), b)


def later_steps(chain: GaussianChain, num_steps: int, mean: Tensor, cov: Tensor) -> GaussianChain:
    """The parameters of z_{t+1:T} and x_{t+1:T}, where z_t has these moments."""
    _, _, A, Q, C, R, b = chain
    assert b is not None  # the laws always give one
    A_t, Q_t, b_t = _at(A, num_steps - 1, 3), _at(Q, num_steps - 1, 3), _at(b, num_steps - 1, 2)
    m, P = times(A_t, mean) + b_t, A_t @ cov @ A_t.mT + Q_t
    A, Q, b = later(A, num_steps, 3), later(Q, num_steps, 3), later(b, num_steps, 2)
    return GaussianChain(m, P, A, Q, later(C, num_steps, 3), later(R, num_steps, 3), b)


def _at(parameter: Tensor, t: int, axis: int) -> Tensor:
    return parameter.select(-axis, t % parameter.shape[-axis])
