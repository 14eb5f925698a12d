"""A Gaussian filter for nonlinear models: at each step the transition and the emission are replaced by linear ones.

    predict    E, Cov of f(z) + N(0, Q),   z ~ N(filtered)
    update     K = P C' (C P C' + R)^{-1};   mean + K (x - E x);   (I - K C) P (I - K C)' + K R K'     (Joseph's form)

The linear laws with their noise come from `pgm_rnn.inference.kalman.linearisation`. The iterated method repeats the
update with g linearised at the latest estimate z^(i), from the prediction m:

    z^(i+1) = m + K_i (x - g(z^(i)) - C_i (m - z^(i))),   C_i = g'(z^(i))

These are Gauss-Newton steps to the mode of p(z_t | x_t) for z_t ~ N(m, P), each with R at z^(i). They end when z no
longer moves, and after `Method.num_updates` updates; with strong curvature they need not converge.

Sources: Särkkä (2013), alg. 5.4 and 5.14, with Joseph's form of the update; Bell & Cathey (1993) for the iterations.
"""

import torch
from torch import Tensor

from pgm_rnn.distributions.normal_moments import NormalMoments
from pgm_rnn.inference.kalman.linearisation import Linear, Method, StateLaw
from pgm_rnn.kernels.gaussian_backward import Moments
from pgm_rnn.kernels.kalman import LOG_2_PI


def run(
    start: NormalMoments,
    transition: StateLaw,
    emission: StateLaw,
    x: Tensor,
    observed: Tensor,
    driver: Tensor | None,
    method: Method,
    dtype: torch.dtype,
) -> Moments:
    """Moments of the linearised model; differentiable.

    Args:
        start: moments of z_1, (D,) or (B, D).
        transition: moments of z_t given z_{t-1} and h_t.
        emission: moments of x_t given z_t and h_t.
        x: observations (B, T, M), any number where they are missing.
        observed: False where an entry is missing or padding, (B, T, M).
        driver: h_t, (B, T, U), or None.
        method: the linearisation, one of `linearisation.METHODS`.
        dtype: that in which the laws are computed, to whose rounding errors the iterations go.
    """
    batch, num_steps, _ = x.shape
    mean, cov = start.mean.expand(batch, -1), start.cov.expand(batch, -1, -1)
    drivers = [None] * num_steps if driver is None else driver.unbind(1)
    rows, transitions = [], []
    for t, (x_t, observed_t, h) in enumerate(zip(x.unbind(1), observed.unbind(1), drivers, strict=True)):
        if t > 0:
            step = method.linearise(transition, h, mean, cov)
            mean, cov = step.mean, _symmetric(step.matrix @ cov @ step.matrix.mT + step.cov)
            transitions.append((step.matrix, step.cov.expand(cov.shape)))
        predicted = (mean, cov)
        step = method.linearise(emission, h, mean, cov)
        log_normalizer, mean, cov = _update(step, *predicted, x_t, observed_t)
        for _ in range(method.num_updates - 1):
            step = _moved(method.linearise(emission, h, mean, cov), predicted[0] - mean)
            before = mean
            log_normalizer, mean, cov = _update(step, *predicted, x_t, observed_t)
            if _close(mean, before, cov, torch.finfo(dtype).eps):
                break
        rows.append((log_normalizer, *predicted, mean, cov))
    log_normalizers, *moments = (torch.stack(parts, dim=1) for parts in zip(*rows, strict=True))
    predicted_means, predicted_covs, filtered_means, filtered_covs = moments
    if transitions:
        matrix, noise = (torch.stack(parts, dim=1) for parts in zip(*transitions, strict=True))
    else:
        matrix = noise = cov.new_zeros(batch, 0, *cov.shape[1:])
    return Moments(log_normalizers, predicted_means, predicted_covs, filtered_means, filtered_covs, matrix, noise)


def _moved(step: Linear, by: Tensor) -> Linear:
    """The same linear law, written around another state, which differs from the present one by `by` (B, D)."""
    return step._replace(mean=step.mean + (step.matrix @ by[..., None])[..., 0])


def _close(mean: Tensor, before: Tensor, cov: Tensor, eps: float) -> bool:
    """Whether two means differ by no more than a thousand rounding errors `eps`."""
    spread = cov.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt() + before.abs()
    return bool(((mean - before).abs() <= 1000 * eps * spread).all())


def _update(step: Linear, mean: Tensor, cov: Tensor, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x_t | x_{1:t-1}) (B,) and the moments of p(z_t | x_{1:t}): Särkkä (2013), eq. (4.21), in Joseph's form.

    All are NaN where C P C' + R is not positive definite. A missing entry gets a zero row in C and unit variance, so
    that it changes nothing.
    """
    both = observed[..., None] & observed[..., None, :]
    C = step.matrix.where(observed[..., None], 0.0)
    unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    noise = step.cov.where(both, unit.where(~observed[..., None], 0.0))
    innovation = (x - step.mean).where(observed, 0.0)
    factor, failed = torch.linalg.cholesky_ex(_symmetric(C @ cov @ C.mT + noise))
    factor = factor.where((failed == 0)[:, None, None], torch.nan)
    gain = torch.cholesky_solve(C @ cov, factor).mT  # (B, D, M)
    whitened = torch.linalg.solve_triangular(factor, innovation[..., None], upper=False)[..., 0]
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_normalizer = -0.5 * (log_det + whitened.square().sum(-1) + LOG_2_PI * observed.sum(-1, dtype=x.dtype))
    rest = torch.eye(cov.shape[-1], dtype=x.dtype, device=x.device) - gain @ C
    new_cov = _symmetric(rest @ cov @ rest.mT + gain @ noise @ gain.mT)
    return log_normalizer, mean + (gain @ innovation[..., None])[..., 0], new_cov


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)
