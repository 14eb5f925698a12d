"""A new entry of each kind needs nothing but itself: the contract tests, the command line and storage take it."""

import json
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from pgm_rnn import load_model, save_model
from pgm_rnn.cli import build_app
from pgm_rnn.cli import main as cli
from pgm_rnn.registries import OWN, Registries
from tests import instances, test_contract, test_contract_errors, test_draws, test_programs, test_renderings
from tests.instances import every_law, make_model, ragged
from tests.test_cli import call
from tests.toys import ENLARGED, Echo, Glance, Laplace

ROOT = Path(__file__).parents[1]
REGISTRIES = ENLARGED
"""The marks `every(KIND)` of this file are for what these have beside the package's own."""
Capture = pytest.CaptureFixture[str]

CONTRACT = (test_contract, test_contract_errors, test_draws, test_programs, test_renderings)


def of_every_entry(module: ModuleType) -> dict[str, object]:
    """The tests of a module that run on the entries of registries."""
    return {
        name: test
        for name, test in vars(module).items()
        if name.startswith("test_") and any(mark.name == "every" for mark in getattr(test, "pytestmark", ()))
    }


globals().update({name: test for module in CONTRACT for name, test in of_every_entry(module).items()})
"""The contract, on the new models with every family, every model with the new family, the new engine on every model."""


@pytest.fixture(autouse=True)
def _enlarged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Instances and the command line of the enlarged registries, in an empty folder."""
    monkeypatch.setattr(instances, "REGISTRIES", ENLARGED)
    monkeypatch.setattr(cli, "app", build_app(ENLARGED))
    monkeypatch.chdir(tmp_path)


def run(monkeypatch: pytest.MonkeyPatch, command: str) -> int:
    """Exit status of a command of the enlarged command line."""
    return call(monkeypatch, *command.split())


@every_law
def test_a_new_model_and_a_new_family_are_saved_and_loaded(name: str, family: object, tmp_path: Path) -> None:
    model, x = make_model(name, family), ragged(family)  # type: ignore[arg-type]
    save_model(model, tmp_path / "kept", registries=ENLARGED)
    again = load_model(tmp_path / "kept", registries=ENLARGED)
    assert type(again) is type(model)
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())
    assert torch.equal(again.sample(2, 3, seed=0).x, model.sample(2, 3, seed=0).x)
    assert x.shape[2:] == model.family.event_shape


def test_without_the_enlarged_registries_a_new_model_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected model to be one of .*, got 'echo'"):
        save_model(Echo(3), tmp_path / "kept")


# The command line.


def test_a_new_model_is_fitted_to_new_data_scored_and_kept(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    torch.set_default_dtype(torch.float32)
    assert run(monkeypatch, "fit echo --data spikes --num-echoes 2 --epochs 2 --json r.json --output out") == 0
    record = json.loads(Path("r.json").read_text())
    assert (record["model"], record["epochs"], record["fit"]["learning_rate"]) == ("echo", 2, 0.01)
    assert [score["split"] for score in record["scores"]] == ["train", "valid", "test"]
    model = load_model("out", registries=ENLARGED)
    assert isinstance(model, Echo)
    assert model.family == Laplace(2)
    assert run(monkeypatch, "evaluate out --data spikes --json e.json") == 0
    assert json.loads(Path("e.json").read_text())["nats_per_step"] == record["scores"][2]["nats_per_step"]
    assert run(monkeypatch, "sample out --num-sequences 2 --num-steps 3 --out draws.npz") == 0
    assert np.load("draws.npz")["x"].shape == (2, 3, 2)
    assert run(monkeypatch, "forecast out --data spikes --num-steps 2 --num-samples 3 --out ahead.npz") == 0
    assert np.load("ahead.npz")["x"].shape == (3, 10, 2, 2)
    assert run(monkeypatch, "show spikes --num-sequences 2 --out real.npz") == 0
    assert np.load("real.npz")["x"].shape == (2, 5, 2)


def test_a_file_is_taken_for_a_new_family(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    np.savetxt("river.csv", np.random.default_rng(0).laplace(size=(40, 1)), delimiter=",")
    assert run(monkeypatch, "fit rnn --data river.csv --emission laplace --hidden-dim 2 --epochs 1 --output out") == 0
    assert instances.of_sequences(load_model("out", registries=ENLARGED)).family == Laplace()


def test_a_new_law_of_labels_is_fitted_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    assert run(monkeypatch, "fit glance --data spikes --num-glances 2 --epochs 2 --json r.json") == 0
    record = json.loads(Path("r.json").read_text())
    assert (record["folder"], record["epochs"], record["fit"]["batch_size"]) == ("fits/glance-spikes-2", 2, 32)
    model = load_model(record["folder"], registries=ENLARGED)
    assert isinstance(model, Glance)
    assert (model.task, model.inputs) == ("classification", Laplace(2))


def test_the_help_knows_what_is_new(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "fit --help") == 0
    assert "A network that remembers one observation." in capsys.readouterr().out
    assert run(monkeypatch, "fit echo --help") == 0
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for words in ("Width of the memory. [default: 3]", "spikes", "laplace (real numbers with heavier", "[default: 7]"):
        assert words in shown
    assert run(monkeypatch, "fit lgssm --help") == 0
    assert "spikes" not in capsys.readouterr().out  # they are not normal


def test_a_new_claim_is_verified_and_explained(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "verify --claim echoes-fade --json r.json") == 0
    [result] = json.loads(Path("r.json").read_text())
    assert (result["id"], result["verdict"], result["instances"]) == ("echoes-fade", "holds", 3)
    capsys.readouterr()
    assert run(monkeypatch, "explain echoes-fade") == 0
    assert "does not depend on x_1" in capsys.readouterr().out


def test_a_new_model_has_a_graph(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "graph echo") == 0
    assert "h_2 --> x_2" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["fit echo --data jsb", "show spikes", "verify --claim echoes-fade", "graph echo"])
def test_the_command_line_of_the_package_does_not_know_them(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(cli, "app", build_app())
    assert run(monkeypatch, command) == 2
    assert re.search("got '(spikes|echoes-fade|echo)'|No such command 'echo'", capsys.readouterr().err)


# What knows of them.


def test_nothing_else_in_the_repository_names_them() -> None:
    new = [set(getattr(ENLARGED, each.name)) - set(getattr(OWN, each.name)) for each in fields(Registries)]
    assert [sorted(names) for names in new] == [
        ["echo", "toy-glide", "toy-murmur", "toy-regimes", "toy-swerve"],
        ["glance"],
        ["laplace"],
        ["spikes"],
        ["loudness"],
        ["echoes-fade"],
    ]
    named = re.compile(rf"[\"']({'|'.join(name for names in new for name in names)})[\"']")
    folders = [ROOT / folder for folder in ("pgm_rnn", "models", "inference", "tests", "tools")]
    files = {path.resolve() for folder in folders for path in folder.rglob("*.py")}
    assert {path.name for path in files if named.search(path.read_text(encoding="utf-8"))} == {
        "toys.py",
        "test_enlarged.py",
    }
