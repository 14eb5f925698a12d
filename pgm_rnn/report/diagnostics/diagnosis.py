"""The result of `pgm_rnn.diagnose`: sections of numbers, words on what to do, and residuals step by step."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.report import figures
from pgm_rnn.report.canvas import FILE, Canvas
from pgm_rnn.report.diagnostics.one_step import OneStep
from pgm_rnn.report.diagnostics.residuals import normal_scores
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.number_tables import WIDTH, wrapped
from pgm_rnn.report.places import Values, frame_of, key_columns, places_of
from pgm_rnn.report.table_files import PARQUET, Writer, table_writers, write_table_file
from pgm_rnn.sequences import Sequences

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

STEPS_FILES = (".csv", PARQUET)
"""Suffixes of the files that `Diagnosis.write_steps` makes."""
DIAGNOSIS_FILES = (*STEPS_FILES, *figures.SUFFIXES)
"""Suffixes of the files that `Diagnosis.write` makes."""


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """The diagnosis of a model on data.

    Attributes:
        title: the model in one line.
        sections: the checks that apply to the model.
        left_out: a sentence on each check that could not be made.
        data: the data, checked.
        names: the names of the variables.
        one_step: the one-step laws at what was observed; None where they have no distribution function.
        pit: PIT values u_t, (B, T, M), NaN where there is no observation; None likewise.
    """

    title: str
    sections: tuple[Section, ...]
    left_out: tuple[str, ...]
    data: Sequences
    names: tuple[str, ...]
    one_step: OneStep | None = None
    pit: Tensor | None = None

    def __repr__(self) -> str:
        """The names of the sections and the number of findings."""
        names = ", ".join(section.name for section in self.sections)
        return f"Diagnosis({names}; {len(self.findings)} finding{'s' * (len(self.findings) != 1)})"

    def __str__(self) -> str:
        """All sections as text of at most 80 columns."""
        text = io.StringIO()
        console = Console(file=text, width=WIDTH, highlight=False, markup=False, soft_wrap=True)
        for part in self.parts():
            console.print(part)
        return text.getvalue().rstrip("\n")

    @property
    def findings(self) -> tuple[str, ...]:
        """A sentence on each fault that was found, with what to do."""
        return tuple(sentence for section in self.sections for sentence in section.findings)

    @property
    def what_to_do(self) -> tuple[str, ...]:
        """The findings, or one sentence that says that there are none, and where they were looked for."""
        if self.findings:
            return self.findings
        *most, last = (section.looked_at for section in self.sections)
        looked_at = f"{', '.join(most)} and {last}" if most else last
        return (f"Nothing was found. Looked at: {looked_at}.",)

    def parts(self) -> Iterator[RenderableType]:
        """The parts of a diagnosis for a terminal."""
        yield wrapped(self.title)
        for section in self.sections:
            yield ""
            yield from section.parts()
        if self.left_out:
            yield ""
        yield from map(wrapped, self.left_out)
        yield ""
        yield "What to do"
        for sentence in self.what_to_do:
            yield wrapped(f"- {sentence}" if self.findings else sentence)

    def section(self, name: str) -> Section:
        """The section of this name.

        Raises:
            ValueError: a name that the diagnosis does not have.
        """
        sections = {section.name: section for section in self.sections}
        check_choice("the section", name, sections)
        return sections[name]

    def to_frame(self, name: str | None = None) -> "pandas.DataFrame":
        """The table of a section; without a name, all as one: section, row, column, value, standard_error, text.

        The rows of the section "what_to_do" have a sentence as their text, and no value.

        Raises:
            ValueError: a name that the diagnosis does not have.
        """
        import pandas

        if name is not None:
            table = self.section(name).table
            index = pandas.Index(table.rows, name=table.corner)
            return pandas.DataFrame(list(table.values), index=index, columns=list(table.columns))
        nan = float("nan")
        entries = [(*entry, "") for section in self.sections for entry in section.table.entries()]
        sentences = [*self.what_to_do, *self.left_out]
        entries += [("what_to_do", str(row), "sentence", nan, nan, text) for row, text in enumerate(sentences, 1)]
        return pandas.DataFrame(entries, columns=["section", "row", "column", "value", "standard_error", "text"])

    def steps(self) -> "pandas.DataFrame":
        """One row per step with its id and time: residuals, PIT values and normal scores; ESS and k of the particles.

        The columns of a variable are residual_NAME, pit_NAME and score_NAME; "ess" and "pareto_k" are there if a
        particle filter ran.

        Raises:
            ValueError: a model whose one-step laws have no distribution function.
        """
        if self.one_step is None or self.pit is None:
            raise ValueError(f"expected one-step laws, got none; {'; '.join(self.left_out)}")
        parts = {"residual": self.one_step.residuals, "pit": self.pit, "score": normal_scores(self.pit)}
        places, columns = places_of(self.data.lengths, self.data.legend), dict[str, Values]()
        for m, variable in enumerate(self.names):
            columns |= {f"{what}_{variable}": places.of(values[..., m]) for what, values in parts.items()}
        if self.one_step.filtering is not None:
            columns |= {"ess": places.of(self.one_step.filtering.ess)}
            columns |= {"pareto_k": places.of(self.one_step.filtering.pareto_k)}
        frame: pandas.DataFrame = frame_of(key_columns(places, self.data.legend, len(self.data.lengths)), columns)
        return frame

    def write(self, path: str | Path) -> None:
        """Write all sections as one table, `to_frame()` (.csv, .parquet), or a picture of the residuals (.png, .svg).

        Raises:
            ValueError: another suffix, a folder that cannot be written to, a .parquet without pyarrow, or a picture
                of a model whose one-step laws have no distribution function.
            OSError: the file cannot be written; an earlier one stays.
        """
        pictures: dict[str, Writer] = {suffix: partial(self._picture, suffix) for suffix in figures.SUFFIXES}
        write_table_file(Path(path), table_writers(self.to_frame) | pictures)

    def write_steps(self, path: str | Path) -> None:
        """Write the table of `steps()`: .csv or .parquet.

        Raises:
            ValueError: as `write` and `steps`.
            OSError: the file cannot be written; an earlier one stays.
        """
        write_table_file(Path(path), table_writers(self.steps))

    def draw(self, canvas: Canvas = FILE) -> "list[Axes]":
        """The normal scores of all variables: their course, autocorrelation and PIT values; `pgm_rnn.plot.residuals`.

        Raises:
            ValueError: a model whose one-step laws have no distribution function, or fewer than three observations.
        """
        from pgm_rnn.report.residual_pictures import of_residuals

        if self.pit is None:
            raise ValueError(f"expected a diagnosis with PIT values, got one without; {'; '.join(self.left_out)}")
        levels = self.pit.movedim(-1, 1).flatten(0, 1)  # (B * M, T)
        scores = normal_scores(levels).cpu().numpy()
        return of_residuals(scores, levels.cpu().numpy(), canvas, self.pit.shape[-1])

    def _picture(self, suffix: str) -> bytes:
        figure: Any = self.draw()[0].figure
        return figures.rendered(figure, suffix)
