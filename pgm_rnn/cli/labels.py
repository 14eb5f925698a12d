"""The command line's `pgm-rnn fit bidirectional-rnn`: the labels of a data set, from whole sequences."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pgm_rnn.cli.gradient import DEFAULTS, LEARNING, RESULT, with_options
from pgm_rnn.cli.options import end, job_of

NAME = "bidirectional-rnn"
LabelledData = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="japanese-vowels or pen-digits, whose sequences have labels; synthetic-hmm, whose steps have states.",
    ),
]
SIZE: dict[str, Any] = {
    "cell": Annotated[str, typer.Option(help="Of both networks: elman, gru or lstm.")],
    "hidden_dim": Annotated[int, typer.Option(help="The width of each network's hidden state.")],
    "num_layers": Annotated[int, typer.Option(help="How many layers are stacked; each reads both of the one below.")],
}
HOW = ("epochs", "learning_rate", "schedule", "batch_size", "weight_decay", "patience")
OPTIONS: dict[str, Any] = {
    "data": LabelledData,
    **SIZE,
    **{option: LEARNING[option] for option in HOW},
    **RESULT,
}
OWN_DEFAULTS = {"cell": "gru", "hidden_dim": 32, "num_layers": 1, "learning_rate": 3e-3, "batch_size": 32}


def bidirectional_rnn() -> Callable[..., None]:
    """What the command runs, with its options."""

    def command(**given: Any) -> None:
        """Two recurrent networks in opposite directions, a law of labels given the whole sequence."""
        from pgm_rnn.report.label_fitting import fit_labels

        options = {"num_epochs": given["epochs"]} | {option: given[option] for option in HOW[1:]}
        kept = (given[option] for option in ("seed", "output", "json"))
        job = job_of(given["data"], None, None, None, None, *kept, overwrite=given["overwrite"])
        end(fit_labels(job, {size: given[size] for size in SIZE}, options))

    return with_options(command, OPTIONS, DEFAULTS | OWN_DEFAULTS)
