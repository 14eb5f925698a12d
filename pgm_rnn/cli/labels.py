"""The command line's `pgm-rnn fit bidirectional-rnn`: the labels of a data set, from whole sequences."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pgm_rnn.cli.gradient import DEFAULTS, LEARNING, RESULT, named_at_command_line, training_options, with_options
from pgm_rnn.cli.options import end, job_of, labelled_data, registries_of
from pgm_rnn.models.info import STEPS
from pgm_rnn.registries import Registries

NAME = "bidirectional-rnn"
SIZE: dict[str, Any] = {
    "cell": Annotated[str, typer.Option(help="Of both networks: elman, gru or lstm.")],
    "hidden_dim": Annotated[int, typer.Option(help="The width of each network's hidden state.")],
    "num_layers": Annotated[int, typer.Option(help="How many layers are stacked; each reads both of the one below.")],
}
OPTIONS: dict[str, Any] = {
    **SIZE,
    **LEARNING,
    **RESULT,
}
OWN_DEFAULTS = {
    **named_at_command_line(STEPS),
    "cell": "gru",
    "hidden_dim": 32,
    "num_layers": 1,
    "learning_rate": 3e-3,
    "batch_size": 32,
}


def bidirectional_rnn(registries: Registries) -> Callable[..., None]:
    """What the command runs, with its options; `--data` lists the data sets with labels."""

    def command(context: typer.Context, **given: Any) -> None:
        """Two recurrent networks in opposite directions, a law of labels given the whole sequence."""
        from pgm_rnn.report.label_fitting import fit_labels

        options = training_options({option: given[option] for option in LEARNING})
        kept = (given[option] for option in ("seed", "output", "json"))
        job = job_of(registries_of(context), given["data"], None, None, None, None, *kept, overwrite=given["overwrite"])
        end(fit_labels(job, {size: given[size] for size in SIZE}, options))

    return with_options(command, {"data": labelled_data(registries), **OPTIONS}, DEFAULTS | OWN_DEFAULTS)
