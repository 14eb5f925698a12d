"""The pages of docs/ that have code run from top to bottom, and print what they say."""

import re
from pathlib import Path

import pytest
import torch

from tests.pages import DOCS, blocks, run_commands, run_page

PAGES = [DOCS / name for name in ("design.md", "faq.md", "linear-recurrences.md", "python.md")]
PROSE = [*PAGES, *(DOCS / name for name in ("assignments.md", "command-line.md", "glossary.md", "notation.md"))]
GUIDE = "guides/hmm-on-a-table.md"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_and_prints_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    text = page.read_text(encoding="utf-8")
    assert any(block.kind == "python" for block in blocks(text))
    assert run_page(text, monkeypatch) == []


@pytest.mark.slow
def test_commands_on_tables_that_a_guide_makes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    guide, page = ((DOCS / name).read_text(encoding="utf-8") for name in (GUIDE, "command-line.md"))
    makes = [block.code for block in blocks(guide) if block.kind == "python" and "to_csv" in block.code]
    exec(compile("\n".join(makes), GUIDE, "exec"), {"__name__": "page"})
    commands = re.findall(r"^    (pgm-rnn .*loads\.csv.*?)(?:  +#.*)?$", page, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["fit", "describe", "forecast", "sample"]
    run_commands("\n".join(f"$ {command}" for command in commands), monkeypatch)
    assert {path.name for path in tmp_path.iterdir()} >= {"heat.csv", "draws.npz", "fits"}


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.stem)
def test_every_relative_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_question_with_code_or_behaviour_names_where_it_was_asked() -> None:
    sections = (DOCS / "faq.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert len(sections) >= 10
    assert [
        section.splitlines()[0] for section in sections if "(https://github.com/" not in section.replace("\n", "")
    ] == []


def test_the_notation_has_a_cell_for_every_source() -> None:
    rows = [line for line in (DOCS / "notation.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len(rows) > 20
    assert {row.count("|") for row in rows} == {7}
