"""The one list of the laws of labels; storage, the command line and the contract tests walk it."""

from pgm_rnn.models import bidirectional_rnn, tagger
from pgm_rnn.models.bidirectional_rnn import BidirectionalRNN
from pgm_rnn.models.tagger import Tagger

LabelLaw = type[BidirectionalRNN] | type[Tagger]
LABEL_MODELS: dict[str, LabelLaw] = {bidirectional_rnn.NAME: BidirectionalRNN, tagger.NAME: Tagger}
"""Makers, called with sizes, `inputs`, `labels` and `task` by keyword, by name."""
