"""Expectation-maximisation (EM) for models whose E and M steps are exact.

    E: expected statistics of the hidden states under p(z_{1:T} | x_{1:T})
    M: the parameters that make these statistics most likely

`climb` is the loop. `baum_welch` has the steps for finitely many states, `gaussian_em` those for the linear-Gaussian
state-space model, `columns` what `Joint` asks of its families, `student_t`,
`negative_binomial`, `zero_inflated`, `mixture`, `tied` and `concentrations` the M-steps of these laws.
"""

import pgm_rnn.inference.em.columns  # registers the estimates of `Joint`, and the next lines those of their families
import pgm_rnn.inference.em.concentrations
import pgm_rnn.inference.em.mixture
import pgm_rnn.inference.em.negative_binomial
import pgm_rnn.inference.em.student_t
import pgm_rnn.inference.em.tied
import pgm_rnn.inference.em.zero_inflated  # noqa: F401
from pgm_rnn.inference.em.climb import StoppedBy
from pgm_rnn.inference.em.engine import EmFit, Restarts, StartFrom, fit
from pgm_rnn.inference.em.remarks import EmWarning

__all__ = ["EmFit", "EmWarning", "Restarts", "StartFrom", "StoppedBy", "fit"]
