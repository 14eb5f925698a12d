"""What version 2 of model.json holds; which versions are read, and what is said of the others."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pgm_rnn
from pgm_rnn import load_model, save_model
from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.emissions.registry import FAMILIES
from pgm_rnn.models import HMM, ParticleFilterRNN
from pgm_rnn.storage import DESCRIPTION, StorageError, describe
from pgm_rnn.storage.arguments import as_json, from_json
from pgm_rnn.storage.description import digest_of
from pgm_rnn.storage.version_2 import KEYS, LAW
from tests.instances import assert_same
from tests.storage.earlier import in_version_1

ROOT = Path(__file__).parents[2]


def written(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
    return content


def rewrite(folder: Path, content: dict[str, Any]) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with a saved model."""
    save_model(HMM.random(2, emission=Gaussian(3), seed=0), tmp_path / "model", info={"seed": 0})
    return tmp_path / "model"


def test_version_2_says_how_the_model_is_made(folder: Path) -> None:
    found = written(folder)
    assert found.pop("sha256").keys() == {"tensors", "law"}
    assert found == {
        "format": "pgm_rnn model",
        "version": 2,
        "name": "hmm",
        "class": "pgm_rnn.models.hmm:HMM",
        "arguments": {
            "emission": {"family": {"name": "Gaussian", "arguments": {"size": 3}}},
            "first": "model",
            "num_states": 2,
        },
        "dtype": "float64",
        "pgm_rnn": pgm_rnn.__version__,
        "info": {"seed": 0},
    }


def test_the_page_on_saved_models_describes_every_field() -> None:
    page = (ROOT / "docs" / "saved-models.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"`{key}`" for key in ("format", "version", *KEYS)]


def test_version_1_is_read_and_becomes_version_2_when_it_is_saved_again(folder: Path) -> None:
    described, numbers = describe(folder), load_model(folder).state_dict()
    rewrite(folder, in_version_1(written(folder)))
    again = load_model(folder)
    assert_same(again.state_dict(), numbers)
    assert describe(folder) == described._replace(model_class=None)
    save_model(again, folder, {"seed": 0})
    assert written(folder)["version"] == 2
    assert describe(folder) == described


@pytest.mark.parametrize("version", [3, 0, "2", 2.0, True, None, [2]])
def test_another_version_is_one_sentence_that_names_it_and_those_that_are_read(version: object, folder: Path) -> None:
    rewrite(folder, written(folder) | {"version": version, "pgm_rnn": "9.1"})
    with pytest.raises(
        StorageError, match=r"^expected version 1 or 2 of the format of saved models, [^\n]*$"
    ) as caught:
        load_model(folder)
    assert f"got version {version!r} in {folder / DESCRIPTION}, written by pgm_rnn 9.1; update" in str(caught.value)
    assert f"which pgm_rnn {pgm_rnn.__version__} reads" in str(caught.value)
    with pytest.raises(StorageError, match="expected version 1 or 2"):
        describe(folder)


def test_a_file_of_another_version_is_replaced_as_a_saved_model(folder: Path) -> None:
    rewrite(folder, {"format": "pgm_rnn model", "version": 3, "of a kind": "unknown here"})
    with pytest.raises(FileExistsError, match="which holds a saved model"):
        save_model(HMM.random(2, 3), folder, overwrite=False)
    save_model(HMM.random(2, 3), folder)
    assert written(folder)["version"] == 2


def test_a_class_that_no_registry_has_is_named_and_not_imported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_models.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    content = written(folder) | {"name": None, "class": "own_models:Own"}
    content["sha256"]["law"] = digest_of(content, LAW)
    rewrite(folder, content)
    with pytest.raises(
        StorageError,
        match="expected the class own_models:Own to be imported already, because loading a file imports no module",
    ) as caught:
        load_model(folder)
    assert not str(caught.value).count("\n")
    rewrite(folder, written(folder) | {"name": "hmm", "class": "own_models:Own"})
    with pytest.raises(StorageError, match="as they were saved, got changed ones"):
        load_model(folder)


@pytest.mark.parametrize("argument", [{"array": [1]}, {}, {"family": {}, "tensor": ""}])
def test_a_kind_of_argument_that_is_unknown_is_named(argument: dict[str, Any], folder: Path) -> None:
    content = written(folder)
    content["arguments"]["emission"] = argument
    rewrite(folder, content)
    kinds = " and ".join(sorted(argument))
    with pytest.raises(
        StorageError, match=f"kind of an argument to be one of family, tuple, dict, tensor, got '{kinds}'"
    ):
        load_model(folder)


@pytest.mark.parametrize(
    "value",
    [3, 0.5, "tanh", None, True, [1, 2], Categorical(3), Gaussian(2), Gaussian(), (1, [2, ()]), {"a": {"b": (1,)}}],
)
def test_an_argument_comes_back(value: object) -> None:
    assert from_json(json.loads(json.dumps(as_json(value, FAMILIES))), FAMILIES) == value


def test_tensors_among_arguments_have_names() -> None:
    tensors: dict[str, Tensor] = {}
    value = {"a": [torch.zeros(1), (torch.ones(2),)]}
    assert as_json(value, FAMILIES, tensors, "x") == {
        "dict": {"a": [{"tensor": "argument:x.a.0"}, {"tuple": [{"tensor": "argument:x.a.1.0"}]}]}
    }
    again = from_json(as_json(value, FAMILIES, tensors, "x"), FAMILIES, tensors)
    assert torch.equal(again["a"][1][0], torch.ones(2))
    assert list(tensors) == ["argument:x.a.0", "argument:x.a.1.0"]


@pytest.mark.parametrize("digest", ["tensors", "law"])
def test_version_2_without_a_digest_is_an_error(digest: str, folder: Path) -> None:
    content = written(folder)
    del content["sha256"][digest]
    rewrite(folder, content)
    with pytest.raises(StorageError, match=r"expected tensors and law under 'sha256' in .*, got at most one of them"):
        load_model(folder)
    del content["sha256"]
    rewrite(folder, content)
    with pytest.raises(StorageError, match=r"expected the keys name, class, .*, got keys that differ in sha256"):
        load_model(folder)


def test_a_whole_number_that_is_no_size_may_be_larger_than_the_model(tmp_path: Path) -> None:
    model = ParticleFilterRNN.random(2, 3, num_particles=4, uniforms_seed=123_456)
    save_model(model, tmp_path / "model")
    assert load_model(tmp_path / "model").recipe == model.recipe


def test_the_former_name_of_the_arguments_says_the_new_one(folder: Path) -> None:
    with pytest.raises(AttributeError, match=r"expected Description\.arguments, the name since pgm_rnn 0\.2\.0"):
        _ = describe(folder).options


# Version 1, where it is damaged.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": "MIT"}, "expected the keys name, options, .* in .*model.json, got keys that differ in licence"),
        ({"dtype": None}, "got keys that differ in dtype"),
        ({"class": "pgm_rnn.models.hmm:HMM"}, "got keys that differ in class"),
        ({"options": []}, "expected options by name, as a JSON object, in .*, got list"),
        ({"options": {"num_states": 2, "emission": {"family": "Cauchy"}}}, "expected family to be one of .*'Cauchy'"),
        (
            {"options": {"num_states": 2, "emission": {"size": 3}}},
            "expected the kind of an argument to be one of family",
        ),
        (
            {"options": {"num_states": 10**9, "emission": {"family": "Gaussian", "size": 3}}},
            "expected num_states to fit",
        ),
        ({"info": []}, "expected info by name, as a JSON object, in .*, got list"),
        ({"sha256": {"law": "0"}}, "expected the model's name, arguments and dtype in .* as they were saved"),
        ({"sha256": {"tensors": "0"}}, "as it was saved together with"),
        ({"sha256": []}, "expected tensors, law under 'sha256'"),
    ],
)
def test_a_damaged_file_of_version_1_is_one_sentence(changes: dict[str, Any], message: str, folder: Path) -> None:
    content = in_version_1(written(folder)) | changes
    rewrite(folder, {key: value for key, value in content.items() if value is not None})
    with pytest.raises(StorageError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


# The version of the package.


def test_the_package_and_its_metadata_have_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "pgm_rnn.version.__version__"}
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = next(line for line in changes.splitlines() if line.startswith("## "))
    assert heading.split()[1] == pgm_rnn.__version__
