"""Jupyter notebooks, written as JSON: format 4.5, cells numbered so that the same source gives the same file."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Page(NamedTuple):
    """A cell of a notebook.

    Attributes:
        kind: "markdown", "code" or "raw".
        content: its text.
        metadata: its metadata.
    """

    kind: str
    content: str
    metadata: Mapping[str, Any] = {}


def notebook(pages: Iterable[Page]) -> str:
    """The JSON text of a notebook without outputs."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {
        "cells": [_cell(number, page) for number, page in enumerate(pages, start=1)],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, page: Page) -> dict[str, Any]:
    cell = {"cell_type": page.kind, "id": f"cell-{number}", "metadata": dict(page.metadata)}
    cell["source"] = page.content.splitlines(keepends=True)
    return cell | ({"execution_count": None, "outputs": []} if page.kind == "code" else {})
