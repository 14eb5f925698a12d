"""`pgm-rnn compare`: saved fits and trained models side by side on the same data.

Their records say more than a model does: what each was fitted to and how it read its file. Fits of different data, or
of a column in different units, are not compared.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from pgm_rnn.report.comparison.base_measures import check_one_measure
from pgm_rnn.report.comparison.comparing import Wanted, compared
from pgm_rnn.report.comparison.entries import Entry, Refit, Trained
from pgm_rnn.report.comparison.refitting import default_refit
from pgm_rnn.report.comparison.result import FILES, Comparison
from pgm_rnn.report.comparison.scores import Bound
from pgm_rnn.report.saved import Saved, Source, observations, open_saved
from pgm_rnn.report.soundness import blamed_on_model
from pgm_rnn.report.table_files import check_table_file
from pgm_rnn.report.tables import reading_of
from pgm_rnn.report.terminal import console
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.storage.description import DESCRIPTION
from pgm_rnn.storage.model_json import read_description

EM_OPTIONS = ("num_iterations", "num_restarts", "pseudo_count", "pseudo_observations", "tolerance")


def compare_saved(
    folders: Sequence[Path],
    source: Source,
    *,
    model_classes: Sequence[type[SequenceModel]] = (),
    wanted: Wanted,
    bound: Bound,
    output: Path | None,
) -> Comparison:
    """Compare saved models, print the tables, and write them to a file if one is named.

    Raises:
        ValueError: a model or data that are not there, models of different data, columns, units or kinds, or an option
            that does not apply.
        OSError: the file cannot be written.
    """
    if output is not None:
        check_table_file(output, FILES, "--out")
    with by_options():
        saved = {
            name: open_saved(folder, source.registries, _class_for(folder, model_classes))
            for name, folder in zip(_names(folders), folders, strict=True)
        }
        check_same_data({name: one.info for name, one in saved.items()})
        data = {name: observations(one, source) for name, one in saved.items()}
        check_same_columns(saved, data)
        entries = [_entry(name, one, data[name], bound.seed) for name, one in saved.items()]
        with blamed_on_model(" or ".join(map(str, folders))):
            found = compared(entries, bound, wanted, progress=True)
    out = console()
    for part in found.parts():
        out.print(_by_options(part) if isinstance(part, str) else part)
    if output is not None:
        found.write(output)
        out.print(f"\nwritten to {output}")
    return found


def check_same_data(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise if two fits have records of different data, of a file that has changed, or of a column in other units.

    Args:
        records: the record of each fit by the name of the model; models without records pass.

    Raises:
        ValueError: they have.
    """
    for (first, mine), (second, its) in combinations(records.items(), 2):
        sources = [record.get("data") for record in (mine, its)]
        if all(isinstance(one, str) for one in sources) and len({Path(str(one)).name for one in sources}) > 1:
            raise ValueError(
                f"expected fits to the same data, got {first} fitted to {sources[0]} and {second} to {sources[1]}; fit "
                "both to one of them, or score each by pgm-rnn evaluate"
            )
        digests = [record.get("file_digest") for record in (mine, its)]
        if all(isinstance(one, str) for one in digests) and digests[0] != digests[1]:
            raise ValueError(
                f"expected fits to the same data, got {first} and {second} fitted to different versions of "
                f"{sources[0]}, which was changed between the fits; fit both to the present version"
            )
        units = [{} if (kept := reading_of(record)) is None else dict(kept.units) for record in (mine, its)]
        for column in units[0].keys() & units[1].keys():
            if units[0][column] != units[1][column]:
                raise ValueError(
                    f"expected fits to {column} in one unit, got {units[0][column]} in {first} and "
                    f"{units[1][column]} in {second}, whose densities differ by a factor; fit one of them again"
                )


def check_same_columns(saved: Mapping[str, Saved], data: Mapping[str, Sequences]) -> None:
    """Raise unless all models take the same columns and the same sequences of the data.

    Raises:
        ValueError: they do not.
    """
    columns = {
        name: tuple(column.name for column in one.legend.columns)
        for name, one in data.items()
        if one.legend is not None
    }
    check_one_measure({name: one.model.family for name, one in saved.items()}, columns)
    (first, mine), *others = data.items()
    for name, its in others:
        if mine.lengths.tolist() != its.lengths.tolist():
            raise ValueError(
                f"expected models that read the same sequences, got {len(mine.lengths)} of {mine.num_steps} steps in "
                f"{first} and {len(its.lengths)} of {its.num_steps} in {name}; say how to read them by --sequence and "
                "--time"
            )


def _entry(name: str, saved: Saved, data: Sequences, seed: int) -> Entry:
    return Entry(name, saved.model, data, trained=_trained(saved.info), refit=_refit(saved, seed))


def _trained(info: Mapping[str, Any]) -> Trained | None:
    """The score on the training data, where a record has an exact one."""
    scores = info.get("scores")
    for score in scores if isinstance(scores, list) else ():
        if isinstance(score, dict) and (score.get("split"), score.get("bound")) == ("train", "exact"):
            nats, steps = score.get("nats_per_step"), score.get("num_steps")
            if isinstance(nats, int | float) and isinstance(steps, int):
                return Trained(nats * steps, steps)
    return None


def _refit(saved: Saved, seed: int) -> Refit:
    """The fit that the record describes, for other sequences."""
    options = saved.info.get("fit")
    given = dict(options) if isinstance(options, dict) else {}
    if "num_iterations" in given:  # of EM, whose starts are one more than the random ones
        given = {name: given[name] for name in EM_OPTIONS if given.get(name) is not None}
        given |= {"num_restarts": given["num_restarts"] + 1} if "num_restarts" in given else {}
    return partial(_refitted, seed=seed, options=given)


def _refitted(model: Any, train: Sequences, *, seed: int, options: Mapping[str, Any]) -> Any:
    return default_refit(model, train, seed=seed, options=options)


def _class_for(folder: Path, given: Sequence[type[SequenceModel]]) -> type[SequenceModel] | None:
    """The class among those given that a saved model is of; None for a model of the zoo."""
    if not given or not (folder / DESCRIPTION).is_file():
        return None
    described = read_description(folder / DESCRIPTION)
    name = (described.model_class or "").rpartition(":")[2].rpartition(".")[2]
    return None if described.name is not None else next((one for one in given if one.__name__ == name), None)


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, or the whole paths where two last parts are the same."""
    last = [folder.name for folder in folders]
    return last if len(set(last)) == len(last) else [str(folder) for folder in folders]


@contextmanager
def by_options() -> Iterator[None]:
    """A block whose errors name options of the command line in place of arguments of `compare`.

    Raises:
        ValueError, TypeError: what the block raises.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        error.args = (_by_options(str(error)),)
        raise


def _by_options(text: str) -> str:
    """The text with --folds 5 in place of folds=5, and so on."""
    text = re.sub(r"\b(folds|origins|horizon|bound)='?(\w+)'?", r"--\1 \2", text)
    text = re.sub(r"\b(first_origin)=(\w+)", r"--first-origin \2", text)
    return re.sub(r"\bnum_particles=\.\.\.", "--num-particles", text)
