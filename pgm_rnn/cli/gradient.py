"""The command line's `pgm-rnn fit` of models that learn by gradient steps: one table of options, a command a model.

A command takes the sizes of its model and the options of `svi.fit` that its objective has; what an option is called
here, it is called in `svi.fit`, `--epochs` for num_epochs apart.
"""

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from pgm_rnn.cli.options import (
    Column,
    Data,
    FileEmission,
    Json,
    Output,
    Overwrite,
    Seed,
    TestFraction,
    ValidFraction,
    end,
    job_of,
)

VALID_PARTICLES = 16
"""At least as many judge the validation data: the noise of fewer would stop a fit early."""

SIZES: dict[str, Any] = {
    "num_states": Annotated[
        int | None, typer.Option(help="Hidden states of the HMM that it comes from.", show_default="needed")
    ],
    "latent_dim": Annotated[int | None, typer.Option(help="How many hidden numbers.", show_default="its own")],
    "cell": Annotated[
        str | None, typer.Option(help="Of the recurrence: elman, gru, lstm or another.", show_default="its own")
    ],
    "hidden_dim": Annotated[
        int | None, typer.Option(help="The width of its hidden state, or of its networks.", show_default="its own")
    ],
    "guide_dim": Annotated[
        int | None, typer.Option(help="The width of the guide's network.", show_default="--hidden-dim")
    ],
    "num_layers": Annotated[int | None, typer.Option(help="How many layers are stacked.", show_default="1")],
    "num_particles": Annotated[int | None, typer.Option(help="How many it carries.", show_default="its own")],
}
"""Options of models, by the names of their arguments."""

LEARNING: dict[str, Any] = {
    "epochs": Annotated[int, typer.Option(help="Passes over the training data, at most.")],
    "learning_rate": Annotated[float, typer.Option(help="Of Adam, the largest one.")],
    "schedule": Annotated[str, typer.Option(help="Of the learning rate: constant, or cosine down to 0.")],
    "batch_size": Annotated[int, typer.Option(help="Sequences a gradient step.")],
    "weight_decay": Annotated[float, typer.Option(help="Of AdamW: it pulls the numbers towards 0.")],
    "patience": Annotated[int, typer.Option(help="Epochs without a better validation loss before it stops.")],
    "transpose": Annotated[int, typer.Option(help="Piano rolls: train on copies up to so many keys off, too.")],
    "nade_dim": Annotated[
        int | None,
        typer.Option(help="Bits: laws in which each knows those before it, so wide.", show_default="independent bits"),
    ],
    "start": Annotated[Path | None, typer.Option(metavar="FOLDER", help="Begin with the numbers of this saved model.")],
    "half": Annotated[
        bool, typer.Option("--half", help="Round to half precision in the end and store so, in half the space.")
    ],
}
BOUND: dict[str, Any] = {
    "objective": Annotated[str, typer.Option(help="What to maximise: elbo, iwae or fivo.")],
    "num_particles": Annotated[int, typer.Option(help="Draws a sequence, or particles of fivo's filter.")],
    "valid_particles": Annotated[
        int | None, typer.Option(help="The same, for the validation data.", show_default=f"{VALID_PARTICLES} or more")
    ],
    "kl_warmup": Annotated[
        float, typer.Option(help="With elbo: epochs in which log p(z) - log q(z) comes to count in full.")
    ],
}
RUN: dict[str, Any] = {
    "device": Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="cpu")],
    "metrics": Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a line of JSON an epoch to this file.")
    ],
    "checkpoint": Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the state of the run here, every few minutes.")
    ],
    "checkpoint_minutes": Annotated[float, typer.Option(help="With --checkpoint: how often.")],
    "resume": Annotated[
        bool, typer.Option("--resume", help="With --checkpoint: go on from what is there, if anything.")
    ],
}
FILE: dict[str, Any] = {
    "emission": FileEmission,
    "column": Column,
    "valid_fraction": ValidFraction,
    "test_fraction": TestFraction,
}
RESULT: dict[str, Any] = {"seed": Seed, "output": Output, "json": Json, "overwrite": Overwrite}

DEFAULTS: dict[str, Any] = {
    "epochs": 150,
    "learning_rate": 1e-2,
    "schedule": "constant",
    "batch_size": 16,
    "weight_decay": 0.0,
    "patience": 10,
    "transpose": 0,
    "half": False,
    "objective": "elbo",
    "kl_warmup": 0.0,
    "checkpoint_minutes": 2.0,
    "resume": False,
    "overwrite": False,
    "seed": 0,
}
"""Of the options that are not None unless given."""


def shown(annotation: Any) -> Any:
    """The same option, whose help shows the default of its command in place of words."""
    kind, option = get_args(annotation)
    option = copy(option)
    option.show_default = True
    return Annotated[kind, option]


@dataclass(frozen=True)
class GradientFit:
    """A command.

    Attributes:
        help: one line.
        sizes: names in `SIZES`.
        is_bound: whether the model has a guide, so that there is a bound to choose.
        defaults: where they differ from `DEFAULTS`.
    """

    help: str
    sizes: tuple[str, ...]
    is_bound: bool = False
    defaults: Mapping[str, object] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """Every option's annotation, in the order of the help."""
        sizes = {name: shown(SIZES[name]) if name in self.defaults else SIZES[name] for name in self.sizes}
        return {"data": Data, **sizes, **(BOUND if self.is_bound else {}), **LEARNING, **FILE, **RUN, **RESULT}


_LATENT: Mapping[str, object] = {"learning_rate": 3e-3, "num_particles": 1}
COMMANDS = {
    "rnn": GradientFit(
        "A recurrent network, by gradient steps until the validation data say stop.",
        ("cell", "hidden_dim", "num_layers"),
        defaults={"cell": "lstm", "hidden_dim": 64},
    ),
    "belief-rnn": GradientFit(
        "The forward algorithm of an HMM as a recurrent network, by gradient steps.",
        ("num_states",),
    ),
    "particle-filter-rnn": GradientFit(
        "An HMM's seeded particle filter as a recurrent network; its laws of observations learn.",
        ("num_states", "num_particles"),
    ),
    "multi-particle-rnn": GradientFit(
        "One recurrent cell from several trained starts, by gradient steps on the exact mixture.",
        ("num_particles", "cell", "hidden_dim"),
    ),
    "noisy-rnn": GradientFit(
        "A recurrent network with noise on its state and its output, by gradient steps on a bound.",
        ("latent_dim",),
        is_bound=True,
        defaults=_LATENT,
    ),
    "dmm": GradientFit(
        "A deep Markov model, by gradient steps on a bound; its guide reads the future.",
        ("latent_dim", "hidden_dim", "guide_dim"),
        is_bound=True,
        defaults=_LATENT,
    ),
    "vrnn": GradientFit(
        "A variational recurrent network, by gradient steps on a bound.",
        ("latent_dim", "hidden_dim", "cell"),
        is_bound=True,
        defaults=_LATENT,
    ),
}
"""Every command, by its name; that of `rnn` makes the zoo's rnn-CELL."""


def command_of(name: str) -> Callable[..., None]:
    """What `pgm-rnn fit NAME` runs, with a signature of its own for the command line to read."""
    fit = COMMANDS[name]

    def command(**given: Any) -> None:
        _fit(name, fit, given)

    return with_options(command, fit.options, DEFAULTS | dict(fit.defaults))


def with_options(
    command: Callable[..., None], options: Mapping[str, Any], defaults: Mapping[str, object]
) -> Callable[..., None]:
    """The command with a signature for the command line to read: an annotation an option, None where no default is."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(option, keyword, annotation=annotation)
        if option == "data"
        else inspect.Parameter(option, keyword, annotation=annotation, default=defaults.get(option))
        for option, annotation in options.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = dict(options)
    return command


def _fit(name: str, fit: GradientFit, given: dict[str, Any]) -> None:
    """Fit the model that a command is for, with what it was given."""
    from pgm_rnn.checks import check_choice
    from pgm_rnn.models.cells import CELLS
    from pgm_rnn.report.gradient_fitting import Training, fit_by_gradient

    if given.get("cell") is not None:
        check_choice("--cell", given["cell"], CELLS)
    options = {option: given[option] for option in (*LEARNING, *RUN)}
    options["num_epochs"], options["checkpoint_seconds"] = options.pop("epochs"), 60 * options.pop("checkpoint_minutes")
    if fit.is_bound:
        check_choice("--objective", given["objective"], ("elbo", "iwae", "fivo"))
        options |= {option: given[option] for option in BOUND}
        options["valid_particles"] = given["valid_particles"] or max(given["num_particles"], VALID_PARTICLES)
    material = {option: options.pop(option) for option in ("transpose", "nade_dim", "start", "half")}
    sizes = {size: given[size] for size in fit.sizes}
    if name == "rnn":
        name = f"rnn-{sizes.pop('cell')}"
    job = job_of(**{option: given[option] for option in ("data", *FILE, *RESULT)})
    end(fit_by_gradient(job, name, sizes, Training(**options), **material))
