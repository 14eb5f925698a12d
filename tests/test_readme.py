"""The README is short, its blocks of code run, and its tables are what the registries say."""

import re
from pathlib import Path

import pytest
import torch

from pgm_rnn.registries import OWN
from tests.pages import DOCS, blocks, run_page
from tests.toys import ECHO
from tools.readme import README, engines_table, models_table, with_table

ROOT = README.parent
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def text_of(path: Path = README) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_readmes_blocks_run_and_print_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    assert {block.kind for block in blocks(text_of())} == {"python", "text", "console"}
    assert run_page(text_of(), monkeypatch) == []
    assert {"fits", "machines.csv", "states.csv", "ahead.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_the_readme_has_at_most_two_hundred_lines() -> None:
    assert len(text_of().splitlines()) <= 200


def test_every_relative_link_leads_to_a_file() -> None:
    links = [link for link in LINK.findall(text_of()) if not link.startswith("http")]
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert len(links) > 15


def test_every_picture_has_a_text() -> None:
    pictures = re.findall(r"!\[(.*?)\]\(", text_of(), flags=re.DOTALL)
    assert pictures
    assert all(len(words.split()) > 10 for words in pictures)


def test_every_claim_is_reached_from_the_readme() -> None:
    text = text_of()
    assert f"{len(OWN.claims)} claims of [docs/claims.md]" in re.sub(r"\s+", " ", text)
    assert "pgm-rnn explain --list" in text
    page = text_of(DOCS / "claims.md")
    assert [name for name in OWN.claims if f"### {name} " not in page] == []


def test_the_tables_of_models_and_engines_are_those_of_the_registries() -> None:
    text = text_of()
    for table in (models_table(OWN.models.values()), engines_table(OWN.engines.values(), OWN.models.values())):
        assert table in text, "python -m tools.readme writes it"
        assert with_table(text, table) == text


def test_every_data_set_and_every_engine_is_named() -> None:
    text = re.sub(r"\s+", " ", text_of())
    call = re.search(r"`pgm_rnn\.data\.load\((.*?)\)`", text)
    assert call is not None
    assert set(re.findall(r'"([a-z-]+)"', call[1])) == set(OWN.datasets)
    rows = set(re.findall(r"^\| `([a-z_]+)\.", text_of(), re.MULTILINE))
    assert rows == set(OWN.engines)


def test_a_new_model_gets_a_row_and_the_text_around_it_stays() -> None:
    text = text_of()
    changed = with_table(text, models_table([*OWN.models.values(), ECHO]))
    new = set(changed.split("\n")) - set(text.split("\n"))
    assert new == {"| `Echo` | the observation before, squeezed | - | nobody |"}
    assert len(changed.split("\n")) == len(text.split("\n")) + 1
    with pytest.raises(ValueError, match="substring not found"):
        with_table("no table", "| none |")
