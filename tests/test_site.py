"""The site: its start runs, its reference has every public name, docstrings are read as they are meant."""

import json
import re
import tarfile
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch

from pgm_rnn.data import DataError
from pgm_rnn.version import __version__
from pgm_rnn.zoo import list_pretrained, load_pretrained
from tests.instances import of_sequences
from tests.pages import DOCS, run_page
from tools import links, release_check, site_pages
from tools.docstring_markup import described_fields, to_rst
from tools.label_graphs import label_graph

MODULES = (
    "pgm_rnn",
    "pgm_rnn.models",
    "pgm_rnn.emissions",
    "pgm_rnn.distributions",
    "pgm_rnn.inference.em",
    "pgm_rnn.inference.forward_backward",
    "pgm_rnn.inference.kalman",
    "pgm_rnn.inference.mcmc",
    "pgm_rnn.inference.mixture_kalman",
    "pgm_rnn.inference.pmmh",
    "pgm_rnn.inference.resampling",
    "pgm_rnn.inference.smc",
    "pgm_rnn.inference.svi",
    "pgm_rnn.states",
    "pgm_rnn.data",
    "pgm_rnn.plot",
    "pgm_rnn.claims",
    "pgm_rnn.adapters",
    "pgm_rnn.graph",
    "pgm_rnn.zoo",
)
DIRECTIVE = re.compile(r"^\.\. (?:auto\w+|py:data):: ([\w.]+)$", re.MULTILINE)


def resolved(path: str) -> Any:
    """The object or the module of this name."""
    module, _, name = path.rpartition(".")
    owner = import_module(module or path)
    return getattr(owner, name) if hasattr(owner, name) else import_module(path)


def described() -> list[str]:
    """Names that the pages of the reference describe."""
    return [name for page in (DOCS / "reference").glob("*.rst") for name in DIRECTIVE.findall(page.read_text())]


@pytest.mark.slow
def test_the_start_runs_and_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    assert run_page((DOCS / "start.md").read_text(encoding="utf-8"), monkeypatch) == []


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(module: str) -> None:
    if module == "pgm_rnn.adapters":
        pytest.importorskip("sklearn")
    there = {id(resolved(name)) for name in described() if "adapters" not in name or "adapters" in module}
    there.add(id(import_module("pgm_rnn.inference")))  # each of its engines has a page
    names = import_module(module).__all__
    assert [name for name in names if id(getattr(import_module(module), name)) not in there] == []


def test_the_reference_describes_nothing_twice() -> None:
    found = described()
    assert len(found) == len(set(found)) > 150


def test_every_page_of_the_reference_is_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {f"reference/{page.stem}" for page in (DOCS / "reference").glob("*.rst")} | {"reference/command-line"}
    assert pages == set(re.findall(r"^reference/[\w-]+$", index, re.MULTILINE))


@pytest.mark.slow
def test_the_page_of_the_command_line_has_every_command_and_its_options() -> None:
    page = "\n".join(site_pages.command_line())
    for heading in ("## fit", "### fit hmm", "### fit own", "## infer", "## explain"):
        assert f"{heading}\n" in page
    assert r"| `--device cpu\|cuda` | Device of the fit: cpu or cuda." in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}


def test_the_page_of_all_cards_has_every_card_with_its_score() -> None:
    page = "\n".join(site_pages.cards(["hmm-jsb-16", "vrnn-jsb", "bidirectional-rnn-pen-digits"]))
    assert "| [hmm-jsb-16](hmm-jsb-16.md) | " in page
    assert "| 8.1422 ± 0.1204 | exact |" in page
    assert "| 6.8128 ± 0.1166 | FIVO_128 |" in page
    assert "| 0.0918 ± 0.0134 | labels |" in page


def test_the_page_of_all_cards_tells_scores_in_sample_apart() -> None:
    page = "\n".join(site_pages.cards(["switching-mean-ar-gnp", "hmm-jsb-16"]))
    assert "| [switching-mean-ar-gnp](switching-mean-ar-gnp.md) | 11 | 1.3837 ± 0.0650 | exact, in sample |" in page
    assert page.count("in sample |") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in list_pretrained() if site_pages.fact_of(name, "train")])
def test_a_card_of_a_series_shows_it_with_what_its_model_infers(name: str, tmp_path: Path) -> None:
    try:
        found = site_pages.series_picture(name, of_sequences(load_pretrained(name)), tmp_path)
    except DataError as error:
        pytest.skip(str(error))
    assert list(found) == [f"{name}-states.png"]
    assert (tmp_path / f"{name}-states.png").stat().st_size > 1000


def test_a_graph_starts_where_the_model_has_no_law_of_its_start() -> None:
    from pgm_rnn.models import StructuralSSM

    model = StructuralSSM("stochastic", seasonal=4)
    whole = site_pages.from_its_start(model)
    assert model.diffuse is not None
    assert getattr(whole, "diffuse", None) is None
    assert whole.states == model.states


def test_a_card_shows_its_pictures_with_their_texts() -> None:
    text = site_pages.card("hmm-jsb-16", {"a.svg": "a graph", "b.png": "two draws"})
    assert text.startswith("# hmm-jsb-16\n\n![a graph](pictures/a.svg)\n\n![two draws](pictures/b.png)\n")
    assert "## What it gets wrong" in text


@pytest.mark.slow
def test_every_card_has_a_picture_of_its_graph(tmp_path: Path) -> None:
    from pgm_rnn.zoo import list_pretrained

    for name in ("bidirectional-rnn-pen-digits", "bidirectional-rnn-synthetic-hmm", "hmm-jsb-16"):
        assert name in list_pretrained()
        found = site_pages.draw(name, tmp_path)
        assert f"{name}-graph.svg" in found
        assert (tmp_path / f"{name}-graph.svg").stat().st_size > 1000


@pytest.mark.parametrize(("task", "labels"), [("tagging", 3), ("classification", 1)])
def test_a_label_depends_on_all_observations_and_no_observation_on_another(task: Any, labels: int) -> None:
    from pgm_rnn.models import BidirectionalRNN

    graph = label_graph(BidirectionalRNN(num_symbols=2, num_labels=2, hidden_dim=2, task=task), 3)
    assert [node for node in graph if node.startswith("y")] == [f"y_{t}" for t in range(4 - labels, 4)]
    for node in graph:
        if node.startswith("y"):
            assert {f"x_{t}" for t in (1, 2, 3)} < nx.ancestors(graph, node)
        if node.startswith("x"):
            assert nx.ancestors(graph, node) == set()


@pytest.mark.parametrize(
    ("need", "page", "says"),
    [
        ("fit a model", "start.md", "em.fit("),
        ("decode states", "guides/hmm-on-a-table.md", "forward_backward.most_likely_states("),
        ("write a model", "your-own-model.md", "class StochasticVolatility(SequenceModel)"),
        ("know what Theorem 5 says and why", "claims.md", "### theorem-5 (Theorem 5)"),
        ("forecast", "examples/co2.md", "pgm-rnn forecast"),
    ],
)
def test_what_a_reader_looks_for_is_one_click_from_the_index(need: str, page: str, says: str) -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    row = next(line for line in index.splitlines() if line.startswith(f"| {need} |"))
    assert re.search(rf"\]\({re.escape(page)}[#)]", row)
    assert says in (DOCS / page).read_text(encoding="utf-8")


def test_a_label_of_a_tagger_depends_on_the_past_alone() -> None:
    from pgm_rnn.models import Tagger

    graph = label_graph(Tagger(num_symbols=2, num_labels=2, hidden_dim=2), 3)
    assert {node for node in nx.ancestors(graph, "y_2") if node.startswith("x")} == {"x_1", "x_2"}


def test_links_from_the_top_are_links_within_the_site() -> None:
    assert site_pages.from_the_top("[a](docs/a.md) and [b](b.md)") == "[a](a.md) and [b](b.md)"


def test_entries_without_pages_leave_the_table_of_contents(tmp_path: Path) -> None:
    (tmp_path / "faq.md").write_text("# FAQ\n")
    assert site_pages.without_empty_globs("glossary*\nfaq*\nguides/*\n* a list\n", tmp_path) == "faq*\n* a list\n"


def test_pictures_of_the_pages_have_alternative_texts() -> None:
    for page in DOCS.rglob("*.md"):
        assert not re.search(r"!\[\s*\]\(", page.read_text(encoding="utf-8")), page


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["The law:", "", "    z_t | x_t", "", "End."], ["The law:", "", "::", "", "    z_t | x_t", "", "End.", ""]),
        (["The law", "    z*", "    x*"], ["The law", "", "::", "", "    z*", "    x*", ""]),
        (["states   a band", "trace    draws"], ["::", "", "    states   a band", "    trace    draws", ""]),
        (["p(x | z_), *event, `*x | z_`"], [r"p(x \| z\_), \*event, `*x | z_`", ""]),
        (
            ["Args:", "    x: (B, *event).", "", "    y: p(x | y)."],
            ["Args:", r"    x: (B, \*event).", "", r"    y: p(x \| y).", ""],
        ),
        (["Example:", "    >>> f(*x)"], ["Example:", "    >>> f(*x)", ""]),
        ([">>> f(*x)", "    1"], [">>> f(*x)", "    1", ""]),
        (["- one *a", "- two"], [r"- one \*a", "- two", ""]),
    ],
)
def test_a_docstring_is_plain_text_with_formulas_tables_and_code(lines: list[str], expected: list[str]) -> None:
    assert to_rst(lines) == expected


def test_options_of_a_fit_are_described_by_their_help_texts() -> None:
    from pgm_rnn.inference.svi.plan import Epoch, Plan

    assert "    batch_size: Sequences per gradient step. Default: 32." in described_fields(Plan)
    assert described_fields(Epoch) == []
    assert described_fields(3) == []


def checked(uri: str, status: str) -> str:
    entry = {"filename": "a.md", "lineno": 3, "status": status, "code": 0, "uri": uri, "info": "said"}
    return json.dumps(entry)


@pytest.mark.parametrize(
    ("statuses", "said", "status"),
    [
        (["working", "redirected"], "All 2 links to other sites lead somewhere.", 0),
        (["working", "broken"], "a.md:3: https://1\n    said\n1 of 2 links to other sites are broken.", 1),
        (["timeout", "broken"], "None of the 2 links to other sites could be reached; check the network and", 1),
        (["broken"], "a.md:3: https://0\n    said\n1 of 1 links to other sites are broken.", 1),
    ],
)
def test_broken_links_are_named_and_a_missing_network_is_said(statuses: list[str], said: str, status: int) -> None:
    lines = [checked(f"https://{number}", each) for number, each in enumerate(statuses)]
    local = [checked("page.md", "broken"), checked("https://x", "unchecked"), *lines[:1]]
    text, code = links.report(links.links_of([*lines, *local]))
    assert text.startswith(said)
    assert code == status


METADATA = "Metadata-Version: 2.4\nName: pgm-rnn\nVersion: {}\n\n{}"


def packed(folder: Path, version: str, readme: str = "Text.", missing: str = "") -> Path:
    """A folder with a wheel and an sdist of this version."""
    metadata = METADATA.format(version, readme)
    with zipfile.ZipFile(folder / "pgm_rnn-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("pgm_rnn/__init__.py", "")
        wheel.writestr("pgm_rnn-1.dist-info/METADATA", metadata)
    tree = folder / "pgm_rnn-1"
    for name in (*release_check.NEEDED, "PKG-INFO"):
        if name != missing:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(metadata)
    with tarfile.open(folder / "pgm_rnn-1.tar.gz", "w:gz") as sdist:
        sdist.add(tree, "pgm_rnn-1")
    return folder


def test_a_release_that_is_ready_has_no_faults(tmp_path: Path) -> None:
    assert list(release_check.faults(packed(tmp_path, __version__))) == []


@pytest.mark.parametrize(
    ("version", "readme", "missing", "said"),
    [
        ("9.9", "Text.", "", "expected version .* in the metadata of the wheel, got 9.9"),
        (__version__, "", "", "expected the README in the metadata of the sdist"),
        (__version__, "Text.", "tests/conftest.py", "expected tests/conftest.py in the sdist, it is missing"),
        ("nonsense", "Text.", "", "the metadata of the wheel are not valid"),
    ],
)
def test_a_release_that_is_not_ready_says_why(
    version: str, readme: str, missing: str, said: str, tmp_path: Path
) -> None:
    assert re.search(said, "\n".join(release_check.faults(packed(tmp_path, version, readme, missing))))


def test_a_changelog_of_another_version_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0\n")
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 0.1.0\n")
    found = list(release_check.faults(packed(tmp_path, __version__), tmp_path))
    assert [sentence.split(",")[0] for sentence in found] == [
        f"expected CHANGELOG.md to begin with version {__version__}",
        f"expected version {__version__} in CITATION.cff",
    ]


def test_a_card_whose_series_cannot_be_had_keeps_its_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(info: dict[str, Any]) -> Any:
        raise DataError(f"could not download {info['data']}")

    monkeypatch.setattr(site_pages, "data_of_fit", unreachable)
    found = site_pages.draw("structural-uk-drivers", tmp_path)
    assert list(found) == ["structural-uk-drivers-graph.svg"]
    assert "structural-uk-drivers has no picture of its series: could not download" in capsys.readouterr().err
