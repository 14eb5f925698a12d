"""docs/your-own-model.md is run from top to bottom: its files, its Python, its commands, and what they print."""

import sys
from pathlib import Path

import pytest
import torch

from tests.pages import DOCS, blocks, run_page

PAGE = DOCS / "your-own-model.md"


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
