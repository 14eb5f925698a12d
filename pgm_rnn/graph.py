"""The graphical model as a graph: read from the Pyro program, and tested for independences.

`pyro.infer.inspect.get_model_relations` skips deterministic sites by default; every function here includes them.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import networkx as nx
import pyro
import torch
from pyro.infer.inspect import get_model_relations

from pgm_rnn.checks import check_counts
from pgm_rnn.sequence_model import Memory, SequenceModel
from pgm_rnn.sequence_model.conditionals import example_of
from pgm_rnn.sequence_model.priors import WithPriors

__all__ = [
    "D_separated",
    "Variable",
    "d_separated",
    "determined_by",
    "folded",
    "read_graph",
    "to_mermaid",
    "without_roots",
]


class Variable(NamedTuple):
    """The variable of a node.

    Attributes:
        name: "h", "z", "x", or the name of a parameter.
        step: its step from 1; None for a parameter, which has none.
    """

    name: str
    step: int | None


def read_graph(
    model: SequenceModel | WithPriors, num_steps: int, memory: Memory = "deterministic"
) -> "nx.DiGraph[str]":
    """The directed graph of the unrolled program over h_1, z_1, x_1, ..., x_T, read from one run of it.

    Nodes have the attributes `deterministic`, True for Delta sites, and `variable`. The graph has the attribute
    `plates`, the nodes inside each plate by its name. The program first draws its own observations, so that the graph
    shows only true dependences.

    Args:
        model: a model with first="model", or such a model with priors, whose parameters are nodes too.
        num_steps: T; ten steps are enough for a picture.
        memory: as in `SequenceModel.model`; "sampled" shows the hidden states to Pyro as latent variables.

    Raises:
        TypeError: something else than a model.
        ValueError: a model that conditions on x_1, which then has no law in the graph, a program with groups, or
            num_steps below 1.
    """
    of = model.model if isinstance(model, WithPriors) else model
    if not isinstance(of, SequenceModel):
        raise TypeError(f"expected a model of sequences, with or without priors, got {type(model).__name__}")
    if isinstance(model, WithPriors) and model.groups is not None:
        raise ValueError(
            f"expected a program without groups, got {len(model.group_names)}; pyro.render_model(program, "
            "(x,)) draws its plates"
        )
    if of.first == "condition":
        raise ValueError("expected a model with first='model', got first='condition', whose graph lacks p(x_1)")
    check_counts(num_steps=num_steps)
    lengths = torch.tensor([num_steps], device=example_of(of).device)
    kwargs: dict[str, Any] = {"rendering": "unrolled", "memory": memory}
    if of.input_dim is not None:  # any will do
        kwargs["inputs"] = example_of(of).new_zeros(1, num_steps, of.input_dim)
    program = model if isinstance(model, WithPriors) else of.model
    with pyro.settings.context(module_local_params=True):
        relations = get_model_relations(program, (None, lengths), kwargs, include_deterministic=True)
    plates: dict[str, list[str]] = relations["plate_sample"]
    graph: nx.DiGraph[str] = nx.DiGraph(plates=plates)
    inside = {node for nodes in plates.values() for node in nodes}
    for node, parents in relations["sample_sample"].items():
        variable = _variable(node) if node in inside else Variable(node, None)
        graph.add_node(node, deterministic=variable.name == "h", variable=variable)
        graph.add_edges_from((parent, node) for parent in parents if parent != node)
    return graph


def _variable(node: str) -> Variable:
    """The variable and the step of a site such as "z_12"."""
    found = re.fullmatch(r"(.+)_(\d+)", node)
    return Variable(node, None) if found is None else Variable(found[1], int(found[2]))


def folded(graph: "nx.DiGraph[str]") -> "nx.MultiDiGraph[str]":
    """One slice for all steps: a node for each variable, with an edge for each distance in time.

    Nodes keep `deterministic`; edges have the attribute `lag`: a parent's variable stands that many steps before its
    child, and an edge from a parameter has lag 0.

    Args:
        graph: the result of `read_graph` over at least as many steps as the longest dependence, plus one.
    """
    slice_: nx.MultiDiGraph[str] = nx.MultiDiGraph(plates={})
    variables: dict[str, Variable] = {node: data["variable"] for node, data in graph.nodes(data=True)}
    for node, data in graph.nodes(data=True):
        slice_.add_node(variables[node].name, deterministic=data["deterministic"], variable=variables[node])
    for a, b in graph.edges:
        (parent, before), (child, after) = variables[a], variables[b]
        lag = 0 if before is None or after is None else after - before
        slice_.add_edge(parent, child, key=str(lag), lag=lag)
    for plate, nodes in graph.graph["plates"].items():
        slice_.graph["plates"][plate] = sorted({variables[node].name for node in nodes})
    return slice_


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
