"""Data sets: up to three splits, or a single series, and the family of laws for one observation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.sequences import Sequences

if TYPE_CHECKING:
    from pgm_rnn.models.hmm import HMM


class Labels(NamedTuple):
    """One label per sequence: y for a law of labels with task="classification".

    Attributes:
        family: the family of a label, `Categorical(number of labels)`.
        train: (num_train,), int64.
        valid: (num_valid,), or None.
        test: (num_test,), or None.
    """

    family: Categorical
    train: Tensor
    valid: Tensor | None = None
    test: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training set and, if they exist, a validation set and a test set.

    Attributes:
        name: its name for `pgm_rnn.data.load`.
        description: a description of one sequence, one step and one entry.
        emission: the family of laws for one observation; `emission.event_shape` is the shape of x_t.
        train: padded batch, x (num_train, T, *event).
        valid: the same for the validation split, with its own T, or None.
        test: the same for the test split, or None.
        vocabulary: character number k of a text is `vocabulary[k]`; None if the data are not text.
        model: the model that the data were drawn from; None if it is unknown.
        labels: the labels of the sequences; None if there are none.

    Example:
        >>> from pgm_rnn.data import load
        >>> data = load("synthetic-hmm", seed=0)
        >>> data.train.x.shape, data.train.z.shape, data.emission
        (torch.Size([20000, 8]), torch.Size([20000, 8]), Categorical(num_symbols=3))
    """

    name: str
    description: str
    emission: Emission
    train: Sequences
    valid: Sequences | None = None
    test: Sequences | None = None
    vocabulary: str | None = None
    model: "HMM | None" = None
    labels: Labels | None = None

    @property
    def is_series(self) -> bool:
        """Whether the data are one sequence without splits, so that scores of a model fitted to it are in-sample."""
        return len(self.train.lengths) == 1 and self.valid is None and self.test is None
