"""The pages of docs/examples are run from top to bottom, on the data that they name."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.data.conftest import DATA
from tests.pages import DOCS, blocks, run_page

PAGES = sorted((DOCS / "examples").glob("*.md"))
NEEDS = re.compile(r"^    pip install --no-deps (\w+)$", re.MULTILINE)
"""The line of a page that installs the package which has its data."""
LOADS = re.compile(r"^data = load\(\"([\w-]+)\"\)$", re.MULTILINE)
"""The line of a page that loads a data set of the package, whose packed file the tests may have."""
PARTS = ("question", "data", "fit", "distrust", "next")
"""Words of the headings that each page has, in this order."""


def examples() -> list[Path]:
    return [page for page in PAGES if page.name != "README.md"]


@pytest.mark.slow
@pytest.mark.parametrize("page", examples(), ids=lambda page: page.stem)
def test_a_page_runs_and_prints_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    for package in NEEDS.findall(text):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the data are in {package}, which is not installed")
    for name in LOADS.findall(text):
        if not (DATA / f"{name.replace('-', '_')}.npz").is_file():
            pytest.skip(f"the data set {name} is not in {DATA}")
        monkeypatch.setenv("PGM_RNN_DATA", str(DATA))
    for file in page.parent.glob("*.csv"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    assert run_page(text, monkeypatch) == []


@pytest.mark.parametrize("page", examples(), ids=lambda page: page.stem)
def test_a_page_asks_fits_and_doubts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {block.kind for block in blocks(text)} == {"python", "text", "console"}
    headings = "\n".join(re.findall(r"^## (.*)$", text, re.MULTILINE)).lower()
    places = [headings.find(part) for part in PARTS]
    assert places[0] > -1
    assert places == sorted(places), headings


def test_the_index_names_every_page_and_where_its_data_come_from() -> None:
    rows = re.findall(r"^\| \[.*?\]\((.*?)\) \|.*\| (.+) \|$", (DOCS / "examples" / "README.md").read_text(), re.M)
    assert [name for name, _ in rows] == [page.name for page in examples()]
