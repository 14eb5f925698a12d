"""`fit`: its options, its checkpoints and its processes."""

import os

import pyro
import torch

from pgm_rnn.inference.svi.evaluation import num_modelled
from pgm_rnn.inference.svi.goals import SequenceGoal
from pgm_rnn.inference.svi.objectives import check_objective, chosen_objective
from pgm_rnn.inference.svi.plan import Plan
from pgm_rnn.inference.svi.processes import Processes
from pgm_rnn.inference.svi.session import RANK_STREAM, Files, carried_out, on_device
from pgm_rnn.inference.svi.training import Fit
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences, as_sequences


def fit(
    model: SequenceModel,
    train: Sequences | torch.Tensor,
    valid: Sequences | torch.Tensor | None = None,
    objective: str | None = None,
    num_particles: int = 1,
    *,
    num_epochs: int = 100,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    clip_norm: float = 5.0,
    schedule: str = "constant",
    lr_warmup: float = 0,
    kl_warmup: float = 0,
    patience: int = 10,
    valid_particles: int | None = None,
    metrics: str | os.PathLike[str] | None = None,
    tensorboard: str | None = None,
    device: str | None = None,
    seed: int = 0,
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 120.0,
) -> Fit:
    """Maximise sum_i log p(x^{(i)}) (Choe et al., 2017, sec. 3.1), or a lower bound on it, with Adam, in place.

    The parameters at the end are those of the epoch with the lowest validation loss, or the last ones without
    validation data. The same model, data and seed give the same parameters bit for bit on one machine's CPU, also if
    the run is killed and goes on from its checkpoint, however often.

    Where torch.distributed's default process group is initialised, as under torchrun, every process calls `fit` with
    the same arguments and takes its part of each minibatch of `batch_size`; all end with the same parameters. The
    objective "mle" then has the loss curve of a single process, to rounding; the draws of a guide or a filter are each
    process's own, so that other objectives have one of the same law. The first process writes what is written.

    Args:
        model: any model.
        train: a padded batch, or a tensor (batch, T, *event) without padding.
        valid: the same, for early stopping by the objective's bound, with the same random numbers after every epoch.
        objective: "mle", "elbo", "iwae" or "fivo"; None for "mle" where the model is `exact`, "elbo" otherwise.
        num_particles: K draws of the guide a sequence, or N particles of the filter.
        num_epochs: passes over the training data, at most.
        batch_size: sequences a step.
        learning_rate: of Adam, the largest one.
        weight_decay: of AdamW, decoupled.
        clip_norm: largest norm of a gradient (nats per step).
        schedule: of the learning rate, "constant", or "cosine" down to 0 over `num_epochs`.
        lr_warmup: epochs over which the learning rate rises linearly; parts of an epoch are fine.
        kl_warmup: epochs over which the weight of log p(z) - log q(z) rises linearly to 1, objective "elbo" only.
        patience: epochs without a better validation loss, none of them in the KL warm-up, before it stops.
        valid_particles: of the validation bound, `num_particles` if None.
        metrics: a file to which each epoch appends a line of JSON: losses, learning rate, KL weight, seconds.
        tensorboard: a folder for the same numbers as TensorBoard shows them.
        device: "cpu" or "cuda", where model and data are taken for the fit; the model comes back to where it was.
            None leaves both where they are.
        seed: of the order of the data and of anything drawn.
        progress: a bar on a terminal.
        checkpoint: a folder for the state of the run, which one run at a time has to itself.
        resume: go on from the checkpoint in it, if there is one; without it such a folder is an error.
        checkpoint_seconds: from one checkpoint to the next, or longer where writing one would take more than 1 % of
            that time; 0 for one after every step.

    Raises:
        CheckpointError: a checkpoint that is damaged, of another run, or there without `resume`.
        ProcessLostError: another process of the fit ended, or did not answer within its group's timeout.
        ValueError, TypeError: data or options that do not fit, or no CUDA where it is asked for.
        OSError: `metrics` or `checkpoint` cannot be written, or another run is using that folder.
        ModuleNotFoundError: `tensorboard` is given and the package is not installed.
        FloatingPointError: the loss became NaN or infinite; the parameters are those of the best epoch so far.
    """
    if not isinstance(model, SequenceModel):
        raise TypeError(f"expected a SequenceModel, such as RNN or HMM, got {type(model).__name__}")
    files = Files(metrics, tensorboard, checkpoint, resume, checkpoint_seconds)
    objective = chosen_objective(model, objective)
    plan = Plan(
        objective=objective,
        num_particles=num_particles,
        num_epochs=num_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        schedule=schedule,
        lr_warmup=lr_warmup,
        kl_warmup=kl_warmup,
        patience=patience,
        valid_particles=valid_particles,
        seed=seed,
        progress=progress,
    )
    train, valid = as_sequences(train), None if valid is None else as_sequences(valid)
    with on_device(model, device) as away:
        if device is not None:
            train, valid = train.to(away), None if valid is None else valid.to(away)
        for data in (train, valid):
            if data is not None:
                model.check(data.x, data.lengths)
                num_modelled(model, data.lengths)
        processes = Processes(away)
        stream = 3 + RANK_STREAM * processes.rank
        with pyro.settings.context(module_local_params=True), seeded(seed, stream=stream):
            check_objective(model, objective, num_particles, kl_warmup, train)
            ended = carried_out(SequenceGoal(model, train, valid, plan), plan, files, processes)
    return Fit(model, *ended, objective, num_particles)
