"""The files of a finished experiment: a CSV, its settings as JSON, and the picture as PNG and SVG, side by side."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pgm_rnn.experiments.experiment import Experiment, Row, Rows
from pgm_rnn.experiments.pictures import as_png, as_svg
from pgm_rnn.experiments.settings import Settings
from pgm_rnn.experiments.tables import as_csv, from_csv
from pgm_rnn.files import write_whole


class Record(NamedTuple):
    """A finished experiment, as it is on disk.

    Attributes:
        settings: names and values of the settings.
        command: the command that made it.
        rows: rows of the CSV.
    """

    settings: dict[str, Any]
    command: str
    rows: list[Row]


def write_record(experiment: Experiment, settings: Settings, command: str, rows: Rows, folder: Path) -> list[Path]:
    """Write the four files; the picture shows the CSV's digits.

    Raises:
        OSError: the folder cannot be written to.
    """
    table = as_csv(rows)
    about = {"experiment": experiment.id, "command": command, "settings": settings.as_json()}
    contents = {
        "csv": table.encode(),
        "json": (json.dumps(about, indent=1) + "\n").encode(),
        **_pictures(experiment, from_csv(table)),
    }
    return _write(experiment, contents, folder)


def redraw(experiment: Experiment, folder: Path) -> list[Path]:
    """Draw a finished experiment's picture again from its CSV; nothing where the folder has none.

    Raises:
        ValueError: a CSV without rows.
        OSError: the folder cannot be written to.
    """
    record = read_record(experiment.id, folder)
    return [] if record is None else _write(experiment, _pictures(experiment, record.rows), folder)


def _pictures(experiment: Experiment, rows: Rows) -> dict[str, bytes]:
    figure = experiment.draw(rows)
    return {"png": as_png(figure), "svg": as_svg(figure)}


def _write(experiment: Experiment, contents: dict[str, bytes], folder: Path) -> list[Path]:
    paths = {ending: folder / f"{experiment.id}.{ending}" for ending in contents}
    for ending, content in contents.items():
        write_whole(paths[ending], content)
    return list(paths.values())


def read_record(experiment_id: str, folder: Path) -> Record | None:
    """A finished experiment, None if the folder has none.

    Raises:
        ValueError: a CSV without rows.
    """
    table, about = folder / f"{experiment_id}.csv", folder / f"{experiment_id}.json"
    if not (table.exists() and about.exists()):
        return None
    known = json.loads(about.read_text(encoding="utf-8"))
    return Record(known["settings"], known["command"], from_csv(table.read_text(encoding="utf-8")))
