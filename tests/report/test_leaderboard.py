"""The leaderboard's numbers are the entries' own, kinds of numbers stand apart, and scores are kept."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pgm_rnn as pr
from pgm_rnn.data import load
from pgm_rnn.inference import svi
from pgm_rnn.models import SwitchingLinearSSM
from pgm_rnn.report import leaderboard as board
from pgm_rnn.report import leaderboard_page as pages
from pgm_rnn.report import leaderboard_tables as tables
from pgm_rnn.report import score_cache
from pgm_rnn.report.material import particles_of
from pgm_rnn.zoo.publish import publish
from tests.test_cli import call

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, few_synthetic_sequences: None) -> Path:
    """An HMM, a variational network that began with another's numbers, and a law of labels, which has no place here."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(score_cache, "folder", lambda: tmp_path / "scores")
    network = "fit vrnn --data synthetic-hmm --latent-dim 1 --hidden-dim 2 --epochs 1 --batch-size 20000"
    for command in (
        "fit hmm --data synthetic-hmm --num-states 2 --iterations 2 --restarts 1 --output chain",
        f"{network} --output start",
        f"{network} --start start --seed 3 --output network",
        "fit bidirectional-rnn --data synthetic-hmm --hidden-dim 2 --epochs 1 --batch-size 20000 --output tagger",
    ):
        assert call(monkeypatch, *command.split()) == 0
    for name in ("chain", "network", "tagger"):
        publish(tmp_path / name, name, "Everything.", tmp_path / "zoo")
    capsys.readouterr()
    return tmp_path / "zoo"


def test_every_entry_is_evaluated_under_every_bound_that_it_has(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(board, "BOUNDS", {"fivo": 8, "elbo": 4, "importance": 4})
    rows = board.leaderboard("synthetic-hmm", home / "page.md", home)
    assert sorted((row.entry, row.bound) for row in rows) == [
        ("chain", "exact"),
        ("network", "ELBO, 4 draws"),
        ("network", "FIVO_8"),
        ("network", "importance_4"),
    ]
    assert [tables.kind_of(row.bound) for row in rows] == ["likelihoods", "bounds", "bounds", "estimates"]
    assert rows[1].nats_per_step <= rows[2].nats_per_step
    (exact,) = (row for row in rows if row.bound == "exact")
    found = svi.evaluate(pr.load_pretrained("chain", home=home), load("synthetic-hmm", seed=0).test)  # type: ignore[arg-type]
    assert (exact.nats_per_step, exact.standard_error) == (found.nats_per_step, found.standard_error)
    bounds = {row.bound: row for row in rows if row.entry == "network"}
    assert bounds["importance_4"].nats_per_step < bounds["ELBO, 4 draws"].nats_per_step
    network = bounds["FIVO_8"]
    assert network.seed == 3
    assert [("--output start" in command, "--start start" in command) for command in network.commands] == [
        (True, False),
        (False, True),
    ]
    page = (home / "page.md").read_text()
    printed, progress = capsys.readouterr()
    assert progress.splitlines() == ["1 of 2: chain", "2 of 2: network"]
    for text in (page, printed):
        assert f"{found.nats_per_step:.3f}" in text
        assert f"{bounds['FIVO_8'].nats_per_step:.3f}" in text
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert f"`{network.commands[0]}`, then `{network.commands[1]}`" in page
    card = (home / "network" / "README.md").read_text()
    assert all(f"    {command}\n" in card for command in network.commands)
    assert re.search(rf"\| chain \| [\d.]+ \| [\d.]+ \| exact \| {exact.parameters:,} \| \d+\.\d \|", page)
    assert "| chain | 0 | `pgm-rnn fit hmm" in page


def test_a_score_is_kept_until_model_data_or_version_change(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    command = ["leaderboard", "--into", str(home), "--data", "synthetic-hmm", "--model", "chain"]
    assert call(monkeypatch, *command) == 0
    first = capsys.readouterr().out
    evaluate, runs = svi.evaluate, []

    def counted(*arguments: object, **options: object) -> object:
        runs.append(options)
        return evaluate(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(svi, "evaluate", counted)
    assert call(monkeypatch, *command) == 0
    assert capsys.readouterr().out == first
    assert "network" not in first
    assert len(runs) == 0
    assert call(monkeypatch, *command, "--no-cache") == 0
    assert len(runs) == 1
    monkeypatch.setattr(score_cache, "__version__", "another")
    assert call(monkeypatch, *command) == 0
    assert len(runs) == 2
    test = load("synthetic-hmm", seed=0).test
    assert test is not None
    keys = {
        score_cache.key_of(entry, home, data, bound, number)
        for entry in ("chain", "network")
        for data in (test, test.select(torch.arange(3)))
        for bound, number in (("exact", 1), ("fivo", 1), ("fivo", 2))
    }
    assert len(keys) == 12


def test_a_switching_linear_model_has_one_row_by_its_rao_blackwellised_filter() -> None:
    """Where the regimes read the vectors, these cannot be summed out, and the model has the bounds of others."""
    plain, recurrent = (SwitchingLinearSSM.random(2, 1, 1, recurrent=recurrent, seed=0) for recurrent in (False, True))
    data = plain.sample(3, 5, seed=0)._replace(z=None)
    assert board._bounds(plain, data) == {"fivo": 16}
    assert board._bounds(recurrent, data) == board.BOUNDS
    assert (particles_of(plain, data), particles_of(recurrent, data)) == (16, 128)


def test_a_damaged_score_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_cache, "folder", lambda: tmp_path / "scores")
    score = score_cache.Score(1.0, 0.1, "exact", 2.0)
    score_cache.keep("key", score)
    assert score_cache.find("key") == score
    (tmp_path / "scores" / "key.json").write_text("{")
    assert score_cache.find("key") is None
    (tmp_path / "scores" / "key.json").write_text('{"nats_per_step": 1}')
    assert score_cache.find("key") is None
    assert score_cache.find("other") is None


def test_a_page_keeps_the_sections_of_other_data() -> None:
    first = pages.with_section("", "b", "<!-- data: b -->\n\nold\n")
    both = pages.with_section(first, "a", "<!-- data: a -->\n\nnew\n")
    assert both.startswith(pages.HEADER)
    assert both.index("<!-- data: a -->") < both.index("<!-- data: b -->")
    again = pages.with_section(both, "b", "<!-- data: b -->\n\nnewer\n")
    assert "old" not in again
    assert again.count("data:") == 2
    assert pages.with_section(again, "a", "<!-- data: a -->\n\nnew\n") == again


def test_likelihoods_bounds_estimates_and_published_figures_stand_apart() -> None:
    about = (1, 1.0, 0, ("fit",), 0.0)
    rows = [
        tables.Row("bounded", 6.0, 0.1, "FIVO_128", *about),
        tables.Row("estimated", 5.0, 0.1, "importance_500", *about),
        tables.Row("worse", 8.0, 0.1, "exact", *about),
        tables.Row("better", 7.0, 0.1, "exact", *about),
    ]
    groups = [[line[0] for line in lines] for _, _, lines in tables.groups("jsb", rows, [])]
    assert groups[:3] == [["better", "worse"], ["bounded"], ["estimated"]]
    assert len(groups[3]) == len(tables.PUBLISHED["jsb"])
    assert "VRNN, Maddison et al. (2017)" in groups[3]
    assert [title for title, _, _ in tables.groups("synthetic-hmm", rows[:1], [])] == [tables._TITLES["bounds"]]


def test_what_the_user_got_wrong_is_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = ["leaderboard", "--into", str(home), "--data"]
    assert call(monkeypatch, *command, "jbs") == 2
    assert "expected --data to be one of synthetic-hmm, got 'jbs'" in capsys.readouterr().err
    dataset = load("synthetic-hmm")
    with monkeypatch.context() as without:
        without.setattr(board, "load", lambda name: replace(dataset, test=None))
        assert call(monkeypatch, *command, "synthetic-hmm") == 2
    assert "expected a data set with a test split, got synthetic-hmm, which has none" in capsys.readouterr().err
    assert call(monkeypatch, *command, "synthetic-hmm", "--output", "nowhere/page.md") == 2
    assert "expected --output to name a file in a folder that can be written to" in capsys.readouterr().err
    assert call(monkeypatch, *command, "synthetic-hmm", "--model", "chian") == 2
    assert "expected --model to be one of chain, network, got 'chian'" in capsys.readouterr().err
    assert call(monkeypatch, *command, "synthetic-hmm", "--model", "chain", "--output", "page.md") == 2
    assert "expected a page of all models, got --model and --output" in capsys.readouterr().err


def test_a_folder_without_entries_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    assert call(monkeypatch, "leaderboard", "--data", "jsb", "--into", str(tmp_path / "empty")) == 2
    assert f"expected entries of trained models in {tmp_path}/empty, got none; make one" in capsys.readouterr().err


def test_a_series_is_scored_in_sample_beside_published_estimates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(score_cache, "folder", lambda: tmp_path / "scores")
    (row,) = board.leaderboard("gnp", tmp_path / "page.md")
    assert row.nats_per_step * 131 == pytest.approx(181.2634, abs=1e-3)  # Hamilton's likelihood
    page, printed = (tmp_path / "page.md").read_text(), capsys.readouterr().out
    for text in (page, printed):
        assert "Likelihoods, exact; in sample" in text
        assert "Estimates beside published ones" in text
        assert "±" in text
    assert "The whole series, 135 steps." in page
    assert "| switching-mean-ar-gnp | 1.384 | - | exact |" in page
    assert "| switching-mean-ar-gnp, a_3 | -0.246983 | -0.247 | Hamilton (1989), table 1 |" in page
    assert "test split" not in printed
    assert max(map(len, printed.splitlines()[:-1])) <= 80
