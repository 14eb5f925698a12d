"""The command line: `pgm-rnn fit`, what is done with a fitted model, and what is said of the papers.

What the user got wrong is one sentence on standard error and exit status 2; a claim that fails is exit status 1.
"""

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from pgm_rnn.cli import compare, course, diagnose, grade, graphs, reproduce, saved, states
from pgm_rnn.cli.early import check_claim, check_name, complete
from pgm_rnn.cli.lazy import FitGroup
from pgm_rnn.cli.names import CELLS
from pgm_rnn.cli.notices import notices
from pgm_rnn.cli.options import choice, registries_of
from pgm_rnn.cli.shown import Command, Group
from pgm_rnn.version import __version__

if TYPE_CHECKING:
    from pgm_rnn.registries import Registries

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""The system's errors for a full disk or an exhausted quota."""
_USAGE_ERROR: Any = typer.BadParameter.__base__


def run() -> None:
    """Run the command line. An error of the user's ends it with one sentence instead of a traceback."""
    # Torch's idle threads should sleep instead of spinning: the claims are many small operations.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without the sign for plus or minus
    with notices(), _interrupts() as interrupted:
        try:
            _run()
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception:
            if interrupted:  # an import that is cut short ends in any error
                sys.exit(130)
            raise


def _run() -> NoReturn:
    try:
        sys.exit(app(standalone_mode=False))
    except _USAGE_ERROR as error:
        _complain_of_usage(error)
    except OSError as error:
        _complain(_of_system(error))
    except (ValueError, TypeError, FloatingPointError) as error:
        _complain(error)
    except RuntimeError as error:
        if type(error).__name__ == "ProcessLostError":
            _complain(error)
        if "alloc" not in str(error):
            raise
        _complain("not enough memory for these sizes; try smaller ones")


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The signals of Ctrl-C that have come, each raised as a KeyboardInterrupt, as ever."""
    seen: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGINT)
    ours = usual is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        if ours:
            signal.signal(signal.SIGINT, usual)


def _complain_of_usage(error: Any) -> NoReturn:
    message = error.format_message().removesuffix(".")
    if not message or "\n" in message:  # no arguments at all: the message is the help
        error.show()
        sys.exit(2)
    _complain(f"{message} (see {error.ctx.command_path} --help)" if error.ctx else message)


def _of_system(error: OSError) -> object:
    """The system's message about a file, with a way out; other errors as they are."""
    if error.filename is None or not error.strerror or error.strerror.startswith("expected"):
        return error
    remedy = "make room or choose another place" if error.errno in FULL else "choose another place or make it free"
    if isinstance(error, FileNotFoundError):
        remedy = "check the name"
    return f"could not use {error.filename2 or error.filename}: {error.strerror}; {remedy}"


def _complain(error: object) -> NoReturn:
    console = Console(stderr=True)
    whole = not console.is_terminal  # one line for programs, lines of whole words for people
    console.print(Text("error: ", style="bold red"), error, sep="", highlight=False, soft_wrap=whole)
    sys.exit(2)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"pgm-rnn {__version__}")
        raise typer.Exit


def main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Recurrent networks, hidden Markov models and state-space models as one graphical model in Pyro."""


def verify(
    context: typer.Context,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLAIM", help="Check only this claim; repeat for more.", autocompletion=complete("claims")
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Fit an RNN to this data set and check the claims on it.",
            autocompletion=complete("datasets"),
        ),
    ] = None,
    cell: Annotated[str | None, choice(CELLS, "With --data: cell of the RNN.", show_default="lstm")] = None,
    hidden_dim: Annotated[
        int | None, typer.Option(help="With --data: width of the RNN's hidden state.", show_default="64")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="With --data: largest number of passes over the training data.", show_default="150"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Check only a few instances of each claim.")] = False,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the results to this file, as JSON.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed for the instances, or for the fit.")] = 0,
) -> None:
    """Check the papers' claims and their negative controls. The exit status is 1 unless every claim holds."""
    for name in claim or ():
        check_claim(context, name)
    if data is not None:
        check_name(context, "--data", data, "datasets")
    from pgm_rnn.report import verification
    from pgm_rnn.report.records import check_output

    output = None if json is None else check_output(json)
    options = {"cell": cell, "hidden_dim": hidden_dim, "num_epochs": epochs}
    given = {name: value for name, value in options.items() if value is not None}
    if data is None and given:
        raise ValueError(
            "expected --cell, --hidden-dim and --epochs only with --data, got no --data; name the data set to fit"
        )
    if data is not None and quick:
        raise ValueError(
            "expected --quick without --data, got both; shorten a fit to data with --epochs and --hidden-dim"
        )
    if data is None:
        results = verification.verify_claims(claim or [], seed, quick=quick, claims=registries_of(context).claims)
    elif claim:
        raise ValueError("expected --claim or --data, got both; with --data, all claims that apply are checked")
    else:
        results = verification.verify_on_data(data, seed=seed, datasets=registries_of(context).datasets, **given)  # type: ignore[arg-type]
    if output is not None:
        verification.write_results(results, output)
    failed = [result.id for result in results if result.verdict != "holds"]
    if failed:
        raise typer.Exit(1)


def explain(
    context: typer.Context,
    claim: Annotated[
        str | None,
        typer.Argument(
            metavar="CLAIM",
            help="Id of a claim, such as theorem-5.",
            autocompletion=complete("claims"),
            show_default=False,
        ),
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List all claims; nothing is measured.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Measure only a few instances.")] = False,
    seed: Annotated[int, typer.Option(help="Random seed for the instances.")] = 0,
) -> None:
    """Explain a claim: what the paper says, what it means, why it is true, how it is measured, and a measurement.

    The exit status is 1 unless the claim holds.
    """
    if list_all == (claim is not None):
        raise ValueError("expected the id of a claim, such as theorem-5, or --list, which names them all")
    if claim is not None:
        check_claim(context, claim)
    from pgm_rnn.report.explanation import explain_claim, list_claims

    if claim is None:
        list_claims(registries_of(context).claims)
    elif explain_claim(claim, seed, quick=quick, claims=registries_of(context).claims).verdict != "holds":
        raise typer.Exit(1)


def build_app(registries: "Registries | None" = None) -> typer.Typer:
    """The command line for the given registries, by default the package's own.

    Commands that depend on the registries are built when they are asked for, so that `pgm-rnn --help` need not import
    torch.
    """
    app = typer.Typer(
        cls=Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "obj": registries},
        help="Recurrent networks, hidden Markov models and state-space models as one graphical model in Pyro.",
    )
    fit = typer.Typer(cls=FitGroup, no_args_is_help=True)
    app.add_typer(fit, name="fit", help="Fit a model to a data set or a file, score it and save it.")
    app.callback()(main)
    for command in COMMANDS:
        app.command(cls=Command)(command)
    for command in OF_THE_PAPERS:
        app.command(cls=Command, rich_help_panel="The papers")(command)
    for command in OF_TEACHING:
        app.command(cls=Command, rich_help_panel="Teaching")(command)
    return app


COMMANDS: tuple[Callable[..., None], ...] = (
    saved.evaluate,
    saved.describe,
    states.infer,
    diagnose.diagnose,
    saved.forecast,
    compare.compare,
    saved.sample,
    saved.show,
    graphs.graph,
    saved.publish,
    saved.leaderboard,
)
"""Commands for what is done with a fit, in the order of use."""
OF_THE_PAPERS: tuple[Callable[..., None], ...] = (verify, explain, reproduce.reproduce)
"""Commands for the papers' claims and figures."""
OF_TEACHING: tuple[Callable[..., None], ...] = (course.course, grade.grade)
"""Commands for assignments."""

app = build_app()
