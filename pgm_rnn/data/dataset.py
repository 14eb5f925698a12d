"""What a data set is: up to three splits, and the law that fits one observation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.sequences import Sequences

if TYPE_CHECKING:
    from pgm_rnn.models.hmm import HMM


class Labels(NamedTuple):
    """What each whole sequence is, to classify it: y for a law of labels with task="classification".

    Attributes:
        family: of one label, `Categorical(number of labels)`.
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
    """Sequences to train on, to choose with and to report on.

    Attributes:
        name: the name that `pgm_rnn.data.load` knows.
        description: what one sequence, one step and one entry are.
        emission: the family of laws for one observation; `emission.event_shape` is the shape of x_t.
        train: padded batch, x (num_train, T, *event).
        valid: the same for the validation split, with its own T, or None.
        test: the same for the test split, or None.
        vocabulary: character number k of a text is `vocabulary[k]`; None if the data are not text.
        model: the model that the data were drawn from; None if nobody knows it.
        labels: what each sequence is; None if nobody says.

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
