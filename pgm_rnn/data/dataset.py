"""Data sets: up to three splits, or a single series, and the family of laws for one observation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.legend import Column, Legend
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


class Inputs(NamedTuple):
    """Exogenous inputs that a data set offers beside its observations.

    Attributes:
        names: the name of each of the U inputs.
        train: (num_train, T, U).
        valid: (num_valid, T, U), or None.
        test: (num_test, T, U), or None.
    """

    names: tuple[str, ...]
    train: Tensor
    valid: Tensor | None = None
    test: Tensor | None = None

    def chosen(self, names: Sequence[str]) -> "Inputs":
        """Those of these names, in this order."""
        places = [self.names.index(name) for name in names]
        parts = (None if part is None else part[..., places] for part in self[1:])
        return Inputs(tuple(names), *parts)  # type: ignore[arg-type]


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
        inputs: inputs that models may be given, none of which is in the splits before `with_inputs`; None if there are
            none.

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
    inputs: Inputs | None = None

    def with_inputs(self, names: Sequence[str]) -> "Dataset":
        """The same data with some of its inputs in every split, and their names in the legend.

        Args:
            names: names of inputs, in the order in which models get them.

        Raises:
            ValueError: no names, one that is not an input's or is there twice, or data without inputs.
        """
        if self.inputs is None:
            raise ValueError(
                f"expected no inputs of {self.name}, which has none, got {', '.join(names)}; leave them out"
            )
        for place, name in enumerate(names):
            check_choice("inputs", name, self.inputs.names)
            if name in names[:place]:
                raise ValueError(f"expected each input once, got {name!r} twice; leave one out")
        if not names:
            raise ValueError(f"expected names of inputs, some of {', '.join(self.inputs.names)}, got none")
        legend = Legend(self._columns(), tuple(names))
        chosen = self.inputs.chosen(names)
        splits = {
            split: None if data is None else data._replace(inputs=getattr(chosen, split), legend=legend)
            for split, data in (("train", self.train), ("valid", self.valid), ("test", self.test))
        }
        return replace(self, **splits)  # type: ignore[arg-type]

    def _columns(self) -> tuple[Column, ...]:
        """Names for the entries of an observation."""
        width = self.emission.event_shape.numel()
        return tuple(Column(self.name if width == 1 else f"{self.name} {n + 1}") for n in range(width))

    @property
    def is_series(self) -> bool:
        """Whether the data are one sequence without splits, so that scores of a model fitted to it are in-sample."""
        return len(self.train.lengths) == 1 and self.valid is None and self.test is None
