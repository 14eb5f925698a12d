from collections.abc import Iterator
from itertools import combinations

import networkx as nx
import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro.infer.inspect import get_model_relations
from torch import Tensor

from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.graph import (
    D_separated,
    d_separated,
    determined_by,
    read_graph,
    to_mermaid,
    without_roots,
)
from tests.definitions import conditional_mutual_information
from tests.instances import every_cell, make_hmm, make_model, make_rnn

NOTHING: set[str] = set()


def graph_of(edges: str, deterministic: str = "") -> "nx.DiGraph[str]":
    """A graph from "ab bc", its nodes single letters."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for edge in edges.split():
        graph.add_edge(edge[0], edge[1])
    nx.set_node_attributes(graph, {node: node in deterministic for node in graph}, "deterministic")
    return graph


def fig_3(num_steps: int) -> set[tuple[str, str]]:
    """Edges of fig. 3 of Choe et al. (2017), its H_{t-1} called h_t: h_t -> x_t, and both -> h_{t+1}."""
    edges = {(f"h_{t}", f"x_{t}") for t in range(1, num_steps + 1)}
    for t in range(1, num_steps):
        edges |= {(f"h_{t}", f"h_{t + 1}"), (f"x_{t}", f"h_{t + 1}")}
    return edges


# Reading.


@pytest.mark.parametrize("memory", ["deterministic", "sampled"])
@every_cell
def test_the_graph_of_an_rnn_is_that_of_figure_3(name: str, memory: str) -> None:
    graph = read_graph(make_rnn(name, Categorical(3), num_layers=2), 4, memory)  # type: ignore[arg-type]
    assert set(graph.edges) == fig_3(4)
    assert {node for node, flag in graph.nodes(data="deterministic") if flag} == {f"h_{t}" for t in range(1, 5)}


def test_the_graph_of_an_hmm_is_the_hidden_chain() -> None:
    graph = read_graph(make_hmm(Gaussian(2)), 3)
    assert set(graph.edges) == {("z_1", "x_1"), ("z_2", "x_2"), ("z_3", "x_3"), ("z_1", "z_2"), ("z_2", "z_3")}
    assert not any(flag for _, flag in graph.nodes(data="deterministic"))


def test_one_step_is_one_observation_of_its_parent() -> None:
    assert set(read_graph(make_rnn("gru", Gaussian()), 1).edges) == {("h_1", "x_1")}
    assert set(read_graph(make_hmm(Gaussian()), 1).edges) == {("z_1", "x_1")}


def test_without_the_memory_every_pair_of_observations_is_joined() -> None:
    rnn, lengths = make_rnn("gru", Categorical(3)), torch.tensor([4])
    seen_by_pyro = get_model_relations(rnn.model, (None, lengths), {"rendering": "unrolled"})["sample_sample"]
    edges = {(a, b) for b, parents in seen_by_pyro.items() for a in parents if a != b and b[0] == "x"}
    assert edges == {(f"x_{s}", f"x_{t}") for t in range(1, 5) for s in range(1, t)}


@pytest.mark.parametrize("name", ["rnn-lstm", "hmm"])
def test_reading_leaves_the_random_state_and_pyros_parameters_alone(name: str) -> None:
    model, before = make_model(name, Gaussian()), torch.get_rng_state()
    read_graph(model, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(pyro.get_param_store()) == 0


def test_a_model_that_conditions_on_the_first_observation_has_no_graph_of_it() -> None:
    with pytest.raises(ValueError, match="expected a model with first='model', got first='condition'"):
        read_graph(make_rnn("gru", Categorical(3), first="condition"), 3)


@pytest.mark.parametrize("num_steps", [0, -1])
def test_a_graph_has_at_least_one_step(num_steps: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_graph(make_rnn("gru", Categorical(3)), num_steps)


def test_constants_can_be_left_out() -> None:
    graph = read_graph(make_rnn("gru", Categorical(3)), 3)
    smaller = without_roots(graph, ["h_1"])
    assert set(smaller.edges) == fig_3(3) - {("h_1", "x_1"), ("h_1", "h_2")}
    assert "h_1" in graph


def test_mermaid_shows_every_node_and_edge_and_delta_nodes_as_rectangles() -> None:
    lines = to_mermaid(read_graph(make_rnn("gru", Categorical(3)), 2)).splitlines()
    assert lines[0] == "flowchart LR"
    assert {line.strip() for line in lines[1:]} == {
        "h_1[h_1]",
        "h_2[h_2]",
        "x_1((x_1))",
        "x_2((x_2))",
        "h_1 --> x_1",
        "h_1 --> h_2",
        "x_1 --> h_2",
        "h_2 --> x_2",
    }


# d-separation.


@pytest.mark.parametrize(
    ("edges", "given", "separated"),
    [
        ("am mb", "", False),  # chain
        ("am mb", "m", True),
        ("ma mb", "", False),  # fork
        ("ma mb", "m", True),
        ("am bm", "", True),  # collider
        ("am bm", "m", False),
        ("am bm md", "d", False),  # its descendant
        ("am bm ac bc", "m", False),  # two colliders, one observed
        ("ab", "m", False),  # neighbours
    ],
)
def test_d_separation_of_the_textbook_triples(edges: str, given: str, separated: bool) -> None:
    graph = graph_of(edges)
    graph.add_node("m")
    assert d_separated(graph, "a", "b", given) == separated
    assert d_separated(graph, "b", "a", given) == separated
    assert D_separated(graph, "a", "b", given) == separated  # no node is deterministic


def test_what_is_given_is_independent_of_anything() -> None:
    assert d_separated(graph_of("ab"), "a", "b", "a")
    assert d_separated(graph_of("ab"), "a", "b", "b")
    assert D_separated(graph_of("ab"), "a", "b", "b")


def dags(num_nodes: int) -> "st.SearchStrategy[nx.DiGraph[str]]":
    pairs = list(combinations("abcdefgh"[:num_nodes], 2))

    def build(chosen: list[tuple[str, str]]) -> "nx.DiGraph[str]":
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from("abcdefgh"[:num_nodes], deterministic=False)
        graph.add_edges_from(chosen)
        return graph

    return st.lists(st.sampled_from(pairs), unique=True, max_size=len(pairs)).map(build)


def random_law(graph: "nx.DiGraph[str]", num_values: int, generator: torch.Generator) -> Tensor:
    """The joint table of random kernels; a deterministic node is a random function of its parents."""
    names = sorted(graph)
    joint = torch.ones([num_values] * len(names))
    for node in names:
        parents = sorted(graph.predecessors(node))
        rows = [num_values] * len(parents)
        if graph.nodes[node]["deterministic"]:
            values = torch.randint(num_values, rows, generator=generator)
            kernel = torch.nn.functional.one_hot(values, num_values).double()
        else:
            kernel = torch.rand(*rows, num_values, generator=generator) + 0.05
            kernel = kernel / kernel.sum(-1, keepdim=True)
        axes = [names.index(name) for name in [*parents, node]]
        order = sorted(range(len(axes)), key=axes.__getitem__)
        shape = [num_values if i in axes else 1 for i in range(len(names))]
        joint = joint * kernel.permute(order).reshape(shape)
    return joint


def queries(names: str) -> Iterator[tuple[str, str, str]]:
    """Every pair of nodes and every set of others."""
    for a, b in combinations(names, 2):
        others = [name for name in names if name not in (a, b)]
        for size in range(len(others) + 1):
            yield from ((a, b, "".join(given)) for given in combinations(others, size))


def is_dependent(law: Tensor, a: str, b: str, given: str) -> bool:
    axes = [ord(name) - ord("a") for name in (a, b, *given)]
    return conditional_mutual_information(law, axes[0], axes[1], set(axes[2:])) > 1e-12


@given(dags(5))
def test_d_separation_is_independence_under_random_kernels(graph: "nx.DiGraph[str]") -> None:
    law = random_law(graph, 2, torch.Generator().manual_seed(0))
    for a, b, given_names in queries("abcde"):
        assert d_separated(graph, a, b, given_names) != is_dependent(law, a, b, given_names), (a, b, given_names)


@given(dags(4), st.sets(st.sampled_from("abcd")))
def test_D_separation_is_independence_under_random_functions(  # noqa: N802
    graph: "nx.DiGraph[str]", deterministic: set[str]
) -> None:
    nx.set_node_attributes(graph, {node: node in deterministic for node in graph}, "deterministic")
    generator = torch.Generator().manual_seed(0)
    laws = [random_law(graph, 3, generator) for _ in range(60)]  # functions of three values often merge by chance
    for a, b, given_names in queries("abcd"):
        if D_separated(graph, a, b, given_names):
            assert not any(is_dependent(law, a, b, given_names) for law in laws[:5]), (a, b, given_names)
        else:
            assert any(is_dependent(law, a, b, given_names) for law in laws), (a, b, given_names)


# Geiger, Verma & Pearl (1990): deterministic nodes.


def test_a_function_of_what_is_given_is_given() -> None:
    graph = graph_of("ad db dc", deterministic="d")  # a -> d = f(a) -> b, c
    assert not d_separated(graph, "b", "c", "a")
    assert D_separated(graph, "b", "c", "a")
    assert not D_separated(graph, "b", "c", NOTHING)
    assert not D_separated(graph_of("ad db dc"), "b", "c", "a")


def test_a_function_of_several_parents_is_given_when_all_of_them_are() -> None:
    graph = graph_of("ad ed db dc", deterministic="d")
    assert not D_separated(graph, "b", "c", "a")
    assert D_separated(graph, "b", "c", "ae")


def test_what_is_given_determines_functions_of_functions() -> None:
    graph = graph_of("ad de ef gf", deterministic="def")
    assert determined_by(graph, "a") == set("ade")
    assert determined_by(graph, "ag") == set("adefg")
    assert determined_by(graph, NOTHING) == NOTHING


def test_a_constant_is_determined_by_nothing() -> None:
    assert determined_by(graph_of("ab", deterministic="a"), NOTHING) == {"a"}
    assert D_separated(graph_of("ab", deterministic="a"), "a", "b", NOTHING)


def test_a_determined_collider_does_not_join_its_parents() -> None:
    graph = graph_of("ad bd", deterministic="d")
    assert D_separated(graph, "a", "b", NOTHING)
    assert not D_separated(graph, "a", "b", "d")


def test_the_past_of_an_rnn_determines_its_memory() -> None:
    graph = read_graph(make_rnn("lstm", Categorical(3)), 5)
    past = {"x_1", "x_2", "x_3"}
    assert determined_by(graph, past) == past | {"h_1", "h_2", "h_3", "h_4"}
    assert D_separated(graph, {"h_4"}, {"x_4", "x_5"}, past)
    assert not d_separated(graph, {"h_4"}, {"x_4", "x_5"}, past)
    assert d_separated(graph, past, {"x_4", "x_5"}, {"h_4"})
    assert not D_separated(graph, {"x_1"}, {"x_4"}, {"x_2", "x_3"})
