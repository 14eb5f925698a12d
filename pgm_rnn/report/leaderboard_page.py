"""The leaderboard's page: a section for each data set; a new section leaves the others as they are."""

import re
from collections.abc import Iterable, Sequence

from pgm_rnn.data import Dataset
from pgm_rnn.report.leaderboard_tables import Group, Row

HEADER = """# Leaderboard

Every trained model of the zoo on the test split of the data that it was fitted to, under one normalisation: the sum of
nats over the number of steps, all keys, the first step included. Numbers of different kinds are not ranked together.
*Likelihoods* are exact. *Bounds*, ELBO and FIVO_128, lie above the exact number on average, and so do *estimates*,
importance_500, from 500 weighted draws of the guide, by less than the ELBO. Where the states switch between linear
systems, no guide was trained, and FIVO_16 comes from a Rao-Blackwellised particle filter. *Published figures* are for
the same splits and as precise as their papers give them. ± is the standard error over the sequences of the split, which
all models share, so differences between two models are more certain than that. Parameters include those of the guide;
min is the training time in minutes, including that of an earlier fit from which this one started.

Some data are a single series without a test split. Their models are scored *in sample*, on the very steps to which they
were fitted, which says how well they fit and not how well they predict; what such an entry is held against are the
*published estimates* of the same parameters.
"""


def section(dataset: Dataset, rows: list[Row], tables: Sequence[Group]) -> str:
    """A data set's section of the page, from its mark to the last line."""
    data, scored = dataset.name, dataset.train if dataset.test is None else dataset.test
    size = f"{len(scored.lengths):,} sequences, {scored.num_steps:,} steps"
    which = f"The whole series, {scored.num_steps:,} steps" if dataset.is_series else f"Test split, {size}"
    parts = [
        _mark(data),
        f"## {data}",
        f"{dataset.description}. {which}. `pgm-rnn leaderboard --data {data}`; "
        f"{sum(row.seconds for row in rows):.0f} s of evaluation.",
        *(f"**{title}**\n\n{_markdown(head, lines)}" for title, head, lines in tables),
        "**How each was made**",
        _markdown(
            ("entry", "seed", "command"),
            [
                (row.entry, str(row.seed), _code(row.commands))
                for row in sorted({row.entry: row for row in rows}.values(), key=lambda row: row.entry)
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def with_section(page: str, data: str, text: str) -> str:
    """The page with a data set's section replaced, or appended if the page had none."""
    kept = [part for part in re.split(r"(?m)^(?=<!-- data: )", page)[1:] if not part.startswith(_mark(data))]
    parts = sorted([*(part.strip() + "\n" for part in kept), text])
    return "\n".join([HEADER, *parts])


def _code(commands: tuple[str, ...]) -> str:
    return ", then ".join(f"`{command}`" for command in commands)


def _markdown(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _mark(data: str) -> str:
    return f"<!-- data: {data} -->"
