"""A Gaussian filter for nonlinear models: at each step the transition and the emission are replaced by linear ones.

    predict    E, Cov of f(z) + N(0, Q),   z ~ N(filtered)
    update     K = P C' (C P C' + R)^{-1};   mean + K (x - E x);   (I - K C) P (I - K C)' + K R K'     (Joseph's form)

The linear functions with their residual covariances, which are added to Q and R, come from
`pgm_rnn.inference.kalman.linearisation`. Source: Särkkä (2013), alg. 5.4 and 5.14, with Joseph's form of the update.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pgm_rnn.inference.kalman.kinds import GaussianStateModel
from pgm_rnn.inference.kalman.linearisation import Linear, StateFunction
from pgm_rnn.kernels.gaussian_backward import Moments
from pgm_rnn.kernels.kalman import LOG_2_PI

Linearise = Callable[[StateFunction, Tensor | None, Tensor, Tensor], Linear]


def run(model: GaussianStateModel, x: Tensor, observed: Tensor, driver: Tensor | None, linearise: Linearise) -> Moments:
    """Moments of the linearised model; differentiable.

    Args:
        model: the model whose functions are replaced.
        x: observations (B, T, M), any number where they are missing.
        observed: False where an entry is missing or padding, (B, T, M).
        driver: h_t, (B, T, U), or None.
        linearise: the linearisation, one of `linearisation.METHODS`.
    """
    batch, num_steps, _ = x.shape
    Q, R = model.transition_cov, model.emission_cov
    mean, cov = model.initial_mean.expand(batch, -1), model.initial_cov.expand(batch, -1, -1)
    drivers = [None] * num_steps if driver is None else driver.unbind(1)
    rows, transitions = [], []
    for t, (x_t, observed_t, h) in enumerate(zip(x.unbind(1), observed.unbind(1), drivers, strict=True)):
        if t > 0:
            step = linearise(model.transition_mean, h, mean, cov)
            noise = Q + step.cov
            mean, cov = step.mean, _symmetric(step.matrix @ cov @ step.matrix.mT + noise)
            transitions.append((step.matrix, noise))
        predicted = (mean, cov)
        log_normalizer, mean, cov = _update(linearise(model.emission_mean, h, mean, cov), R, mean, cov, x_t, observed_t)
        rows.append((log_normalizer, *predicted, mean, cov))
    log_normalizers, *moments = (torch.stack(parts, dim=1) for parts in zip(*rows, strict=True))
    predicted_means, predicted_covs, filtered_means, filtered_covs = moments
    if transitions:
        matrix, noise = (torch.stack(parts, dim=1) for parts in zip(*transitions, strict=True))
    else:
        matrix = noise = cov.new_zeros(batch, 0, *cov.shape[1:])
    return Moments(log_normalizers, predicted_means, predicted_covs, filtered_means, filtered_covs, matrix, noise)


def _update(
    step: Linear, R: Tensor, mean: Tensor, cov: Tensor, x: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x_t | x_{1:t-1}) (B,) and the moments of p(z_t | x_{1:t}): Särkkä (2013), eq. (4.21), in Joseph's form.

    A missing entry gets a zero row in C and unit variance, so that it changes nothing.
    """
    both = observed[..., None] & observed[..., None, :]
    C = step.matrix.where(observed[..., None], 0.0)
    unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    noise = (R + step.cov).where(both, unit.where(~observed[..., None], 0.0))
    innovation = (x - step.mean).where(observed, 0.0)
    factor = torch.linalg.cholesky(_symmetric(C @ cov @ C.mT + noise))
    gain = torch.cholesky_solve(C @ cov, factor).mT  # (B, D, M)
    whitened = torch.linalg.solve_triangular(factor, innovation[..., None], upper=False)[..., 0]
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_normalizer = -0.5 * (log_det + whitened.square().sum(-1) + LOG_2_PI * observed.sum(-1, dtype=x.dtype))
    rest = torch.eye(cov.shape[-1], dtype=x.dtype, device=x.device) - gain @ C
    new_cov = _symmetric(rest @ cov @ rest.mT + gain @ noise @ gain.mT)
    return log_normalizer, mean + (gain @ innovation[..., None])[..., 0], new_cov


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)
