"""Inference in state-space models with Gaussian states: Kalman filter and smoother, exact, extended or unscented.

    filter          p(z_t | x_{1:t}),  p(z_t | x_{1:t-1}),  log p(x_{1:T})
    smooth          p(z_t | x_{1:T}),  Cov(z_t, z_{t+1} | x_{1:T})           (Rauch, Tung & Striebel, 1965)
    sample_states   z_{1:T} ~ p(z_{1:T} | x_{1:T})
    forecast        p(z_{L+n}, x_{L+n} | x_{1:L})

Results are exact for a `LinearGaussianSSM`. For a `NoisyRNN`, method="extended" or "unscented" replaces every
transition and emission by a linear one (`pgm_rnn.inference.kalman.linearisation`); the rest is the same. A missing
observation is NaN, or has a mask that is False; a NaN with a mask that is True is an error. Sources: Vidal (2024),
"Extended Kalman Filters for RNNs"; Särkkä (2013), sec. 4.3, 5.2, 5.6 and 8.2.
"""

from pgm_rnn.inference.kalman.engine import (
    Filtered,
    Forecast,
    Smoothed,
    filter,
    forecast,
    log_marginal_likelihood,
    sample_states,
    smooth,
)
from pgm_rnn.inference.kalman.kinds import GaussianStateModel, LinearGaussianModel
from pgm_rnn.inference.kalman.problem import CovarianceError

__all__ = [
    "CovarianceError",
    "Filtered",
    "Forecast",
    "GaussianStateModel",
    "LinearGaussianModel",
    "Smoothed",
    "filter",
    "forecast",
    "log_marginal_likelihood",
    "sample_states",
    "smooth",
]
