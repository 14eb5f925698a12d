"""`pgm-rnn fit` of label models: a command for each model's `LabelInfo`."""

from collections.abc import Callable
from typing import Any

import typer

from pgm_rnn.cli.gradient import (
    DEFAULTS,
    LEARNING,
    RESULT,
    RUN,
    named_at_command_line,
    size_option,
    training_options,
    with_options,
)
from pgm_rnn.cli.options import end, job_of, labelled_data, registries_of
from pgm_rnn.models.info import LabelInfo
from pgm_rnn.registries import Registries


def label_command(info: LabelInfo, registries: Registries) -> Callable[..., None]:
    """What `pgm-rnn fit` of a law of labels runs, with its options; `--data` lists the data sets with labels."""
    sizes = {size: size_option(entry) for size, entry in info.sizes.items()}

    def command(context: typer.Context, **given: Any) -> None:
        from pgm_rnn.report.label_fitting import fit_labels

        options = training_options({option: given[option] for option in (*LEARNING, *RUN)})
        kept = (given[option] for option in ("seed", "output", "json"))
        job = job_of(registries_of(context), given["data"], None, None, None, None, *kept, overwrite=given["overwrite"])
        end(fit_labels(job, info.name, {size: given[size] for size in sizes}, options))

    options = {"data": labelled_data(registries), **sizes, **LEARNING, **RUN, **RESULT}
    own = {size: entry.default for size, entry in info.sizes.items()} | named_at_command_line(info.defaults)
    return with_options(command, options, DEFAULTS | own)
