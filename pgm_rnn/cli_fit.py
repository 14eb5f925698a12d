"""The command line's `pgm-rnn fit`: which model, to what, and where the result goes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pgm_rnn.report.fitted import Job, Outcome

app = typer.Typer(no_args_is_help=True)

Data = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE", help="jsb, nottingham, synthetic-hmm, tiny-shakespeare, or a .csv, .npy or .npz."
    ),
]
Seed = Annotated[int, typer.Option(help="Of the fit, and of synthetic data.")]
Output = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Save the model here.", show_default="fits/MODEL-DATA-SIZE"),
]
Json = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results to this file too.")]
Column = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="With a file: take this column only; may be given again.", show_default="all"),
]
TestFraction = Annotated[
    float | None,
    typer.Option(help="With a file: the last part, of the series or of a single one's steps.", show_default="0.2"),
]
ValidFraction = Annotated[
    float | None,
    typer.Option(help="With a file: the part before the test, which says when to stop.", show_default="0.1"),
]
FileEmission = Annotated[
    str | None,
    typer.Option(
        help="With a file: gaussian (real numbers), poisson (counts), bernoulli (bits), categorical (symbols).",
        show_default="gaussian",
    ),
]
Epochs = Annotated[int, typer.Option(help="Passes over the training data, at most.")]
LearningRate = Annotated[float, typer.Option(help="Of Adam, the largest one.")]
Schedule = Annotated[str, typer.Option(help="Of the learning rate: constant, or cosine down to 0.")]
BatchSize = Annotated[int, typer.Option(help="Sequences a gradient step.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="cpu")]
Metrics = Annotated[Path | None, typer.Option(metavar="FILE", help="Append a line of JSON an epoch to this file.")]
Checkpoint = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Keep the state of the run here, every few minutes.")
]
CheckpointMinutes = Annotated[float, typer.Option(help="With --checkpoint: how often.")]
Resume = Annotated[bool, typer.Option("--resume", help="With --checkpoint: go on from what is there, if anything.")]
Iterations = Annotated[int, typer.Option(help="Of EM, at most.")]
Tolerance = Annotated[float, typer.Option(help="Stop when an iteration gains less, nats per step.")]


@app.command()
def hmm(
    data: Data,
    num_states: Annotated[int, typer.Option(help="How many hidden states.")],
    iterations: Iterations = 100,
    restarts: Annotated[
        int | None,
        typer.Option(
            help="Random starts side by side; the best on validation data is kept.", show_default="16, or what fits"
        ),
    ] = None,
    pseudo_count: Annotated[float, typer.Option(help="Added to every expected count.")] = 0.1,
    pseudo_observations: Annotated[
        float, typer.Option(help="Added to those of every state, spread like all the data.")
    ] = 2.0,
    tolerance: Tolerance = 1e-6,
    emission: FileEmission = None,
    column: Column = None,
    valid_fraction: Annotated[
        float | None,
        typer.Option(help="With a file: the part before the test that chooses the start.", show_default="0.1"),
    ] = None,
    test_fraction: TestFraction = None,
    seed: Seed = 0,
    output: Output = None,
    json: Json = None,
) -> None:
    """A hidden Markov model, by Baum-Welch from many starts."""
    from pgm_rnn.report.fitting import fit_hmm

    job = _job(data, seed, output, json, column, emission, valid_fraction, test_fraction)
    _end(
        fit_hmm(
            job,
            num_states=num_states,
            num_iterations=iterations,
            num_restarts=restarts,
            pseudo_count=pseudo_count,
            pseudo_observations=pseudo_observations,
            tolerance=tolerance,
        )
    )


@app.command()
def lgssm(
    data: Annotated[str, typer.Option(metavar="FILE", help="A .csv (a column a variable), .npy or .npz.")],
    latent_dim: Annotated[int, typer.Option(help="How many hidden numbers.")],
    iterations: Iterations = 500,
    tolerance: Tolerance = 1e-6,
    column: Column = None,
    valid_fraction: Annotated[
        float | None, typer.Option(help="With a file: a part before the test, scored too.", show_default="0")
    ] = None,
    test_fraction: TestFraction = None,
    seed: Annotated[int, typer.Option(help="Kept with the results; this fit draws nothing.")] = 0,
    output: Output = None,
    json: Json = None,
) -> None:
    """A linear-Gaussian state-space model, by EM from a start read off the data; missing numbers are summed out."""
    from pgm_rnn.report.fitting import fit_lgssm

    job = _job(data, seed, output, json, column, None, valid_fraction, test_fraction)
    _end(fit_lgssm(job, latent_dim=latent_dim, num_iterations=iterations, tolerance=tolerance))


@app.command()
def rnn(
    data: Data,
    cell: Annotated[str, typer.Option(help="elman, gru, lstm or another.")] = "lstm",
    hidden_dim: Annotated[int, typer.Option(help="The width of its hidden state.")] = 64,
    epochs: Epochs = 150,
    learning_rate: LearningRate = 1e-2,
    schedule: Schedule = "constant",
    batch_size: BatchSize = 16,
    emission: FileEmission = None,
    column: Column = None,
    valid_fraction: ValidFraction = None,
    test_fraction: TestFraction = None,
    device: Device = None,
    metrics: Metrics = None,
    checkpoint: Checkpoint = None,
    checkpoint_minutes: CheckpointMinutes = 2.0,
    resume: Resume = False,
    seed: Seed = 0,
    output: Output = None,
    json: Json = None,
) -> None:
    """A recurrent network, by gradient steps until the validation data say stop."""
    from pgm_rnn.checks import check_choice
    from pgm_rnn.models.cells import CELLS
    from pgm_rnn.report.gradient_fitting import Training, fit_by_gradient

    check_choice("--cell", cell, CELLS)
    job = _job(data, seed, output, json, column, emission, valid_fraction, test_fraction)
    training = Training(
        epochs,
        batch_size,
        learning_rate,
        schedule,
        device=device,
        metrics=metrics,
        checkpoint=checkpoint,
        checkpoint_seconds=60 * checkpoint_minutes,
        resume=resume,
    )
    _end(fit_by_gradient(job, f"rnn-{cell}", {"hidden_dim": hidden_dim}, training))


@app.command()
def markov_chain(
    data: Data,
    pseudo_count: Annotated[float, typer.Option(help="Added to every count.")] = 0.1,
    emission: Annotated[
        str | None,
        typer.Option(help="With a file: categorical (symbols) or bernoulli (bits).", show_default="categorical"),
    ] = None,
    column: Column = None,
    valid_fraction: ValidFraction = None,
    test_fraction: TestFraction = None,
    seed: Annotated[int, typer.Option(help="Of synthetic data; counting draws nothing.")] = 0,
    output: Output = None,
    json: Json = None,
) -> None:
    """A first-order Markov chain over symbols, or one for each bit, by counts."""
    from pgm_rnn.report.counting import fit_markov_chain

    job = _job(data, seed, output, json, column, emission, valid_fraction, test_fraction)
    _end(fit_markov_chain(job, pseudo_count=pseudo_count))


def exact(
    context: typer.Context,
    data: Data,
    num_states: Annotated[
        int | None, typer.Option(help="Hidden states of the HMM that it comes from.", show_default="needed for those")
    ] = None,
    hidden_dim: Annotated[
        int | None,
        typer.Option(help="The width of its hidden state, if it has one of its own.", show_default="its own"),
    ] = None,
    num_particles: Annotated[
        int | None, typer.Option(help="How many particles it carries, if any.", show_default="its own")
    ] = None,
    epochs: Epochs = 150,
    learning_rate: LearningRate = 1e-2,
    schedule: Schedule = "constant",
    batch_size: BatchSize = 16,
    emission: FileEmission = None,
    column: Column = None,
    valid_fraction: ValidFraction = None,
    test_fraction: TestFraction = None,
    device: Device = None,
    metrics: Metrics = None,
    checkpoint: Checkpoint = None,
    checkpoint_minutes: CheckpointMinutes = 2.0,
    resume: Resume = False,
    seed: Seed = 0,
    output: Output = None,
    json: Json = None,
) -> None:
    """A network whose likelihood is exact, by gradient steps until the validation data say stop."""
    from pgm_rnn.report.gradient_fitting import Training, fit_by_gradient

    job = _job(data, seed, output, json, column, emission, valid_fraction, test_fraction)
    training = Training(
        epochs,
        batch_size,
        learning_rate,
        schedule,
        device=device,
        metrics=metrics,
        checkpoint=checkpoint,
        checkpoint_seconds=60 * checkpoint_minutes,
        resume=resume,
    )
    sizes = {"num_states": num_states, "hidden_dim": hidden_dim, "num_particles": num_particles}
    _end(fit_by_gradient(job, str(context.info_name), sizes, training))


EXACT_MODELS = {
    "belief-rnn": "The forward algorithm of an HMM as a recurrent network, by gradient steps.",
    "particle-filter-rnn": "An HMM's seeded particle filter as a recurrent network; its laws of observations learn.",
    "multi-particle-rnn": "One recurrent cell from several trained starts, by gradient steps on the exact mixture.",
}
"""Models of the zoo that `exact` fits, by their names there."""


def latent(
    context: typer.Context,
    data: Data,
    latent_dim: Annotated[int, typer.Option(help="How many hidden numbers.")],
    hidden_dim: Annotated[
        int | None, typer.Option(help="The width of the networks, for models that have any.", show_default="its own")
    ] = None,
    objective: Annotated[str, typer.Option(help="What to maximise: elbo, iwae or fivo.")] = "elbo",
    num_particles: Annotated[int, typer.Option(help="Draws a sequence, or particles of fivo's filter.")] = 1,
    kl_warmup: Annotated[
        float, typer.Option(help="With elbo: epochs in which log p(z) - log q(z) comes to count in full.")
    ] = 0.0,
    epochs: Epochs = 150,
    learning_rate: LearningRate = 3e-3,
    schedule: Schedule = "constant",
    batch_size: BatchSize = 16,
    emission: FileEmission = None,
    column: Column = None,
    valid_fraction: ValidFraction = None,
    test_fraction: TestFraction = None,
    device: Device = None,
    metrics: Metrics = None,
    checkpoint: Checkpoint = None,
    checkpoint_minutes: CheckpointMinutes = 2.0,
    resume: Resume = False,
    seed: Seed = 0,
    output: Output = None,
    json: Json = None,
) -> None:
    """A model with latent states and a guide, by gradient steps on a bound until the validation data say stop."""
    from pgm_rnn.checks import check_choice
    from pgm_rnn.report.gradient_fitting import Training, fit_by_gradient

    check_choice("--objective", objective, ("elbo", "iwae", "fivo"))
    job = _job(data, seed, output, json, column, emission, valid_fraction, test_fraction)
    particles = {"num_particles": num_particles, "valid_particles": max(num_particles, VALID_PARTICLES)}
    training = Training(
        epochs,
        batch_size,
        learning_rate,
        schedule,
        objective,
        **particles,
        kl_warmup=kl_warmup,
        device=device,
        metrics=metrics,
        checkpoint=checkpoint,
        checkpoint_seconds=60 * checkpoint_minutes,
        resume=resume,
    )
    sizes = {"latent_dim": latent_dim, "hidden_dim": hidden_dim}
    _end(fit_by_gradient(job, str(context.info_name), sizes, training))


VALID_PARTICLES = 16
"""At least as many judge the validation data: the noise of fewer would stop a fit early."""
LATENT_MODELS = {
    "noisy-rnn": "A recurrent network with noise on its state and its output, by gradient steps on a bound.",
    "dmm": "A deep Markov model, by gradient steps on a bound; its guide reads the future.",
    "vrnn": "A variational recurrent network, by gradient steps on a bound.",
}
"""Models of the zoo that `latent` fits, by their names there."""

for _models, _fit in ((EXACT_MODELS, exact), (LATENT_MODELS, latent)):
    for _name, _help in _models.items():
        app.command(_name, help=_help)(_fit)


def _job(
    data: str,
    seed: int,
    output: Path | None,
    json: Path | None,
    columns: list[str] | None,
    emission: str | None,
    valid_fraction: float | None,
    test_fraction: float | None,
) -> "Job":
    from pgm_rnn.report.fitted import Job
    from pgm_rnn.report.material import FileOptions

    return Job(data, seed, output, json, FileOptions(tuple(columns or ()), emission, valid_fraction, test_fraction))


def _end(outcome: "Outcome") -> None:
    """Exit status 130 after an interrupt, as a shell expects."""
    if outcome.stopped_by == "interrupt":
        raise typer.Exit(130)
