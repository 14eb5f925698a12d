"""`pgm-rnn infer` and the tables of `pgm-rnn forecast` as a person meets them, on models saved before."""

from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
import xarray

import pgm_rnn as pr
from pgm_rnn import save_model
from pgm_rnn.emissions import Gaussian
from pgm_rnn.legend import Column, Legend
from pgm_rnn.models import HMM, RNN, LinearGaussianSSM, NoisyRNN
from pgm_rnn.report import saved, saved_tables
from pgm_rnn.sequences import Sequences
from tests.test_cli import call

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    save_model(hmm(), "hmm", info={"data": "a.csv", "file": {"columns": ["flow", "level"]}})
    save_model(HMM.random(num_states=2, num_symbols=3, seed=0), "symbols")
    save_model(NoisyRNN.random(2, 2, seed=0), "noisy")
    save_model(RNN("gru", emission=Gaussian(2), hidden_dim=2), "rnn")
    np.savetxt("a.csv", series(), delimiter=",", header="flow,level", comments="")
    gap = series()
    gap[4, 1] = np.nan
    np.savetxt("gap.csv", gap, delimiter=",", header="flow,level", comments="")
    np.save("s.npy", np.array([0.0, 2, 1, 1]))


def hmm() -> HMM:
    table = Gaussian(2).table(torch.tensor([[0.0, 0.0], [3.0, 1.0]]), torch.ones(2, 2))
    return HMM(torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]), table).float()


def series() -> np.ndarray:
    return hmm().sample(1, 30, seed=0).x[0].double().numpy()


def run(monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: str) -> str:
    assert call(monkeypatch, *command.split()) == 0
    return capsys.readouterr().out


def test_the_first_rows_and_the_shares_of_the_states_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    lines = run(monkeypatch, capsys, "infer hmm --data a.csv").splitlines()
    states = pr.infer(saved.open_saved(Path("hmm")).model, torch.from_numpy(series())[None].float())
    frame = states.to_frame()
    assert lines[0].startswith("engine forward: HMM has 2 finite states, for which")
    rows = [line.split() for line in lines[3:13]]
    assert [int(row[0]) for row in rows] == list(range(1, 11))
    np.testing.assert_allclose([float(row[2]) for row in rows], frame["smoothed_1"][:10], atol=6e-4)
    assert [int(row[3]) for row in rows] == list(frame["state"][:10])
    assert "the first 10 of 30 rows" in lines[13]
    assert lines[-1].split()[:2] == ["1", str(int((frame["state"] == 1).sum()))]


@pytest.mark.parametrize(("width", "num_columns"), [(80, 7), (200, 12)])
def test_as_many_columns_are_printed_as_there_is_room_for_states_before_their_probabilities(
    width: int, num_columns: int, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    save_model(HMM.random(9, emission=Gaussian(2), seed=0), "wide")
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run(monkeypatch, capsys, "infer wide --data a.csv").splitlines()
    names = lines[1].split()
    assert max(map(len, lines[1:13])) <= width
    assert (names[0], names[-2:], len(names)) == ("step", ["state", "entropy"], num_columns)
    assert all(len(line.split()) == num_columns for line in lines[3:13])
    assert ("5 more columns with --out FILE.csv" in lines) == (width == 80)


def test_components_of_a_series_are_printed_in_place_of_its_states(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    save_model(LinearGaussianSSM.structural(seasonal=4), "seasons")
    np.savetxt("one.csv", np.arange(12.0), header="sales", comments="")
    lines = run(monkeypatch, capsys, "infer seasons --data one.csv").splitlines()
    assert lines[1].split() == ["step", "level", "level_sd", "seasonal", "seasonal_sd"]
    assert not any("more columns" in line for line in lines)


def test_all_rows_go_to_a_file_of_any_kind(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert "written to s.csv: 30 steps of 1 sequence" in run(monkeypatch, capsys, "infer hmm --data a.csv --out s.csv")
    run(monkeypatch, capsys, "infer hmm --data a.csv --output s.nc")
    run(monkeypatch, capsys, "infer noisy --data a.csv --num-particles 20 --out s.png")
    frame = pandas.read_csv("s.csv")
    assert list(frame["step"]) == list(range(1, 31))
    with xarray.open_dataset("s.nc", engine="h5netcdf") as found:
        np.testing.assert_allclose(found["smoothed"][0, :, 1], frame["smoothed_1"], atol=1e-6)
    assert Path("s.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_cell_is_integrated_out(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run(monkeypatch, capsys, "infer hmm --data gap.csv --out s.csv")
    x = torch.from_numpy(series())[None].float()
    whole = pr.infer(hmm(), x).to_frame()
    x[0, 4, 1] = torch.nan
    found = pandas.read_csv("s.csv")["smoothed_1"]
    np.testing.assert_allclose(found, pr.infer(hmm(), x).to_frame()["smoothed_1"], atol=1e-6)
    assert not np.allclose(found, whole["smoothed_1"], atol=1e-6)


def test_particles_are_reproducible_from_the_seed(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = "infer hmm --data a.csv --engine smc --num-particles 50"
    first = run(monkeypatch, capsys, command)
    assert "ess" in first
    assert run(monkeypatch, capsys, command) == first != run(monkeypatch, capsys, f"{command} --seed 1")


def test_the_legend_of_the_data_is_that_of_the_results(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    months = np.arange("2024-01", "2026-07", dtype="datetime64[M]").astype("datetime64[ns]")
    read = saved.observations

    def observations(model: saved.Saved, source: saved.Source) -> Sequences:
        legend = Legend((Column("load"), Column("heat")), time="month", times=(months,))
        return read(model, source)._replace(legend=legend)

    monkeypatch.setattr(saved_tables, "observations", observations)
    assert "2024-01-01 " in run(monkeypatch, capsys, "infer hmm --data a.csv")
    run(monkeypatch, capsys, "forecast hmm --data a.csv --num-steps 2 --out f.csv")
    frame = pandas.read_csv("f.csv")
    assert list(frame["month"]) == ["2026-07-01"] * 2 + ["2026-08-01"] * 2
    assert list(frame["variable"]) == ["load", "heat"] * 2


# Forecasts.


def test_levels_are_printed_under_the_columns_of_the_fit(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    lines = run(monkeypatch, capsys, "forecast hmm --data a.csv --num-steps 2 --level 50,90").splitlines()
    ahead = pr.forecast(hmm(), torch.from_numpy(series())[None].float(), 2)
    assert lines[0] == "from the exact mixture over 2 states"
    assert lines[1].split()[-4:] == ["lower_50", "upper_50", "lower_90", "upper_90"]
    rows = [line.split() for line in lines[3:]]
    assert [row[:2] for row in rows] == [["31", "flow"], ["31", "level"], ["32", "flow"], ["32", "level"]]
    found = [float(row[4]) for row in rows]
    np.testing.assert_allclose(found, ahead.intervals[0, 1, 0].flatten(), atol=6e-4)
    assert not np.allclose(found, ahead.intervals[1, 1, 0].flatten(), atol=6e-4)


def test_forecasts_go_to_a_table_or_a_picture(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    output = run(monkeypatch, capsys, "forecast hmm --data gap.csv --num-steps 3 --out f.csv")
    assert "written to f.csv: 3 steps after 30 steps of 1 sequence" in output
    frame = pandas.read_csv("f.csv")
    assert list(frame.columns[:4]) == ["step", "variable", "mean", "median"]
    assert len(frame) == 6
    run(monkeypatch, capsys, "forecast hmm --data a.csv --output f.png --level 80")
    assert Path("f.png").read_bytes().startswith(b"\x89PNG")
    assert "probability" in run(monkeypatch, capsys, "forecast symbols --data s.npy --num-steps 1 --level 50")
    run(monkeypatch, capsys, "forecast hmm --data a.csv --num-samples 3 --num-steps 2 --output f.npz")
    assert np.load("f.npz")["x"].shape == (3, 1, 2, 2)


# What the user gets wrong.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "infer hmm --data a.csv --engine forwrad",
            "expected --engine to be one of auto, forward, kalman, mixture, smc, svi",
        ),
        ("infer hmm --data a.csv --engine kalman", "got 'kalman'; use 'forward', which 'auto' chooses"),
        ("infer rnn --data a.csv", "expected a model with latent states, got RNN, which has none"),
        ("infer hmm --data a.csv --out s.txt", "expected --out to end in .csv, .parquet, .nc, .png or .svg, got s.txt"),
        ("infer hmm --data a.csv --out no/s.csv", "expected --out to be in a folder that can be written to"),
        ("infer hmm --data a.csv --num-particles 0", "expected num_particles"),
        ("infer hmm --data nowhere.csv", "or an existing file"),
        ("infer nowhere --data a.csv", "expected a saved model in a folder"),
        ("forecast hmm --data a.csv --level 50,x", "expected --level as different percentages between 0 and 100"),
        ("forecast hmm --data a.csv --level 100", "expected --level as different percentages between 0 and 100"),
        ("forecast hmm --data a.csv --level 50 --out f.npz", "expected --level only with a table or picture"),
        ("forecast hmm --data a.csv --out f.nc", "expected --out to end in .csv, .parquet, .png, .svg or .npz"),
        ("forecast hmm --data a.csv --level 50 --index 1", "expected --index in 0..0, got 1"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_nothing_is_written(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = sorted(Path().iterdir())
    assert call(monkeypatch, *arguments.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("unit", ["character", "word"])
def test_a_fit_to_a_text_keeps_its_vocabulary_for_later_texts(
    unit: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Path("play.txt").write_text("to be or not to be " * 6)
    Path("short.txt").write_text("not to be")
    fit = f"fit hmm --data play.txt --kind {unit} --num-states 2 --restarts 1 --iterations 2 --output play"
    run(monkeypatch, capsys, fit)
    for command in ("infer play --data short.txt --out s.csv", "evaluate play --data play.txt"):
        run(monkeypatch, capsys, command)
    assert len(pandas.read_csv("s.csv")) == len("not to be" if unit == "character" else ["not", "to", "be"])
    drawn = run(monkeypatch, capsys, "forecast play --data short.txt --num-steps 4 --num-samples 2")
    known, parts = (["to", "be", "or", "not"], drawn.split()) if unit == "word" else ("to be or not\n", drawn)
    assert set(parts) <= set(known)
    Path("short.txt").write_text("to quit")
    assert call(monkeypatch, *["infer", "play", "--data", "short.txt"]) == 2
    assert f"expected {unit}s from the vocabulary of" in capsys.readouterr().err
