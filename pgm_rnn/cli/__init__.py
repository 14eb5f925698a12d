"""The command line `pgm-rnn`."""

from pgm_rnn.cli.main import app, build_app, run

__all__ = ["app", "build_app", "run"]
