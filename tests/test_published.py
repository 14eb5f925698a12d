"""The page of published numbers: every number again, where it can be computed here, and what the page says of it."""

import importlib
import json
import re
from pathlib import Path

import pytest

from pgm_rnn.data import DataError
from pgm_rnn.registries import OWN
from pgm_rnn.report.leaderboard_tables import PUBLISHED
from tools.published import measured
from tools.published.page import ENTRIES, LEADERBOARD, PAGE, Row, all_rows, page, rows_of_figures, scores_of
from tools.published.problem import ESTIMATE, FIT, KINDS, ROUGH, SAME, Number, Peer, agree
from tools.published.problems import PROBLEMS

ROOT = PAGE.parents[1]
every_problem = pytest.mark.parametrize("name", PROBLEMS)
PEERS = [name for name, problem in PROBLEMS.items() if isinstance(problem.other, Peer)]
RECORDS = measured.read()
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def rows() -> list[Row]:
    return all_rows(PROBLEMS)


def test_the_page_is_the_one_that_its_generator_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(rows(), OWN.models), "python -m tools.published writes it"


def test_every_registered_model_has_a_number_or_none() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in OWN.models:
        assert len(re.findall(rf"^\| `{name}` \| none \|$", text, re.M)) == (name not in {row.model for row in rows()})
        assert f"`{name}`" in text
    assert {row.model for row in rows()} <= set(OWN.models)


def test_a_model_without_a_number_is_listed_as_none() -> None:
    without = [row for row in rows() if row.model != "hmm"]
    assert "| `hmm` | none |" in page(without, OWN.models)
    assert "| `hmm` | none |" not in page(rows(), OWN.models)


def is_a_test(place: str) -> bool:
    """Whether "tests/FILE.py::NAME" is a test of that file."""
    file, _, name = place.partition("::")
    path = ROOT / file
    return (
        path.is_file() and re.search(rf"^def {re.escape(name)}\(", path.read_text(encoding="utf-8"), re.M) is not None
    )


def test_every_row_names_a_test_that_exists() -> None:
    assert [row.test for row in rows() if not is_a_test(row.test)] == []
    assert not is_a_test("tests/test_published.py::test_every_row")  # controls: a beginning, and no file
    assert not is_a_test("tests/test_publishe.py::test_every_row_names_a_test_that_exists")


def test_every_kind_is_explained_and_every_row_agrees_as_its_kind_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(words in text for words in KINDS.values())
    assert {row.kind for row in rows()} == set(KINDS)
    assert [row for row in rows() if not agree(row.kind, row.ours, row.number, row.within)] == []


def test_a_number_that_does_not_agree_would_be_seen() -> None:
    for row in rows():
        if row.kind == ROUGH:
            continue
        margin = 1.01 * row.within + 4.01 * (row.ours.error + row.number.error)
        worse = row.ours._replace(value=row.number.value - margin)
        assert not agree(row.kind, worse, row.number, row.within), row


def test_what_agreement_means() -> None:
    one, more, noisy = Number(1.0), Number(1.2), Number(1.2, 0.06)
    assert agree(FIT, more, one, 0.1)
    assert not agree(FIT, one, more, 0.1)
    assert not agree(SAME, more, one, 0.1)
    assert not agree(ESTIMATE, more, one, 0.1)
    assert agree(SAME, noisy, one, 0.0)  # less than four standard errors apart


@every_problem
def test_our_number_is_the_one_that_is_kept(name: str) -> None:
    problem, kept = PROBLEMS[name], measured.ours(RECORDS[name])
    try:
        found = problem.ours()
    except DataError as error:
        pytest.skip(str(error))
    assert abs(found.value - kept.value) <= max(0.1 * problem.within, 1e-9 * abs(kept.value)) + 4 * kept.error


@pytest.mark.parametrize("name", PEERS)
def test_the_other_packages_number_is_the_one_that_is_kept(name: str) -> None:
    problem = PROBLEMS[name]
    assert isinstance(problem.other, Peer)
    if not measured.installed(problem.other.package):
        pytest.skip(f"needs {problem.other.package}")
    importlib.import_module(problem.other.package)
    found, kept = problem.other.run(), measured.other(problem, RECORDS[name])[0]
    assert abs(found.value - kept.value) <= max(0.1 * problem.within, 1e-9 * abs(kept.value)) + 4 * kept.error


def test_every_published_figure_of_the_leaderboard_has_its_row() -> None:
    figures = list(rows_of_figures())
    assert len(figures) == sum(len(each) for each in PUBLISHED.values())
    assert {(data, each.model) for data, all_of in PUBLISHED.items() for each in all_of} == set(ENTRIES)
    scores = scores_of(LEADERBOARD.read_text(encoding="utf-8"))
    assert scores["vrnn-jsb"] == {"FIVO_128": 6.813, "ELBO, 50 draws": 7.086, "importance_500": 6.876}
    assert len(scores) > 30


def test_a_number_that_was_not_measured_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "FILE", tmp_path / "published.json")
    monkeypatch.setattr(measured, "installed", lambda package: package != "hmmlearn")
    chosen = [PROBLEMS["markov-chain-hmmlearn"], PROBLEMS["rnn-elman-torch"]]
    assert measured.measure(chosen) == ["markov-chain-hmmlearn, theirs: hmmlearn is not installed"]
    kept = json.loads(measured.FILE.read_text())
    assert set(kept["rnn-elman-torch"]) == {"ours", "theirs", "place"}
    assert kept["rnn-elman-torch"]["place"].startswith("torch ")
    with pytest.raises(
        ValueError, match="expected a number of hmmlearn for markov-chain-hmmlearn, got none; measure it"
    ):
        measured.other(chosen[0], kept["markov-chain-hmmlearn"])
