"""A model that `pgm-rnn fit` or `save_model` wrote, and data in the form that it takes."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from pgm_rnn.checks import check_choice
from pgm_rnn.data import Dataset, load
from pgm_rnn.data.reading import read_names
from pgm_rnn.data.written import UNITS_OF_TEXT, is_text
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Joint, NadeBits, Pen
from pgm_rnn.legend import Legend
from pgm_rnn.registries import OWN, Registries
from pgm_rnn.report.columns import columns_to_take
from pgm_rnn.report.driving import check_driven, inputs_to_read
from pgm_rnn.report.legends import legend_of_fit
from pgm_rnn.report.material import in_dtype_of, with_any_inputs
from pgm_rnn.report.media import Vocabulary
from pgm_rnn.report.tables import Reading, kind_of, kinds_of, read, reading_of, shaped
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequences import Sequences
from pgm_rnn.storage import Description, Model, StorageError, load_with_description
from pgm_rnn.zoo.entries import list_pretrained
from pgm_rnn.zoo.entries import load_with_description as load_trained

SPLITS = ("train", "valid", "test")
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Source:
    """The user's choice of observations.

    Attributes:
        name: name of a data set, or path of a file.
        split: split of a data set, "test" if None; a file is used whole.
        columns: columns of a file; empty for those of the fit, which are put into the fit's order.
        registries: the data sets, models and emission families.
        sequence: the column of ids of a file; None for that of the fit.
        time: the column of times of a file; None for that of the fit.
        kind: kinds of columns, KIND or COLUMN=KIND; empty for those of the fit.
        inputs: columns of inputs; empty for those of the fit.
    """

    name: str
    split: str | None = None
    columns: tuple[str, ...] = ()
    registries: Registries = OWN
    sequence: str | None = None
    time: str | None = None
    kind: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


class Saved(NamedTuple):
    """A model with the record in its folder."""

    model: SequenceModel
    info: dict[str, Any]


def open_saved(folder: Path, registries: Registries = OWN, model_class: type[SequenceModel] | None = None) -> Saved:
    """The model in a folder, or the model of this name in the trained zoo; the class of one's own makes its models.

    Raises:
        StorageError: there is no such folder and no such name, the model is a label model, or one of a class of the
            user's own, which is not given.
        ValueError: the given class is not that of the model.
    """
    if not folder.exists():
        name, trained = str(folder), list_pretrained()
        if name in trained:
            model, description = load_trained(name)
            if model_class is not None and type(model) is not model_class:
                raise ValueError(
                    f"expected no --class for the trained {name}, got {model_class.__name__}; leave it out"
                )
            return _saved(model, description, name)
        for close in difflib.get_close_matches(name, trained, n=1, cutoff=0.8):
            raise StorageError(f"expected the folder of a saved model, got {name}; did you mean the trained {close}?")
    return _saved(*load_with_description(folder, model_class=model_class, registries=registries), folder)


def _saved(model: Model, description: Description, where: object) -> Saved:
    if not isinstance(model, SequenceModel):
        raise StorageError(
            f"expected a model of sequences, got {where}, a label model, whose scores are on its card or in its fit; "
            "use it from Python, by pgm_rnn.load_model or load_pretrained"
        )
    return Saved(model.requires_grad_(False).eval(), description.info)


def observations(saved: Saved, source: Source) -> Sequences:
    """The observations that the source names, in the form that the model takes.

    Raises:
        ValueError: there is no such source or split, or the observations belong to another family.
    """
    if source.name in source.registries.datasets:
        data = _split(saved, source)
    else:
        if not Path(source.name).exists():
            check_choice("--data", source.name, [*sorted(source.registries.datasets), "or an existing file"])
        if source.split is not None:
            raise ValueError("expected --split only with a data set, got it with a file, which is used whole")
        data = _from_file(saved, source)
    check_driven(type(saved.model).__name__, saved.model.input_dim, data)
    return checked(saved.model, in_dtype_of(saved.model, data))


def _split(saved: Saved, source: Source) -> Sequences:
    for option in ("columns", "sequence", "time", "kind"):
        if getattr(source, option):
            name = option.removesuffix("s")
            raise ValueError(f"expected --{name} only with a file, got it with the data set {source.name}")
    split = "test" if source.split is None else source.split
    check_choice("--split", split, SPLITS)  # before the data are read
    same = saved.info.get("data") == source.name
    seed = saved.info.get("seed", 0) if same else 0
    dataset = load(source.name, seed=seed if isinstance(seed, int) else 0, datasets=source.registries.datasets)
    check_family(saved.model, dataset.emission, source.name)
    inputs = _inputs_of(saved, source) if same else source.inputs
    return split_of(with_any_inputs(dataset, inputs), split)


def _inputs_of(saved: Saved, source: Source) -> Sequence[str]:
    """The inputs of the fit, in its order, for the data set that it was made on.

    Raises:
        ValueError: others are asked for.
    """
    fitted = inputs_of_fit(saved.info)
    if source.inputs and set(source.inputs) != set(fitted):
        known = " and ".join(filter(None, (", ".join(fitted[:-1]), fitted[-1]))) if fitted else "none"
        raise ValueError(
            f"expected the inputs of the fit to {source.name}, {known}, got {', '.join(source.inputs)}; "
            "leave --input out"
        )
    return fitted


def inputs_of_fit(info: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the inputs that a fit was given, from its record."""
    kept = reading_of(info)
    return () if kept is None else kept.inputs


def data_of_fit(info: Mapping[str, Any]) -> Dataset:
    """The data set of an entry of the zoo, from its record, with the inputs that its fit was given."""
    return with_any_inputs(load(info["data"], seed=info["seed"]), inputs_of_fit(info))


def split_of(dataset: Dataset, split: str) -> Sequences:
    """One split of a data set.

    Raises:
        ValueError: the name is not that of a split, or this data set lacks the split.
    """
    check_choice("--split", split, SPLITS)
    data: Sequences | None = getattr(dataset, split)
    if data is None:
        there = ", ".join(name for name in SPLITS if getattr(dataset, name) is not None)
        raise ValueError(f"expected --split to be one of {there} for {dataset.name}, which has no {split} split")
    return data


def check_family(model: SequenceModel, family: object, name: str) -> None:
    """Raise unless a model takes the observations of a family.

    Raises:
        ValueError: it takes others.
    """
    if _observed(family) != _observed(model.family):
        raise ValueError(f"expected data for a model of {model.family}, got {name}, whose observations are {family}")


def _observed(family: object) -> object:
    """A representative of all families with the same observations."""
    if isinstance(family, NadeBits):
        return Bernoulli(family.size)
    return Pen(1) if isinstance(family, Pen) else family


def _from_file(saved: Saved, source: Source) -> Sequences:
    path, is_same = Path(source.name), saved.info.get("data") == source.name
    kept = reading_of(saved.info) or Reading()
    given = kinds_of(source.kind)
    if is_text(path):
        unit = next((name for name in kept.columns if name in UNITS_OF_TEXT), UNITS_OF_TEXT[0])
        asked = Reading(source.sequence or kept.sequence, source.time, source.columns, given or {"": unit}, kept.words)
        asked = asked if asked.words else _by_numbers(asked, saved.model.family, path)
        return shaped(read(path, asked).data, saved.model.family, path)
    if path.suffix in ARRAYS:  # which have sequences, and no column of ids or times
        kept = replace(kept, sequence=None, time=None)
    kept = replace(kept, inputs=inputs_to_read(path, kept.inputs, source.inputs))
    columns, how = columns_to_take(path, kept.columns, source.columns, is_same=is_same)
    if columns != kept.columns and (columns or not is_same):  # other columns, in the order of those of the fit
        kept = _renamed(kept, columns, path)
    asked = replace(
        kept, sequence=source.sequence or kept.sequence, time=source.time or kept.time, kinds=given or kept.kinds
    )
    known = kind_of(saved.model.family) if not asked.kinds else None
    if not asked.words:
        asked = _by_numbers(asked, saved.model.family, path)
    found, notes = read(path, asked, known)
    for note in (*notes, *([how] if how else [])):
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(note)
    return shaped(found, saved.model.family, path)


def _by_numbers(asked: Reading, family: Emission, path: Path) -> Reading:
    """The reading for a fit without vocabularies, which knew symbols by their numbers 0, 1, ...

    A file may lack some of them, so the symbols that it has must not be numbered anew.
    """
    if isinstance(family, Categorical):
        return replace(asked, words=_numbers(family))
    names = asked.columns or tuple(name for name in read_names(path) if name not in _taken(asked))
    if not isinstance(family, Joint) or len(names) != family.event_shape.numel():
        return asked
    of = {name: part.family for part in family.parts for name in names[part.columns]}
    kinds = {name: kind for name, one in of.items() if (kind := kind_of(one)) is not None}
    words = {name: _numbers(one) for name, one in of.items() if isinstance(one, Categorical)}
    return replace(asked, columns=names, kinds=asked.kinds or kinds, words=words)


def _numbers(family: Categorical) -> tuple[str, ...]:
    return tuple(map(str, range(family.num_symbols)))


def _renamed(kept: Reading, columns: Sequence[str], path: Path) -> Reading:
    """What a fit keeps of its columns, under the names of those to read in their place."""
    names = tuple(columns) or tuple(name for name in read_names(path) if name not in _taken(kept))
    if not kept.columns or len(names) != len(kept.columns):
        return replace(kept, columns=tuple(columns), kinds={}, words={}, units={})
    new = dict(zip(kept.columns, names, strict=True))

    def renamed(part: Any) -> dict[str, Any]:
        return {new[name]: value for name, value in part.items()}

    return Reading(
        kept.sequence, kept.time, names, renamed(kept.kinds), renamed(kept.words), renamed(kept.units), kept.inputs
    )


def _taken(reading: Reading) -> tuple[str | None, ...]:
    """The columns that are not observed."""
    return reading.sequence, reading.time, *reading.inputs


def vocabulary_of(saved: Saved, registries: Registries = OWN) -> Vocabulary | None:
    """What the symbols of the data that a model was fitted to stand for, from the record of its fit or the data set.

    Raises:
        DataError: the record has no characters, and the data set cannot be obtained.
    """
    name, family = saved.info.get("data"), saved.model.family
    if not isinstance(family, Categorical):
        return None
    if name not in registries.datasets:
        found = words_of(legend_of_fit(saved.info))
        return found if found is not None and len(found) == family.num_symbols else None
    noted = saved.info.get("vocabulary")
    if isinstance(noted, str) and len(noted) == family.num_symbols:
        return noted
    dataset = load(str(name), datasets=registries.datasets)
    return dataset.vocabulary if dataset.emission == family else None


def words_of(legend: Legend | None) -> Vocabulary | None:
    """The characters or words of the first column, None if it has none."""
    words = () if legend is None else legend.columns[0].words
    return ("".join(words) if all(len(word) == 1 for word in words) else words) or None
