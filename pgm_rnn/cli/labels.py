"""`pgm-rnn fit bidirectional-rnn` and `pgm-rnn fit tagger`: models of the labels of a data set's sequences."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import typer

from pgm_rnn.cli.gradient import (
    DEFAULTS,
    LEARNING,
    RESULT,
    RUN,
    named_at_command_line,
    training_options,
    with_options,
)
from pgm_rnn.cli.options import end, job_of, labelled_data, registries_of
from pgm_rnn.models.info import STEPS
from pgm_rnn.registries import Registries

HIDDEN_DIM = Annotated[int, typer.Option(help="Width of each network's hidden state.")]
OWN_DEFAULTS = {
    **named_at_command_line(STEPS),
    "cell": "gru",
    "hidden_dim": 32,
    "num_layers": 1,
    "learning_rate": 3e-3,
    "batch_size": 32,
}


class LabelFit(NamedTuple):
    """A command that fits a label model.

    Attributes:
        help: its one-line help text.
        sizes: options of the model, by the names of its arguments.
    """

    help: str
    sizes: dict[str, Any]


COMMANDS = {
    "bidirectional-rnn": LabelFit(
        "Labels given the whole sequence, by two recurrent networks in opposite directions.",
        {
            "cell": Annotated[str, typer.Option(help="Cell of both networks: elman, gru or lstm.")],
            "hidden_dim": HIDDEN_DIM,
            "num_layers": Annotated[
                int, typer.Option(help="Number of stacked layers; each layer reads both directions of the layer below.")
            ],
        },
    ),
    "tagger": LabelFit(
        "Labels given the sequence up to each step, by one recurrent network.",
        {
            "cell": Annotated[str, typer.Option(help="Cell of the network: elman, gru, lstm or another.")],
            "hidden_dim": HIDDEN_DIM,
            "num_layers": Annotated[int, typer.Option(help="Number of stacked layers.")],
            "embedding_dim": Annotated[
                int | None, typer.Option(help="Width of the symbols' embedding.", show_default="one-hot symbols")
            ],
        },
    ),
}
"""Every command, by the name of its model."""


def label_command(name: str, registries: Registries) -> Callable[..., None]:
    """The function behind `pgm-rnn fit NAME`, with its options; `--data` lists the data sets with labels."""
    sizes = COMMANDS[name].sizes

    def command(context: typer.Context, **given: Any) -> None:
        from pgm_rnn.report.label_fitting import fit_labels

        options = training_options({option: given[option] for option in (*LEARNING, *RUN)})
        kept = (given[option] for option in ("seed", "output", "json"))
        job = job_of(registries_of(context), given["data"], None, None, None, None, *kept, overwrite=given["overwrite"])
        end(fit_labels(job, name, {size: given[size] for size in sizes}, options))

    options = {"data": labelled_data(registries), **sizes, **LEARNING, **RUN, **RESULT}
    return with_options(command, options, DEFAULTS | OWN_DEFAULTS)
