"""The registry of laws of labels; storage, the command line and the contract tests get them all from it."""

from pgm_rnn.models import bidirectional_rnn, tagger
from pgm_rnn.models.bidirectional_rnn import BidirectionalRNN
from pgm_rnn.models.tagger import Tagger

LabelLaw = type[BidirectionalRNN] | type[Tagger]
LABEL_MODELS: dict[str, LabelLaw] = {bidirectional_rnn.NAME: BidirectionalRNN, tagger.NAME: Tagger}
"""Makers by name; they are called with sizes, `inputs`, `labels` and `task` as keywords."""
