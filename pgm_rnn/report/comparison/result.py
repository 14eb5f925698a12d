"""The result of a comparison: tables of models, a DataFrame, and what must be said beside the numbers."""

import io
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table

from pgm_rnn.report.comparison.ranking import Group, Standing
from pgm_rnn.report.number_tables import WIDTH, wrapped
from pgm_rnn.report.table_files import PARQUET, table_writers, write_table_file
from pgm_rnn.sequence_model.criteria import Criteria

FILES = (".csv", PARQUET)
"""Suffixes of the files that `Comparison.write` makes."""
AS_IT_IS = "the data as they are"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Result of `pgm_rnn.compare`.

    Attributes:
        groups: the models in groups of one kind of likelihood each; held-out scores first.
        criteria: number of free parameters, AIC and BIC by model; only of exact likelihoods on the data of the fit.
        remarks: sentences on what the numbers mean and what is not known.
        title: the data and the unit of the scores.
        interrupted: whether Ctrl-C ended the refits, so that only some folds or origins are scored.
    """

    groups: tuple[Group, ...]
    criteria: dict[str, Criteria]
    remarks: tuple[str, ...]
    title: str
    interrupted: bool = False

    @property
    def best(self) -> str:
        """The best model of the first group."""
        return self.groups[0].standings[0].model

    @property
    def advice(self) -> str:
        """One line on the first two models of the first group."""
        return self.groups[0].advice

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row per group and model, the best first.

        Columns: measure, likelihood, the attributes of `Standing`, num_steps, unit, num_free_parameters, aic, bic.
        """
        pandas: Any = import_module("pandas")  # a second to import, and used only here
        return pandas.DataFrame([_row(group, one, self.criteria) for group in self.groups for one in group.standings])

    def write(self, path: str | Path) -> None:
        """Write the table as a .csv or .parquet.

        Raises:
            ValueError: another suffix, a folder that cannot be written to, or a .parquet without pyarrow.
            OSError: the file cannot be written; an earlier one stays.
        """
        write_table_file(Path(path), table_writers(self.to_frame))

    def parts(self) -> Iterator[RenderableType]:
        """Tables and sentences for a terminal, at most 80 columns wide."""
        yield wrapped(self.title)
        for group in self.groups:
            yield ""
            yield wrapped(f"{group.measure}, {group.label}; ± over {group.unit}")
            yield _table(group, self.criteria)
            if group.advice:
                yield wrapped(group.advice)
        if self.remarks:
            yield ""
        yield from map(wrapped, self.remarks)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The parts."""
        yield from self.parts()

    def __str__(self) -> str:
        """The tables as plain text."""
        out = Console(file=io.StringIO(), width=WIDTH, highlight=False, markup=False, color_system=None)
        out.print(*self.parts(), sep="\n")
        written = out.file
        assert isinstance(written, io.StringIO)  # it was made here
        return "\n".join(line.rstrip() for line in written.getvalue().rstrip().splitlines())

    def __repr__(self) -> str:
        """The models of each group, the best first."""
        groups = [f"{group.label}: {' < '.join(one.model for one in group.standings)}" for group in self.groups]
        return f"Comparison({'; '.join(groups)})"


def _table(group: Group, criteria: dict[str, Criteria]) -> Table:
    """A table of one group; columns that have nothing to say are left out."""
    several = len(group.standings) > 1
    weighted = any(one.worst_k == one.worst_k or one.num_refits for one in group.standings)
    known = group.measure == AS_IT_IS and any(one.model in criteria for one in group.standings)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("model", overflow="fold")
    names = ["nats per step", "±", *(["behind", "±"] if several else []), *(["worst k"] if weighted else [])]
    for name in [*names, *(["parameters", "AIC", "BIC"] if known else [])]:
        table.add_column(name, justify="right", no_wrap=True)
    for one in group.standings:
        cells = [_three(one.nats_per_step), _three(one.standard_error)]
        cells += [_three(one.behind), _three(one.behind_error)] if several else []
        cells += [_shape(one)] if weighted else []
        found = criteria.get(one.model)
        cells += [] if not known else ["-"] * 3 if found is None else found.cells()
        table.add_row(one.model, *cells)
    return table


def _three(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.3f}"


def _shape(one: Standing) -> str:
    """The largest Pareto k, or that all terms were refitted."""
    return "refitted" if math.isnan(one.worst_k) else f"{one.worst_k:.2f}"


def _row(group: Group, one: Standing, criteria: dict[str, Criteria]) -> dict[str, Any]:
    found = criteria.get(one.model) if group.measure == AS_IT_IS else None
    numbers = dict.fromkeys(Criteria._fields) if found is None else found._asdict()
    about = {"measure": group.measure, "likelihood": group.label}
    more = {"num_steps": group.num_steps, "unit": group.unit}
    return about | asdict(one) | more | numbers
