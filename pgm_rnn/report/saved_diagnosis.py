"""`pgm-rnn diagnose`: the diagnosis of a saved model on the terminal and in files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgm_rnn.report import figures
from pgm_rnn.report.diagnostics.diagnosing import check_sizes, diagnose
from pgm_rnn.report.diagnostics.diagnosis import DIAGNOSIS_FILES, STEPS_FILES, Diagnosis
from pgm_rnn.report.saved import Source, observations, open_saved
from pgm_rnn.report.saved_tables import named
from pgm_rnn.report.soundness import blamed_on_model
from pgm_rnn.report.table_files import check_table_file
from pgm_rnn.report.terminal import console
from pgm_rnn.sequence_model import SequenceModel


def diagnose_saved(
    folder: Path,
    source: Source,
    *,
    model_class: type[SequenceModel] | None = None,
    counts: Mapping[str, int],
    seed: int,
    output: Path | None,
    steps: Path | None,
) -> Diagnosis:
    """Diagnose a saved model on data, print the diagnosis, and write the files that are named.

    Raises:
        ValueError: there is no such model or data, an option does not apply to them, or a file cannot be written.
    """
    check_sizes(**counts)
    options: dict[str, Any] = {**counts, "seed": seed}
    for path, suffixes, option in ((output, DIAGNOSIS_FILES, "--out"), (steps, STEPS_FILES, "--steps")):
        if path is not None:
            check_table_file(path, suffixes, option)
    saved = open_saved(folder, source.registries, model_class)
    data = named(saved, source, observations(saved, source))
    with blamed_on_model(folder):
        found = diagnose(saved.model, data, **options)
    out = console()
    for part in found.parts():
        out.print(part)
    if output is not None:
        found.write(output)
        picture = output.suffix.lower() in figures.SUFFIXES
        what = "a picture of the residuals" if picture else f"{len(found.sections)} tables and what to do"
        out.print(f"written to {output}: {what}")
    if steps is not None:
        found.write_steps(steps)
        out.print(f"written to {steps}: {found.data.num_steps:,} steps")
    return found
