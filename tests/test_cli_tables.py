"""A long table with ids, dates, words and gaps, from the file to states and forecasts, by commands alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgm_rnn as pr
from pgm_rnn.emissions import Categorical, Gaussian, Joint
from pgm_rnn.inference import forward_backward
from pgm_rnn.models import HMM
from tests.test_cli import call

Capture = pytest.CaptureFixture[str]
FIT = "fit hmm --data machines.csv --sequence machine --time day --num-states 2 --restarts 2 --output fit"


def table(num_days: int = 20, seed: int = 0) -> pd.DataFrame:
    """Three machines that switch between idle and run; rows in any order, some cells missing."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(3):
        state = 0
        for day in pd.date_range("2024-02-01", periods=num_days + number):
            state = 1 - state if rng.random() < 0.15 else state
            mode = ("idle", "run")[state] if rng.random() < 0.9 else "stop"
            rows.append((f"m{number}", day.date().isoformat(), rng.normal(20 + 40 * state, 3), mode))
    frame = pd.DataFrame(rows, columns=["machine", "day", "temp", "mode"]).sample(frac=1.0, random_state=seed)
    frame.iloc[::7, 2] = np.nan
    frame.iloc[3::11, 3] = None
    return frame


@pytest.fixture
def fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> pd.DataFrame:
    monkeypatch.chdir(tmp_path)
    frame = table()
    frame.to_csv("machines.csv", index=False)
    assert call(monkeypatch, *FIT.split()) == 0
    assert "3 series of 20 to 22 steps, 2 variables (temp, mode)" in capsys.readouterr().out
    return frame


def test_a_fit_keeps_how_it_read_its_file(fitted: pd.DataFrame) -> None:
    model = pr.load_model("fit")
    assert isinstance(model, HMM)
    assert model.family == Joint([Gaussian(), Categorical(3)])
    legend = json.loads(Path("fit/model.json").read_text())["info"]["legend"]
    assert (legend["sequence"], legend["time"]) == ("machine", "day")
    assert [column["kind"] for column in legend["columns"]] == ["real", "symbol"]
    assert legend["columns"][1]["words"] == ["idle", "run", "stop"]


def test_states_have_a_row_per_row_of_the_file_in_its_order(
    fitted: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(monkeypatch, *["infer", "fit", "--data", "machines.csv", "--out", "states.csv"]) == 0
    states, model = pd.read_csv("states.csv"), pr.load_model("fit")
    assert states["machine"].tolist() == fitted["machine"].tolist()
    assert states["day"].tolist() == fitted["day"].tolist()
    assert isinstance(model, HMM)
    one = fitted[fitted["machine"] == "m1"].sort_values("day")
    numbers = {"idle": 0.0, "run": 1.0, "stop": 2.0}
    cells = np.stack([one["temp"], one["mode"].map(numbers)], axis=-1)
    x = torch.from_numpy(cells.astype(float)).to(model.initial_logits.dtype)[None]
    smoothed = forward_backward.smooth(model, x).smoothed_probs[0, :, 1]
    found = states[states["machine"] == "m1"].sort_values("day")["smoothed_1"]
    np.testing.assert_allclose(found, smoothed.detach(), atol=1e-6)
    wrong = states[states["machine"] == "m1"]["smoothed_1"]  # in the order of the file
    assert not np.allclose(wrong, smoothed.detach(), atol=1e-3)


def test_dates_go_on_in_a_forecast(fitted: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        call(monkeypatch, *["forecast", "fit", "--data", "machines.csv", "--num-steps", "2", "--out", "ahead.csv"]) == 0
    )
    ahead = pd.read_csv("ahead.csv")
    days = ahead[ahead["machine"] == "m2"]["day"].unique().tolist()
    assert days == ["2024-02-23", "2024-02-24"]
    probs = ahead[(ahead["variable"] == "mode") & (ahead["machine"] == "m0") & (ahead["day"] == "2024-02-21")]
    assert probs["word"].tolist() == ["idle", "run", "stop"]
    assert float(probs["probability"].sum()) == pytest.approx(1)


MISFITS: dict[str, tuple[Any, str]] = {
    "another word": (lambda f: f.assign(mode=f["mode"].where(f["mode"] != "stop", "halt")), "got 'halt' in line"),
    "no such column": (lambda f: f.rename(columns={"temp": "heat"}), "expected the columns of the fit, temp, mode"),
    "no ids": (lambda f: f.drop(columns="machine"), "expected --sequence to be one of day, temp, mode, got 'machine'"),
    "a day twice": (lambda f: pd.concat([f, f.iloc[:1]]), "drop one of them"),
    "a word among numbers": (
        lambda f: f.assign(temp=f["temp"].astype(object).where(f["mode"] != "run", "hot")),
        "'hot'",
    ),
}


@pytest.mark.parametrize("command", ["infer", "evaluate", "forecast", "describe"])
@pytest.mark.parametrize("misfit", MISFITS)
def test_a_file_that_does_not_fit_is_one_sentence(
    misfit: str, command: str, fitted: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    change, message = MISFITS[misfit]
    change(fitted).to_csv("other.csv", index=False)
    assert call(monkeypatch, command, "fit", "--data", "other.csv") == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: expected ")
    assert message in error


def score(monkeypatch: pytest.MonkeyPatch, command: str) -> float:
    assert call(monkeypatch, *f"evaluate {command} --json score.json".split()) == 0
    return float(json.loads(Path("score.json").read_text())["nats_per_step"])


def test_symbols_that_a_file_lacks_keep_the_numbers_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model made in Python has no vocabulary: its symbols are numbers."""
    monkeypatch.chdir(tmp_path)
    hmm, symbols = HMM.random(2, 3, seed=0), [0, 2, 2, 0, 2]
    pr.save_model(hmm, "hmm")
    Path("s.csv").write_text("\n".join(["s", *map(str, symbols)]))
    right, wrong = (
        -float(hmm.log_marginal_likelihood(torch.tensor([numbers])).detach()) / 5
        for numbers in (symbols, [int(symbol > 0) for symbol in symbols])
    )
    assert score(monkeypatch, "hmm --data s.csv") == pytest.approx(right)
    assert right != pytest.approx(wrong, rel=1e-3)
    joint = HMM.random(2, emission=Joint([Gaussian(), Categorical(3)]), seed=0)
    pr.save_model(joint, "joint")
    x = torch.tensor([[0.5, 0.0], [1.5, 2.0], [-0.5, 2.0], [0.25, 0.0], [0.75, 2.0]])
    Path("j.csv").write_text("\n".join(["level,s", *(f"{level:g},{int(s)}" for level, s in x.tolist())]))
    expected = -float(joint.log_marginal_likelihood(x[None].to(joint.initial_logits.dtype)).detach()) / 5
    assert score(monkeypatch, "joint --data j.csv") == pytest.approx(expected, rel=1e-5)


def test_other_names_may_be_given(fitted: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted.rename(columns={"machine": "site", "day": "date"}).to_csv("other.csv", index=False)
    command = "infer fit --data other.csv --sequence site --time date --out states.csv"
    assert call(monkeypatch, *command.split()) == 0
    assert list(pd.read_csv("states.csv").columns[:2]) == ["site", "date"]


def test_draws_and_forecasts_of_words_are_printed_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words, folder = ("buy", "home", "search"), "fits/hmm-clicks-2"
    Path("clicks.csv").write_text("click\n" + "home\nsearch\nhome\nbuy\n" * 6)
    fit = f"fit hmm --data clicks.csv --num-states 2 --restarts 1 --iterations 2 --output {folder}"
    assert call(monkeypatch, *fit.split()) == 0
    capsys.readouterr()
    assert call(monkeypatch, *f"sample {folder} --num-sequences 3 --num-steps 9 --seed 5".split()) == 0
    drawn: Any = pr.load_model(folder)
    rows = drawn.sample(3, 9, seed=5).x.tolist()
    assert capsys.readouterr().out.splitlines() == [" ".join(words[symbol] for symbol in row) for row in rows]
    assert call(monkeypatch, *f"forecast {folder} --data clicks.csv --num-steps 3".split()) == 0
    assert set(capsys.readouterr().out.split()) <= set(words)
