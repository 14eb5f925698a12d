"""The steps around every `pgm-rnn fit`: checks before the fit, messages about it, and its results on disk."""

import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich import box
from rich.table import Table

from pgm_rnn.checks import check_choice
from pgm_rnn.data import Dataset
from pgm_rnn.data.reading import read_names
from pgm_rnn.emissions import Emission
from pgm_rnn.registries import OWN, Registries
from pgm_rnn.report.keeping import check_place, saved_somewhere
from pgm_rnn.report.material import FileOptions, Material, Score, check_source, from_file, named
from pgm_rnn.report.records import check_output, finite, write_json
from pgm_rnn.report.stored_fits import digest_of, digest_of_file
from pgm_rnn.report.tables import as_record
from pgm_rnn.report.terminal import console
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.label_model import LabelModel
from pgm_rnn.storage.own_class import arguments_of
from pgm_rnn.version import __version__


@dataclass(frozen=True)
class Job:
    """The options that all fits share.

    Attributes:
        source: name of a data set, or path of a file.
        seed: random seed for synthetic data and for the fit.
        output: folder in which the model is saved; None for fits/MODEL-DATA-SIZE.
        json: file for the results, or None.
        file: how to read and split a file.
        overwrite: whether an earlier fit in the folder may be replaced.
        registries: the models, emission families and data sets.
    """

    source: str
    seed: int = 0
    output: Path | None = None
    json: Path | None = None
    file: FileOptions = field(default_factory=FileOptions)
    overwrite: bool = False
    registries: Registries = OWN

    @property
    def path(self) -> Path:
        """The source as a path."""
        return Path(self.source)


class Outcome(NamedTuple):
    """The outcome of a fit.

    Attributes:
        model: the fitted `SequenceModel` or label model.
        stopped_by: "tolerance", "num_iterations", "num_epochs", "patience", "interrupt", "error" or
            "the end of the data".
        num_rounds: number of iterations or epochs, None if an error lost the count.
        unit: "iteration" or "epoch".
        seconds: wall-clock time without the compilation of kernels.
        remark: a further remark for the user.
        options: options of the fit.
        half: whether the parameters were rounded to half precision and are stored so.
    """

    model: Any
    stopped_by: str
    num_rounds: int | None
    unit: str
    seconds: float
    remark: str
    options: Mapping[str, object]
    half: bool = False


def check_job(job: Job, model: str, size: int | str, resumed: Path | None = None) -> Path:
    """The folder to save in. All that could prevent saving is checked now, before the fit.

    Args:
        job: the fit's job.
        model: name of the model.
        size: the last part of the default folder's name.
        resumed: checkpoint folder from which the fit is resumed; the fit may replace what that same run saved.

    Raises:
        ValueError: the source is missing, options do not apply to it, results could not be written, or an earlier fit
            is in their place.
    """
    check_source(job.source, job.file, job.registries)
    if job.json is not None:
        check_output(job.json)
    folder = job.output or Path("fits") / f"{model}-{job.path.stem}-{size}"
    try:
        check_place(folder, overwrite=job.overwrite, resumed=resumed)
    except ValueError:
        _check_column(job, "--sequence", job.file.sequence)  # else a second run would be needed to hear of it
        _check_column(job, "--time", job.file.time)
        raise
    return folder


def _check_column(job: Job, option: str, name: str | None) -> None:
    """Raise if an option names a column that the job's file does not have."""
    names = () if name is None or job.source in job.registries.datasets else read_names(job.path)
    if name is not None and names:
        check_choice(option, name, names)


def material_of(job: Job, defaults: FileOptions, of: Emission | None = None) -> Material:
    """The data that the job names; `defaults` replace file options that the job leaves open.

    The numbers of a file are observations of the family `of`, or by default of the one that the options name.
    """
    if job.source in job.registries.datasets:
        return named(job.source, job.seed, job.registries, job.file.inputs)
    given = {name: value for name, value in job.file._asdict().items() if value not in (None, ())}
    return from_file(job.path, defaults._replace(**given), job.registries, of)


def announce(job: Job, material: Material | Dataset, title: str, hint: str = "") -> None:
    """Print which model is about to be fitted to which data."""
    out = console()
    out.print(f"{job.source}: {material.description}")
    for note in material.notes if isinstance(material, Material) else ():
        out.print(note)
    out.print(f"{title}, seed {job.seed}, {counted(torch.get_num_threads(), 'thread')}")
    if hint:
        out.print(hint)


def finish(
    job: Job, folder: Path, material: Material, outcome: Outcome, also: Mapping[str, object] | None = None
) -> None:
    """Score the model, print the scores, save the model and write the results, with what is to be recorded also.

    Raises:
        OSError: the model or the results cannot be written.
    """
    say_how_it_ended(outcome)
    unscored = record_of(job, material.description, outcome, [], material.file)
    unscored |= {"data_digest": digest_of(material), "half": outcome.half, **(also or {})}
    unscored |= {} if job.source in job.registries.datasets else {"file_digest": digest_of_file(job.path)}
    if material.legend is not None:
        unscored["legend"] = as_record(material.legend)
    if material.vocabulary is not None:
        unscored["vocabulary"] = material.vocabulary
    with kept_if_it_fails(job, folder, outcome, unscored):
        scores = material.scores(outcome.model)
    out = console()
    out.print()
    out.print(scores_table(scores))
    out.print(_caption(material, scores))
    keep(job, folder, outcome, unscored | {"scores": [score._asdict() for score in scores]})


def say_how_it_ended(outcome: Outcome) -> None:
    """Print a line on the rounds and the time, and the outcome's remark."""
    out = console()
    seconds = f"{outcome.seconds:.1f} s"
    rounds = f"some {outcome.unit}s" if outcome.num_rounds is None else counted(outcome.num_rounds, outcome.unit)
    if outcome.stopped_by == "error":
        out.print(f"ended by an error after {seconds}; these are the parameters so far")
    elif outcome.stopped_by == "interrupt":
        out.print(f"interrupted after {rounds} in {seconds}; these are the parameters so far")
    else:
        out.print(f"{rounds} in {seconds}, stopped by {outcome.stopped_by}")
    if outcome.remark:
        out.print(outcome.remark)


@contextmanager
def kept_if_it_fails(job: Job, folder: Path, outcome: Outcome, unscored: dict[str, Any]) -> Iterator[None]:
    """Save the model without scores if scoring fails or is interrupted: the fit took longer than scoring does."""
    try:
        yield
    except BaseException:
        keep(job, folder, outcome, unscored)
        raise


def keep(job: Job, folder: Path, outcome: Outcome, record: dict[str, Any]) -> None:
    """Save the model with a record of its fit, and write the record to the job's JSON file.

    Raises:
        OSError: the model or the results cannot be written; the error says where the model was saved instead.
        ValueError: the model's parameters are NaN.
    """
    record = finite(record)  # type: ignore[assignment]
    place = saved_somewhere(
        outcome.model, folder, record, half=outcome.half, overwrite=job.overwrite, registries=job.registries
    )
    console().print(f'\nsaved in {place}; pgm_rnn.load_model("{place.as_posix()}") gives the model back')
    if job.json is not None:
        write_json({**record, "folder": str(place)}, job.json)


def scores_table(scores: list[Score]) -> Table:
    """A table of scores with one row per split, at most 80 columns wide."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("split")
    for name in ("nats per step", "±", "", "sequences", "steps"):
        table.add_column(name, justify="left" if not name else "right")
    for score in scores:
        numbers = (_rounded(score.nats_per_step), _rounded(score.standard_error))
        table.add_row(score.split, *numbers, score.bound, f"{score.num_sequences:,}", f"{score.num_steps:,}")
    return table


def counted(num: int, unit: str) -> str:
    """Such as "1 state", "2 states"."""
    return f"{num} {unit}" if num == 1 else f"{num} {unit}s"


def _caption(material: Material, scores: list[Score]) -> str:
    """The meaning of the columns, in a line or two."""
    return _errors(material, scores) + said_of(scores[0].bound)


def said_of(bound: str) -> str:
    """A further line on a bound that comes from a particle filter."""
    filtered = bound.lower().startswith("fivo")
    return f"\n{bound}: from a particle filter, above the exact number on average" if filtered else ""


def _errors(material: Material, scores: list[Score]) -> str:
    if not material.single:
        return "± standard error over sequences"
    later = " and ".join(score.split for score in scores if score.split != "train")
    ahead = f"; {later}: one step ahead, given all steps before" if later else ""
    return f"± standard error over steps{ahead}"


def _rounded(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def record_of(
    job: Job, description: str, outcome: Outcome, scores: Iterable[NamedTuple], file: FileOptions | None = None
) -> dict[str, Any]:
    """The record of a fit, as it is saved with the model."""
    name, sizes = name_and_sizes(outcome.model, job.registries)
    return {
        "model": name,
        "sizes": sizes,
        "data": job.source,
        "description": description,
        "file": kept_options(file),
        "seed": job.seed,
        "command": shlex.join(["pgm-rnn", *sys.argv[1:]]),
        "fit": outcome.options,
        f"{outcome.unit}s": outcome.num_rounds,
        "stopped_by": outcome.stopped_by,
        "seconds": outcome.seconds,
        "scores": [score._asdict() for score in scores],
        "pgm_rnn": __version__,
        "torch": torch.__version__,
    }


def kept_options(file: FileOptions | None) -> dict[str, Any] | None:
    """How a file was read and split, as the record has it; the legend has the rest."""
    if file is None:
        return None
    return {name: value for name, value in file._asdict().items() if name not in ("sequence", "time", "kind", "inputs")}


def name_and_sizes(model: SequenceModel | LabelModel, registries: Registries) -> tuple[str, dict[str, Any]]:
    """The zoo's name and sizes of a model, or the name of the class of one's own and its arguments.

    Raises:
        TypeError: an argument that cannot be stored.
    """
    if isinstance(model, SequenceModel) and not model.has_recipe:
        return type(model).__name__, arguments_of(model, registries.families, {})
    return model.recipe
