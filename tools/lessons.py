"""The lessons of the course: sources, notebooks and their parts.

    tutorials/NN-name.py       the source of a lesson, in jupytext's percent format
    tutorials/NN-name.ipynb    the same as a notebook without outputs

`python -m tools.lessons notebooks` writes the notebooks anew. `python -m tools.lessons run [NAME ...]` executes lessons
in kernels of their own and keeps what they show in build/lessons: see `tools.lesson_runs`.

A source's first code cell has the tag "parameters", and `short`, the smaller values of the short form that tests run.
A cell that draws has `alt`, its picture's text for those who cannot see it.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tutorials"
Notebook = Any
"""A notebook of nbformat's."""

DETAILS = re.compile(r"<details>\n<summary>Solution</summary>\n(.*?)\n</details>", re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
KEPT = ("tags", "short", "alt")
"""The metadata of a cell that a notebook keeps; jupytext adds others about blank lines."""
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def sources() -> list[Path]:
    """The sources of all lessons, by their numbers."""
    return sorted(FOLDER.glob("[0-9][0-9]-*.py"))


def read(path: Path) -> Notebook:
    """The notebook of a source: no outputs, cells numbered by their ids, so that it is the same each time."""
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell["metadata"] = {name: value for name, value in cell.metadata.items() if name in KEPT}
    notebook["metadata"] = {"kernelspec": KERNEL}
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    return notebook


def written(notebook: Notebook) -> str:
    """The text of the .ipynb file."""
    return nbformat.writes(notebook, indent=1) + "\n"


def write_notebooks() -> None:
    """Write every source's notebook beside it."""
    for path in sources():
        path.with_suffix(".ipynb").write_text(written(read(path)), encoding="utf-8")


def code(notebook: Notebook) -> list[str]:
    """The code cells, in their order."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def text(notebook: Notebook) -> str:
    """All Markdown cells, with blank lines between."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def solutions(notebook: Notebook) -> list[str]:
    """The code of the folded solutions, one text for each exercise."""
    return ["\n".join(PYTHON.findall(folded)) for folded in DETAILS.findall(text(notebook))]


def shortened(notebook: Notebook) -> Notebook:
    """A copy whose parameters have the values of the short form.

    Raises:
        ValueError: a value for a parameter that the first code cell does not set.
    """
    copy = nbformat.from_dict(notebook)
    cell = next(cell for cell in copy.cells if "parameters" in cell.metadata.get("tags", ()))
    for name, value in cell.metadata["short"].items():
        cell["source"], count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value!r}", cell.source)
        if count != 1:
            raise ValueError(f"expected the parameter {name} once in the first code cell, found it {count} times")
    return copy


def imported(code: str) -> Iterator[str]:
    """Full names of what code takes from the package: imported names, and attributes of imported modules."""
    tree, modules = ast.parse(code), dict[str, str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    yield from (name for name in modules.values() if name.startswith("pgm_rnn."))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            path = ast.unparse(node)
            head, _, rest = path.partition(".")
            if modules.get(head, "").startswith("pgm_rnn") and re.fullmatch(r"[\w.]+", rest):
                yield f"{modules[head]}.{rest}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("notebooks", help="write tutorials/*.ipynb from their sources")
    run = commands.add_parser("run", help="execute lessons and keep their pages and pictures in build/lessons")
    run.add_argument("names", nargs="*", help="beginnings of names, such as 03; all lessons by default")
    run.add_argument("--short", action="store_true", help="the short form")
    options = parser.parse_args(arguments)
    if options.command == "notebooks":
        write_notebooks()
        return 0
    from tools.lesson_runs import run_all

    chosen = [path for path in sources() if not options.names or path.stem.startswith(tuple(options.names))]
    return run_all(chosen, short=options.short)


if __name__ == "__main__":
    sys.exit(main())
