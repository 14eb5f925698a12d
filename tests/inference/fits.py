"""Small fits that tests of `svi` share."""

from typing import Any

import torch
from torch import Tensor

from pgm_rnn.emissions import Categorical
from pgm_rnn.inference import svi
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests.instances import ragged

SYMBOLS = Categorical(3)
LENGTHS = torch.tensor([5, 2, 4, 5, 1, 3])


def data(seed: int = 0) -> Sequences:
    return Sequences(ragged(SYMBOLS, LENGTHS, seed), LENGTHS)


def fit(model: SequenceModel, train: Sequences | None = None, **options: Any) -> svi.Fit:
    return svi.fit(model, train or data(), **({"num_epochs": 3, "batch_size": 4, "progress": False} | options))


def state(model: SequenceModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
