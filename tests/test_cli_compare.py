"""`pgm-rnn compare` as a person meets it, on fits saved before."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from pgm_rnn import load_model, save_model
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import em, svi
from pgm_rnn.models import HMM, LinearGaussianSSM
from pgm_rnn.report.comparison import refitting
from pgm_rnn.report.comparison.saved import check_same_data
from pgm_rnn.storage import describe
from tests.test_cli import call

Capture = pytest.CaptureFixture[str]


def record(column: str = "flow", unit: str | None = None, **more: Any) -> dict[str, Any]:
    legend: dict[str, Any] = {
        "columns": [{"name": column, "kind": "real", "unit": unit, "words": []}],
        "sequence": None,
        "time": None,
    }
    return {"data": "river.csv", "legend": legend, **more}


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder with a file of numbers, fits to it, and one of something else."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    flow = np.random.default_rng(0).normal(size=40).cumsum()
    np.savetxt("river.csv", flow, header="flow", comments="")
    x = torch.tensor(flow)[None, :, None]
    fit = em.fit(
        LinearGaussianSSM.random(latent_dim=1, obs_dim=1, seed=0).double(), x, num_iterations=3, progress=False
    )
    train = {"split": "train", "nats_per_step": -float(fit.log_likelihood) / 40, "num_steps": 40, "bound": "exact"}
    options = {"num_iterations": 3, "tolerance": 1e-6}
    save_model(fit.model, "fits/linear", info=record(scores=[train], fit=options))  # type: ignore[arg-type]
    save_model(HMM.random(2, emission=Gaussian(1), seed=0).double(), "fits/hmm", info=record())
    save_model(HMM.random(2, emission=Gaussian(1), seed=1).double(), "fits/lake", info=record(data="lake.csv"))
    save_model(HMM.random(1, emission=Gaussian(1), seed=1).double(), "fits/feet", info=record(unit="ft"))
    save_model(HMM.random(1, emission=Gaussian(1), seed=1).double(), "fits/metres", info=record(unit="m"))


def run(monkeypatch: pytest.MonkeyPatch, command: str) -> int:
    return call(monkeypatch, "compare", *command.split())


def test_two_fits_are_scored_on_a_file_and_written(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "fits/hmm fits/linear --data river.csv --out table.csv") == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "linear is ahead of hmm by" in out
    frame = pandas.read_csv("table.csv")
    x = torch.tensor(np.loadtxt("river.csv", skiprows=1))[None, :, None]
    for name in ("hmm", "linear"):
        expected = svi.evaluate(load_model(f"fits/{name}"), x).nats_per_step  # type: ignore[arg-type]
        found = frame[frame["model"] == name].iloc[0]
        assert found["nats_per_step"] == pytest.approx(expected)
    assert "AIC and BIC hold if hmm was fitted to these data, which is not known" in out
    assert "linear was fitted to these data" in " ".join(out.split())


def test_rolling_origin_refits_as_the_record_says(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "fits/hmm fits/linear --data river.csv --origins 2 --horizon 3") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "rolling origin, 2 origins from step 20, the 3 steps after each, exact" in out


def test_an_interrupted_comparison_shows_what_is_there_and_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    calls, usual = [], refitting.default_refit

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return usual(*arguments, **options)

    monkeypatch.setattr("pgm_rnn.report.comparison.saved.default_refit", interrupted)
    assert run(monkeypatch, "fits/hmm fits/linear --data river.csv --origins 3") == 130
    assert "interrupted after 2 of 3 origins" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fits/hmm fits/lake --data river.csv", "got hmm fitted to river.csv and lake to lake.csv; fit both to one"),
        ("fits/feet fits/metres --data river.csv", "expected fits to flow in one unit, got ft in feet and m in metres"),
        ("fits/hmm fits/linear --data river.csv --folds 5", "use rolling origin, --origins 5, for a single series"),
        ("fits/hmm fits/linear --data river.csv --split train", "expected --split only with a data set"),
        ("fits/hmm fits/linear --data river.csv --out table.txt", "expected --out to end in .csv or .parquet"),
        ("fits/hmm hmm-jsb-16 --data river.csv", "got hmm fitted to river.csv and hmm-jsb-16 to jsb"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    command: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert run(monkeypatch, command) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert message in err


def test_the_same_file_by_another_path_is_the_same_data() -> None:
    check_same_data({"A": {"data": "river.csv"}, "B": {"data": "/home/me/river.csv"}, "C": {}})


def test_a_file_that_changed_between_two_fits_is_not_the_same_data() -> None:
    record = {"data": "river.csv", "file_digest": "a"}
    check_same_data({"A": record, "B": dict(record), "C": {"data": "river.csv"}})
    with pytest.raises(ValueError, match=r"got A and B fitted to different versions of river\.csv"):
        check_same_data({"A": record, "B": record | {"file_digest": "b"}})


def test_a_fit_keeps_the_digest_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    command = "fit hmm --data river.csv --num-states 1 --restarts 1 --iterations 2 --output digest"
    assert call(monkeypatch, *command.split()) == 0
    found = describe("digest").info["file_digest"]
    assert found == hashlib.sha256(Path("river.csv").read_bytes()).hexdigest()
