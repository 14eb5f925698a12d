"""What an experiment is: cells that run anywhere, a picture of their rows, and verdicts on the paper's sentences."""

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
    """A part of an experiment that is computed as one and kept as one.

    Attributes:
        kind: what is computed, a word of the experiment's.
        num_states: m.
        size: k, or M for a particle filter.
        replicates: their numbers.
    """

    kind: str
    num_states: int
    size: int
    replicates: tuple[int, ...]

    @property
    def name(self) -> str:
        """Unique among the cells of an experiment, and fit for a file's name."""
        first, last = self.replicates[0], self.replicates[-1]
        return f"{self.kind}-m{self.num_states}-{self.size}-r{first}-{last}"


class Finding(NamedTuple):
    """What the numbers say of a sentence.

    Attributes:
        draws: whether it is so, for each random hidden Markov model.
        reason: numbers that say why, a sentence or two.
    """

    draws: list[bool]
    reason: str


@dataclass(frozen=True)
class Sentence:
    """A sentence of the paper about its figures, or a question that it leaves open, and how the rows decide it.

    Attributes:
        place: where it stands, without the paper.
        quote: the paper's words.
        measured: what is looked at in each draw; a whole question where it is one.
        find: the finding, from the experiment's rows.
        question: whether the paper asks instead of saying so.
    """

    place: str
    quote: str
    measured: str
    find: Callable[[Rows], Finding]
    question: bool = False

    @property
    def measure(self) -> str:
        """What is looked at, as a sentence."""
        return f"Asked: {self.measured}" if self.question else f"Measured: {self.measured}."

    def judge(self, rows: Rows) -> "Verdict":
        """What the rows say of it."""
        finding = self.find(rows)
        return Verdict(verdict_of(finding.draws, question=self.question), finding)


class Verdict(NamedTuple):
    """What is said of a sentence.

    Attributes:
        words: those of `verdict_of`.
        finding: that they sum up.
    """

    words: str
    finding: Finding


def verdict_of(draws: Sequence[bool], *, question: bool = False) -> str:
    """The words for how many draws bear a sentence out: "reproduced", "reproduced in x of n draws", "not reproduced".

    Those for a question are "yes", "yes in x of n draws" and "no".

    Raises:
        ValueError: no draws.
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
        title: what is shown, a line.
        source: paper and place.
        settings: sizes of a full run.
        quick: sizes of a run of seconds, which shows that everything works.
        described: what is done, for the page, in a few sentences.
        sentences: of the paper, with their verdicts.
    """

    id: str
    title: str
    source: str
    settings: Settings
    quick: Settings
    described: str
    sentences: tuple[Sentence, ...]

    def check(self, settings: Settings) -> None:  # noqa: B027
        """Raise a ValueError that says which sizes the sentences cannot be judged on; every size will do by default."""

    @abstractmethod
    def cells(self, settings: Settings) -> list[Cell]:
        """Every cell, one group of replicates after the other; those that take longest first."""

    @abstractmethod
    def run(self, settings: Settings, cell: Cell) -> list[Row]:
        """A cell's rows, a function of its arguments alone; called on one thread with float64 as the default."""

    @abstractmethod
    def draw(self, rows: Rows) -> "Figure":
        """The picture."""

    def procedure(self, settings: dict[str, Any]) -> str:
        """How networks were trained, from a record's settings, for the page: what a reader needs to judge numbers."""
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
        """Rows as the CSV has them: by the columns in `keys`, whatever cell they come from."""
        return sorted(rows, key=lambda row: [row[key] for key in KEYS if key in row])


KEYS = ("method", "num_states", "size", "num_sequences", "replicate", "start")
"""Columns that say what a row is about; the others are measured."""
