"""Runs a page of the documentation from top to bottom: its files, its Python, its commands, and what they print."""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.test_cli import call

DOCS = Path(__file__).parents[1] / "docs"
NUMBER = re.compile(r"-?\d+\.\d+")
ANY_LINES = "..."


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
    """The first line that differs, None if none does.

    Numbers with a point may differ by one in their last digit, and a line `...` stands for any lines.
    """
    ours = [line.rstrip() for line in printed.rstrip().splitlines()]
    skips = False
    for its in (line.rstrip() for line in expected.rstrip().splitlines()):
        if its == ANY_LINES:
            skips = True
            continue
        while skips and ours and not alike(ours[0], its):
            ours.pop(0)
        if not ours or not alike(ours[0], its):
            return f"{ours[0]!r} is not {its!r}" if ours else f"{its!r} is missing"
        ours.pop(0)
        skips = False
    return f"{ours[0]!r} follows" if ours and not skips else None


def alike(mine: str, its: str) -> bool:
    """Whether two lines differ at most by one in the last digits of numbers with a point."""
    if NUMBER.sub("#", mine).split() != NUMBER.sub("#", its).split():
        return False
    pairs = zip(NUMBER.findall(mine), NUMBER.findall(its), strict=True)
    return all(abs(float(a) - float(b)) <= 1.01 * 10.0 ** -len(b.partition(".")[2]) for a, b in pairs)


def run_commands(lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in lines.splitlines():
        if line.startswith("$ "):
            assert call(monkeypatch, *shlex.split(line)[2:]) == 0, line


def run_page(text: str, monkeypatch: pytest.MonkeyPatch, scope: dict[str, Any] | None = None) -> list[str]:
    """Run a page in the working folder; where its output differs from the page, the line and the difference.

    Its names are left in `scope`, if one is given.
    """
    scope = {"__name__": "page"} if scope is None else scope
    printed, faults = "", []
    modules = {Path(block.file).stem for block in blocks(text) if block.file.endswith(".py")}
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
                    for module in modules:  # its file may have grown since it was imported
                        sys.modules.pop(module, None) if f"from {module}" in block.code else None
                    exec(compile("\n" * (block.line - 1) + block.code, "page", "exec"), scope)
            printed = said.getvalue()
    return faults
