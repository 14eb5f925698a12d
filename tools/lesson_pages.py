"""Pages of the site that show the lessons: Markdown of the executed notebooks, with their pictures as files."""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from tools.lesson_runs import ready
from tools.lessons import FOLDER, Notebook, sources

ANSI = re.compile(r"\x1b\[[0-9;]*m")
SHORT = """```{note}
This page was computed with smaller numbers than the notebook's, so that the site builds quickly. They are in the first
code cell.
```
"""


def write(folder: Path) -> None:
    """Write the page of the course, that for instructors, and one of each lesson into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = sources()
    course = (FOLDER / "README.md").read_text(encoding="utf-8")
    (folder / "index.md").write_text(on_the_site(course), encoding="utf-8")
    guide = (FOLDER / "INSTRUCTORS.md").read_text(encoding="utf-8")
    (folder / "instructors.md").write_text(on_the_site(guide), encoding="utf-8")
    for path, (notebook, short) in zip(paths, ready(paths), strict=True):
        lines = "\n".join(page(notebook, path.stem, folder, short=short))
        (folder / f"{path.stem}.md").write_text(lines, encoding="utf-8")


def page(notebook: Notebook, name: str, folder: Path, *, short: bool) -> Iterator[str]:
    """The lines of a lesson's page; its pictures are written into the folder."""
    pictures = 0
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            yield on_the_site(cell.source) + "\n"
        else:
            yield f"```python\n{cell.source}\n```\n"
            for output in joined(cell.outputs):
                svg = output.get("data", {}).get("image/svg+xml")
                if svg is not None:
                    pictures += 1
                    (folder / f"{name}-{pictures}.svg").write_text(svg, encoding="utf-8")
                    yield f"![{cell.metadata.get('alt', '')}]({name}-{pictures}.svg)\n"
                else:
                    yield from shown(output)
        if number == 0:
            yield f"The notebook of this page is `tutorials/{name}.ipynb` in the repository.\n"
            if short:
                yield SHORT


def joined(outputs: list[Any]) -> Iterator[Any]:
    """The outputs of a cell; what it printed without a picture in between is one."""
    for _, group in groupby(outputs, key=lambda output: output.get("name", id(output))):
        first, *rest = group
        if rest:
            first["text"] = "".join(output.text for output in (first, *rest))
        yield first


def shown(output: Any) -> Iterator[str]:
    """The lines of an output that is no picture: text, or sound."""
    data = output.get("data", {})
    html = data.get("text/html", "")
    if "<audio" in html:
        yield f"```{{raw}} html\n{html}\n```\n"
        return
    text = output.get("text") or data.get("text/plain", "")
    if output.get("name") != "stderr" and text:
        yield f"```{{code-block}} text\n:class: output\n\n{ANSI.sub('', text).rstrip()}\n```\n"


def on_the_site(text: str) -> str:
    """Markdown of tutorials/ with its links as seen from the site's folder of lessons."""
    text = re.sub(r"\]\((\d\d-[\w-]+)\.ipynb", r"](\1.md", text).replace("](INSTRUCTORS.md", "](instructors.md")
    return text.replace("](../docs/", "](../")
