"""Structured mean field for several chains: a bound on the likelihood where the values are too many to sum over.

    q(z) = prod_m q_m(z_{1:T}^m),   log p(x_{1:T}) >= E_q[log p(x, z) - log q(z)]

Each q_m is a Markov chain, so that only the dependence between chains is given up: Ghahramani & Jordan (1997), sec.
3.5 and appendix C.
"""

from pgm_rnn.inference.mean_field.engine import MeanField, MeanFieldFit, fit, smooth

__all__ = ["MeanField", "MeanFieldFit", "fit", "smooth"]
