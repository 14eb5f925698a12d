"""`pgm-rnn evaluate`, `sample` and `forecast`: what is computed with a saved model, printed and written."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pgm_rnn.checks import check_counts
from pgm_rnn.data import list_datasets
from pgm_rnn.inference import smc, svi
from pgm_rnn.report.fitted import counted, scores_table
from pgm_rnn.report.material import Score
from pgm_rnn.report.records import check_output, write_json
from pgm_rnn.report.saved import Saved, Source, observations, open_saved, vocabulary_of
from pgm_rnn.sequence_model import SequenceModel

MAX_SHOWN = 20
"""Variables or draws that are printed; more go to a file."""
FEW = 10
"""Effective particles below which an error of importance weights is not to be believed."""


def evaluate_saved(
    folder: Path,
    source: Source,
    *,
    bound: str | None,
    num_particles: int,
    normalisation: str,
    batch_size: int,
    seed: int,
    json: Path | None,
) -> svi.Evaluation:
    """Score a saved model on data, print the result and write it down.

    Raises:
        ValueError: no such model or data, or options that are not for them.
    """
    if json is not None:
        check_output(json)
    saved = open_saved(folder)
    data = observations(saved, source)
    options: dict[str, Any] = {"num_particles": num_particles, "batch_size": batch_size, "seed": seed}
    found = svi.evaluate(saved.model, data, bound=bound, normalisation=normalisation, **options)
    split = "all" if source.name not in list_datasets() else source.split or "test"
    out = _console()
    out.print(scores_table([Score(split, *found[:3], len(data.lengths), found.num_steps)]))
    out.print("± standard error over sequences" + _monte_carlo(found))
    if json is not None:
        numbers = {name: value for name, value in found._asdict().items() if name != "log_likelihoods"}
        record = {"folder": str(folder), "data": source.name, "split": split, "seed": seed, **numbers}
        write_json(record | {"log_likelihoods": found.log_likelihoods.tolist()}, json)
    return found


def _monte_carlo(found: svi.Evaluation) -> str:
    if found.monte_carlo_error == 0:
        return ""
    if found.monte_carlo_error != found.monte_carlo_error:
        return "; one particle tells nothing of its own error"
    error = f"; {found.monte_carlo_error:.1g} of the draws alone"
    if not found.effective_particles < FEW:
        return error
    few = f"{found.effective_particles:.1f} of the draws carry the weight of a sequence"
    return f"{error}\n{few}: too few for that error; try --bound fivo"


def sample_saved(folder: Path, *, num_sequences: int, num_steps: int, seed: int, output: Path | None) -> None:
    """Draw sequences from a saved model, into a file or onto the terminal.

    Raises:
        ValueError: no such model, or vectors and no file for them.
    """
    _check_npz(output)
    saved = open_saved(folder)
    _check_printable(saved.model, output)
    drawn = saved.model.sample(num_sequences, num_steps, seed=seed)
    if output is None:
        _print_lines(saved, drawn.x)
    else:
        _write(output, x=drawn.x, z=drawn.z)


def forecast_saved(
    folder: Path,
    source: Source,
    *,
    num_steps: int,
    num_samples: int,
    num_particles: int,
    sequence: int,
    seed: int,
    output: Path | None,
) -> None:
    """Continue sequences by draws: all of them into a file, or a summary of one of them onto the terminal.

    Exact where the model has an exact filter, by particles otherwise.

    Raises:
        ValueError: no such model or data, options that are not for them, or too many variables to print.
    """
    check_counts(num_steps=num_steps, num_samples=num_samples, num_particles=num_particles)
    _check_npz(output)
    saved = open_saved(folder)
    data = observations(saved, source)
    if not 0 <= sequence < len(data.lengths):
        raise ValueError(f"expected --sequence in 0..{len(data.lengths) - 1}, got {sequence}")
    if output is None:
        _check_printable(saved.model, output, MAX_SHOWN)
        data = data.select(torch.tensor([sequence]))
    options: dict[str, Any] = {"lengths": data.lengths, "num_samples": num_samples, "seed": seed}
    if saved.model.exact:
        ahead = saved.model.forecast(data.x, num_steps, **options)
    else:
        ahead = smc.forecast(saved.model, data.x, num_steps, num_particles=num_particles, **options)
    if output is not None:
        _write(output, x=ahead.x, z=ahead.z)
        return
    draws = ahead.x[:, 0]  # (num_samples, num_steps, *event)
    if saved.model.family.needs_integers:
        _print_lines(saved, draws[:MAX_SHOWN])
    else:
        _console().print(_summary(draws, int(data.lengths[0])))


def _summary(draws: Tensor, length: int) -> Table:
    """Means and central 90 % of draws (num_samples, num_steps, *event), a row a step and variable."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("step", "variable", "mean", "5 %", "95 %"):
        table.add_column(name, justify="right")
    values = draws.double().reshape(*draws.shape[:2], -1)
    low, high = values.quantile(torch.tensor([0.05, 0.95], dtype=values.dtype), dim=0)
    for step, (mean, below, above) in enumerate(zip(values.mean(0), low, high, strict=True)):
        for variable in range(values.shape[-1]):
            numbers = (float(column[variable]) for column in (mean, below, above))
            table.add_row(str(length + step + 1), str(variable + 1), *(f"{number:.4g}" for number in numbers))
    return table


def _print_lines(saved: Saved, x: Tensor) -> None:
    """A line a sequence: text where the model was fitted to text, numbers otherwise."""
    vocabulary = vocabulary_of(saved)
    out = _console()
    for i, row in enumerate(x):
        if vocabulary is None:
            out.print(" ".join(f"{value:.6g}" for value in row.tolist()))
        else:
            out.print(("\n" if i else "") + "".join(vocabulary[symbol] for symbol in row.tolist()))


def _check_printable(model: SequenceModel, output: Path | None, most: int = 1) -> None:
    """Raise a ValueError unless there is a file, or few enough variables to print."""
    width = max(1, model.family.event_shape.numel())
    if output is None and (width > most or (most == 1 and model.family.event_shape)):
        raise ValueError(f"expected --out FILE.npz for observations of {counted(width, 'variable')}, got none")


def _check_npz(output: Path | None) -> None:
    if output is None:
        return
    if output.suffix != ".npz" or output.is_dir() or not output.resolve().parent.is_dir():
        raise ValueError(f"expected --out to name a new .npz in a folder that is there, got {output}")


def _write(output: Path, **arrays: Tensor | None) -> None:
    held = {name: value.numpy() for name, value in arrays.items() if value is not None}
    np.savez_compressed(output, allow_pickle=False, **held)
    shapes = ", ".join(f"{name} {value.shape}" for name, value in held.items())
    _console().print(f"written to {output}: {shapes}")


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)
