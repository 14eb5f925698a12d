"""`fit`: maximum likelihood and variational inference by gradient steps, with checkpoints and several processes."""

import warnings
from typing import Any

import pyro

from pgm_rnn.checks import by_keyword
from pgm_rnn.inference import at_limits
from pgm_rnn.inference.suitable import check_trainable, no_model
from pgm_rnn.inference.svi import unfinished
from pgm_rnn.inference.svi.evaluation import num_modelled
from pgm_rnn.inference.svi.goals import SequenceGoal
from pgm_rnn.inference.svi.objectives import check_objective, chosen_objective
from pgm_rnn.inference.svi.options import among, check_options, take_options
from pgm_rnn.inference.svi.plan import Plan, Surroundings
from pgm_rnn.inference.svi.processes import Processes
from pgm_rnn.inference.svi.session import RANK_STREAM, carried_out, on_device
from pgm_rnn.inference.svi.training import Fit
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import as_batch, checked, marked
from pgm_rnn.sequences import Data, Sequences


@by_keyword
@take_options(Plan, Surroundings)
def fit(
    model: SequenceModel,
    train: Data,
    valid: Data | None = None,
    *,
    objective: str | None = None,
    num_particles: int = Plan.num_particles,
    **options: Any,
) -> Fit:
    """Maximise sum_i log p(x^{(i)}) (Choe et al., 2017, sec. 3.1), or a lower bound on it, with Adam, in place.

    The parameters at the end are those of the epoch with the lowest validation loss, or the last ones without
    validation data. The same model, data and seed give the same parameters bit for bit on one machine's CPU, also if
    the run is killed and resumed from its checkpoint, however often.

    With the objective "mle", a concentration, degrees of freedom or a dispersion that ends at the limit of what
    `em.fit` searches is named by a `LimitWarning`, with its state and what it means, and so is a scale that vanishes.
    An `UnfinishedWarning` says that the log likelihood was still rising at `num_epochs`
    (`pgm_rnn.inference.svi.unfinished`).

    Where torch.distributed's default process group is initialised, as under torchrun, every process calls `fit` with
    the same arguments and takes its share of each minibatch of `batch_size`; all end with the same parameters. The
    objective "mle" then has the loss curve of a single process, up to rounding. Other objectives have a loss curve of
    the same distribution, because each process draws from the guide or filter by itself. Only the first process writes
    files.

    Args:
        model: any model.
        train: a padded batch, observations (batch, T, *event), or one sequence (T, *event), as any `Data`. Entries that
            are missing, False in the mask of a batch or NaN where it has none, are integrated out; steps without any
            observed entry do not count in nats per step.
        valid: validation data for early stopping by the objective, with the same random numbers after every epoch.
        objective: "mle", "elbo", "iwae" or "fivo"; None for "mle" where the model is `exact`, "elbo" otherwise.
        num_particles: K draws of the guide per sequence, or N particles of the filter.
        options: the fields of `Plan` and `Surroundings` (`pgm_rnn.inference.svi.plan`), by keyword.

    Raises:
        CheckpointError: the checkpoint is damaged, belongs to another run, or exists although `resume` is not given.
        ProcessLostError: another process of the fit ended, or did not answer within its group's timeout.
        ValueError, TypeError: data or options that do not fit, a model without parameters to train, or no CUDA on this
            machine although it is asked for.
        OSError: `metrics` or `checkpoint` cannot be written, or another run is using that folder.
        ModuleNotFoundError: `tensorboard` is given and the package is not installed.
        FloatingPointError: the loss became NaN or infinite; the parameters are those of the best epoch so far.
    """
    if not isinstance(model, SequenceModel):
        raise no_model(model)
    check_trainable("svi.fit", model)
    check_options(fit, options)
    where = Surroundings(**among(options, Surroundings))
    objective = chosen_objective(model, objective)
    plan = Plan(objective=objective, num_particles=num_particles, **among(options, Plan))
    train = marked(model, as_batch(model, train))
    valid = None if valid is None else marked(model, _validation(model, train, valid))
    with on_device(model, where.device) as away:
        if where.device is not None:
            train, valid = train.to(away), None if valid is None else valid.to(away)
        for data in (train, valid):
            if data is not None:
                num_modelled(model, checked(model, data))
        processes = Processes(away)
        stream = 3 + RANK_STREAM * processes.rank
        with pyro.settings.context(module_local_params=True), seeded(plan.seed, stream=stream):
            check_objective(model, objective, num_particles, plan.kl_warmup, train)
            goal = SequenceGoal(model, train, valid, plan)
            ended = carried_out(goal, plan, where, processes)
    if objective == "mle":
        fitted = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        vanishing = at_limits.of_scales(model, train.x, fitted)
        for note in [*vanishing, *at_limits.of_model(model)]:
            warnings.warn(note, at_limits.LimitWarning, stacklevel=3)
        for note in [] if vanishing else unfinished.of_fit(goal, ended.history, ended.stopped_by):
            warnings.warn(note, unfinished.UnfinishedWarning, stacklevel=3)
    return Fit(model, *ended, objective, num_particles)


def _validation(model: SequenceModel, train: Sequences, valid: Data) -> Sequences:
    """Validation data as a batch; where they are none, but may be meant as the lengths of `train`, that is said."""
    try:
        return as_batch(model, valid)
    except ValueError as error:
        if getattr(valid, "shape", None) != train.lengths.shape:
            raise
        raise ValueError(
            f"{error}; lengths are given with the observations, as Sequences(x, lengths) or pgm_rnn.pad([...])"
        ) from None
