"""docs/your-own-model.md is run from top to bottom: its files, its Python, its commands, and what they print."""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tests.test_cli import call

PAGE = Path(__file__).parents[1] / "docs" / "your-own-model.md"
NUMBER = re.compile(r"-?\d+\.\d+")


class Block(NamedTuple):
    """A block of code in a page.

    Attributes:
        kind: "python", "text" or "console".
        file: the file that it is part of, or "".
        code: its lines.
        line: number of its first line in the page.
    """

    kind: str
    file: str
    code: str
    line: int


def blocks(text: str) -> list[Block]:
    found = re.finditer(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [Block(each[1], each[2] or "", each[3], text[: each.start()].count("\n") + 2) for each in found]


def differing(printed: str, expected: str) -> str | None:
    """The first line that differs, None if none does; numbers with a point may differ by one in their last digit."""
    ours, theirs = printed.rstrip().splitlines(), expected.rstrip().splitlines()
    for mine, its in zip(ours, theirs, strict=False):
        if NUMBER.sub("#", mine) != NUMBER.sub("#", its):
            return f"{mine!r} is not {its!r}"
        for a, b in zip(NUMBER.findall(mine), NUMBER.findall(its), strict=True):
            if abs(float(a) - float(b)) > 1.01 * 10.0 ** -len(b.partition(".")[2]):
                return f"{mine!r} is not {its!r}"
    return None if len(ours) == len(theirs) else f"{len(ours)} lines are not {len(theirs)}"


def run_commands(lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in lines.splitlines():
        if line.startswith("$ "):
            assert call(monkeypatch, *shlex.split(line)[2:]) == 0, line


def run_page(text: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a page in the working folder; where its output differs from the page, the line and the difference."""
    scope: dict[str, Any] = {"__name__": "page"}
    printed, faults = "", []
    for block in blocks(text):
        if block.kind == "text":
            fault = differing(printed, block.code)
            faults += [] if fault is None else [f"line {block.line}: {fault}"]
        elif block.file:
            with Path(block.file).open("a", encoding="utf-8") as file:
                file.write("\n\n" * bool(file.tell()) + block.code)
        else:
            with contextlib.redirect_stdout(io.StringIO()) as said:
                if block.kind == "console":
                    run_commands(block.code, monkeypatch)
                else:
                    sys.modules.pop("my_models", None) if "from my_models" in block.code else None
                    exec(compile("\n" * (block.line - 1) + block.code, PAGE.name, "exec"), scope)
            printed = said.getvalue()
    return faults


@pytest.fixture
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder from which modules are imported, and float32."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.usefixtures("_folder")
def test_the_page_runs_and_prints_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert {block.kind for block in blocks(text)} == {"python", "text", "console"}
    try:
        assert run_page(text, monkeypatch) == []
    finally:
        sys.modules.pop("my_models", None)


@pytest.mark.usefixtures("_folder")
def test_another_output_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    page = "```python\nprint('a 1.25')\n```\n\n```text\na {}\n```\n"
    assert run_page(page.format("1.25"), monkeypatch) == run_page(page.format("1.26"), monkeypatch) == []
    for other in ("1.28", "b", "1.25\nmore", ""):
        assert run_page(page.format(other), monkeypatch)[0].startswith("line 6: "), other
    with pytest.raises(AssertionError, match="fits/nothing"):
        run_page("```console\n$ pgm-rnn sample fits/nothing\n```\n", monkeypatch)
