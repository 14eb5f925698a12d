"""Pictures of graphs: every node and edge of the program, told apart, in columns of time."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyro.distributions as dist
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

import pgm_rnn as pr
from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.graph import folded, read_graph
from pgm_rnn.report.graph_pictures import OBSERVED, layout_of
from pgm_rnn.report.graphs import graphs_of, write_graphs
from pgm_rnn.sequence_model import SequenceModel
from tests.instances import make_hmm, make_model, make_rnn
from tests.plot.looking import covered, cut_off, figure_of, names


def wrong(value: object) -> Any:
    """A value of a type that type checkers refuse."""
    return value


def gids(panel: Axes, start: str) -> set[str]:
    return {str(patch.get_gid())[len(start) :] for patch in panel.patches if str(patch.get_gid()).startswith(start)}


def node(panel: Axes, name: str) -> object:
    return next(patch for patch in panel.patches if patch.get_gid() == f"node-{name}")


@pytest.mark.parametrize("name", ["rnn-gru", "hmm", "vrnn", "lgssm", "markov-chain", "particle-filter-rnn"])
def test_every_node_and_edge_of_the_program_is_drawn(name: str) -> None:
    model = make_model(name, Gaussian(1) if name == "lgssm" else Categorical(3))
    (panel,) = pr.plot.graph(model, num_steps=3)
    graph = read_graph(model, 3)
    assert gids(panel, "node-") == set(graph.nodes)
    assert gids(panel, "edge-") == {f"{a}-{b}" for a, b in graph.edges}
    assert gids(panel, "plate-") == {"1"}
    assert len([patch for patch in panel.patches if isinstance(patch, FancyArrowPatch)]) == len(graph.edges)


def test_delta_nodes_are_double_squares_and_observations_grey_circles() -> None:
    (panel,) = pr.plot.graph(make_rnn("gru", Categorical(3)), num_steps=2)
    h, x = node(panel, "h_1"), node(panel, "x_1")
    assert isinstance(h, Rectangle)
    assert isinstance(x, Circle)
    assert x.get_facecolor()[0] == pytest.approx(float(OBSERVED))
    squares = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    assert len(squares) == 4  # two Delta nodes, two outlines each
    (other,) = pr.plot.graph(make_hmm(Categorical(3)), num_steps=2)
    assert not [patch for patch in other.patches if isinstance(patch, Rectangle)]
    assert names(panel) == ["observed", "Delta node: a function of its parents"]
    assert names(other) == ["observed"]


def test_columns_are_steps_and_rows_are_variables() -> None:
    places = layout_of(read_graph(make_model("vrnn", Categorical(3)), 3)).places
    for name in "hzx":
        heights = {places[f"{name}_{t}"][1] for t in (1, 2, 3)}
        assert len(heights) == 1
    for t in (1, 2, 3):
        assert len({places[f"{name}_{t}"][0] for name in "hzx"}) == 1
    assert places["h_1"][1] > places["z_1"][1] > places["x_1"][1]
    assert places["h_1"][0] < places["h_2"][0] < places["h_3"][0]


def test_the_plate_holds_its_nodes_and_no_parameter() -> None:
    hmm = make_hmm(Categorical(3))
    program = pr.WithPriors(hmm, {"transition_probs": dist.Dirichlet(torch.ones(hmm.num_states, hmm.num_states))})
    (panel,) = pr.plot.graph(program)
    (plate,) = [patch for patch in panel.patches if isinstance(patch, FancyBboxPatch)]
    box = plate.get_path().get_extents()
    inside = {name for name in gids(panel, "node-") if box.contains(*layout_of(read_graph(program, 3)).places[name])}
    assert inside == {f"{name}_{t}" for name in "zx" for t in (1, 2, 3)}
    assert "transition_probs" in gids(panel, "node-") - inside
    assert panel.get_title() == "HMM with priors"


def test_no_two_nodes_overlap() -> None:
    for graph in (read_graph(make_model("vrnn", Categorical(3)), 12), folded(read_graph(make_hmm(Gaussian()), 3))):
        places = [torch.tensor(place) for place in layout_of(graph).places.values()]
        gaps = torch.cdist(torch.stack(places), torch.stack(places)) + 9 * torch.eye(len(places))
        assert float(gaps.min()) > 2 * 0.33 * 2**0.5


def test_a_folded_graph_is_one_slice_with_edges_to_the_next() -> None:
    slice_ = folded(read_graph(make_rnn("gru", Categorical(3)), 4))
    assert set(slice_.nodes) == {"h", "x"}
    assert sorted((a, b, data["lag"]) for a, b, data in slice_.edges(data=True)) == [
        ("h", "h", 1),
        ("h", "x", 0),
        ("x", "h", 1),
    ]
    assert slice_.graph["plates"] == {"sequences": ["h", "x"]}
    (panel,) = pr.plot.graph(make_rnn("gru", Categorical(3)), folded=True)
    assert gids(panel, "edge-") == {"h-x", "h-h-1", "x-h-1"}
    assert gids(panel, "plate-") == {"1", "2"}  # steps, sequences
    dashed = {patch.get_gid() for patch in panel.patches if patch.get_linestyle() == "--"}
    assert dashed == {"edge-h-h-1", "edge-x-h-1"}


def test_unfolding_a_folded_graph_gives_the_graph_back() -> None:
    for model in (make_model("vrnn", Categorical(3)), make_hmm(Gaussian())):
        slice_ = folded(read_graph(model, 3))
        edges = {
            (f"{a}_{t - data['lag']}", f"{b}_{t}")
            for a, b, data in slice_.edges(data=True)
            for t in range(1 + data["lag"], 6)
        }
        assert edges == set(read_graph(model, 5).edges)


def test_several_models_stand_beside_each_other_on_one_scale() -> None:
    models: dict[str, SequenceModel] = {
        "Figure 2": make_hmm(Categorical(3)),
        "Figure 3": make_rnn("elman", Categorical(3)),
        "Figure 4": make_model("particle-filter-rnn", Categorical(3)),
    }
    panels = pr.plot.graph(models)
    assert [panel.get_title() for panel in panels] == list(models)
    figure_of(panels).canvas.draw()
    widths = [node(panel, "x_1").get_window_extent().width for panel in panels]  # type: ignore[attr-defined]
    assert widths == pytest.approx([widths[0]] * 3, rel=0.02)
    assert gids(panels[1], "edge-") == gids(panels[2], "edge-") != gids(panels[0], "edge-")  # figures 3 and 4 are one
    assert covered(figure_of(panels)) == cut_off(figure_of(panels)) == []


def test_a_node_that_holds_particles_is_a_stack_of_squares() -> None:
    model = make_model("particle-filter-rnn", Categorical(3))
    (panel,) = pr.plot.graph(model, num_steps=2)
    squares = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    assert len(squares) == 2 * 4  # two outlines, two squares behind
    assert names(panel)[-1] == f"stack: {model.num_particles} particles in one"


@pytest.mark.parametrize("shown", [True, False])
def test_the_key_fits_under_every_graph(shown: bool) -> None:
    panels = pr.plot.graph(make_model("particle-filter-rnn", Categorical(3)), folded=shown)
    assert len(names(panels)) == 3 + shown
    assert covered(figure_of(panels)) == cut_off(figure_of(panels)) == []


@pytest.mark.parametrize(
    ("file", "shown"),
    [("figures-2-3-4", {"hmm": 3, "rnn-elman": 3, "particle-filter-rnn": 3}), ("vrnn", {"vrnn": 4})],
)
def test_the_pictures_of_the_page_show_the_programs_of_today(file: str, shown: dict[str, int]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "graphs" / f"{file}.svg").read_text()
    expected: list[str] = []
    for name, num_steps in shown.items():
        expected += [f"edge-{a}-{b}" for a, b in read_graph(make_model(name, Categorical(3)), num_steps).edges]
    assert sorted(re.findall(r'id="(edge-[^"]+)"', text)) == sorted(expected)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_file_is_the_same_one_again(suffix: str, tmp_path: Path) -> None:
    graphs = graphs_of({"a": make_hmm(Categorical(3)), "b": make_rnn("gru", Categorical(3))}, 2)
    contents = []
    for name in ("one", "two"):
        write_graphs(graphs, tmp_path / f"{name}{suffix}")
        contents.append((tmp_path / f"{name}{suffix}").read_bytes())
    assert contents[0] == contents[1]
    if suffix == ".svg":
        found = {group.get("id") for group in ElementTree.fromstring(contents[0]).iter()}
        assert {"node-z_1", "node-h_2", "edge-h_1-x_1", "plate-1"} <= found
        assert "edge-x_1-h_1" not in found


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: pr.plot.graph({}), ValueError, "expected at least one model, got none"),
        (
            lambda: pr.plot.graph(wrong("hmm")),
            TypeError,
            "expected a model of sequences, with or without priors, got str",
        ),
        (lambda: pr.plot.graph(make_hmm(Categorical(2)), num_steps=0), ValueError, "expected num_steps"),
        (
            lambda: pr.plot.graph(dict.fromkeys("ab", make_hmm(Categorical(2))), axes=pyplot.figure().subplots()),
            ValueError,
            "expected 2 axes, one for each panel, got 1",
        ),
    ],
)
def test_wrong_arguments_are_one_sentence(draw: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw()
