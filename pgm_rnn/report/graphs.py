"""Graphs of models by their titles, and files with their pictures."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pgm_rnn.graph import folded as fold
from pgm_rnn.graph import read_graph
from pgm_rnn.report import figures
from pgm_rnn.report.graph_pictures import draw_graphs
from pgm_rnn.report.table_files import Writer, write_table_file
from pgm_rnn.sequence_model import Memory, SequenceModel
from pgm_rnn.sequence_model.priors import WithPriors

Model = SequenceModel | WithPriors
LONGEST = 3
"""Number of steps that a folded graph is read from; every dependence of a program reaches over one step."""


def title_of(model: object) -> str:
    """The name of a model's class."""
    return type(_without_priors(model)).__name__ + (" with priors" if isinstance(model, WithPriors) else "")


def graphs_of(
    models: Mapping[str, Model], num_steps: int, *, folded: bool = False, memory: Memory = "deterministic"
) -> dict[str, Any]:
    """The graphs of models by their titles, unrolled over the steps or folded, with their attribute `num_particles`.

    Raises:
        TypeError, ValueError: as `pgm_rnn.graph.read_graph`.
    """
    read = {title: read_graph(model, LONGEST if folded else num_steps, memory) for title, model in models.items()}
    graphs: dict[str, Any] = {title: fold(graph) for title, graph in read.items()} if folded else dict(read)
    for title, graph in graphs.items():
        graph.graph["num_particles"] = _num_particles(models[title])
    return graphs


def _num_particles(model: object) -> int | None:
    """How many particles a model's memory holds, if it holds some."""
    return getattr(_without_priors(model), "num_particles", None)


def _without_priors(model: object) -> object:
    return model.model if isinstance(model, WithPriors) else model


def write_graphs(graphs: Mapping[str, Any], path: Path) -> None:
    """Write a picture of graphs beside each other, .png or .svg.

    Raises:
        ValueError: another suffix, or a folder that cannot be written to.
        OSError: the file cannot be written.
    """
    pictures: dict[str, Writer] = {suffix: partial(_picture, graphs, suffix) for suffix in figures.SUFFIXES}
    write_table_file(path, pictures)


def _picture(graphs: Mapping[str, Any], suffix: str) -> bytes:
    figure: Any = draw_graphs(graphs)[0].figure
    return figures.rendered(figure, suffix)
