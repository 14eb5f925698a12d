"""What a data set is: up to three splits, and the law that fits one observation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgm_rnn.emissions import Emission
from pgm_rnn.sequences import Sequences

if TYPE_CHECKING:
    from pgm_rnn.models.hmm import HMM


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
