"""Cells of a file in the py:percent format of Jupytext: `# %% title key="value"`, and `# %% [markdown]` for texts."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

HEAD = re.compile(r"^# %%(?P<kind> \[markdown\])?(?P<rest>.*)$")
OPTION = re.compile(r'(\w+)=(?:"([^"]*)"|(\d+))')


class RawCell(NamedTuple):
    """A cell.

    Attributes:
        is_text: whether it is Markdown; otherwise it is code.
        content: its lines, without the signs of comments if it is Markdown.
        options: what stands behind `# %%`.
        line: number of the line of `# %%`, from 1.
    """

    is_text: bool
    content: str
    options: Mapping[str, str]
    line: int


def read_cells(text: str) -> list[RawCell]:
    """The cells of a file, in their order. What stands above the first `# %%` is a cell of code, if it is not blank.

    >>> read_cells('# %% part="filter"')
    [RawCell(is_text=False, content='', options={'part': 'filter'}, line=1)]
    """
    cells: list[tuple[re.Match[str] | None, int, list[str]]] = [(None, 0, [])]
    for number, line in enumerate(text.splitlines(), start=1):
        head = HEAD.match(line)
        if head:
            cells.append((head, number, []))
        else:
            cells[-1][2].append(line)
    made = [_cell(head, number, lines) for head, number, lines in cells]
    return made if made[0].content else made[1:]


def _cell(head: re.Match[str] | None, number: int, lines: list[str]) -> RawCell:
    is_text = head is not None and head["kind"] is not None
    if is_text:
        lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
    options = {} if head is None else {key: value or digits for key, value, digits in OPTION.findall(head["rest"])}
    return RawCell(is_text, "\n".join(lines).strip("\n"), options, number)


def write_cells(cells: Iterable[RawCell]) -> str:
    """The file of these cells, which `read_cells` reads."""
    return "\n\n".join(map(_written, cells)) + "\n"


def _written(cell: RawCell) -> str:
    options = "".join(f' {key}="{value}"' for key, value in cell.options.items())
    if not cell.is_text:
        return f"# %%{options}\n{cell.content}"
    lines = ("# " + line if line else "#" for line in cell.content.splitlines())
    return f"# %% [markdown]{options}\n" + "\n".join(lines)
