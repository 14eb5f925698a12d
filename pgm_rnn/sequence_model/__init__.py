"""The interface of a sequence model: its conditional laws, and the methods that are derived from them."""

from pgm_rnn.sequence_model.ancestral import Forecast
from pgm_rnn.sequence_model.conditionals import First, memory_of
from pgm_rnn.sequence_model.mixins import (
    ClosedMStep,
    DensityAtOnce,
    DrawsGuide,
    GivesChain,
    ReadsAhead,
    SumsOutStates,
    UnrollsMemory,
)
from pgm_rnn.sequence_model.model import SequenceModel
from pgm_rnn.sequence_model.programs import Memory, Rendering
from pgm_rnn.sequence_model.segments import SemiMarkov
from pgm_rnn.sequence_model.sequence_law import SequenceLaw
from pgm_rnn.sequence_model.state_law import StateLaw

__all__ = [
    "ClosedMStep",
    "DensityAtOnce",
    "DrawsGuide",
    "First",
    "Forecast",
    "GivesChain",
    "Memory",
    "ReadsAhead",
    "Rendering",
    "SemiMarkov",
    "SequenceLaw",
    "SequenceModel",
    "StateLaw",
    "SumsOutStates",
    "UnrollsMemory",
    "memory_of",
]
