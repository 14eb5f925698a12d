"""The engines: each is a module of functions, written once against `pgm_rnn.sequence_model.SequenceModel`."""

ENGINES = ("em", "forward_backward", "kalman", "mcmc", "pmmh", "smc", "svi")
"""Names of the engines, each a module of this package; contract tests walk them."""
