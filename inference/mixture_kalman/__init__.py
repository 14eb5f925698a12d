"""Inference in switching linear models: particles for the regimes, Kalman filters for the vectors given them.

    filter                     p(s_t | x_{1:t}), moments of p(y_t | x_{1:t}), and an unbiased estimate of p(x_{1:T})
    smooth                     the same given x_{1:T}, and paths of z = (s, y)
    forecast                   x_{L+n} | x_{1:L}
    log_marginal_likelihood    the estimate's logarithm, differentiable
    approximate                imm, gpb1 and gpb2: one normal law per regime, without randomness

They take any model with `SwitchingStates(K, D)` whose `initial` and `transition` return `RegimeNormal` laws and whose
means are linear in y; matrices are read from the laws and may depend on a memory and on inputs. `RegimeModel` is the
model with the vectors summed out, which all of `smc` and `svi` takes. Where the regimes read y, use `smc`.

Sources: Chen & Liu (2000); Doucet, Godsill & Andrieu (2000), sec. 4; Choe, Shin & Spencer (2017), sec. 3.3.
"""

from pgm_rnn.inference.mixture_kalman.engine import (
    approximate,
    filter,
    forecast,
    log_marginal_likelihood,
    smooth,
)
from pgm_rnn.inference.mixture_kalman.regime_model import RegimeModel
from pgm_rnn.inference.mixture_kalman.results import Collapsed, Filtered, Smoothed

__all__ = [
    "Collapsed",
    "Filtered",
    "RegimeModel",
    "Smoothed",
    "approximate",
    "filter",
    "forecast",
    "log_marginal_likelihood",
    "smooth",
]
