"""Sequential Monte Carlo: N particles for each sequence of a padded batch, and an unbiased estimate of p(x_{1:T}).

    p(z_t | x_{1:t}) ~ sum_n W_t^n delta(z_t^n),      log p(x_{1:T}) ~ sum_t log p(x_t | x_{1:t-1})

Before a step, the sequences whose effective sample size 1 / sum_n (W^n)^2 has fallen to `ess_threshold` N are resampled
(`pgm_rnn.inference.resampling`). The proposal is the model's guide if it has one, otherwise its transition (bootstrap
filter), or any function (guided filter); `lookahead` makes the filter auxiliary. `filter` runs over whole sequences;
`init` and `step` take one observation at a time (`pgm_rnn.particles`); `forecast` continues from the filter's end.

Sources: Choe, Shin & Spencer (2017), sec. 2.3 and 3.3; Vidal (2024); Pitt & Shephard (1999) for the auxiliary filter;
Maddison et al. (2017), sec. 3, for the bound on log p.
"""

from pgm_rnn.inference.smc.engine import Smoothed, filter, forecast, log_marginal_likelihood, smooth
from pgm_rnn.inference.smc.results import Filtered, History
from pgm_rnn.particles import DegenerateWeightsError, Options, Particles, Step, init, step

__all__ = [
    "DegenerateWeightsError",
    "Filtered",
    "History",
    "Options",
    "Particles",
    "Smoothed",
    "Step",
    "filter",
    "forecast",
    "init",
    "log_marginal_likelihood",
    "smooth",
    "step",
]
