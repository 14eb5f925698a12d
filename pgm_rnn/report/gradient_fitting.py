"""`pgm-rnn fit` of models that learn by gradient steps: networks, and models whose latent states have a guide."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.data.piano_rolls import NUM_KEYS, transposed
from pgm_rnn.emissions import Bernoulli, Gaussian, NadeBits
from pgm_rnn.inference import svi
from pgm_rnn.inference.svi.checkpoints import holds_checkpoint
from pgm_rnn.inference.svi.objectives import check_objective, chosen_objective
from pgm_rnn.inference.svi.options import among
from pgm_rnn.inference.svi.plan import Plan, Surroundings
from pgm_rnn.inference.svi.processes import launched
from pgm_rnn.kernels.compilation import working_seconds
from pgm_rnn.models.info import ModelInfo
from pgm_rnn.models.registry import made_by, model_info
from pgm_rnn.registries import Registries
from pgm_rnn.report.chain_starts import move_near
from pgm_rnn.report.driving import check_driven
from pgm_rnn.report.fitted import (
    Job,
    Outcome,
    announce,
    check_job,
    counted,
    finish,
    material_of,
    name_and_sizes,
)
from pgm_rnn.report.keeping import halved
from pgm_rnn.report.material import FileOptions, Material
from pgm_rnn.report.notes import as_notes, noted
from pgm_rnn.report.records import check_appendable
from pgm_rnn.report.saved import open_saved
from pgm_rnn.report.unfinished import finish_or_fail, fitted
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import check_memory
from pgm_rnn.sequences import Sequences
from pgm_rnn.storage import holds_model

FILE = FileOptions(valid_fraction=0.1, test_fraction=0.2)
"""How a file is read and split by default; the validation data are used for early stopping."""


def checked_objective(options: Mapping[str, Any], model: SequenceModel, data: Sequences) -> str:
    """The objective, with None resolved. All options are checked now, before the fit.

    Args:
        options: options of `svi.fit`, by the names of its arguments.
        model: the model to fit.
        data: the training data.

    Raises:
        ValueError: an option is out of range, or does not apply to this model.
    """
    objective = chosen_objective(model, options.get("objective"))
    plan = Plan(**among(options, Plan) | {"objective": objective})
    check_objective(model, objective, plan.num_particles, plan.kl_warmup, data)
    return objective


def checked_surroundings(options: Mapping[str, Any]) -> Surroundings:
    """The options on where a fit runs and what it writes, checked before the fit.

    Raises:
        ValueError: `resume` without a checkpoint folder, or a device that this machine lacks.
        OSError: the metrics file cannot be written.
    """
    if options.get("resume") and options.get("checkpoint") is None:
        raise ValueError("expected --checkpoint with --resume, got none; name the folder to continue from")
    where = Surroundings(**among(options, Surroundings))
    if where.device is not None:
        svi.checked_device(where.device)
    if where.metrics is not None:
        check_appendable(Path(where.metrics))
    return where


def fit_by_gradient(
    job: Job,
    name: str,
    sizes: Mapping[str, int | str | None],
    training: Mapping[str, Any],
    *,
    transpose: int = 0,
    nade_dim: int | None = None,
    start: Path | None = None,
    half: bool = False,
) -> Outcome:
    """Fit a model of the zoo by gradient steps, stopped early by the validation split where there is one.

    Args:
        job: the data and the place of the results.
        name: name of the model in the zoo.
        sizes: the model's options, None for those not given. The first one names the output folder.
        training: options of `svi.fit`, by the names of its arguments.
        transpose: piano rolls are also trained on copies transposed by up to this many keys, up and down.
        nade_dim: hidden width of the `NadeBits` that replace independent bits; None leaves bits independent.
        start: folder of a saved model of the same shape, whose parameters are the start of the fit.
        half: whether the fitted parameters are rounded to half precision, and stored so.

    Raises:
        ValueError: an argument is out of range or does not apply to this model, or the source is missing or cannot be
            read.
        OSError: a file could not be written; what was fitted until then is saved, and the error says where.
    """
    given = {size: value for size, value in sizes.items() if value is not None}
    info = model_info(name, models=job.registries.models)
    _check_sizes(info, sizes)
    where = checked_surroundings(training)
    folder, job = placed(job, name, next(iter(given.values()), "default"), where)
    material = _transposed(_with_nade(_material(job, info), nade_dim), transpose)
    x, inputs = material.train.x, material.train.inputs
    driven = {info.inputs: inputs.shape[-1]} if inputs is not None and info.inputs else {}
    made = made_by(info, seed=job.seed, emission=material.family, **given, **driven)
    check_driven(info.name, made.input_dim, material.train)
    model = made.to(x.dtype) if x.is_floating_point() else made
    if material.train.observed is not None:
        check_memory(model)
    before = None if start is None else begin_with(model, start, job.registries)
    goes_on = where.resume and where.checkpoint is not None and holds_checkpoint(where.checkpoint)
    near = "" if goes_on or start is not None else move_near(model, material.train, job.seed)
    shown = "".join(f", {size.replace('_', ' ')} {value}" for size, value in given.items())
    title = f"{name}{shown}, {type(material.family).__name__} emission{', ' * bool(near)}{near}"
    more = {"transpose": transpose, "nade_dim": nade_dim, "start": before}
    return carried_out(job, folder, material, model, title, training, where, more, half=half)


def placed(job: Job, model: str, size: int | str, where: Surroundings) -> tuple[Path, Job]:
    """The folder to save in, and the job, which may replace what a run that it resumes has saved there before.

    Raises:
        ValueError: as `check_job`.
    """
    resumed = Path(where.checkpoint) if where.resume and where.checkpoint is not None else None
    folder = check_job(job, model, size, resumed)
    return folder, replace(job, overwrite=job.overwrite or holds_model(folder))


def carried_out(
    job: Job,
    folder: Path,
    material: Material,
    model: SequenceModel,
    title: str,
    training: Mapping[str, Any],
    where: Surroundings,
    more: Mapping[str, object],
    *,
    half: bool,
) -> Outcome:
    """Fit a model, score it, print the scores and save it.

    Args:
        job: the data and the place of the results.
        folder: the folder to save in.
        material: the data.
        model: the model, in the dtype of the data.
        title: what is fitted, for the first line.
        training: options of `svi.fit`, by the names of its arguments.
        where: where the fit runs and what it writes.
        more: further options, for the record.
        half: whether the fitted parameters are rounded to half precision, and stored so.

    Raises:
        ValueError: an option does not apply to this model.
        OSError: a file could not be written; what was fitted until then is saved, and the error says where.
    """
    objective = checked_objective(training, model, material.train)
    particles = f" with {counted(training['num_particles'], 'particle')}" if objective != "mle" else ""
    title = f"{title}, Adam on {objective}{particles}"
    options = {**training, "objective": objective}
    start_time = working_seconds()
    with launched(where.device) as first:
        if first:
            announce(job, material, title)
        with noted(svi.FitWarning) as said:
            found, failure = fitted(
                model, options, lambda: svi.fit(model, material.train, material.valid, seed=job.seed, **options)
            )
    half, why = halved(model) if half else (False, "")
    best = "those of the best epoch so far" if found is None else f"those of epoch {found.best_epoch}, the best"
    judged = f"{best} on the validation data" if material.valid is not None else "the last ones"
    remark = "\n".join([f"the parameters are {judged}", *([why] if why else []), *as_notes(said)])
    plain = {option: str(value) if isinstance(value, Path) else value for option, value in options.items()}
    plain |= more
    ended_by: str
    num_epochs: int | None
    if found is None:
        ended_by, num_epochs, seconds = "error", None, working_seconds() - start_time
    else:
        ended_by, num_epochs, seconds = found.stopped_by, len(found.history), found.seconds
    outcome = Outcome(model, ended_by, num_epochs, "epoch", seconds, remark, plain, half)
    if first:
        way_out = (
            "continue with --resume" if where.checkpoint else f"continue from its parameters with --start {folder}"
        )
        finish_or_fail(lambda: finish(job, folder, material, outcome), folder, failure, way_out)
    return outcome


def _with_nade(material: Material, nade_dim: int | None) -> Material:
    """The same observations, with a NADE that models each bit given those before it."""
    if nade_dim is None:
        return material
    if not isinstance(material.family, Bernoulli) or material.family.size is None:
        raise ValueError(f"expected vectors of bits with --nade-dim, got {material.family.support}; leave it out")
    check_counts(nade_dim=nade_dim)
    return replace(material, family=NadeBits(material.family.size, nade_dim))


def _transposed(material: Material, num_keys: int) -> Material:
    """The same material, with copies of its training data transposed by up to `num_keys` keys, up and down."""
    if num_keys == 0:
        return material
    if material.family.event_shape != (NUM_KEYS,) or material.single:
        raise ValueError("expected piano rolls of 88 keys with --transpose, got other data; leave it out")
    return replace(material, train=transposed(material.train, num_keys))


def begin_with(model: SequenceModel, start: Path, registries: Registries) -> dict[str, Any]:
    """Copy the parameters of a saved model into a model, and return the record of the saved model's fit.

    Raises:
        StorageError: there is no saved model.
        ValueError: the saved model has another shape.
    """
    saved = open_saved(start, registries, None if model.has_recipe else type(model))
    mine, its = (name_and_sizes(found, registries) for found in (model, saved.model))
    if its != mine or saved.model.family != model.family:
        raise ValueError(
            f"expected --start to name a {mine[0]} with {mine[1]}, got a {its[0]} with {its[1]} in {start}"
        )
    model.load_state_dict(saved.model.state_dict())
    return {name: saved.info.get(name) for name in ("command", "seconds", "epochs", "fit")}


def _check_sizes(info: ModelInfo, sizes: Mapping[str, int | str | None]) -> None:
    """Raise a ValueError unless every required size is given and every size is a positive integer."""
    taken = inspect.signature(info.make).parameters
    for size, value in sizes.items():
        if value is None and taken[size].default is inspect.Parameter.empty:
            raise ValueError(f"expected --{size.replace('_', '-')} for {info.name}, got none")
    check_counts(**{size: value for size, value in sizes.items() if isinstance(value, int)})


def _material(job: Job, info: ModelInfo) -> Material:
    """The data that the job names, as vectors of real numbers if the model takes nothing else."""
    vectors = info.only_vectors and info.families == (Gaussian,)
    file = FILE if info.fit is None else FILE._replace(valid_fraction=info.fit.valid_fraction)
    if not vectors or job.source in job.registries.datasets:
        material = material_of(job, file)
    else:
        if job.file.emission is not None:
            check_choice("--emission", job.file.emission, ("gaussian",))
        whole = replace(job, seed=0, file=job.file._replace(emission=None))
        material = material_of(whole, file._replace(kind=("real",)))
        if material.train.observed is not None:
            raise ValueError(f"expected no missing values for {info.name}, got some; fill them in")
    if not info.takes(material.family):
        taken = [name for name, each in job.registries.families.items() if any(map(info.takes, each.examples.values()))]
        wanted = "vectors of real numbers" if vectors else f"{' or '.join(taken)} observations"
        raise ValueError(
            f"expected {wanted} for {info.name}, got {job.source}, whose observations are {material.family.support}; "
            "use pgm-rnn fit hmm or rnn, or a file"
        )
    return material
