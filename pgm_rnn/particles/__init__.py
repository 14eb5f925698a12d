"""One step of a particle filter: resample, propose, weigh.

    z_t^n ~ q(z_t | z_{t-1}^n, h_t^n),   alpha_t^n = p(z_t^n | z_{t-1}^n, h_t^n) p(x_t | z_t^n, h_t^n) / q(z_t^n | ...)
    p(x_t | x_{1:t-1}) ~ sum_n W_{t-1}^n alpha_t^n,        W_t^n proportional to W_{t-1}^n alpha_t^n

Ancestors are drawn by V, which is W, or W times what an auxiliary filter expects of x_t, or half W and half uniform
(soft resampling); a particle drawn by V continues with weight W / (N V). Sources: Choe, Shin & Spencer (2017),
sec. 2.3; Pitt & Shephard (1999) for the auxiliary filter; Karkus, Hsu & Lee (2018) for soft resampling; Ścibior & Wood
(2021) for the gradient of W / V.
"""

from pgm_rnn.particles.errors import DegenerateWeightsError
from pgm_rnn.particles.options import Lookahead, Options, Proposal
from pgm_rnn.particles.state import Particles, Proposed, Step
from pgm_rnn.particles.steps import init, move, start, step, weigh

__all__ = [
    "DegenerateWeightsError",
    "Lookahead",
    "Options",
    "Particles",
    "Proposal",
    "Proposed",
    "Step",
    "init",
    "move",
    "start",
    "step",
    "weigh",
]
