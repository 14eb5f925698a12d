"""What version 0.1.0 wrote is still read: fixtures/0.1.0/README.md says how each file came about."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pgm_rnn import get_model, load_model, save_model
from pgm_rnn.emissions import Bernoulli
from pgm_rnn.inference import svi
from pgm_rnn.inference.svi.checkpoints import CHECKPOINT, CheckpointError, Checkpoints, State, parsed
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.label_model import LabelModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.storage import DESCRIPTION, Model, describe
from pgm_rnn.version import __version__
from pgm_rnn.zoo import load_pretrained
from pgm_rnn.zoo.publish import publish
from tests.instances import assert_same
from tests.test_cli import call

HOME = Path(__file__).parent / "fixtures" / "0.1.0"
VALUES = load_file(HOME / "values.safetensors")
NAMES = sorted(path.name for path in (HOME / "models").iterdir())
RTOL = {torch.float64: 1e-10, torch.float32: 1e-5}

every_model = pytest.mark.parametrize("name", NAMES)


def law_at(name: str, model: Model, x: Tensor) -> Tensor:
    """The log probability that README.md names for this model, (batch,)."""
    lengths = VALUES["lengths"]
    if isinstance(model, LabelModel):
        return model.log_prob(VALUES[f"{name}.labels"], x, lengths)
    if f"{name}.z" in VALUES:
        return model.log_prob(x, VALUES[f"{name}.z"], lengths)
    return model.log_marginal_likelihood(x, lengths, inputs=VALUES.get(f"{name}.inputs"))


def version(folder: Path) -> int:
    return int(json.loads((folder / DESCRIPTION).read_text())["version"])


@every_model
@torch.no_grad()
def test_a_saved_model_has_the_law_that_it_had(name: str) -> None:
    folder, expected = HOME / "models" / name, VALUES[f"{name}.log_prob"]
    assert version(folder) == 1
    assert describe(folder).pgm_rnn == "0.1.0"
    model, x = load_model(folder).eval(), VALUES[f"{name}.x"]
    found = law_at(name, model, x)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=RTOL[expected.dtype], atol=0.0)
    for parameter in model.parameters():  # another model has another law
        parameter.mul_(1.01)
    assert not torch.allclose(law_at(name, model, x), expected, rtol=RTOL[expected.dtype], atol=0.0)


@every_model
@torch.no_grad()
def test_it_becomes_version_2_when_it_is_saved_again_and_stays_the_same_model(name: str, tmp_path: Path) -> None:
    folder = HOME / "models" / name
    before, described = load_model(folder), describe(folder)
    save_model(before, tmp_path / name, described.info)
    assert version(tmp_path / name) == 2
    after, again = load_model(tmp_path / name), describe(tmp_path / name)
    assert (type(after), after.recipe) == (type(before), before.recipe)
    assert_same(after.state_dict(), before.state_dict())
    kept = again._replace(model_class=None, pgm_rnn="0.1.0")
    assert kept == described
    assert torch.equal(law_at(name, after, VALUES[f"{name}.x"]), law_at(name, before, VALUES[f"{name}.x"]))


# Fits that stopped halfway.


def model_of(name: str) -> SequenceModel:
    if name == "mle":
        return get_model("rnn-gru", seed=0, num_symbols=3, hidden_dim=3)
    return get_model("vrnn", seed=0, emission=Bernoulli(3), latent_dim=2, hidden_dim=3)


def fit(name: str, folder: Path | None, **options: Any) -> svi.Fit:
    """The fit that README.md describes, from the checkpoint in a folder, if any."""
    known = load_file(HOME / "runs" / f"{name}.safetensors")
    train, valid = (Sequences(known[f"{split}.x"], known[f"{split}.lengths"]) for split in ("train", "valid"))
    given: dict[str, Any] = {"num_epochs": 12, "batch_size": 3, "learning_rate": 0.01, "schedule": "cosine", "seed": 1}
    if name == "elbo":
        given |= {"objective": "elbo", "num_particles": 2, "kl_warmup": 6}
    given |= {"progress": False, "checkpoint": folder, "resume": folder is not None, "checkpoint_seconds": 0}
    return svi.fit(model_of(name), train, valid, **(given | options))


@pytest.fixture(params=["mle", "elbo"])
def stopped(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """A fit's name and its checkpoint, under the version of torch that wrote it, whichever runs here."""
    name = str(request.param)
    folder = Path(shutil.copytree(HOME / "runs" / name, tmp_path / name))
    monkeypatch.setattr("torch.__version__", run_in(folder)["version of torch"])
    return name, folder


def run_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / CHECKPOINT).read_text())["content"]["run"]
    return found


@pytest.mark.slow
def test_a_fit_that_0_1_0_began_ends_as_it_would_have_there(stopped: tuple[str, Path]) -> None:
    name, folder = stopped
    known = load_file(HOME / "runs" / f"{name}.safetensors")
    end = {key.removeprefix("end."): value for key, value in known.items() if key.startswith("end.")}
    halfway = json.loads((folder / CHECKPOINT).read_text())["content"]["position"]
    assert (halfway["epoch"], halfway["batch"]) == (7, 1)
    found = fit(name, folder)
    assert_same(found.model.state_dict(), end, rtol=1e-8, atol=1e-10)
    losses = torch.tensor([entry[1:3] for entry in found.history], dtype=torch.float64)
    torch.testing.assert_close(losses, known["history"], rtol=1e-8, atol=0.0)
    assert (found.best_epoch, found.stopped_by) == (int(known["best_epoch"]), "num_epochs")
    with pytest.raises(AssertionError, match="not close"):  # another order of the data ends elsewhere
        assert_same(fit(name, None, seed=2).model.state_dict(), end, rtol=1e-8, atol=1e-10)


def test_it_goes_on_as_a_run_of_this_version(stopped: tuple[str, Path]) -> None:
    name, folder = stopped
    assert run_in(folder)["version of pgm_rnn"] == "0.1.0"
    end = fit(name, folder).model.state_dict()
    assert run_in(folder)["version of pgm_rnn"] == __version__
    assert_same(fit(name, folder).model.state_dict(), end)


def test_another_run_than_the_one_that_0_1_0_began_is_an_error(stopped: tuple[str, Path]) -> None:
    name, folder = stopped
    with pytest.raises(CheckpointError, match=r"with another learning_rate: 0\.01 there, 0\.02 here"):
        fit(name, folder, learning_rate=0.02)


def test_an_option_that_the_writer_did_not_have_is_at_its_default(stopped: tuple[str, Path]) -> None:
    name, folder = stopped
    files = Checkpoints(folder, 0).load()
    assert files is not None
    tensors, content = parsed(*files, folder)
    del content["run"]["clip_norm"]
    Checkpoints(folder, 0).save(State(tensors, content))
    with pytest.raises(CheckpointError, match=r"with another clip_norm: 5\.0 there, 1\.0 here"):
        fit(name, folder, clip_norm=1.0)
    assert fit(name, folder).stopped_by == "num_epochs"


# A fit of the command line.


@pytest.fixture
def fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder that `pgm-rnn fit` wrote, with the file of numbers beside it."""
    place = Path(shutil.copytree(HOME / "command-line", tmp_path / "here"))
    monkeypatch.chdir(place)
    return place / "hmm"


def test_the_command_line_evaluates_what_its_former_version_fitted(
    fitted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "evaluate", "hmm", "--data", "numbers.csv") == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("all ")]
    (before,) = [line.split() for line in Path("evaluated.txt").read_text().splitlines() if line.startswith("all ")]
    assert (row[:2], row[3:]) == (before[:2], before[3:])
    assert (float(row[2]) > 0, before[2]) == (True, "-")  # the error over the steps of one series is new


def test_the_command_line_replaces_it_only_when_asked(
    fitted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = describe(fitted).info["command"].split()[1:]
    before = (fitted / DESCRIPTION).read_bytes()
    assert call(monkeypatch, *command) == 2
    assert "which holds an earlier one" in capsys.readouterr().err
    assert (fitted / DESCRIPTION).read_bytes() == before
    assert call(monkeypatch, *command, "--overwrite") == 0
    assert version(fitted) == 2
    assert describe(fitted).info["pgm_rnn"] == __version__


def test_it_is_published_as_it_is(fitted: Path, tmp_path: Path) -> None:
    publish(fitted, "former", "Storms.", tmp_path / "zoo")
    assert json.loads((tmp_path / "zoo" / "former" / "config.json").read_text())["version"] == 1
    card = (tmp_path / "zoo" / "former" / "README.md").read_text()
    assert "- model: `hmm`, num_states 2\n- observations: Gaussian(2), first=model\n" in card
    assert_same(load_pretrained("former", home=tmp_path / "zoo").state_dict(), load_model(fitted).state_dict())
