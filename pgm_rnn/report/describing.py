"""`pgm-rnn describe`: a model's parameters as tables of at most 80 columns, or in a .csv or .json file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pgm_rnn.files import write_whole
from pgm_rnn.registries import OWN, Registries
from pgm_rnn.report.description import Description, describe
from pgm_rnn.report.legends import legend_of_fit
from pgm_rnn.report.records import check_output, write_json
from pgm_rnn.report.saved import Source, observations, open_saved
from pgm_rnn.report.soundness import blamed_on_model
from pgm_rnn.report.terminal import console
from pgm_rnn.sequence_model import SequenceModel

SUFFIXES = (".csv", ".json")


def describe_saved(
    folder: Path,
    source: Source | None,
    *,
    model_class: type[SequenceModel] | None = None,
    order: str | None,
    output: Path | None,
    registries: Registries = OWN,
) -> Description:
    """Describe a saved model: print the tables, or write them to a file.

    Raises:
        ValueError: there is no such model, data or order, or the file has another suffix.
        OSError: the file cannot be written.
    """
    if output is not None:
        if output.suffix.lower() not in SUFFIXES:
            raise ValueError(f"expected --out to end in {' or '.join(SUFFIXES)}, got {output}")
        check_output(output, "--out")
    saved = open_saved(folder, registries, model_class)
    data = None if source is None else observations(saved, source)
    legend = None if data is not None and data.legend is not None else legend_of_fit(saved.info)
    with blamed_on_model(folder):
        frozen = _frozen(saved.info)
        found = describe(saved.model, data, order=order, legend=legend, frozen=frozen)
    if data is not None and frozen:
        found = replace(found, remarks=(*found.remarks, f"known, as the fit kept them: {', '.join(frozen)}"))
    if output is None:
        for part in found.parts():
            console().print(part)
    else:
        _write(found, output)
        console().print(f"written to {output}: {len(found.tables)} tables")
    return found


def _frozen(info: Mapping[str, Any]) -> tuple[str, ...]:
    """What the fit kept as it was, from its record; nothing where the record does not say."""
    kept = info.get("frozen")
    return tuple(part for part in kept if isinstance(part, str)) if isinstance(kept, list) else ()


def _write(description: Description, output: Path) -> None:
    """Write all tables as rows of table, row, column, value and standard error.

    Raises:
        OSError: the file cannot be written.
    """
    if output.suffix.lower() == ".csv":
        write_whole(output, description.to_frame().to_csv(index=False).encode())
        return
    tables = {
        table.name: {
            "title": table.title,
            "rows": table.rows,
            "columns": table.columns,
            "values": table.values,
            "standard_errors": table.errors,
        }
        for table in description.tables
    }
    content = {
        "model": description.title,
        "num_free_parameters": description.num_free_parameters,
        "log_likelihood": description.log_likelihood,
        "num_steps": description.num_steps,
        "order": description.order,
        "remarks": description.remarks,
        "tables": tables,
    }
    write_json(content, output)
