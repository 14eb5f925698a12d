"""The graph of a law of labels, drawn like those that are read out of Pyro programs: these laws are no programs.

tagging           y_t from f_t and b_t           classification   one y from f_T and b_1
"""

from typing import Any

import networkx as nx

from pgm_rnn.graph import Variable
from pgm_rnn.sequence_model.label_model import LabelModel


def label_graph(model: LabelModel, num_steps: int) -> "nx.DiGraph[str]":
    """The graph of a law of labels over some steps: x_t, its chain f_t, a chain b_t unless it is causal, and labels y.

    Args:
        model: the law; layers of a stack are one node for each step and direction.
        num_steps: T. The one label of a classification stands below the last step.
    """
    steps = range(1, num_steps + 1)
    graph: nx.DiGraph[str] = nx.DiGraph()
    chains = ("f",) if model.causal else ("f", "b")
    for name in ("x", *chains):
        for t in steps:
            graph.add_node(f"{name}_{t}", variable=Variable(name, t), deterministic=name != "x")
    for t in steps:
        graph.add_edges_from((f"x_{t}", f"{name}_{t}") for name in chains)
    for t in steps[:-1]:
        graph.add_edge(f"f_{t}", f"f_{t + 1}")
        graph.add_edges_from((f"{name}_{t + 1}", f"{name}_{t}") for name in chains[1:])
    labelled: dict[int, tuple[int, int]] = {t: (t, t) for t in steps}
    if model.task == "classification":
        labelled = {num_steps: (num_steps, 1)}
    for t, ends in labelled.items():
        graph.add_node(f"y_{t}", variable=Variable("y", t), deterministic=False)
        graph.add_edges_from((f"{name}_{end}", f"y_{t}") for name, end in zip(chains, ends, strict=False))
    plates: dict[str, Any] = {"sequences": list(graph.nodes)}
    graph.graph["plates"] = plates
    return graph
