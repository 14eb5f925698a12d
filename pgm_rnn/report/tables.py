"""Files of the user's as a command reads them: which columns, of which kinds, and the family that observes them.

A fit keeps the legend of its data in its record, so that later commands read other files in the same way: the same
columns, kinds and vocabularies, ids and times by the same names.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.data.reading import read_sequences
from pgm_rnn.data.roles import ReadingWarning
from pgm_rnn.data.source import DataError
from pgm_rnn.data.written import UNITS_OF_TEXT
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Joint, Mixture, Poisson
from pgm_rnn.emissions.registry import FAMILIES
from pgm_rnn.legend import KINDS, Column, Kind, Legend
from pgm_rnn.registries import Registries
from pgm_rnn.report.notes import noted
from pgm_rnn.sequences import Sequences, length_mask, over_events


@dataclass(frozen=True)
class Reading:
    """How a file is read: what the user says of it, or what an earlier fit keeps.

    Attributes:
        sequence: the column of ids, or None.
        time: the column of times, or None.
        columns: the observed columns; empty for all.
        kinds: kinds by column, or one for all under the name "".
        words: vocabularies by column, or that of the only column.
        units: units by column.
        inputs: the columns of inputs.
    """

    sequence: str | None = None
    time: str | None = None
    columns: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, Sequence[str]] | Sequence[str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()

    @property
    def legend(self) -> Legend:
        """The words for the columns."""
        kinds: Any = self.kinds
        words = self.words if isinstance(self.words, Mapping) else dict.fromkeys(self.columns[:1], self.words)
        of = [(kinds.get(name, "real"), self.units.get(name), tuple(words.get(name, ()))) for name in self.columns]
        return Legend(tuple(Column(name, *more) for name, more in zip(self.columns, of, strict=True)), self.inputs)


class Found(NamedTuple):
    """The sequences in a file, with a sentence on each thing that was not obvious."""

    data: Sequences
    notes: tuple[str, ...]


def kinds_of(options: Sequence[str]) -> dict[str, str]:
    """Kinds by column from values of `--kind`, KIND or COLUMN=KIND; one without a column is for all, under "".

    Of a text, the kind may be "character" or "word".

    Raises:
        ValueError: an unknown kind, or two for one column.
    """
    found: dict[str, str] = {}
    for option in options:
        column, _, kind = option.rpartition("=")
        if column or kind not in UNITS_OF_TEXT:
            check_choice("--kind", kind, KINDS)
        if column in found or (found and "" in (column, *found)):
            raise ValueError(f"expected one --kind for all columns, or one for each, got {', '.join(options)}")
        found[column] = kind
    return found


def read(path: Path, reading: Reading, kind: Kind | None = None) -> Found:
    """The sequences in a file, in double precision; `kind` is that of all columns where an emission asks for it.

    Raises:
        DataError: a file that cannot be read, or cells, rows or columns that do not fit.
        ValueError: an unknown column or kind, or kinds beside an emission of another one.
    """
    kinds: Any = reading.kinds.get("", dict(reading.kinds) or None)
    if kind is not None:
        if kinds is not None and set(reading.kinds.values()) != {kind}:
            got = ", ".join(sorted(set(reading.kinds.values())))
            raise ValueError(f"expected --kind {kind} for this --emission, got {got}; leave one of them out")
        kinds = kind
    before = torch.get_default_dtype()
    with noted(ReadingWarning) as said, at_command_line():
        torch.set_default_dtype(torch.float64)
        try:
            data = read_sequences(
                path,
                reading.sequence,
                reading.time,
                list(reading.columns) or None,
                kinds,
                inputs=list(reading.inputs) or None,
                units=reading.units or None,
                words=reading.words or None,
            )
        finally:
            torch.set_default_dtype(before)
    return Found(data, tuple(map(_by_options, said)))


@contextmanager
def at_command_line() -> Iterator[None]:
    """A block whose errors name the options of the command line in place of arguments.

    Raises:
        DataError, ValueError: what the block raises.
    """
    try:
        yield
    except DataError as error:
        raise DataError(_by_options(str(error))) from None
    except ValueError as error:
        raise ValueError(_by_options(str(error))) from None


_OPTIONS = (
    (r"kind=\{'([^']*)': '(\w+)'\}", r"--kind \1=\2"),
    (r"columns=\[\.\.\.\]", "--column"),
    (r"\b(sequence|time)='([^']*)'", r"--\1 \2"),
    (r"\b(sequence|time)=\.\.\.", r"--\1"),
    (r"expected columns to be", "expected --column to be"),
    (r"expected inputs to be", "expected --input to be"),
    (r"expected (sequence|time) to be", r"expected --\1 to be"),
)


def _by_options(text: str) -> str:
    for pattern, option in _OPTIONS:
        text = re.sub(pattern, option, text)
    return text


def family_of(legend: Legend) -> Emission:
    """The family of observations with these columns: one family where all are of a kind, else a `Joint`."""
    kinds = [column.kind for column in legend.columns]
    if len(kinds) == 1 and kinds != ["real"]:
        return _of_column(legend.columns[0])
    if set(kinds) == {"real"}:
        return Gaussian(len(kinds))
    if set(kinds) == {"binary"}:
        return Bernoulli(len(kinds))
    return Joint([_of_column(column) for column in legend.columns])


def _of_column(column: Column) -> Emission:
    if column.kind == "symbol":
        return Categorical(max(2, len(column.words)))
    return {"count": Poisson(), "binary": Bernoulli(), "real": Gaussian()}[column.kind]


def observed_by(data: Sequences, emission: str, registries: Registries, path: Path) -> tuple[Emission, Sequences]:
    """The family called `emission` for these numbers, and the numbers in its shape: scalars of a single column.

    Raises:
        ValueError: numbers that it does not take.
    """
    name, number = named_family(emission)
    info = registries.families[name]
    x = data.x if data.observed is None else data.x.where(over_events(data.observed, data.x), 0)
    x = (x[..., 0] if x.dim() == 3 and x.shape[-1] == 1 else x).double()
    assert info.of_numbers is not None  # `check_source` saw to it
    family = info.of_numbers(x) if number is None else info.of_components(x, number)  # type: ignore[misc]
    return family, shaped(data, family, path)


def named_family(emission: str) -> tuple[str, int | None]:
    """The name of a family and its number of components, from "gaussian-mixture:3"; None where no number is given."""
    name, colon, number = emission.partition(":")
    return name, int(number) if colon and number.isdecimal() else None


def check_emission(emission: str, registries: Registries) -> None:
    """Check that a family of this name can be chosen for a file, with as many components.

    Raises:
        ValueError: no such family, or a number of components that it does not take.
    """
    name, number = named_family(emission)
    offered = {name: info for name, info in registries.families.items() if info.of_numbers is not None}
    check_choice("--emission", name, offered)
    if ":" in emission and (number is None or number < 1 or offered[name].of_components is None):
        mixtures = ", ".join(f"{name}:3" for name, info in offered.items() if info.of_components is not None)
        raise ValueError(f"expected a number of components only for a mixture, such as {mixtures}, got {emission!r}")


def kind_of(family: Emission) -> Kind | None:
    """The kind of all columns that a family observes; None for a `Joint`, whose columns differ."""
    if isinstance(family, Joint):
        return None
    if isinstance(family, Mixture):
        return kind_of(family.family)
    return next((info.kind for info in FAMILIES.values() if type(family) is info.family), "real")


def shaped(data: Sequences, family: Emission, path: Path) -> Sequences:
    """Numbers of a file as observations (batch, T, *event) of a family.

    Raises:
        ValueError: another number of columns.
    """
    shape, batch = family.event_shape, data.x.shape[:2]
    width, given = max(1, shape.numel()), data.x.shape[2:].numel()
    if given != width:
        raise ValueError(
            f"expected {width} variable{'s' * (width > 1)} for a model of {family}, got {given} in {path}; "
            "choose with --column"
        )
    x, observed = data.x.reshape(*batch, *shape), data.observed
    if observed is not None and observed.dim() > 2:
        observed = observed.reshape(x.shape)
    if family.needs_integers:
        x = x.long() if observed is None else x.where(over_events(observed, x), 0).long()
    return data._replace(x=x, observed=observed)


def described(data: Sequences) -> str:
    """The contents of a file, in one line."""
    few, many = int(data.lengths.min()), int(data.lengths.max())
    steps = f"{many} steps" if few == many else f"{few} to {many} steps"
    names = [] if data.legend is None else [column.name for column in data.legend.columns]
    variables = f"{len(names)} variables" if len(names) > 1 else "1 variable"
    missing = 0
    if data.observed is not None:
        inside = length_mask(data.lengths, data.x.shape[1])
        missing = int((~data.observed & over_events(inside, data.observed)).sum())
    holds = f"{len(data.lengths)} series of {steps}" if len(data.lengths) > 1 else steps
    times = "" if data.legend is None or data.legend.time is None else f", times in {data.legend.time}"
    inputs = [] if data.legend is None else [*data.legend.inputs]
    driven = f", driven by {', '.join(inputs[:6])}{', ...' if len(inputs) > 6 else ''}" if inputs else ""
    return f"{holds}, {variables}{_listed(names)}{driven}{times}" + (f", {missing} numbers missing" if missing else "")


def _listed(names: Sequence[str]) -> str:
    if all(name.isdecimal() for name in names):
        return ""
    return f" ({', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"


def as_record(legend: Legend) -> dict[str, Any]:
    """What a fit keeps of a legend, for JSON."""
    columns = [column._asdict() | {"words": list(column.words)} for column in legend.columns]
    driven = {"inputs": list(legend.inputs)} if legend.inputs else {}
    return {"columns": columns, **driven, "sequence": legend.sequence, "time": legend.time}


def reading_of(info: Mapping[str, Any]) -> Reading | None:
    """How an earlier fit read its file, from its record; of older fits only the columns are known, or nothing."""
    kept, file = _from_record(info.get("legend")), info.get("file")
    if kept is not None:
        return kept
    columns = file.get("columns") if isinstance(file, dict) else None
    names = tuple(name for name in columns if isinstance(name, str)) if isinstance(columns, list) else ()
    return Reading(columns=names) if names else None


def _from_record(record: object) -> Reading | None:
    """The reading in the record of a legend; None for another form."""
    columns = record.get("columns") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(columns, list) or not all(isinstance(c, dict) for c in columns):
        return None
    names = tuple(str(column.get("name")) for column in columns)
    kinds = {name: column["kind"] for name, column in zip(names, columns, strict=True) if column.get("kind") in KINDS}
    words = {name: tuple(map(str, c["words"])) for name, c in zip(names, columns, strict=True) if c.get("words")}
    units = {name: str(c["unit"]) for name, c in zip(names, columns, strict=True) if c.get("unit")}
    roles = [record.get(role) for role in ("sequence", "time")]
    sequence, time = (value if isinstance(value, str) else None for value in roles)
    inputs = record.get("inputs")
    driven = tuple(name for name in inputs if isinstance(name, str)) if isinstance(inputs, list) else ()
    return Reading(sequence, time, names, kinds, words, units, driven)


def steps_of(data: Sequences, part: slice) -> Sequences:
    """Some steps of a single sequence."""

    def cut(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[:, part]

    x = data.x[:, part]
    legend = None if data.legend is None else data.legend.steps(part)
    return Sequences(x, torch.tensor([x.shape[1]]), None, cut(data.inputs), cut(data.observed), legend)
