"""`pgm-rnn evaluate`, `sample` and `forecast`: compute with a saved model, then print or write the results."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pgm_rnn.checks import check_counts
from pgm_rnn.inference import smc, svi
from pgm_rnn.inference.diagnosis import check_scores
from pgm_rnn.inference.svi.evaluation import num_modelled
from pgm_rnn.registries import OWN, Registries
from pgm_rnn.report.fitted import said_of, scores_table
from pgm_rnn.report.forecasts import FORECAST_FILES
from pgm_rnn.report.material import Score, particles_of
from pgm_rnn.report.media import ARRAYS, medium_of, text_lines
from pgm_rnn.report.one_step_terms import PARTICLES, one_step_terms, seen_steps
from pgm_rnn.report.records import check_output, write_json
from pgm_rnn.report.saved import Source, observations, open_saved, vocabulary_of, words_of
from pgm_rnn.report.saved_inputs import NUM_DRAWS, STEPS_AHEAD, future_of, inputs_of_draws
from pgm_rnn.report.saved_tables import forecast_table_saved
from pgm_rnn.report.showing import check_out, checked_tempo, put_out, write_arrays
from pgm_rnn.report.soundness import blamed_on_model, check_drawn, check_score
from pgm_rnn.report.table_files import check_table_file
from pgm_rnn.report.terminal import console
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequences import Sequences

NUM_PARTICLES = 500
"""Particles or draws of a bound that is asked for, if their number is not."""
MAX_SHOWN = 20
"""Largest number of draws that are printed."""
LEVELS, ON_TERMINAL = (50.0, 90.0), (90.0,)
"""Levels of the intervals in a file and on the terminal, in percent, if none are asked for."""
FEW = 10
"""Effective sample size below which the standard error from importance weights is not reliable."""


def evaluate_saved(
    folder: Path,
    source: Source,
    *,
    model_class: type[SequenceModel] | None = None,
    bound: str | None,
    num_particles: int | None,
    normalisation: str,
    batch_size: int,
    seed: int,
    json: Path | None,
) -> svi.Evaluation:
    """Score a saved model on data, print the result and write it to a file if one is named.

    By default a model without a likelihood in closed form and without a guide is scored by a filter, as fits are.

    Raises:
        ValueError: there is no such model or data, an option does not apply to them, or the model's parameters are not
            valid.
    """
    if json is not None:
        check_output(json)
    saved = open_saved(folder, source.registries, model_class)
    data = observations(saved, source)
    as_fit = bound is None and not saved.model.has_proposal
    by_steps = len(data.lengths) == 1 and normalisation == "sum" and (as_fit or _is_exact(saved.model, bound))
    with blamed_on_model(folder):
        if as_fit and not saved.model.exact:
            bound, default = "fivo", PARTICLES if by_steps else particles_of(saved.model, data)
        else:
            default = NUM_PARTICLES
        options: dict[str, Any] = {"num_particles": default if num_particles is None else num_particles, "seed": seed}
        if by_steps:
            found = _evaluated_by_steps(saved.model, data, **options)
        else:
            options |= {"batch_size": batch_size, "normalisation": normalisation}
            found = svi.evaluate(saved.model, data, bound=bound, **options)
    check_score(found.nats_per_step, folder)
    split = "all" if source.name not in source.registries.datasets else source.split or "test"
    out = console()
    over = "steps, each given those before it" if by_steps else "sequences"
    out.print(scores_table([Score(split, *found[:3], len(data.lengths), found.num_steps)]))
    out.print(f"± standard error over {over}" + ("" if by_steps else _monte_carlo(found)) + said_of(found.bound))
    if json is not None:
        numbers = {name: value for name, value in found._asdict().items() if name != "log_likelihoods"}
        record = {"folder": str(folder), "data": source.name, "split": split, "seed": seed, **numbers}
        write_json(record | {"log_likelihoods": found.log_likelihoods.tolist()}, json)
    return found


def _is_exact(model: SequenceModel, bound: str | None) -> bool:
    """Whether a score with this bound is the exact one."""
    return model.exact and bound in (None, "exact")


def _evaluated_by_steps(model: SequenceModel, data: Sequences, num_particles: int, seed: int) -> svi.Evaluation:
    """The score of a single series, and its error over the steps, whose terms are taken for independent ones.

    It is exact, or that of a filter with so many particles, whose Monte Carlo error is then not known.

    Raises:
        FloatingPointError: as `svi.evaluate`.
    """
    check_counts(num_particles=num_particles)
    data = checked(model, data)
    terms = one_step_terms(model, data, num_particles=num_particles, seed=seed)
    total, steps = terms.sum(-1), seen_steps(model, data)
    bound, monte_carlo = ("exact", 0.0) if model.exact else (f"FIVO_{num_particles}", math.nan)
    check_scores(model, model.family, data, total, f"log likelihood ({bound})")
    nats, num_steps = -terms[0], num_modelled(model, data)
    error = svi.ratio_error(nats[steps > 0], steps[steps > 0])
    return svi.Evaluation(-float(total) / num_steps, error, bound, total, num_steps, monte_carlo_error=monte_carlo)


def _monte_carlo(found: svi.Evaluation) -> str:
    if found.monte_carlo_error == 0:
        return ""
    if found.monte_carlo_error != found.monte_carlo_error:
        return "; a single particle gives no estimate of its Monte Carlo error"
    error = f"; {found.monte_carlo_error:.1g} of the draws alone"
    if not found.effective_particles < FEW:
        return error
    few = f"{found.effective_particles:.1f} of the draws carry the weight of a sequence"
    return f"{error}\n{few}: too few for that error; try --bound fivo"


def sample_saved(
    folder: Path,
    *,
    model_class: type[SequenceModel] | None = None,
    num_sequences: int | None,
    num_steps: int | None,
    inputs_from: str | None = None,
    seed: int,
    tempo: float | None,
    output: Path | None,
    registries: Registries = OWN,
) -> None:
    """Draw sequences from a saved model, and write them to a file in the format of its suffix or print them.

    Raises:
        ValueError: there is no such model, or the file's format cannot hold its draws.
        OSError: the file cannot be written.
    """
    check_counts(
        num_sequences=1 if num_sequences is None else num_sequences, num_steps=1 if num_steps is None else num_steps
    )
    beats = checked_tempo(tempo, output)
    saved = open_saved(folder, registries, model_class)
    vocabulary = None if output is not None and output.suffix.lower() == ARRAYS else vocabulary_of(saved, registries)
    medium = medium_of(saved.model.family, saved.info.get("data"), vocabulary, beats)
    check_out(medium, saved.model.family, output)
    inputs = inputs_of_draws(saved, inputs_from, registries, num_sequences, num_steps)
    sizes = (num_sequences or NUM_DRAWS, num_steps or 20) if inputs is None else inputs.shape[:2]
    with blamed_on_model(folder):
        drawn = saved.model.sample(*sizes, seed=seed, inputs=inputs)
    if output is None or output.suffix.lower() == ".txt":
        check_drawn(drawn.x, folder)
    put_out(drawn, medium, vocabulary, output, x=drawn.x, z=drawn.z, lengths=drawn.lengths, inputs=inputs)


def forecast_saved(
    folder: Path,
    source: Source,
    *,
    model_class: type[SequenceModel] | None = None,
    num_steps: int | None,
    future_inputs: Path | None = None,
    levels: Sequence[float] | None = None,
    num_samples: int,
    num_particles: int,
    sequence: int,
    seed: int,
    output: Path | None,
) -> None:
    """Forecast sequences: a file of draws, a table or picture, or a summary for one sequence on the terminal.

    Tables take exact laws where there are some, and the level of 90 % on the terminal if none is given. An .npz, and
    symbols that are printed without a level, are draws; these start from the exact filter if the model has one, and
    from a particle filter otherwise.

    Raises:
        ValueError: there is no such model or data, an option does not apply to them, or there are too many variables to
            print.
    """
    check_counts(num_steps=1 if num_steps is None else num_steps, num_samples=num_samples, num_particles=num_particles)
    if output is not None:
        check_table_file(output, (*FORECAST_FILES, ARRAYS), "--out")
    is_npz = output is not None and output.suffix.lower() == ARRAYS
    if is_npz and levels is not None:
        raise ValueError(f"expected --level only with a table or picture, got it with {output}, which holds all draws")
    saved = open_saved(folder, source.registries, model_class)
    if output is None and levels is None and not saved.model.family.needs_integers:
        levels = ON_TERMINAL
    if levels is not None or (output is not None and not is_npz):
        counts: dict[str, Any] = {"num_steps": num_steps, "num_samples": num_samples, "num_particles": num_particles}
        rest: dict[str, Any] = {"future_inputs": future_inputs, "sequence": sequence, "seed": seed, "output": output}
        forecast_table_saved(folder, saved, source, levels=LEVELS if levels is None else levels, **counts, **rest)
        return
    data = observations(saved, source)
    if not 0 <= sequence < len(data.lengths):
        raise ValueError(f"expected --index in 0..{len(data.lengths) - 1}, got {sequence}")
    if output is None:
        data = data.select(torch.tensor([sequence]))
    future = future_of(saved, source, data, future_inputs, num_steps)
    num_steps = future.shape[1] if future is not None else num_steps or STEPS_AHEAD
    options: dict[str, Any] = {"num_samples": num_samples, "seed": seed, "future_inputs": future}
    with blamed_on_model(folder):
        if saved.model.exact:
            ahead = saved.model.forecast(data, num_steps, **options)
        else:
            ahead = smc.forecast(saved.model, data, num_steps, num_particles=num_particles, **options)
    if output is None:
        check_drawn(ahead.x, folder)
    else:
        console().print(f"written to {output}: {write_arrays(output, x=ahead.x, z=ahead.z)}")
        return
    vocabulary = words_of(data.legend) or vocabulary_of(saved, source.registries)
    for line in text_lines(list(ahead.x[:MAX_SHOWN, 0]), vocabulary):
        console().print(line)
