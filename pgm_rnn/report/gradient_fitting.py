"""`pgm-rnn fit` of models that learn by gradient steps: networks, and models whose latent states have a guide."""

import dataclasses
import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.data import list_datasets
from pgm_rnn.data.piano_rolls import NUM_KEYS, transposed
from pgm_rnn.emissions import Bernoulli, Gaussian, NadeBits
from pgm_rnn.inference import svi
from pgm_rnn.inference.svi.objectives import check_objective, chosen_objective
from pgm_rnn.inference.svi.plan import Plan
from pgm_rnn.inference.svi.processes import launched
from pgm_rnn.models.registry import get_model, model_info
from pgm_rnn.report.fitted import Job, Outcome, announce, check_job, counted, finish, material_of
from pgm_rnn.report.keeping import halved
from pgm_rnn.report.material import FileOptions, Material
from pgm_rnn.report.records import check_appendable
from pgm_rnn.report.saved import open_saved
from pgm_rnn.report.unfinished import finish_or_fail, fitted
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.storage import holds_model

FILE = FileOptions(emission="gaussian", valid_fraction=0.1, test_fraction=0.2)
"""How a file is taken unless the job says otherwise; validation data say when to stop."""


@dataclass(frozen=True)
class Training:
    """What `svi.fit` is told, by the names of its arguments."""

    num_epochs: int
    batch_size: int
    learning_rate: float
    schedule: str = "constant"
    objective: str | None = None
    num_particles: int = 1
    valid_particles: int | None = None
    kl_warmup: float = 0
    patience: int = 10
    weight_decay: float = 0.0
    device: str | None = None
    metrics: Path | None = None
    checkpoint: Path | None = None
    checkpoint_seconds: float = 120.0
    resume: bool = False

    def check(self, model: SequenceModel, data: Sequences) -> str:
        """The objective, None resolved; everything that can be wrong is found out before the work.

        Raises:
            ValueError: options out of range or not for this model.
        """
        objective = chosen_objective(model, self.objective)
        planned = {field.name for field in dataclasses.fields(Plan)}
        options = {name: value for name, value in vars(self).items() if name in planned}
        plan = Plan(**options | {"objective": objective})
        check_objective(model, objective, plan.num_particles, plan.kl_warmup, data)
        if self.resume and self.checkpoint is None:
            raise ValueError("expected --checkpoint with --resume, got none; it names the folder to go on from")
        if self.device is not None:
            svi.checked_device(self.device)
        return objective


def fit_by_gradient(
    job: Job,
    name: str,
    sizes: Mapping[str, int | str | None],
    training: Training,
    *,
    transpose: int = 0,
    nade_dim: int | None = None,
    start: Path | None = None,
    half: bool = False,
) -> Outcome:
    """Fit a model of the zoo by gradient steps, stopped early by the validation split where there is one.

    Args:
        job: the data, and where the result goes.
        name: of the model in the zoo.
        sizes: its options; None for what was not given. The first one names the folder.
        training: how.
        transpose: how many keys off the copies of a piano roll go that are trained on too, in both directions.
        nade_dim: of `NadeBits`, which take the place of independent bits; None leaves them independent.
        start: of a saved model of the same shape, whose numbers the fit begins with.
        half: whether the numbers are rounded to half precision in the end, and stored so.

    Raises:
        ValueError: arguments out of range or not for this model, a source that is not there or cannot be read.
        OSError: a file could not be written; what was fitted until then is saved, and the error says where.
    """
    given = {size: value for size, value in sizes.items() if value is not None}
    _check_sizes(name, given)
    resumed = training.checkpoint if training.resume else None
    folder = check_job(job, name, next(iter(given.values()), "default"), resumed)
    job = replace(job, overwrite=job.overwrite or holds_model(folder))  # a run that goes on replaces what it saved
    if training.metrics is not None:
        check_appendable(training.metrics)
    material = _transposed(_with_nade(_material(job, name), nade_dim), transpose)
    made = get_model(name, seed=job.seed, emission=material.family, **given)
    x = material.train.x
    model = made.to(x.dtype) if x.is_floating_point() else made
    before = None if start is None else _begin_with(model, start)
    shown = "".join(f", {size.replace('_', ' ')} {value}" for size, value in given.items())
    objective = training.check(model, material.train)
    particles = f" with {counted(training.num_particles, 'particle')}" if objective != "mle" else ""
    title = f"{name}{shown}, {type(material.family).__name__} emission, Adam on {objective}{particles}"
    options = vars(training) | {"objective": objective}
    start_time = time.perf_counter()
    with launched(training.device) as first:
        if first:
            announce(job, material, title)
        found, failure = fitted(
            model, options, lambda: svi.fit(model, material.train, material.valid, seed=job.seed, **options)
        )
    half, why = halved(model) if half else (False, "")
    best = "those of the best epoch so far" if found is None else f"those of epoch {found.best_epoch}, the best"
    judged = f"{best} on the validation data" if material.valid is not None else "the last ones"
    remark = f"the parameters are {judged}" + (f"\n{why}" if why else "")
    plain = {option: str(value) if isinstance(value, Path) else value for option, value in options.items()}
    plain |= {"transpose": transpose, "nade_dim": nade_dim, "start": before}
    ended_by: str
    num_epochs: int | None
    if found is None:
        ended_by, num_epochs, seconds = "error", None, time.perf_counter() - start_time
    else:
        ended_by, num_epochs, seconds = found.stopped_by, len(found.history), found.seconds
    outcome = Outcome(model, ended_by, num_epochs, "epoch", seconds, remark, plain, half)
    if first:
        way_out = "go on with --resume" if training.checkpoint else f"go on from its numbers with --start {folder}"
        finish_or_fail(lambda: finish(job, folder, material, outcome), folder, failure, way_out)
    return outcome


def _with_nade(material: Material, nade_dim: int | None) -> Material:
    """The same observations, their bits with laws in which each knows those before it."""
    if nade_dim is None:
        return material
    if not isinstance(material.family, Bernoulli) or material.family.size is None:
        raise ValueError(f"expected vectors of bits with --nade-dim, got {material.family.support}; leave it out")
    check_counts(nade_dim=nade_dim)
    return replace(material, family=NadeBits(material.family.size, nade_dim))


def _transposed(material: Material, num_keys: int) -> Material:
    """The same material, with copies of its training data that are up to `num_keys` keys off."""
    if num_keys == 0:
        return material
    if material.family.event_shape != (NUM_KEYS,) or material.single:
        raise ValueError("expected piano rolls of 88 keys with --transpose, got other data; leave it out")
    return replace(material, train=transposed(material.train, num_keys))


def _begin_with(model: SequenceModel, start: Path) -> dict[str, Any]:
    """Give a model the numbers of a saved one, and return what is known of how that was fitted.

    Raises:
        StorageError: no saved model is there.
        ValueError: it has another shape.
    """
    saved = open_saved(start)
    mine, its = (found.recipe for found in (model, saved.model))
    if its != mine or saved.model.family != model.family:
        raise ValueError(
            f"expected --start to name a {mine[0]} with {mine[1]}, got a {its[0]} with {its[1]} in {start}"
        )
    model.load_state_dict(saved.model.state_dict())
    return {name: saved.info.get(name) for name in ("command", "seconds", "epochs", "fit")}


def _check_sizes(name: str, sizes: Mapping[str, int | str]) -> None:
    taken = inspect.signature(model_info(name).make).parameters
    for size, parameter in taken.items():
        if size in ("num_states", "latent_dim") and parameter.default is parameter.empty and size not in sizes:
            raise ValueError(f"expected --{size.replace('_', '-')} for {name}, got none")
    check_counts(**{size: value for size, value in sizes.items() if not isinstance(value, str)})


def _material(job: Job, name: str) -> Material:
    """What the job names; vectors of real numbers where the model takes nothing else."""
    vectors = model_info(name).families == (Gaussian,)
    if not vectors or job.source in list_datasets():
        material = material_of(job, FILE)
    else:
        if job.file.emission is not None:
            check_choice("--emission", job.file.emission, ("gaussian",))
        material = material_of(Job(job.source, file=job.file._replace(emission=None)), FILE._replace(emission=None))
        if bool(material.train.x.isnan().any()):
            raise ValueError(f"expected every number to be there for {name}, got missing ones; fill them in")
    family = material.family
    if vectors and (not isinstance(family, Gaussian) or family.size is None):
        raise ValueError(
            f"expected vectors of real numbers for {name}, got {job.source}, whose observations are {family.support}; "
            "use pgm-rnn fit hmm or rnn, or a file"
        )
    return material
