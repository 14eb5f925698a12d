"""`pgm-rnn diagnose` as a person meets it: text, files, the user's names, and errors of one sentence."""

from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

import pgm_rnn as pr
from pgm_rnn.emissions import Gaussian
from pgm_rnn.models import HMM, NoisyRNN
from tests.test_cli import call

Capture = pytest.CaptureFixture[str]
QUICK = "--num-particles 100 --num-simulations 5 --num-restarts 1 --num-origins 20"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    table = Gaussian(1).table(torch.tensor([[0.0], [4.0]]), torch.ones(2, 1))
    hmm = HMM(torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]), table).float()
    pr.save_model(hmm, "hmm")
    pr.save_model(NoisyRNN.random(1, 1, seed=0).float(), "noisy")
    x = hmm.sample(2, 40, seed=0).x.double().numpy()
    ids = np.repeat(["machine-01", "machine-03"], 40)
    days = np.tile(np.arange("2024-01-01", "2024-02-10", dtype="datetime64[D]"), 2)
    frame = pandas.DataFrame({"machine": ids, "day": days, "flow": x.reshape(-1)})
    frame.to_csv("machines.csv", index=False)
    frame.loc[45, "flow"] = 200.0
    frame.to_csv("outlier.csv", index=False)


def run(monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: str) -> str:
    assert call(monkeypatch, *command.split()) == 0
    return capsys.readouterr().out


def test_a_diagnosis_is_printed_and_its_files_are_written(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = "diagnose hmm --data machines.csv --sequence machine --time day --out all.csv --steps steps.csv"
    text = run(monkeypatch, capsys, f"{command} {QUICK}")
    lines = text.splitlines()
    assert lines[0].startswith("HMM(num_states=2")
    assert "variable flow" in text
    assert "Nothing was found." in text
    assert lines[-1] == "written to steps.csv: 80 steps"
    assert lines[-2] == "written to all.csv: 5 tables and what to do"
    steps = pandas.read_csv("steps.csv")
    assert list(steps.columns) == ["machine", "day", "residual_flow", "pit_flow", "score_flow"]
    assert list(steps["day"][:2]) == ["2024-01-01", "2024-01-02"]
    assert set(pandas.read_csv("all.csv")["section"]) == {
        *("residuals", "simulations", "coverage", "states", "restarts", "what_to_do")
    }


def test_the_residuals_are_drawn(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = f"diagnose hmm --data machines.csv --sequence machine --time day --out residuals.png {QUICK}"
    assert run(monkeypatch, capsys, command).endswith("written to residuals.png: a picture of the residuals\n")
    assert Path("residuals.png").read_bytes().startswith(b"\x89PNG")


def test_a_lost_filter_is_named_by_the_users_id_and_date(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = "diagnose noisy --data outlier.csv --sequence machine --time day"
    text = " ".join(run(monkeypatch, capsys, f"{command} {QUICK}").split())
    assert "The filter lost its particles at day 2024-01-06 of machine-03" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--num-particles 0", "expected num_particles to be an integer of at least 1, got 0"),
        ("--num-restarts -1", "expected num_restarts to be an integer of at least 1, got -1"),
        ("--out all.pdf", "expected --out to end in .csv, .parquet, .png or .svg, got all.pdf"),
        ("--steps all.png", "expected --steps to end in .csv or .parquet, got all.png"),
        ("--steps there/steps.csv", "expected --steps to be in a folder that can be written to, got there/steps.csv"),
        ("--sequence site", "expected --sequence to be one of machine, day, flow, got 'site'"),
        ("--split test", "expected --split only with a data set, got it with a file, which is used whole"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert call(monkeypatch, *f"diagnose hmm --data machines.csv {arguments}".split()) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {message}")
