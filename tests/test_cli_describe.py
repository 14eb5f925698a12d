"""`pgm-rnn describe` as a person meets it: the tables, the files, and every wrong argument."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from pgm_rnn import describe, load_model, save_model
from pgm_rnn.emissions import Gaussian
from pgm_rnn.models import HMM, RNN
from tests.instances import of_sequences
from tests.test_cli import call

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder with saved models and a file of the data of one, and float32 as in a fresh interpreter."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    loc = torch.tensor([[50.0, 1.0], [20.0, 4.0]])
    model = HMM(torch.ones(2) / 2, torch.tensor([[0.9, 0.1], [0.2, 0.8]]), Gaussian(2).table(loc, torch.ones(2, 2)))
    save_model(model, "river", info={"data": "river.csv", "file": {"columns": ["flow", "rain"]}})
    save_model(RNN("gru", num_symbols=3, hidden_dim=2), "network")
    text = HMM.random(2, num_symbols=3, seed=0)
    save_model(text, "text", info={"vocabulary": "a \n"})
    np.savetxt("river.csv", model.sample(1, 60, seed=0).x[0].numpy(), delimiter=",", header="flow,rain", comments="")


def run(monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: str) -> str:
    assert call(monkeypatch, "describe", *command.split()) == 0
    return capsys.readouterr().out


def test_a_model_is_described_in_the_words_of_its_fit(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    output = run(monkeypatch, capsys, "river --data river.csv --order flow")
    assert "flow" in output
    assert "±" in output
    assert max(map(len, output.splitlines())) <= 80
    x = torch.from_numpy(np.loadtxt("river.csv", delimiter=",", skiprows=1))[None]
    expected = describe(of_sequences(load_model("river")), x, order=0)
    assert expected.order == (1, 0)
    assert f"{-(expected.log_likelihood or 0):,.1f} nats on 60 steps" in output


def test_characters_are_shown_as_they_are_typed(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    output = run(monkeypatch, capsys, "text")
    header = next(line for line in output.split("emission probabilities")[1].splitlines() if "state" in line)
    assert [header.split()[0], header.split()[1]] == ["state", "a"]
    assert "' '" in header
    assert "'\\n'" in header


def test_a_network_is_described_by_its_sizes(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert "readout.weight" in run(monkeypatch, capsys, "network")


def test_tables_go_to_a_file(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert "written to d.csv: 4 tables" in run(monkeypatch, capsys, "river --out d.csv")
    frame = pandas.read_csv("d.csv", dtype={"row": str})
    assert list(frame.columns) == ["table", "row", "column", "value", "standard_error"]
    chosen = frame[(frame["table"] == "loc") & (frame["row"] == "1") & (frame["column"] == "rain")]
    assert chosen["value"].item() == 4
    run(monkeypatch, capsys, "river --data river.csv --order size --output d.json")
    content = json.loads(Path("d.json").read_text())
    assert content["tables"]["loc"]["columns"] == ["flow", "rain"]
    assert content["tables"]["loc"]["standard_errors"][0][0] > 0
    assert content["order"] == [int(row) for row in content["tables"]["states"]["rows"]]
    assert content["num_free_parameters"] == 1 + 2 + 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("rivre", "expected a saved model in a folder, got no file rivre/model.json"),
        ("river --order rian", "expected order to be one of size, flow, rain, got 'rian'; did you mean 'rain'"),
        ("network --order size", "expected order only for a model with finite states, got RNN"),
        ("text --order x", "expected order to be one of size, character, got 'x'"),
        ("river --data rivre.csv", "or an existing file, got 'rivre.csv'"),
        ("river --split test", "expected --split and --column only with --data"),
        ("river --out d.txt", "expected --out to end in .csv or .json, got d.txt"),
        ("river --out no/such/d.csv", "expected --out to name a file in a folder that can be written to"),
        ("hmm-jsb-61", "did you mean the trained hmm-jsb-64"),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = sorted(Path().iterdir())
    assert call(monkeypatch, "describe", *arguments.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(Path().iterdir()) == before


def test_what_the_fit_of_an_lgssm_kept_counts_as_known(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """One series does not determine p(z_1), so its fit keeps it; then the rest has standard errors."""
    steps = torch.randn(80, 2, generator=torch.Generator().manual_seed(0))
    walk = steps.cumsum(0) * 0.3 + torch.randn(80, 2, generator=torch.Generator().manual_seed(1))
    np.savetxt("walk.csv", walk.numpy(), delimiter=",", header="a,b", comments="")
    command = "fit lgssm --data walk.csv --latent-dim 1 --test-fraction 0 --output walk --iterations 2000"
    assert call(monkeypatch, *command.split()) == 0
    capsys.readouterr()
    output = run(monkeypatch, capsys, "walk --data walk.csv")
    assert "known, as the fit kept them: initial_mean, initial_cov" in output
    assert "frozen=" not in output
    assert "±" in output
    x = torch.from_numpy(np.loadtxt("walk.csv", delimiter=",", skiprows=1))[None]
    model = of_sequences(load_model("walk"))
    expected = describe(model, x, frozen=["initial_mean", "initial_cov"]).table("transition_matrix").errors
    run(monkeypatch, capsys, "walk --data walk.csv --out walk.json")
    tables = json.loads(Path("walk.json").read_text())["tables"]
    assert expected is not None
    assert tables["transition_matrix"]["standard_errors"] == [pytest.approx(row) for row in expected]
    assert "known, as" not in run(monkeypatch, capsys, "walk")  # without data there are no standard errors
