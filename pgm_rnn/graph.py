"""The graphical model as a graph: read from the Pyro program, and tested for independences.

`pyro.infer.inspect.get_model_relations` skips deterministic sites by default; every function here includes them.
"""

from collections.abc import Iterable

import networkx as nx
import pyro
import torch
from pyro.infer.inspect import get_model_relations

from pgm_rnn.checks import check_counts
from pgm_rnn.sequence_model import Memory, SequenceModel
from pgm_rnn.sequence_model.conditionals import example_of


def read_graph(model: SequenceModel, num_steps: int, memory: Memory = "deterministic") -> "nx.DiGraph[str]":
    """The directed graph of the unrolled program over h_1, z_1, x_1, ..., x_T, read from one run of it.

    Nodes have the attribute `deterministic`, True for Delta sites. The program first draws its own observations, so
    that the graph shows only true dependences.

    Args:
        model: a model with first="model".
        num_steps: T; ten steps are enough for a picture.
        memory: as in `SequenceModel.model`; "sampled" shows the hidden states to Pyro as latent variables.

    Raises:
        ValueError: a model that conditions on x_1, which then has no law in the graph, or num_steps below 1.
    """
    if model.first == "condition":
        raise ValueError("expected a model with first='model', got first='condition', whose graph lacks p(x_1)")
    check_counts(num_steps=num_steps)
    lengths = torch.tensor([num_steps], device=example_of(model).device)
    kwargs = {"rendering": "unrolled", "memory": memory}
    with pyro.settings.context(module_local_params=True):
        relations = get_model_relations(model.model, (None, lengths), kwargs, include_deterministic=True)
    graph: nx.DiGraph[str] = nx.DiGraph()
    for node, parents in relations["sample_sample"].items():
        graph.add_node(node, deterministic=node.startswith("h_"))
        graph.add_edges_from((parent, node) for parent in parents if parent != node)
    return graph


def without_roots(graph: "nx.DiGraph[str]", roots: Iterable[str]) -> "nx.DiGraph[str]":
    """The graph without root nodes that are constants, such as h_1, which is a parameter."""
    smaller = graph.copy()
    smaller.remove_nodes_from(roots)
    return smaller


def d_separated(graph: "nx.DiGraph[str]", a: Iterable[str], b: Iterable[str], given: Iterable[str]) -> bool:
    """Whether a and b are d-separated by `given`, so that every law on the graph makes them independent given it."""
    given = set(given)
    a, b = set(a) - given, set(b) - given
    return not a & b and nx.is_d_separator(graph, a, b, given)


def determined_by(graph: "nx.DiGraph[str]", given: Iterable[str]) -> set[str]:
    """`given` and every deterministic node whose parents are all in the result."""
    closure = set(given)
    for node in nx.topological_sort(graph):
        if graph.nodes[node].get("deterministic") and set(graph.predecessors(node)) <= closure:
            closure.add(node)
    return closure


def D_separated(  # noqa: N802  (the paper's name)
    graph: "nx.DiGraph[str]", a: Iterable[str], b: Iterable[str], given: Iterable[str]
) -> bool:
    """Whether a and b are D-separated by `given`: Geiger, Verma & Pearl (1990).

    Then every law whose deterministic nodes are functions of their parents makes a and b independent given `given`.
    It is d-separation given all nodes that `given` determines; determined nodes in a and b are constants and drop out.
    """
    closure = determined_by(graph, given)
    a, b = set(a) - closure, set(b) - closure
    return not a or not b or d_separated(graph, a, b, closure)


def to_mermaid(graph: "nx.DiGraph[str]") -> str:
    """The graph as a Mermaid flowchart for a README; Delta nodes are rectangles, others are round."""
    shape = {True: "[{}]", False: "(({}))"}
    nodes = [
        f"    {node}{shape[bool(data.get('deterministic'))].format(node)}" for node, data in graph.nodes(data=True)
    ]
    return "\n".join(["flowchart LR", *nodes, *(f"    {a} --> {b}" for a, b in graph.edges)])
