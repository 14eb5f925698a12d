"""`--class FILE.py:NAME`: the commands on models of a class of one's own, from a file that the user says to run."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pgm_rnn import load_model, save_model
from pgm_rnn.cli.own_class import class_of
from pgm_rnn.inference import svi
from pgm_rnn.models import HMM
from pgm_rnn.sequence_model import SequenceModel
from tests.test_cli import call

Capture = pytest.CaptureFixture[str]
SOURCE = """
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import nn

from helper import SLOPE
from pgm_rnn import SequenceModel
from pgm_rnn.emissions import Gaussian
from pgm_rnn.states import FiniteStates


@dataclass
class Options:
    scale: "float" = 1.0


class Regimes(SequenceModel):
    def __init__(self, num_states=2, slope=SLOPE):
        super().__init__(Gaussian(1))
        self.states, self.slope = FiniteStates(num_states), slope
        self.register_buffer("initial_memory", torch.zeros(1))
        self.moves = nn.Parameter(torch.zeros(num_states, num_states))
        self.means = nn.Parameter(torch.randn(num_states, 1))

    def recurrence(self, h, z, x):
        return x

    def initial(self, h):
        return dist.Categorical(logits=self.moves[0])

    def transition(self, z, h):
        return dist.Categorical(logits=self.moves[z])

    def emission(self, z, h):
        return dist.Normal(self.means[z] + self.slope * h, Options().scale).to_event(1)


class Noise(SequenceModel):
    def __init__(self):
        super().__init__(Gaussian())

    def emission(self, z, h):
        return dist.Normal(0.0, 1.0)


def function():
    pass
"""


def forget() -> None:
    """Take the modules of this file's folders out of those that are imported."""
    for name in ("own_regimes", "own_regimes_file", "json_file", "helper"):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder with a file of classes, one that it imports, a saved model and numbers."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    (tmp_path / "my").mkdir()
    Path("my/own_regimes.py").write_text(SOURCE)
    Path("my/helper.py").write_text("SLOPE = 0.5\n")
    np.savetxt("river.csv", np.random.default_rng(0).normal(size=(12, 1)), delimiter=",")
    save_model(made(num_states=3), "kept")
    forget()
    yield
    forget()


def made(**arguments: object) -> SequenceModel:
    found = class_of("my/own_regimes.py:Regimes")
    assert found is not None
    torch.manual_seed(0)
    return found(**arguments)  # type: ignore[arg-type]


CLASS = "--class my/own_regimes.py:Regimes"


def run(monkeypatch: pytest.MonkeyPatch, command: str) -> int:
    return call(monkeypatch, *command.split())


def test_a_saved_model_is_scored_drawn_from_and_forecast(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    model = made(num_states=3)
    assert run(monkeypatch, f"evaluate kept {CLASS} --data river.csv --json e.json") == 0
    x = torch.tensor(np.loadtxt("river.csv"), dtype=torch.float32)[None, :, None]
    found = json.loads(Path("e.json").read_text())
    assert found["bound"] == "exact"
    assert found["nats_per_step"] == pytest.approx(svi.evaluate(model, x).nats_per_step, rel=1e-6)
    assert run(monkeypatch, f"sample kept {CLASS} --num-sequences 2 --num-steps 3 --seed 5 --out draws.npz") == 0
    assert np.array_equal(np.load("draws.npz")["x"], model.sample(2, 3, seed=5).x.numpy())
    assert run(monkeypatch, f"forecast kept {CLASS} --data river.csv --num-steps 2 --num-samples 3 --out a.npz") == 0
    ahead = model.forecast(x, 2, num_samples=3, seed=0).x.numpy()
    np.testing.assert_allclose(np.load("a.npz")["x"], ahead, rtol=1e-5)
    capsys.readouterr()
    assert run(monkeypatch, f"graph kept {CLASS} --steps 2") == 0
    assert {"x_1 --> h_2", "h_2 --> x_2", "z_1 --> z_2"} <= set(map(str.strip, capsys.readouterr().out.splitlines()))


def test_a_model_without_parameters_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    found = class_of("my/own_regimes.py:Noise")
    assert found is not None
    save_model(found(), "noise")  # type: ignore[call-arg]
    np.savetxt("zeros.csv", np.zeros((2, 1)), delimiter=",")
    assert run(monkeypatch, "evaluate noise --class my/own_regimes.py:Noise --data zeros.csv --json e.json") == 0
    assert json.loads(Path("e.json").read_text())["nats_per_step"] == pytest.approx(0.9189385, rel=1e-6)


def test_a_saved_folder_has_a_graph_without_a_class(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    save_model(HMM.random(2, 3), "zoo")
    assert run(monkeypatch, "graph zoo --steps 2") == 0
    assert "z_1 --> z_2" in capsys.readouterr().out
    assert run(monkeypatch, "graph nowhere") == 2
    assert "expected model to be one of" in capsys.readouterr().err


def test_without_the_option_a_class_is_not_looked_for(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.syspath_prepend(str(Path("my").resolve()))
    assert run(monkeypatch, "sample kept --out draws.npz") == 2
    said = capsys.readouterr().err
    assert (
        "expected the class own_regimes:Regimes to be imported already, because loading a file imports no module"
        in said
    )
    assert "or --class FILE.py:Regimes at the command line" in said
    assert "own_regimes" not in sys.modules


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "my/own_regimes.py",
            "expected --class as FILE.py:NAME, such as my_models.py:SwitchingAR, got my/own_regimes.py",
        ),
        ("my.own_regimes:Regimes", "expected --class as FILE.py:NAME, "),
        ("my/nowhere.py:Regimes", "expected --class to name a Python file, got my/nowhere.py, which does not exist"),
        (
            "my/own_regimes.py:Regime",
            "to name a class in my/own_regimes.py that derives from SequenceModel, got no such name; it defines Re",
        ),
        ("my/own_regimes.py:function", "got function, which is not one; it defines Regimes, Noise"),
        ("my/own_regimes.py:Options", "got Options, which is not one; it defines Regimes, Noise"),
        ("my/helper.py:SLOPE", "got SLOPE, which is not one; it defines none"),
        (
            "my/own_regimes.py:Noise",
            "expected model_class=Regimes, because the saved model is one of own_regimes:Regimes",
        ),
        (
            "my/broken.py:Regimes",
            "expected a Python file that can be run, got my/broken.py: ZeroDivisionError in line 2: ",
        ),
        (
            "my/unclosed.py:Regimes",
            "expected a Python file that can be run, got my/unclosed.py: SyntaxError in line 1: '('",
        ),
        ("my/leaving.py:Regimes", "expected a Python file that can be run, got my/leaving.py: SystemExit in line 1: 3"),
    ],
)
def test_what_is_no_class_is_one_sentence(
    option: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Path("my/broken.py").write_text("x = 1\nx / 0\n")
    Path("my/unclosed.py").write_text("print(")
    Path("my/leaving.py").write_text("raise SystemExit(3)")
    before = list(sys.path)
    assert run(monkeypatch, f"sample kept --out draws.npz --class {option}") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert sys.path == before


def test_a_class_of_a_file_whose_name_is_taken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my/json.py").write_text(SOURCE)
    assert run(monkeypatch, "sample kept --class my/json.py:Regimes --out draws.npz") == 0
    assert sys.modules["json"] is json


def test_a_class_of_a_script_is_found_in_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    monkeypatch.setattr(type(model), "__module__", "__main__")
    save_model(model, "script")
    forget()
    assert run(monkeypatch, f"sample script --out draws.npz --seed 3 {CLASS}") == 0
    assert np.array_equal(np.load("draws.npz")["x"], model.sample(5, 20, seed=3).x.numpy())


def test_a_model_of_the_zoo_needs_no_class_and_takes_no_other(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    save_model(HMM.random(2, 3), "zoo")
    assert run(monkeypatch, f"sample zoo --out draws.npz {CLASS}") == 2
    assert "expected model_class=HMM for zoo/model.json, got Regimes" in capsys.readouterr().err


def test_a_model_of_ones_own_is_not_published(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "publish kept my-model --failure-modes none --into zoo") == 2
    assert "expected a model of the zoo to publish, got one of a class of your own in kept" in capsys.readouterr().err
    assert not Path("zoo").exists()


def test_the_saved_class_is_found_once_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path("my").resolve()))
    import own_regimes  # type: ignore[import-not-found]

    loaded = load_model("kept")
    assert type(loaded) is own_regimes.Regimes


# Fit.


def test_a_class_of_ones_own_is_fitted_scored_saved_and_resumed(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    np.savetxt("walk.csv", np.random.default_rng(0).normal(size=(60, 1)).cumsum(0) / 4, delimiter=",")
    fit = f"fit own {CLASS} --data walk.csv --set num_states=3 --set slope=0.9 --epochs 3 --json r.json"
    assert run(monkeypatch, f"{fit} --checkpoint c") == 0
    said, record = capsys.readouterr().out, json.loads(Path("r.json").read_text())
    assert "Regimes, num_states 3, slope 0.9, Gaussian emission, Adam on mle" in said
    assert (record["model"], record["sizes"]) == ("Regimes", {"num_states": 3, "slope": 0.9})
    assert record["folder"] == "fits/Regimes-walk-3"
    assert [score["split"] for score in record["scores"]] == ["train", "valid", "test"]
    model = load_model("fits/Regimes-walk-3", model_class=class_of("my/own_regimes.py:Regimes"))
    assert (model.slope, model.moves.dtype) == (0.9, torch.float64)
    again = f"{fit} --checkpoint c --resume".replace("--epochs 3", "--epochs 3 --overwrite")
    assert run(monkeypatch, again) == 0
    resumed = load_model("fits/Regimes-walk-3", model_class=class_of("my/own_regimes.py:Regimes"))
    assert all(torch.equal(resumed.state_dict()[name], value) for name, value in model.state_dict().items())
    assert run(monkeypatch, f"{fit} --start fits/Regimes-walk-3 --epochs 1 --learning-rate 1e-9 --output on") == 0
    on = load_model("on", model_class=class_of("my/own_regimes.py:Regimes"))
    torch.testing.assert_close(on.state_dict()["means"], model.state_dict()["means"], rtol=0, atol=1e-6)
    assert run(monkeypatch, f"{fit} --start kept --output other") == 2  # it has another slope
    assert (
        "expected --start to name a Regimes with {'num_states': 3, 'slope': 0.9}, got a Reg" in capsys.readouterr().err
    )
    assert run(monkeypatch, f"{again} --set slope=0.1".replace("--set slope=0.9", "")) == 2
    assert "got one with another model: " in capsys.readouterr().err


def test_a_fit_that_was_still_rising_says_so_among_its_lines(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    np.savetxt("far.csv", 9 + np.random.default_rng(0).normal(size=(60, 1)), delimiter=",")
    fit = f"fit own {CLASS} --data far.csv --valid-fraction 0 --learning-rate 0.01 --output out --overwrite"
    assert run(monkeypatch, f"{fit} --epochs 20") == 0
    assert "the parameters are the last ones\nnote: the log likelihood was still rising" in capsys.readouterr().out
    assert run(monkeypatch, f"{fit} --epochs 19") == 0  # too few to tell
    assert "note: " not in capsys.readouterr().out


def write_walking() -> None:
    """A file with a class whose state walks, nonlinear for all that is known, and without a guide."""
    Path("my/walking.py").write_text(
        SOURCE.replace("self.states, self.slope = FiniteStates(num_states), slope", "")
        .replace("dist.Categorical(logits=self.moves[0])", "dist.Normal(0.0, 1.0)")
        .replace("dist.Categorical(logits=self.moves[z])", "dist.Normal(z, 1.0)")
        .replace("self.means[z] + self.slope * h", "self.means[0] + z[..., None]")
    )


def test_a_bound_is_fitted_where_the_likelihood_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    write_walking()
    fit = "fit own --class my/walking.py:Regimes --data river.csv --epochs 1 --json r.json"
    for objective, options in (("elbo", ""), ("fivo", "--objective fivo --num-particles 4 --output other")):
        assert run(monkeypatch, f"{fit} {options}") == 0
        record = json.loads(Path("r.json").read_text())
        assert (record["fit"]["objective"], record["fit"]["valid_particles"]) == (objective, 16)
        assert record["scores"][0]["bound"] == "FIVO_128"


def test_a_fit_and_evaluate_score_one_series_alike(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    write_walking()
    fit = "fit own --class my/walking.py:Regimes --data river.csv --epochs 1 --json r.json --output out"
    assert run(monkeypatch, f"{fit} --valid-fraction 0 --test-fraction 0") == 0
    (score,), said = json.loads(Path("r.json").read_text())["scores"], capsys.readouterr().out
    assert run(monkeypatch, "evaluate out --class my/walking.py:Regimes --data river.csv --json e.json") == 0
    found, output = json.loads(Path("e.json").read_text()), capsys.readouterr().out
    assert {name: found[name] for name in ("nats_per_step", "standard_error", "bound")} == {
        name: score[name] for name in ("nats_per_step", "standard_error", "bound")
    }
    line = "FIVO_128: from a particle filter, above the exact number on average"
    assert line in said
    assert line in output
    other = "evaluate out --class my/walking.py:Regimes --data river.csv --bound elbo --json e.json"
    assert run(monkeypatch, other) == 0
    assert json.loads(Path("e.json").read_text())["bound"] == "ELBO"


@pytest.mark.usefixtures("few_synthetic_sequences")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "expected --class FILE.py:NAME for the model to fit, got none; name your class"),
        (f"{CLASS} --set num_states", "expected --set NAME=VALUE, such as K=3, got num_states"),
        (f"{CLASS} --set slope=1 --set slope=2", "expected each argument once, got slope twice; leave one --set out"),
        (f"{CLASS} --set states=2", "expected arguments that Regimes takes, got states=2: "),
        (
            f"{CLASS} --set num_states=none",
            "expected arguments that Regimes takes, got num_states='none': expected num_sta",
        ),
        (f"{CLASS} --objective map", "expected --objective to be one of mle, elbo, iwae, fivo, got 'map'"),
        (
            "--class my/own_regimes.py:Noise",
            "expected a model with parameters for pgm-rnn fit own, got Noise, in which",
        ),
        (f"{CLASS} --column nothing", "nothing"),
        (
            f"{CLASS} --data two.csv",
            "expected 1 variable for a model of Gaussian(size=1), got 2 in two.csv; choose with",
        ),
        (
            f"{CLASS} --data synthetic-hmm",
            "expected data for a model of Gaussian(size=1), got synthetic-hmm, whose",
        ),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(
    options: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    np.savetxt("two.csv", np.random.default_rng(0).normal(size=(9, 2)), delimiter=",", header="a,b", comments="")
    data = "" if "--data" in options else "--data river.csv"
    assert run(monkeypatch, f"fit own {data} {options} --epochs 1") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("fits").exists()


def test_a_trained_model_of_the_zoo_takes_no_class(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, f"sample hmm-jsb-16 --out draws.npz {CLASS}") == 2
    assert "expected no --class for the trained hmm-jsb-16, got Regimes; leave it out" in capsys.readouterr().err
