"""The interface: what a model says of itself, and what follows from it."""

from pgm_rnn.sequence_model.model import First, Forecast, Memory, Rendering, SequenceModel
from pgm_rnn.sequence_model.sequence_law import SequenceLaw
from pgm_rnn.sequence_model.state_law import StateLaw

__all__ = ["First", "Forecast", "Memory", "Rendering", "SequenceLaw", "SequenceModel", "StateLaw"]
