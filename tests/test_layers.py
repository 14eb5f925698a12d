"""The import graph: imports point down the README's map, without a circle, and private names stay in their modules.

All imports count, those inside functions and those for type checkers too. A name that a package hands on counts as an
import of the module that defines it. The root package is exempt: it looks its public names up when they are used.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).parents[1]
FOLDERS = {"pgm_rnn": "pgm_rnn", "models": "pgm_rnn.models", "inference": "pgm_rnn.inference"}


def files() -> Iterator[tuple[str, Path]]:
    """Every module of the package by its dotted name."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder)
            if (ROOT / folder / inside.parts[0]).is_symlink():
                continue
            parts = [package, *inside.with_suffix("").parts]
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(files())
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that is imported from the package, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and str(node.module) in MODULES:
            yield from ((str(node.module), alias.name) for alias in node.names)


HANDED_ON = {name: {alias: (module, alias) for module, alias in imports(tree) if alias} for name, tree in TREES.items()}


def home(module: str, name: str) -> str:
    """The module that defines what `from module import name` gives."""
    if f"{module}.{name}" in MODULES:
        return f"{module}.{name}"
    if name in HANDED_ON[module] and MODULES[module].name == "__init__.py":
        return home(*HANDED_ON[module][name])
    return module


def graph_of(trees: Mapping[str, ast.AST]) -> "nx.DiGraph[str]":
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, tree in trees.items():
        if name != "pgm_rnn":
            graph.add_edges_from((name, home(*found)) for found in imports(tree))
    graph.remove_edges_from([edge for edge in graph.edges if "pgm_rnn" in edge])
    return graph


GRAPH = graph_of(TREES)


def circles(graph: "nx.DiGraph[str]") -> list[set[str]]:
    found = [set(part) for part in nx.strongly_connected_components(graph) if len(part) > 1]
    return found + [{name} for name in nx.nodes_with_selfloops(graph)]


def floors() -> list[list[str]]:
    """The map's lines from the bottom up, each as the dotted names that it has."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text[text.index("## Map") :].split("\n\n")[1]
    lines = []
    for line in reversed(block.splitlines()[1:]):
        names = [name.strip(",").rstrip("/").removesuffix(".py") for name in re.findall(r"[\w/]+(?:/|\.py)", line)]
        top = "" if names[0] in FOLDERS else "pgm_rnn/"
        paths = [name if name.startswith(("pgm_rnn/", *FOLDERS)) else top + name for name in names]
        lines.append([re.sub(r"^(models|inference)\b", r"pgm_rnn.\1", path).replace("/", ".") for path in paths])
    return lines


FLOORS = floors()


def floor(module: str) -> int:
    """On which line of the map a module is: that of the longest name that fits."""
    fits = [
        (len(name), number)
        for number, names in enumerate(FLOORS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    return max(fits)[1]


def test_there_is_no_circle() -> None:
    assert circles(GRAPH) == []


def test_a_circle_of_a_typing_import_would_be_seen() -> None:
    late = "if TYPE_CHECKING:\n    from pgm_rnn.models import HMM\ndef f():\n    from pgm_rnn.inference import svi"
    trees = dict(TREES) | {"pgm_rnn.kernels.hmm": ast.parse(late)}
    found = circles(graph_of(trees))
    assert any({"pgm_rnn.kernels.hmm", "pgm_rnn.models.hmm"} <= circle for circle in found)


def up(graph: "nx.DiGraph[str]") -> dict[str, set[str]]:
    """Modules that import from a line of the map above their own, with what they import."""
    found = {name: {other for other in graph.successors(name) if floor(other) > floor(name)} for name in graph}
    return {name: others for name, others in found.items() if others}


def test_imports_point_down_the_readmes_map() -> None:
    graph = nx.subgraph_view(GRAPH, filter_node=lambda name: name != "pgm_rnn.__main__")
    assert len(graph) > 400
    assert up(graph) == {}


def test_an_import_that_points_up_would_be_seen() -> None:
    trees = {"pgm_rnn.kernels.hmm": ast.parse("def f():\n    from pgm_rnn.models import HMM")}
    assert up(graph_of(trees)) == {"pgm_rnn.kernels.hmm": {"pgm_rnn.models.hmm"}}


def test_the_map_has_every_package_and_nothing_else() -> None:
    there = {name for names in FLOORS for name in names}
    assert there <= MODULES.keys()
    tops = {".".join(name.split(".")[:2]) for name in MODULES} - {"pgm_rnn", "pgm_rnn.__main__"}
    assert tops <= there


def test_engines_import_no_particular_model() -> None:
    for name in MODULES:
        if name.startswith("pgm_rnn.inference") and name in GRAPH:
            assert not [other for other in GRAPH.successors(name) if other.startswith("pgm_rnn.models")], name


def test_no_name_with_an_underscore_is_used_from_another_module() -> None:
    private = [(name, found) for name, tree in TREES.items() for found in imports(tree) if re.match("_[^_]", found[1])]
    assert private == []


def test_the_ground_of_the_package_has_few_files() -> None:
    assert len(list((ROOT / "pgm_rnn").glob("*.py"))) <= 14
