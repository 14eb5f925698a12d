"""Pictures of data, results and models. Each function draws on the caller's axes or a new figure, and returns its axes.

states        a series with bands of its latent states
beliefs       filtered or smoothed laws of the states over time
particles     the cloud of a particle filter with its ancestry, and the effective sample size
forecast      the end of each series, and intervals of what comes
graph         a model's directed graph, read from its Pyro program
trace         draws of parameters by chain
rolls         observed sequences of bits beside drawn ones
residuals     one-step residuals, their autocorrelation, and PIT values
convergence   a fit's record, with its restarts
compare       scores of models, with the errors of their differences

Names, units, ids and times are those of the data's legend. Legends stand beside the data.
"""

from pgm_rnn.plot.beliefs import beliefs
from pgm_rnn.plot.compare import compare
from pgm_rnn.plot.convergence import convergence
from pgm_rnn.plot.forecast import forecast
from pgm_rnn.plot.graph import graph
from pgm_rnn.plot.particles import particles
from pgm_rnn.plot.residuals import residuals
from pgm_rnn.plot.rolls import rolls
from pgm_rnn.plot.states import states
from pgm_rnn.plot.trace import trace

__all__ = [
    "beliefs",
    "compare",
    "convergence",
    "forecast",
    "graph",
    "particles",
    "residuals",
    "rolls",
    "states",
    "trace",
]
