"""The command line `pgm-rnn`."""

from pgm_rnn.cli.main import app, run

__all__ = ["app", "run"]
