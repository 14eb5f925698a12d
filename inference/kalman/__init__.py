"""Inference in state-space models with Gaussian states: Kalman filter and smoother, exact or approximate.

    filter          p(z_t | x_{1:t}),  p(z_t | x_{1:t-1}),  log p(x_{1:T})
    smooth          p(z_t | x_{1:T}),  Cov(z_t, z_{t+1} | x_{1:T})           (Rauch, Tung & Striebel, 1965)
    sample_states   z_{1:T} ~ p(z_{1:T} | x_{1:T})
    predict         p(x_t | x_{1:t-1})
    forecast        p(z_{L+n}, x_{L+n} | x_{1:L})
    decompose       the level, the season and other components of a structural model given x_{1:T}

They take any model with `GaussianStates(D)` whose laws are normal; means and covariances are read from the laws.
Results are exact with `GaussianStates(D, linear=True)`, a `LinearGaussianSSM` for example. For other models, such as
`NoisyRNN`, method="extended", "unscented" or "iterated" replaces every transition and emission by a linear one
(`pgm_rnn.inference.kalman.linearisation`); the rest is the same. A missing observation is NaN, or has a mask that is
False; a NaN with a mask that is True is an error. Sources: Vidal (2024), "Extended Kalman Filters for RNNs"; Särkkä
(2013), sec. 4.3, 5.2, 5.6 and 8.2.
"""

from pgm_rnn.inference.kalman.components import Components, decompose
from pgm_rnn.inference.kalman.engine import (
    Filtered,
    Forecast,
    Predicted,
    Smoothed,
    filter,
    forecast,
    log_marginal_likelihood,
    predict,
    sample_states,
    smooth,
)
from pgm_rnn.inference.kalman.kinds import GaussianStateModel, LinearGaussianModel
from pgm_rnn.sequence_model.chains import CovarianceError

__all__ = [
    "Components",
    "CovarianceError",
    "Filtered",
    "Forecast",
    "GaussianStateModel",
    "LinearGaussianModel",
    "Predicted",
    "Smoothed",
    "decompose",
    "filter",
    "forecast",
    "log_marginal_likelihood",
    "predict",
    "sample_states",
    "smooth",
]
