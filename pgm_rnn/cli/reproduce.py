"""`pgm-rnn reproduce`: the figures of Choe, Shin & Spencer (2017) and their open questions."""

from pathlib import Path
from typing import Annotated

import typer

from pgm_rnn.checks import check_choice
from pgm_rnn.cli.early import complete_among
from pgm_rnn.cli.names import EXPERIMENTS
from pgm_rnn.cli.options import choice

FIGURES = f"Experiment: {', '.join(EXPERIMENTS)} or all."
BACKENDS = ("local", "dask")


def reproduce(
    figure: Annotated[str, typer.Argument(help=FIGURES, autocompletion=complete_among((*EXPERIMENTS, "all")))],
    out: Annotated[
        Path, typer.Option("--out", "--output", metavar="FOLDER", help="Folder for the CSV, JSON, PNG and SVG files.")
    ] = Path("experiments"),
    replicates: Annotated[
        int | None, typer.Option(help="Number of random HMMs, each with its own data and networks.", show_default="20")
    ] = None,
    num_states: Annotated[
        list[int] | None, typer.Option(help="Number of states m of the HMMs; repeat for more.")
    ] = None,
    hidden_dim: Annotated[
        list[int] | None, typer.Option(help="Hidden width k of the networks; repeat for more.")
    ] = None,
    num_sequences: Annotated[
        list[int] | None, typer.Option(help="Number n of training sequences; repeat for more.")
    ] = None,
    updates: Annotated[
        int | None, typer.Option(help="Gradient steps per network.", show_default="the experiment's own")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Use small sizes that take seconds. The verdicts then mean nothing.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard an unfinished sweep and start anew.")] = False,
    backend: Annotated[
        str, choice(BACKENDS, "Where the sweep runs: local (the cores of this machine) or dask (a running cluster).")
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="With dask: the scheduler's address, such as tcp://host:8786.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Number of local processes; -1 for one per core.")] = -1,
    seed: Annotated[int, typer.Option(help="Random seed for HMMs, data and networks.")] = 0,
) -> None:
    """Run the papers' experiments, with replicates. An interrupted experiment continues when started again."""
    check_choice("figure", figure, (*EXPERIMENTS, "all"))
    check_choice("backend", backend, BACKENDS)
    from pgm_rnn.experiments.sweep import Plan
    from pgm_rnn.report.reproduction import reproduce as run

    counts = {"replicates": replicates, "num_updates": updates}
    lists = {"num_states": num_states, "hidden_dims": hidden_dim, "num_sequences": num_sequences}
    sizes = {name: value for name, value in counts.items() if value is not None}
    sizes |= {name: tuple(values) for name, values in lists.items() if values}  # type: ignore[misc]
    options = [("--replicates", replicates), ("--updates", updates), ("--seed", seed or None)]
    options += [("--num-states", m) for m in num_states or []] + [("--hidden-dim", k) for k in hidden_dim or []]
    options += [("--num-sequences", n) for n in num_sequences or []]
    words = [f"{name} {value}" for name, value in options if value is not None] + (["--quick"] if quick else [])
    command = " ".join(["pgm-rnn reproduce", figure, *words])
    run(figure, out, Plan(backend, jobs, scheduler), command, quick=quick, fresh=fresh, seed=seed, **sizes)
