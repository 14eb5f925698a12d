"""A directed graph as a picture: time to the right, one row per variable; parameters stand above and below.

circle               a random variable; grey where it is observed
double square        a Delta node, a function of its parents
solid arrow          to a variable of the same step; in an unrolled graph, of any step
dashed arrow         to a variable of a later step, in a folded graph
rectangle            a plate: independent copies of what it holds, or the steps of a folded graph
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pgm_rnn.experiments.pictures import BLUE
from pgm_rnn.graph import Variable
from pgm_rnn.report.canvas import FILE, SMALL, TEXT, WIDTH, Canvas, num_columns
from pgm_rnn.report.figures import beside
from pgm_rnn.report.looks import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Place = tuple[float, float]

ROWS = ("h", "z", "x")
"""Variables of every step, from the top; others stand below, in the order of the program."""
WIDE, HIGH = 1.5, 1.35
"""Distances of columns and rows, where a node has the radius `RADIUS`."""
RADIUS = 0.33
MARGIN, LINE = 0.3, 0.36
"""Distance of a plate from the nodes and from the plate inside it, and the height of its name."""
STACKED = 0.07
"""How far each square behind the node of several particles is moved."""
LOOP = 0.45
"""Room to the right of a folded graph for its loops."""
INCHES = 0.65
"""Largest width of a unit of length in a new figure."""
WIDEST, NARROWEST = 18.0, 5.4
"""Units from which a new figure is wider than usual, and its least width in inches."""
OBSERVED = "0.82"
FUNCTION = BLUE.color
"""Colour of Delta nodes and of the arrows into them."""


class Layout(NamedTuple):
    """Where the nodes of a graph are.

    Attributes:
        places: the middle of each node.
        size: width and height of the whole picture with its plates.
        corner: the picture's lower left corner.
    """

    places: dict[str, Place]
    size: Place
    corner: Place


def layout_of(graph: Any) -> Layout:
    """Columns by step, rows by variable; a parameter above or below them, on the side of the variables it governs."""
    variables: dict[str, Variable] = dict(graph.nodes(data="variable"))
    inside = {node for nodes in graph.graph["plates"].values() for node in nodes}
    names = list(dict.fromkeys(variable.name for node, variable in variables.items() if node in inside))
    rows = [name for name in ROWS if name in names] + [name for name in names if name not in ROWS]
    is_folded = graph.is_multigraph()
    places = {
        node: (0.0 if is_folded else WIDE * ((variable.step or 1) - 1), -HIGH * rows.index(variable.name))
        for node, variable in variables.items()
        if node in inside
    }
    above, below = _room(graph)
    top, foot = above + 0.1, -HIGH * (len(rows) - 1) - below - 0.1
    right = max(x for x, _ in places.values())
    outside = [node for node in variables if node not in inside]
    upper = [node for node in outside if _row_of_children(graph, node, places) > -HIGH * (len(rows) - 1) / 2]
    lower = [node for node in outside if node not in upper]
    places |= _spread(upper, right, top + HIGH / 2) | _spread(lower, right, foot - HIGH / 2)
    left = min(min(x for x, _ in places.values()) - above - 0.1, right / 2 - 1.2)
    end = max(max(x for x, _ in places.values()) + above + 0.1 + LOOP * is_folded, right / 2 + 1.2)
    top, foot = top + (HIGH + 0.1) * bool(upper), foot - (HIGH + 0.1) * bool(lower)
    return Layout(places, (end - left, top - foot), (left, foot))


def _room(graph: Any) -> tuple[float, float]:
    """Distances of the outermost plate above and below the middles of its nodes."""
    num_plates = len(graph.graph["plates"]) + graph.is_multigraph()
    return RADIUS + MARGIN * num_plates, RADIUS + (MARGIN + LINE) * num_plates - 0.2


def _row_of_children(graph: Any, node: str, places: Mapping[str, Place]) -> float:
    """The mean height of the variables that a parameter governs."""
    heights = [places[child][1] for child in graph.successors(node) if child in places]
    return sum(heights) / len(heights) if heights else 0.0


def _spread(nodes: Sequence[str], right: float, height: float) -> dict[str, Place]:
    """Places of parameters beside each other, over the middle of the columns 0..right."""
    apart = max(2.4, right / max(1, len(nodes)))
    return {node: (right / 2 + apart * (number - (len(nodes) - 1) / 2), height) for number, node in enumerate(nodes)}


def draw_graphs(graphs: Mapping[str, Any], canvas: Canvas = FILE) -> "list[Axes]":
    """Draw graphs beside each other, each under its title, with a key below.

    Args:
        graphs: results of `pgm_rnn.graph.read_graph` or `pgm_rnn.graph.folded`, by their titles.
        canvas: what to draw on.

    Raises:
        ValueError: a caller with fewer axes than graphs.
    """
    if canvas.axes is None:
        sizes = [layout_of(graph).size for graph in graphs.values()]
        units = sum(width for width, _ in sizes)
        width = max(NARROWEST, min(INCHES * units, WIDTH * max(1.0, units / WIDEST)))
        figure, panels = beside(sizes, width=width, unit=INCHES, room=0.65, shown=canvas.shown)
        _key(figure, list(graphs.values()))
    else:
        panels = canvas.panels(len(graphs))
    for panel, (title, graph) in zip(panels, graphs.items(), strict=True):
        draw_graph(panel, graph, title)
    return panels


def _key(figure: Any, graphs: Sequence[Any]) -> None:
    """What the outlines and arrows of these graphs mean, at the foot of a figure."""
    from matplotlib.lines import Line2D

    flags = [flag for graph in graphs for _, flag in graph.nodes(data="deterministic")]
    lags = [data.get("lag", 0) for graph in graphs for *_, data in graph.edges(data=True)]
    look: dict[str, Any] = {"linestyle": "none", "markersize": 10}
    entries = [Line2D([], [], marker="o", color="black", markerfacecolor=OBSERVED, label="observed", **look)]
    if any(flags):
        square = {"marker": "s", "color": FUNCTION, "markerfacecolor": "white", "markeredgewidth": 2.5}
        entries.append(Line2D([], [], label="Delta node: a function of its parents", **look | square))
    numbers = sorted({graph.graph["num_particles"] for graph in graphs if graph.graph.get("num_particles")})
    if numbers:
        entries.append(Line2D([], [], linestyle="none", label=f"stack: {_listed(numbers)} particles in one"))
    if any(lags):
        entries.append(Line2D([], [], color="black", linestyle="--", label="to the next step"))
    columns = num_columns([str(entry.get_label()) for entry in entries], figure.get_figwidth())
    figure.legend(handles=entries, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)


def _listed(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


def draw_graph(panel: "Axes", graph: Any, title: str = "") -> None:
    """Draw a graph of `pgm_rnn.graph.read_graph`, or one of `pgm_rnn.graph.folded`, on a panel without axes."""
    layout = layout_of(graph)
    nodes = {node: _draw_node(panel, node, graph.nodes[node], layout.places[node], graph) for node in graph.nodes}
    for edge in graph.edges(data=True):
        _draw_edge(panel, edge, nodes, layout.places, bool(graph.nodes[edge[1]]["deterministic"]))
    _draw_plates(panel, graph, layout.places)
    panel.set_xlim(layout.corner[0], layout.corner[0] + layout.size[0])
    panel.set_ylim(layout.corner[1], layout.corner[1] + layout.size[1])
    panel.set_aspect("equal")
    panel.set_anchor("N")
    panel.set_axis_off()
    panel.set_title(title, fontsize=TEXT)


def _draw_node(panel: "Axes", node: str, data: Mapping[str, Any], place: Place, graph: Any) -> Any:
    """The outline of a node, where its arrows end."""
    from matplotlib.patches import Circle, Rectangle

    x, y = place
    variable: Variable = data["variable"]
    colour = OBSERVED if variable.name == "x" else "white"
    outline: Any
    if data["deterministic"]:
        outline = Rectangle((x - RADIUS, y - RADIUS), 2 * RADIUS, 2 * RADIUS, facecolor=colour, edgecolor=FUNCTION)
        small = 0.8 * RADIUS
        for depth in (2, 1) if graph.graph.get("num_particles") else ():
            _draw_behind(panel, place, depth)
        inner = Rectangle((x - small, y - small), 2 * small, 2 * small, fill=False, edgecolor=FUNCTION, linewidth=0.9)
        inner.set_zorder(4)
        panel.add_patch(inner)
    else:
        outline = Circle(place, RADIUS, facecolor=colour, edgecolor="black")
    outline.set(linewidth=1.2, zorder=3, gid=f"node-{node}")
    panel.add_patch(outline)
    if variable.step is None:
        panel.text(x + RADIUS + 0.1, y, node.replace("_", " "), ha="left", va="center", fontsize=SMALL, zorder=5)
    else:
        index = "t" if graph.is_multigraph() else str(variable.step)
        size = TEXT + 1 if len(index) == 1 else SMALL
        panel.text(x, y, f"${variable.name}_{{{index}}}$", ha="center", va="center", fontsize=size, zorder=5)
    return outline


def _draw_behind(panel: "Axes", place: Place, depth: int) -> None:
    """A square behind the node of several particles."""
    from matplotlib.patches import Rectangle

    x, y = (middle - RADIUS + STACKED * depth for middle in place)
    square = Rectangle((x, y), 2 * RADIUS, 2 * RADIUS, facecolor="white", edgecolor=FUNCTION, linewidth=0.9)
    square.set_zorder(2.9 - 0.1 * depth)
    panel.add_patch(square)


def _draw_edge(
    panel: "Axes",
    edge: tuple[str, str, Mapping[str, Any]],
    nodes: Mapping[str, Any],
    places: Mapping[str, Place],
    function: bool,
) -> None:
    from matplotlib.patches import FancyArrowPatch

    a, b, data = edge
    later = data.get("lag", 0) > 0
    way: dict[str, Any]
    if a == b:
        way = {"path": _loop(places[a])}
    else:
        way = {"posA": places[a], "posB": places[b], "patchA": nodes[a], "patchB": nodes[b], "shrinkA": 1, "shrinkB": 1}
        way["connectionstyle"] = f"arc3,rad={_bend(a, b, places, folded='lag' in data, later=later)}"
    arrow = FancyArrowPatch(**way, arrowstyle="-|>", mutation_scale=11, color=FUNCTION if function else "black")
    arrow.set(linewidth=1.1, linestyle="--" if later else "-", zorder=2)
    arrow.set_gid(f"edge-{a}-{b}" + (f"-{data['lag']}" if later else ""))
    panel.add_patch(arrow)


def _loop(place: Place) -> Any:
    """A loop from a node to itself, on its right side."""
    from matplotlib.path import Path

    x, y = place
    out, far = x + RADIUS + 0.02, x + RADIUS + 2 * LOOP
    return Path([(out, y + 0.15), (far, y + 0.45), (far, y - 0.45), (out, y - 0.15)], [Path.MOVETO, *3 * [Path.CURVE4]])


def _bend(a: str, b: str, places: Mapping[str, Place], *, folded: bool, later: bool) -> float:
    """How far an arrow leaves the straight line.

    Arrows to a later step of a folded graph are on its right side. An arrow goes round a node that is in its way, on
    the left side of a folded graph.
    """
    (x, y), (u, v) = places[a], places[b]
    if later:
        return 0.55 if v > y else -0.55
    others = [place for node, place in places.items() if node not in (a, b)]
    if x == u and any(other[0] == x and min(y, v) < other[1] < max(y, v) for other in others):
        return (0.33 if v > y else -0.33) if not folded else (-0.33 if v > y else 0.33)
    if y == v and any(other[1] == y and min(x, u) < other[0] < max(x, u) for other in others):
        return -0.35
    return 0.0


def _draw_plates(panel: "Axes", graph: Any, places: Mapping[str, Place]) -> None:
    """The plates, those with fewer nodes inside the others; a folded graph has one over its steps."""
    plates: dict[str, Sequence[str]] = dict(graph.graph["plates"])
    if graph.is_multigraph():
        steps = [node for node in graph.nodes if graph.nodes[node]["variable"].step is not None]
        plates = {"$t = 1..T$": steps} | plates
    for depth, (name, nodes) in enumerate(sorted(plates.items(), key=lambda plate: len(plate[1])), 1):
        _draw_plate(panel, name, [places[node] for node in nodes], depth, LOOP if graph.is_multigraph() else 0.0)


def _draw_plate(panel: "Axes", name: str, inside: Sequence[Place], depth: int, room: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    away = RADIUS + MARGIN * depth
    left, right = min(x for x, _ in inside) - away, max(x for x, _ in inside) + away + room
    low, high = min(y for _, y in inside) - away - LINE * depth + 0.2, max(y for _, y in inside) + away
    box = FancyBboxPatch(
        (left, low), right - left, high - low, boxstyle="round,pad=0,rounding_size=0.12", fill=False, edgecolor=INK
    )
    box.set(linewidth=0.9, zorder=1, gid=f"plate-{depth}")
    panel.add_patch(box)
    panel.text(right - 0.08, low + 0.04, name, ha="right", va="bottom", fontsize=SMALL, color=INK, zorder=5)
