"""`pgm-rnn infer`, and the tables of `pgm-rnn forecast`: states and forecasts in the words of the data."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.emissions import Categorical
from pgm_rnn.legend import Column, Legend
from pgm_rnn.report.fitted import counted
from pgm_rnn.report.forecasting import checked_levels, forecast
from pgm_rnn.report.inferring import ENGINES, infer
from pgm_rnn.report.saved import Saved, Source, observations, open_saved, vocabulary_of
from pgm_rnn.report.saved_inputs import STEPS_AHEAD, future_of
from pgm_rnn.report.soundness import blamed_on_model, check_drawn
from pgm_rnn.report.states_of_data import STATE_FILES, States
from pgm_rnn.report.table_files import check_table_file
from pgm_rnn.report.tables import reading_of
from pgm_rnn.report.terminal import console
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences

NUM_SHOWN = 10
"""Number of rows that are printed of the table of states."""
SMALL, LARGE = 0.01, 1000.0
"""Sizes of a column's largest number for which three decimals are printed, else four digits."""
MAX_VARIABLES = 20
"""Largest number of variables whose forecasts are printed; for more the user must name a file."""
GAP = 3
"""Characters between two printed columns."""


def infer_saved(
    folder: Path,
    source: Source,
    *,
    model_class: type[SequenceModel] | None = None,
    engine: str,
    num_particles: int,
    num_paths: int = 100,
    seed: int,
    output: Path | None,
) -> None:
    """Infer the latent states of data under a saved model, and write them to a file or print the first rows.

    Raises:
        ValueError: there is no such model or data, an option does not apply to them, or the file cannot be written.
        TypeError: a model without latent states, or with states that the engine does not take.
    """
    check_choice("--engine", engine, ENGINES)
    check_counts(num_particles=num_particles)
    if output is not None:
        check_table_file(output, STATE_FILES, "--out")
    saved = open_saved(folder, source.registries, model_class)
    data = named(saved, source, observations(saved, source))
    with blamed_on_model(folder):
        states = infer(saved.model, data, engine=engine, num_particles=num_particles, num_paths=num_paths, seed=seed)
    out = console()
    out.print(f"engine {states.engine}: {states.reason}")
    for remark in states.remarks:
        out.print(f"note: {remark}")
    if output is not None:
        states.write(output)
        out.print(f"written to {output}: {_sizes(data)}")
        return
    frame = states.to_frame()
    out.print(printed(_main_columns(frame, states.components is not None).head(NUM_SHOWN)))
    if len(frame) > NUM_SHOWN:
        out.print(f"the first {NUM_SHOWN} of {len(frame):,} rows; --out FILE.csv has all of them")
    if states.most_likely_states is not None:
        out.print(_shares(states))


def forecast_table_saved(
    folder: Path,
    saved: Saved,
    source: Source,
    *,
    num_steps: int | None,
    future_inputs: Path | None = None,
    levels: Sequence[float],
    num_samples: int,
    num_particles: int,
    sequence: int,
    seed: int,
    output: Path | None,
) -> None:
    """Forecast sequences with a saved model: a file of all of them, or the printed table of one.

    Raises:
        ValueError: there is no such data, an option does not apply to them, or the file cannot be written.
    """
    data = named(saved, source, observations(saved, source))
    if not 0 <= sequence < len(data.lengths):
        raise ValueError(f"expected --index in 0..{len(data.lengths) - 1}, got {sequence}")
    if output is None:
        check_printable(saved.model)
        data = data.select(torch.tensor([sequence]))
    future = future_of(saved, source, data, future_inputs, num_steps)
    num_steps = future.shape[1] if future is not None else num_steps or STEPS_AHEAD
    options: dict[str, Any] = {"num_samples": num_samples, "num_particles": num_particles, "seed": seed}
    options["future_inputs"] = future
    with blamed_on_model(folder):
        ahead = forecast(saved.model, data, num_steps, levels=levels, **options)
    out = console()
    if output is None:
        check_drawn(ahead.means[..., [place for place in range(len(ahead.names)) if place not in ahead.probs]], folder)
    out.print(f"from {ahead.how}")
    if output is None:
        out.print(printed(ahead.to_frame().drop(columns="median", errors="ignore")))
    else:
        ahead.write(output)
        out.print(f"written to {output}: {counted(num_steps, 'step')} after {_sizes(data)}")


def check_printable(model: SequenceModel) -> None:
    """Raise a ValueError unless the variables of a model are few enough to print."""
    width = max(1, model.family.event_shape.numel())
    if width > MAX_VARIABLES:
        raise ValueError(f"expected --out FILE.npz for observations of {counted(width, 'variable')}, got none")


def levels_of(text: str) -> tuple[float, ...]:
    """The levels in a text such as "50,90".

    Raises:
        ValueError: something else than numbers between 0 and 100.
    """
    try:
        return checked_levels([float(word) for word in text.split(",")])
    except ValueError:
        raise ValueError(
            f"expected --level as different percentages between 0 and 100, such as 50,90, got {text}"
        ) from None


def named(saved: Saved, source: Source, data: Sequences) -> Sequences:
    """The data with a legend: their own, or one with the columns of the fit and the characters of a text."""
    if data.legend is not None:
        return data
    family = saved.model.family
    words = vocabulary_of(saved, source.registries) if isinstance(family, Categorical) else None
    if words is not None:
        return data._replace(legend=Legend((Column("character", "symbol", words=tuple(words)),)))
    kept = reading_of(saved.info)
    if kept is None or len(kept.columns) != max(1, family.event_shape.numel()):
        return data
    return data._replace(legend=kept.legend)


def _main_columns(frame: Any, has_components: bool) -> Any:
    """The table of states with components or chains where there are some, else smoothed laws, else filtered ones."""
    if any(name.startswith("chain_") for name in frame.columns):
        return frame[[name for name in frame.columns if not name.startswith(("filtered_", "smoothed_", "state"))]]
    if has_components:
        return frame[[name for name in frame.columns if not name.startswith(("filtered_", "smoothed_", "entropy"))]]
    if not any(name.startswith("smoothed_") for name in frame.columns):
        return frame
    return frame[[name for name in frame.columns if not name.startswith("filtered_")]]


def printed(frame: Any) -> Table:
    """The columns of a DataFrame that the terminal has room for, numbers with three decimals if none is large.

    A column of words that is the same in every row is said above the table, and below it how many are left out.
    """
    words = [name for name in frame.columns if frame[name].dtype.kind == "O" and len(frame) > 1]
    same = [name for name in words if frame[name].nunique() == 1]
    title = ", ".join(f"{name} {frame[name].iloc[0]}" for name in same if str(frame[name].iloc[0]))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=title or None, title_justify="left")
    columns = {str(name): _texts(frame[name].tolist()) for name in frame.columns if name not in same}
    shown = _fitting(columns, console().width)
    for name in shown:
        table.add_column(name, justify="right")
    for row in zip(*(columns[name] for name in shown), strict=True):
        table.add_row(*row)
    if len(shown) < len(columns):
        table.caption, table.caption_justify = f"{len(columns) - len(shown)} more columns with --out FILE.csv", "left"
    return table


def _fitting(columns: Mapping[str, Sequence[str]], width: int) -> list[str]:
    """The names of columns that fit side by side, at least one; entries of laws are left out before other columns."""
    entries = {name: name.startswith(("smoothed_", "filtered_")) for name in columns}
    ranked = sorted(columns, key=lambda name: entries[name])
    ends = accumulate(max(map(len, [name, *columns[name]])) + GAP for name in ranked)
    fitting = ranked[: max(1, sum(end - GAP <= width for end in ends))]
    return [name for name in columns if name in fitting]


def _texts(cells: list[Any]) -> list[str]:
    """The cells of a column; dates without the time of midnight, nothing where there is no number."""
    numbers = [abs(cell) for cell in cells if isinstance(cell, float) and math.isfinite(cell)]
    form = ".3f" if numbers and SMALL <= max(numbers) < LARGE else ".4g"
    return [_text(cell, form) for cell in cells]


def _text(cell: Any, form: str) -> str:
    if not isinstance(cell, float):
        return str(cell).removesuffix(" 00:00:00")
    return f"{cell:{form}}" if math.isfinite(cell) else ""


def _shares(states: States) -> Table:
    """The share of each state in the steps, by the most likely paths and by the smoothed probabilities."""
    assert states.most_likely_states is not None  # the caller has looked
    assert states.smoothed_probs is not None
    inside = torch.arange(states.smoothed_probs.shape[1]) < states.lengths.cpu()[:, None]
    path = states.most_likely_states.cpu()[inside]
    probs = states.smoothed_probs.cpu()[inside].double().mean(0)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("state", "steps", "share", "expected share"):
        table.add_column(name, justify="right")
    for state, (count, prob) in enumerate(zip(path.bincount(minlength=len(probs)), probs, strict=True)):
        table.add_row(str(state), f"{int(count):,}", f"{int(count) / len(path):.1%}", f"{float(prob):.1%}")
    return table


def _sizes(data: Sequences) -> str:
    return f"{counted(data.num_steps, 'step')} of {counted(len(data.lengths), 'sequence')}"
