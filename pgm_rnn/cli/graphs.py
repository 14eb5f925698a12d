"""`pgm-rnn graph`: directed graphs of models, as text or as pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgm_rnn.cli.early import check_name, check_saved, complete
from pgm_rnn.cli.options import registries_of
from pgm_rnn.cli.own_class import OwnClass, class_of

if TYPE_CHECKING:
    from pgm_rnn.sequence_model import SequenceModel

GraphOut = Annotated[
    Path | None,
    typer.Option("--out", "--output", metavar="FILE", help="Picture, .svg or .png.", show_default="Mermaid text"),
]


def graph(
    context: typer.Context,
    model: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL|FOLDER...",
            help="Names of models, such as rnn-lstm or hmm, or folders of saved models; several stand side by side.",
            autocompletion=complete("models"),
        ),
    ],
    steps: Annotated[int, typer.Option(help="Number of steps to unroll.")] = 3,
    folded: Annotated[bool, typer.Option("--folded", help="With --out: draw one slice for all steps.")] = False,
    out: GraphOut = None,
    own_class: OwnClass = None,
) -> None:
    """Show the directed graph of models, as read from their Pyro programs: a Mermaid flowchart, or a picture."""
    for name in model:
        if own_class is not None:
            check_saved(Path(name))
        elif not Path(name).is_dir():
            check_name(context, "model", name, "models")
    from pgm_rnn.checks import check_counts
    from pgm_rnn.graph import to_mermaid
    from pgm_rnn.report.figures import SUFFIXES
    from pgm_rnn.report.graphs import graphs_of, write_graphs
    from pgm_rnn.report.table_files import check_table_file

    check_counts(steps=steps)
    if folded and out is None:
        raise ValueError("expected --folded only with --out, got it alone; name a file that ends in .svg or .png")
    if out is not None:
        check_table_file(out, SUFFIXES, "--out")
    models = {name: _opened(context, name, own_class) for name in dict.fromkeys(model)}
    graphs = graphs_of(models, steps, folded=folded)
    if out is not None:
        write_graphs(graphs, out)
        return
    for found in graphs.values():
        typer.echo(to_mermaid(found))


def _opened(context: typer.Context, name: str, own_class: str | None) -> "SequenceModel":
    """A saved model, or the smallest one of a name of the zoo."""
    from pgm_rnn.models.registry import made_by, model_info
    from pgm_rnn.report.saved import open_saved

    registries, folder = registries_of(context), Path(name)
    if own_class is not None or (name not in registries.models and folder.is_dir()):
        return open_saved(folder, registries, class_of(own_class)).model
    info = model_info(name, models=registries.models)
    return made_by(info, seed=0, **info.smallest)
