"""The registry of laws of labels; storage, the command line and the tests get them all from it."""

from collections.abc import Mapping

from pgm_rnn.models import bidirectional_rnn, tagger
from pgm_rnn.models.info import LabelInfo

LABEL_MODELS: Mapping[str, LabelInfo] = {info.name: info for info in (bidirectional_rnn.INFO, tagger.INFO)}
"""Every law of labels by its name."""
