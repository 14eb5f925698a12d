"""The pages of docs/guides and docs/coming-from are run from top to bottom, both sides of each pair."""

import contextlib
import importlib.util
import io
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pyro.infer import JitTrace_ELBO, Predictive, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, infer_discrete
from pyro.poutine import trace

from pgm_rnn.models import HMM, RNN, VRNN
from pgm_rnn.sequence_model import SequenceModel
from tests.pages import DOCS, blocks, differing, run_page

THEIRS = "with_"
"""The name of a file of theirs begins with it: its code runs only where their package is installed."""
HEADINGS = ("data", "mean", "goes wrong", "next")
"""Words of the headings that each guide has, in this order."""


def pages(folder: str) -> list[Path]:
    return [page for page in sorted((DOCS / folder).glob("*.md")) if page.name != "README.md"]


def each(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages(folder), ids=lambda page: page.stem)


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder, and float32, which is torch's default."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)


LONG = ("priors-and-nuts",)
"""Guides that take most of a minute."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.nightly] * (page.stem in LONG), id=page.stem) for page in pages("guides")],
)
def test_a_guide_runs_and_prints_what_it_says(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page(page.read_text(encoding="utf-8"), monkeypatch) == []


@each("guides")
def test_a_guide_says_what_comes_out_and_what_goes_wrong(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "At the end of this page you will" in text.split("\n## ")[0]
    headings = "\n".join(re.findall(r"^## (.*)$", text, re.MULTILINE)).lower()
    places = [headings.find(word) for word in HEADINGS if word != "data" or page.stem in WITH_DATA]
    assert min(places) > -1, headings
    assert places == sorted(places), headings
    assert {"python", "text"} <= {block.kind for block in blocks(text)}


WITH_DATA = ("hmm-on-a-table", "state-space-and-forecasting", "particle-filters", "deep-models", "priors-and-nuts")


def table_calls(text: str) -> list[tuple[str, list[str], list[str]]]:
    """The rows of a page's first table: the task, their calls and ours."""
    rows = re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \|$", text.split("\n## ")[1], re.MULTILINE)
    calls = [(task, re.findall(r"`(.+?)`", theirs), re.findall(r"`(.+?)`", ours)) for task, theirs, ours in rows]
    return [row for row in calls if row[0] not in ("task", "---")]


def run_calls(calls: list[str], scope: dict[str, Any]) -> None:
    for call in calls:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(call, call, "exec"), scope)


@pytest.mark.slow
@each("coming-from")
def test_our_side_of_each_pair_runs_and_prints_what_the_page_says(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    scope: dict[str, Any] = {"__name__": "page"}
    assert run_page(text, monkeypatch, scope) == []
    for task, _, ours in table_calls(text):
        assert ours, f"no call of ours for {task!r}"
        run_calls(ours, scope)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # theirs, in versions of their choice
@each("coming-from")
def test_their_side_of_each_pair_prints_the_same(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    scope: dict[str, Any] = {"__name__": "page"}
    for package in re.findall(r"^    pip install (\w+)", text, re.MULTILINE):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    assert run_page(text, monkeypatch, scope) == []  # data and models, which both sides share
    printed: str | None = None
    for block in blocks(text):
        if block.kind == "text" and printed is not None:
            assert differing(printed, block.code) is None, f"line {block.line}: {differing(printed, block.code)}"
            printed = None
        elif block.file.startswith(THEIRS):
            with contextlib.redirect_stdout(io.StringIO()) as said:
                exec(compile("\n" * (block.line - 1) + block.code, block.file, "exec"), scope)
            printed = said.getvalue()
    for _, theirs, _ in table_calls(text):
        run_calls(theirs, scope)


@each("coming-from")
def test_a_page_has_a_table_and_at_least_two_pairs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(table_calls(text)) > 4
    pairs = re.findall(
        r"^```python file=with_.*?^```$.*?^```python$.*?^```$.*?^```text$", text, re.DOTALL | re.MULTILINE
    )
    assert len(pairs) > 1


def test_a_wrong_number_of_theirs_would_be_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pair = "\n## A\n\n```python file=with_us.py\nprint({})\n```\n\n```python\nprint(1.25)\n```\n\n```text\n1.25\n```\n"
    for number, agrees in ((1.25, True), (1.35, False)):
        page = tmp_path / "pair.md"
        page.write_text(pair.format(number))
        with contextlib.nullcontext() if agrees else pytest.raises(AssertionError, match="line 13"):
            test_their_side_of_each_pair_prints_the_same(page, monkeypatch)


@pytest.mark.parametrize("folder", ["guides", "coming-from"])
def test_the_index_names_every_page(folder: str) -> None:
    named = re.findall(r"^\| \[.*?\]\(([\w-]+\.md)\) \|", (DOCS / folder / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == [page.name for page in pages(folder)]


def small(name: str) -> tuple[SequenceModel, torch.Tensor]:
    """A small model and observations of it."""
    torch.manual_seed(0)
    model: SequenceModel
    if name == "HMM":
        model = HMM.random(2, 3, seed=0)
    else:
        model = RNN("gru", 3, hidden_dim=4) if name == "RNN" else VRNN(obs_dim=2, latent_dim=2, hidden_dim=4)
    return model, model.sample(4, 5, seed=1).x


def tried(tool: str, model: SequenceModel, x: torch.Tensor, rendering: str) -> float:
    """The loss by one of the tools, 0 where it has none."""
    if tool == "Predictive":
        Predictive(model.model, num_samples=2)(None, torch.tensor([3]), rendering=rendering)
        return 0.0
    if tool == "infer_discrete":
        found = infer_discrete(model.model, first_available_dim=-2, temperature=0)
        assert trace(found).get_trace(x, rendering=rendering).nodes["z_2"]["value"].shape == (len(x),)
        return 0.0
    elbo: Any = {
        "Trace_ELBO": Trace_ELBO(),
        "TraceMeanField_ELBO": TraceMeanField_ELBO(),
        "TraceEnum_ELBO": TraceEnum_ELBO(max_plate_nesting=1),
        "vectorize_particles=True": TraceEnum_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1),
        "JitTrace_ELBO": JitTrace_ELBO(),
    }[tool]
    return float(elbo.loss(model.model, model.guide, x, rendering=rendering))


@pytest.mark.filterwarnings("ignore")
def test_each_tool_works_in_the_renderings_that_the_guide_says() -> None:
    text = (DOCS / "guides" / "your-own-svi-loop.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    head, *rows = lines
    assert len(rows) == 7
    for tool, *cells in rows:
        for column, cell in zip(head[1:], cells, strict=True):
            if cell == "-":
                continue
            (name, rendering), tool_name = column.split(", "), re.findall(r"`(.+?)`", tool)[0]
            model, x = small(name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if cell == "no":
                    with pytest.raises((ValueError, KeyError)):
                        tried(tool_name, model, x, rendering)
                    continue
                loss = tried(tool_name, model, x, rendering)
            if cell in ("exact", "noisy"):
                exact = -float(model.log_prob(x).detach().sum())
                assert (abs(loss - exact) < 1e-3) == (cell == "exact"), (tool, column, loss, exact)
