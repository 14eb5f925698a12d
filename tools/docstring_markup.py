"""Docstrings of this package as reStructuredText: formulas and tables become literal blocks, backticks become code.

A docstring here is plain text. An indented block in it is a formula, a paragraph of aligned columns is a table, a span
in backticks is code, and every other character stands for itself.
"""

import dataclasses
import inspect
import re
from collections.abc import Iterator

SECTION = re.compile(r"(Args|Arguments|Attributes|Example|Examples|Raises|Returns|Yields|Warns):$")
COLUMNS = re.compile(r"\S {2,}\S")
CODE = re.compile(r"(`+[^`]+`+)")
SPECIAL = re.compile(r"[*|]|(?<=\w)_(?!\w)|\\")
DOCTEST = ">>> "


def to_rst(lines: list[str]) -> list[str]:
    """The lines of a docstring in Google style, ready for Sphinx's napoleon."""
    out: list[str] = []
    section = False
    for paragraph in _paragraphs(lines):
        indented = all(line.startswith("    ") for line in paragraph)
        section = SECTION.match(paragraph[0]) is not None or (section and indented)
        if section:
            out += [*_in_section(paragraph), ""]
        elif indented and not paragraph[0].lstrip().startswith(DOCTEST):
            out += ["::", "", *paragraph, ""]
        elif len(paragraph) > 1 and all(COLUMNS.search(line) for line in paragraph):
            out += ["::", "", *(f"    {line}" for line in paragraph), ""]
        else:
            out += [*_formulas_at_the_end(paragraph), ""]
    return out


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def _in_section(paragraph: list[str]) -> list[str]:
    """A section as it is, but for special characters; examples are code."""
    if any(line.lstrip().startswith(DOCTEST) for line in paragraph):
        return paragraph
    return _escaped(paragraph)


def _formulas_at_the_end(paragraph: list[str]) -> list[str]:
    """A paragraph of text. Lines that are indented below its first line, without a blank line, are a formula."""
    if paragraph[0].lstrip().startswith((DOCTEST, "- ")):
        return paragraph if paragraph[0].lstrip().startswith(DOCTEST) else _escaped(paragraph)
    first = next((i for i, line in enumerate(paragraph) if i and line.startswith("    ")), len(paragraph))
    if first == len(paragraph) or not all(line.startswith("    ") for line in paragraph[first:]):
        return _escaped(paragraph)
    return [*_escaped(paragraph[:first]), "", "::", "", *paragraph[first:]]


def _escaped(paragraph: list[str]) -> list[str]:
    parts = CODE.split("\n".join(paragraph))
    text = [part if i % 2 else SPECIAL.sub(lambda found: "\\" + found[0], part) for i, part in enumerate(parts)]
    return "".join(text).split("\n")


def described_fields(thing: object) -> list[str]:
    """The section "Attributes" of a dataclass whose fields carry their help texts, as the options of a fit do."""
    if not (inspect.isclass(thing) and dataclasses.is_dataclass(thing)):
        return []
    helped = [field for field in dataclasses.fields(thing) if "help" in field.metadata]
    lines = [f"    {field.name}: {field.metadata['help']} Default: {field.default!r}." for field in helped]
    return ["", "Attributes:", *lines] if lines else []
