"""`pgm-rnn fit own`: a model of a class of the user's own, by gradient steps."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pgm_rnn.inference.suitable import check_trainable
from pgm_rnn.inference.svi.objectives import chosen_objective
from pgm_rnn.randomness import seeded
from pgm_rnn.report.driving import check_driven
from pgm_rnn.report.fitted import Job, Outcome, material_of
from pgm_rnn.report.gradient_fitting import FILE, begin_with, carried_out, checked_surroundings, placed
from pgm_rnn.report.material import Material
from pgm_rnn.report.saved import check_family
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.storage.own_class import arguments_of

JUDGES = 16
"""Smallest number of particles of a validation bound: the noise of fewer could stop a fit too early."""


def fit_own(
    job: Job,
    model_class: type[SequenceModel],
    arguments: Mapping[str, Any],
    training: Mapping[str, Any],
    *,
    start: Path | None = None,
    half: bool = False,
) -> Outcome:
    """Make a model of a class and fit it by gradient steps, stopped early by the validation split where there is one.

    Args:
        job: the data and the place of the results.
        model_class: the class, whose family says what the numbers of a file are.
        arguments: arguments of its constructor. The first one names the output folder.
        training: options of `svi.fit`, by the names of its arguments.
        start: folder of a saved model of the same class and arguments, whose parameters are the start of the fit.
        half: whether the fitted parameters are rounded to half precision, and stored so.

    Raises:
        ValueError: arguments that the class does not take or that cannot be stored, an option that does not apply, or a
            source that is missing or cannot be read.
        OSError: a file could not be written; what was fitted until then is saved, and the error says where.
    """
    name = model_class.__name__
    where = checked_surroundings(training)
    folder, job = placed(job, name, _size(arguments), where)
    model = _made(model_class, arguments, job)
    check_trainable("pgm-rnn fit own", model)
    material = _material(job, model)
    check_driven(name, model.input_dim, material.train)
    x = material.train.x
    model = model.to(x.dtype) if x.is_floating_point() else model
    before = None if start is None else begin_with(model, start, job.registries)
    shown = "".join(f", {argument} {value}" for argument, value in arguments.items())
    title = f"{name}{shown}, {type(model.family).__name__} emission"
    more = {"start": before}
    return carried_out(job, folder, material, model, title, _judged(training, model), where, more, half=half)


def _size(arguments: Mapping[str, Any]) -> int | str:
    """The first argument, if it is a number or a word, for the name of the output folder."""
    first = next(iter(arguments.values()), "default")
    return first if isinstance(first, int) or re.fullmatch(r"[\w.-]+", str(first)) else "default"


def _made(model_class: type[SequenceModel], arguments: Mapping[str, Any], job: Job) -> SequenceModel:
    """A model with random parameters, which can be saved."""
    try:
        with seeded(job.seed):
            model = model_class(**arguments)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"expected arguments that {model_class.__name__} takes, got {given or 'none'}: {reason}"
        ) from error
    if not model.has_recipe:
        arguments_of(model, job.registries.families, {})
    return model


def _material(job: Job, model: SequenceModel) -> Material:
    """The data that the job names, as observations of the model's family."""
    material = material_of(job, FILE._replace(emission=None), model.family)
    if job.source in job.registries.datasets:
        check_family(model, material.family, job.source)
    return replace(material, family=model.family)


def _judged(training: Mapping[str, Any], model: SequenceModel) -> dict[str, Any]:
    """The training options, with enough particles for the validation bound, or none for an exact likelihood."""
    objective = chosen_objective(model, training.get("objective"))
    judges = None if objective == "mle" else training.get("valid_particles") or max(training["num_particles"], JUDGES)
    return {**training, "objective": objective, "valid_particles": judges}
