"""An experiment: cells that can run anywhere, a picture of their rows, and verdicts on the paper's sentences."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pgm_rnn.experiments.settings import NARROW, Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, int | float | str]
"""One line of an experiment's CSV: a number or a word for each column."""

Rows = Sequence[Row]

PAPER = "Choe, Shin & Spencer (2017)"


class Cell(NamedTuple):
    """A part of an experiment that is computed and stored as a unit.

    Attributes:
        kind: the kind of computation, a word that the experiment chooses.
        num_states: m.
        size: k, or M for a particle filter.
        replicates: numbers of the replicates.
    """

    kind: str
    num_states: int
    size: int
    replicates: tuple[int, ...]

    @property
    def name(self) -> str:
        """A name that is unique among the cells of an experiment and can be a file's name."""
        first, last = self.replicates[0], self.replicates[-1]
        return f"{self.kind}-m{self.num_states}-{self.size}-r{first}-{last}"


class Finding(NamedTuple):
    """The evidence for or against a sentence.

    Attributes:
        draws: whether the sentence holds, for each random hidden Markov model.
        reason: the relevant numbers, in a sentence or two.
    """

    draws: list[bool]
    reason: str


@dataclass(frozen=True)
class Sentence:
    """A sentence of the paper about its figures, or a question that it leaves open, and how the rows decide it.

    Attributes:
        place: place in the paper.
        quote: the paper's words.
        measured: the criterion that is measured in each draw; the whole question if it is one.
        find: function that computes the finding from the experiment's rows.
        question: whether this is an open question rather than a statement.
        by_definition: whether the sentence cannot fail; its finding is then computed with exact probabilities, never
            from drawn states, whose noise would judge the draw and not the sentence.
    """

    place: str
    quote: str
    measured: str
    find: Callable[[Rows], Finding]
    question: bool = False
    by_definition: bool = False

    @property
    def measure(self) -> str:
        """The criterion, as a sentence."""
        return f"Asked: {self.measured}" if self.question else f"Measured: {self.measured}."

    def judge(self, rows: Rows) -> "Verdict":
        """The verdict that the rows give."""
        finding = self.find(rows)
        if self.by_definition and finding.draws and all(finding.draws):
            return Verdict("true by definition", finding)
        return Verdict(verdict_of(finding.draws, question=self.question), finding)


class Verdict(NamedTuple):
    """The verdict on a sentence.

    Attributes:
        words: the result of `verdict_of`, or "true by definition".
        finding: the finding that they summarise.
    """

    words: str
    finding: Finding


def verdict_of(draws: Sequence[bool], *, question: bool = False) -> str:
    """The verdict in words: "reproduced", "reproduced in x of n draws" or "not reproduced".

    For a question it is "yes", "yes in x of n draws" or "no".

    Raises:
        ValueError: there are no draws.
    """
    if not draws:
        raise ValueError("expected rows that a verdict can be drawn from, got none")
    reached = sum(draws)
    yes, no = ("yes", "no") if question else ("reproduced", "not reproduced")
    if 0 < reached < len(draws):
        return f"{yes} in {reached} of {len(draws)} draws"
    return yes if reached else no


class Experiment(ABC):
    """One figure of the paper, or one of its open questions.

    Attributes:
        id: short name.
        title: one line on what is shown.
        source: paper and place.
        settings: sizes of a full run.
        quick: sizes of a run that takes seconds and shows that everything works.
        described: the procedure in a few sentences, for the page.
        sentences: sentences of the paper to judge.
    """

    id: str
    title: str
    source: str
    settings: Settings
    quick: Settings
    described: str
    sentences: tuple[Sentence, ...]

    def check(self, settings: Settings) -> None:  # noqa: B027
        """Check that the sentences can be judged with these sizes; by default all sizes are accepted.

        Raises:
            ValueError: they cannot; the message names the size at fault.
        """

    @abstractmethod
    def cells(self, settings: Settings) -> list[Cell]:
        """All cells, one group of replicates after the other, the slowest first."""

    @abstractmethod
    def run(self, settings: Settings, cell: Cell) -> list[Row]:
        """The rows of a cell, a function of the arguments alone; it is called on one thread with float64 as default."""

    @abstractmethod
    def draw(self, rows: Rows) -> "Figure":
        """The picture."""

    def procedure(self, settings: dict[str, Any]) -> str:
        """How the networks were trained, from a record's settings; readers of the page need it to judge the numbers."""
        return f"{self.trained(settings)}, {settings['num_test']} test sequences"

    def trained(self, settings: dict[str, Any]) -> str:
        """Updates and learning rates of the networks."""
        narrow = [k < NARROW for k in settings["hidden_dims"]]
        rates = settings["narrow_rates"] * any(narrow) + settings["learning_rates"] * (not all(narrow))
        return (
            f"{settings['num_updates']} updates of {settings['batch_size']} sequences, learning rate"
            f"{'s' * (len(rates) > 1)} {', '.join(map(str, sorted(rates)))}"
        )

    def order(self, rows: Iterable[Row]) -> list[Row]:
        """The rows in the order of the CSV: sorted by the columns in `keys`, whichever cell they come from."""
        return sorted(rows, key=lambda row: [row[key] for key in KEYS if key in row])


KEYS = ("method", "num_states", "size", "num_sequences", "replicate", "start")
"""Columns that identify a row; the others are measured."""
