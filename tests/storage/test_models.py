"""A saved model comes back with the same law, to the bit, or an error says what is wrong with its folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import pgm_rnn
from pgm_rnn import load_model, save_model
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian
from pgm_rnn.models import HMM, RNN, BidirectionalRNN, LinearGaussianSSM, NoisyRNN, Tagger
from pgm_rnn.models.bidirectional_rnn import NETWORKS, Task
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.label_registry import LABEL_MODELS
from pgm_rnn.models.registry import get_model
from pgm_rnn.registries import OWN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.storage import DESCRIPTION, TENSORS, StorageError, describe, rounded_to_half
from pgm_rnn.storage.arguments import from_json
from tests.instances import (
    LENGTHS,
    assert_same,
    draw,
    every_family_of_heads,
    every_first,
    every_law,
    make_hmm,
    make_model,
    of_sequences,
    ragged,
    randomised,
)


def saved_and_loaded(model: SequenceModel, folder: Path) -> SequenceModel:
    save_model(model, folder / "model")
    return of_sequences(load_model(folder / "model"))


def family(name: str, **arguments: Any) -> dict[str, Any]:
    """A family as it stands in model.json."""
    return {"family": {"name": name, "arguments": arguments}}


def saved(folder: Path) -> Path:
    save_model(HMM.random(2, 3, seed=0), folder)
    return folder


def assert_same_model(loaded: SequenceModel, model: SequenceModel) -> None:
    assert type(loaded) is type(model)
    assert (loaded.family, loaded.first, loaded.input_dim) == (model.family, model.first, model.input_dim)
    assert loaded.recipe == model.recipe
    assert_same(loaded.state_dict(), model.state_dict())
    for name, value in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == value.dtype


# What is saved comes back.


@every_first
@every_law
def test_a_loaded_model_has_the_same_law_to_the_bit(name: str, family: Emission, first: Any, tmp_path: Path) -> None:
    model, x = make_model(name, family, first=first), ragged(family)
    assert model.recipe[0] == name
    loaded = saved_and_loaded(model, tmp_path)
    assert_same_model(loaded, model)
    if model.exact:
        expected = model.log_marginal_likelihood(x, LENGTHS)
        assert torch.equal(loaded.log_marginal_likelihood(x, LENGTHS), expected)
    if first == "model":
        assert torch.equal(loaded.sample(2, 3, seed=0).x, model.sample(2, 3, seed=0).x)


@pytest.mark.parametrize(
    "model",
    [
        RNN("gru", 3, hidden_dim=2, num_layers=3, embedding_dim=5),
        RNN("deep-transition", emission=Bernoulli(2), hidden_dim=2, num_layers=2),
        RNN("lstm", 3, hidden_dim=2, num_layers=2),
        LinearGaussianSSM.random(2, 3, input_dim=4),
        LinearGaussianSSM.random(2, 3, input_dim=4, inputs_reach="states"),
        LinearGaussianSSM.random(2, 3, input_dim=4, inputs_reach="outputs"),
        NoisyRNN.random(2, 3, activation="relu", output="sigmoid", feedback=True),
        NoisyRNN.random(2, 3, input_dim=4),
    ],
    ids=lambda model: "-".join(map(str, model.recipe[1].values())),
)
def test_every_option_of_a_model_comes_back(model: SequenceModel, tmp_path: Path) -> None:
    loaded = saved_and_loaded(model, tmp_path)
    assert_same_model(loaded, model)
    for option in ("activation", "output"):
        assert getattr(loaded, option, None) == getattr(model, option, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_dtype_comes_back_whatever_the_default_is(dtype: torch.dtype, tmp_path: Path) -> None:
    model = get_model("rnn-gru", num_symbols=3, hidden_dim=2).to(dtype)
    torch.set_default_dtype(torch.float32 if dtype == torch.float64 else torch.float64)
    assert_same_model(saved_and_loaded(model, tmp_path), model)


def test_numbers_rounded_to_half_precision_come_back_to_the_bit_in_half_the_space(tmp_path: Path) -> None:
    model = HMM.random(20, 30, seed=0).float()
    before = model.emission_probs.clone()
    assert rounded_to_half(model) is model
    error = (model.emission_probs / before - 1).abs().max()
    assert 0 < error < 0.02  # a logit of size 10 is rounded by up to 2^-8, and so is the normaliser's
    for half in (False, True):
        save_model(model, tmp_path / str(half), half=half)
        assert_same_model(of_sequences(load_model(tmp_path / str(half))), model)
    sizes = {half: (tmp_path / str(half) / TENSORS).stat().st_size for half in (False, True)}
    assert sizes[True] < 0.6 * sizes[False]
    with torch.no_grad():
        model.initial_logits[0] = 1e5
    with pytest.raises(ValueError, match="expected numbers up to 65504 for half precision, got larger ones in initial"):
        rounded_to_half(model)


def test_a_transposed_table_gives_the_same_bits(tmp_path: Path) -> None:
    table = HMM.random(7, 3, seed=0).transition_probs.detach()
    model = HMM(table[0], (table / table.sum(0)).T, table)
    x = model.sample(4, 50, seed=0).x
    loaded = saved_and_loaded(model, tmp_path)
    assert torch.equal(loaded.log_marginal_likelihood(x), model.log_marginal_likelihood(x))
    assert [p.stride() for p in loaded.parameters()] == [p.stride() for p in model.parameters()]


def test_a_zero_probability_comes_back_as_zero(tmp_path: Path) -> None:
    model = HMM(torch.tensor([1.0, 0.0]), torch.eye(2), torch.eye(2))
    loaded = saved_and_loaded(model, tmp_path)
    assert isinstance(loaded, HMM)
    assert torch.equal(loaded.transition_probs, torch.eye(2))


def test_saving_and_loading_leave_the_random_state_alone(tmp_path: Path) -> None:
    model, before = make_hmm(Categorical(3)), torch.get_rng_state()
    saved_and_loaded(model, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_description_says_what_was_saved(tmp_path: Path) -> None:
    save_model(HMM.random(2, emission=Bernoulli(88), seed=0), tmp_path / "model", info={"data": "jsb", "seed": 0})
    found = describe(tmp_path / "model")
    family = {"family": {"name": "Bernoulli", "arguments": {"size": 88}}}
    assert (found.name, found.model_class) == ("hmm", "pgm_rnn.models.hmm:HMM")
    assert (found.dtype, found.pgm_rnn) == ("float64", pgm_rnn.__version__)
    assert found.arguments == {"emission": family, "first": "model", "num_states": 2}
    assert found.info == {"data": "jsb", "seed": 0}


# A law of labels.


LABEL_OPTIONS: dict[str, dict[str, Any]] = {"bidirectional-rnn": {}, "tagger": {"start": "trained"}}
every_label_model = pytest.mark.parametrize("name", list(LABEL_MODELS))


@every_label_model
@every_family_of_heads
@pytest.mark.parametrize("task", ["tagging", "classification"])
def test_a_law_of_labels_comes_back_to_the_bit(family: Emission, task: Task, name: str, tmp_path: Path) -> None:
    """With the family as that of its inputs, and as that of its labels."""
    for inputs, labels in ((family, Categorical(3)), (Gaussian(2), family)):
        sizes: dict[str, Any] = {"hidden_dim": 3, "num_layers": 2, **LABEL_OPTIONS[name]}
        model = randomised(LABEL_MODELS[name].make("lstm", inputs=inputs, labels=labels, task=task, **sizes))
        save_model(model, tmp_path / "model", info={"seed": 0})
        loaded = load_model(tmp_path / "model")
        assert type(loaded) is type(model)
        assert (loaded.inputs, loaded.labels, loaded.recipe) == (inputs, labels, model.recipe)
        assert_same(loaded.state_dict(), model.state_dict())
        x, y = ragged(inputs), ragged(labels, seed=1) if task == "tagging" else draw(labels, 3, seed=1)
        assert torch.equal(loaded.log_prob(y, x, LENGTHS), model.log_prob(y, x, LENGTHS))
    found = describe(tmp_path / "model")
    assert (found.name, found.info) == (name, {"seed": 0})
    assert from_json(found.arguments["labels"], OWN.families) == family
    assert found.arguments["inputs"] == {"family": {"name": "Gaussian", "arguments": {"size": 2}}}


@pytest.mark.parametrize("cell", list(NETWORKS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_law_of_labels_keeps_its_cell_and_its_dtype(cell: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model, before = BidirectionalRNN(cell, 3, 2, hidden_dim=2).to(dtype), torch.get_rng_state()
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert (
        loaded.recipe
        == model.recipe
        == (
            "bidirectional-rnn",
            {"cell": cell, "hidden_dim": 2, "num_layers": 1, "task": "tagging"},
        )
    )
    assert_same(loaded.state_dict(), model.state_dict())
    assert next(loaded.parameters()).dtype == dtype
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("cell", list(CELLS))
def test_a_tagger_keeps_its_options(cell: str, tmp_path: Path) -> None:
    model = Tagger(cell, 3, 2, hidden_dim=2, embedding_dim=4)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    options = {"hidden_dim": 2, "num_layers": 1, "embedding_dim": 4, "cell": cell, "task": "tagging", "start": "zero"}
    assert loaded.recipe == model.recipe == ("tagger", options)
    assert_same(loaded.state_dict(), model.state_dict())


@every_label_model
def test_a_law_of_labels_is_stored_in_half_precision(name: str, tmp_path: Path) -> None:
    model = rounded_to_half(LABEL_MODELS[name].make("gru", 3, 2, hidden_dim=2))
    save_model(model, tmp_path / "model", half=True)
    assert_same(load_model(tmp_path / "model").state_dict(), model.state_dict())


class OwnTagger(BidirectionalRNN):
    pass


def test_a_law_of_labels_that_cannot_be_made_again_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="got OwnTagger, which is not what bidirectional-rnn makes"):
        save_model(OwnTagger("gru", 3, 2), tmp_path / "model")
    for families in ({"inputs": OwnGaussian(), "num_labels": 2}, {"num_symbols": 2, "labels": OwnGaussian()}):
        with pytest.raises(TypeError, match=r"expected an emission of Categorical, .*, got OwnGaussian"):
            save_model(BidirectionalRNN("gru", **families), tmp_path / "model")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected info that JSON can hold, got: "):
        save_model(BidirectionalRNN("gru", 3, 2), tmp_path / "model", {"seed": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "that this version can follow, got .*expected exactly one of num_labels and labels"),
        ({"inputs": family("Cauchy")}, "expected family to be one of .*, got 'Cauchy'"),
        ({"labels": family("Categorical", num_symbols=0)}, "expected num_symbols to be an integer of at least 1"),
        (
            {"labels": family("Categorical", num_symbols=4)},
            r"expected readout\.(weight|bias) in .* \(4,.*, got .* \(2,",
        ),
        ({"task": "parsing"}, "expected task to be one of tagging, classification, got 'parsing'"),
        ({"cell": "lstm"}, r"expected network\.\w+_l0\w* in .*, got"),
        ({"first": "model"}, "that this version can follow, got .*'first'"),
        ({"num_symbols": 3}, "expected exactly one of num_symbols and inputs"),
    ],
)
def test_a_description_of_another_law_of_labels_is_an_error(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_model(BidirectionalRNN("gru", 3, 2, hidden_dim=2), tmp_path / "model")
    path = tmp_path / "model" / DESCRIPTION
    content = json.loads(path.read_text())
    arguments = content["arguments"] | changes
    content["arguments"] = {key: value for key, value in arguments.items() if value is not None}
    path.write_text(json.dumps(content))
    with pytest.raises(StorageError, match=message):
        load_model(tmp_path / "model")


# The folder.


def test_a_folder_holds_two_files_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    for seed in range(2):
        save_model(HMM.random(2, 3, seed=seed), tmp_path / "fits" / "model")
    assert [path.name for path in (tmp_path / "fits").iterdir()] == ["model"]
    assert {path.name for path in (tmp_path / "fits" / "model").iterdir()} == {TENSORS, DESCRIPTION}
    assert_same(load_model(tmp_path / "fits" / "model").state_dict(), HMM.random(2, 3, seed=1).state_dict())


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    save_model(HMM.random(2, 3), tmp_path)
    assert isinstance(load_model(str(tmp_path)), HMM)


@pytest.mark.parametrize(
    "fill",
    [
        lambda folder: (folder / "thesis.tex").write_text("x"),
        lambda folder: (folder / DESCRIPTION).write_text("{}"),
        lambda folder: [(folder / name).write_text("{}") for name in (DESCRIPTION, TENSORS)],
        lambda folder: [write(folder) for write in (saved, lambda folder: (folder / "notes").write_text("x"))],
    ],
    ids=["other-file", "half-a-model", "another-model.json", "a-model-and-notes"],
)
def test_a_folder_with_anything_else_in_it_is_not_replaced(fill: Callable[[Path], object], tmp_path: Path) -> None:
    fill(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="expected a new folder or one that holds a saved model, got "):
        save_model(HMM.random(2, 3), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x")
    with pytest.raises(ValueError, match="expected a new folder"):
        save_model(HMM.random(2, 3), tmp_path / "model")


# What cannot be saved.


class OwnGaussian(Gaussian):
    pass


@pytest.mark.parametrize(
    ("model", "info", "message"),
    [
        (RNN(emission=OwnGaussian()), {}, "expected an emission of Categorical, .*, got OwnGaussian"),
        (HMM.random(2, 3), {"seed": object()}, "expected info that JSON can hold, got: "),
        (HMM.random(2, 3), {"nats": float("nan")}, "expected info that JSON can hold, got: "),
    ],
)
def test_what_cannot_be_made_again_is_not_saved(
    model: SequenceModel, info: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match=message):
        save_model(model, tmp_path / "model", info)
    assert not list(tmp_path.iterdir())


def test_parameters_of_two_dtypes_are_not_saved(tmp_path: Path) -> None:
    model = RNN("gru", 3, hidden_dim=2)
    model.readout.float()
    with pytest.raises(
        ValueError, match=r"expected parameters of one dtype, one of .*, got float32, float64; use \.to"
    ):
        save_model(model, tmp_path / "model")


# What cannot be loaded.


def edited(folder: Path, **changes: Any) -> Path:
    """A saved model whose model.json has other entries; None takes one out."""
    path = saved(folder / "model") / DESCRIPTION
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder / "model"


ARGUMENTS = {"emission": family("Categorical", num_symbols=3), "num_states": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "a recipe for soup"}, "expected a model.json of a saved model, got something else at .*model.json"),
        ({"licence": "MIT"}, "expected the keys name, .* in .*model.json, got keys that differ in licence"),
        ({"dtype": None}, "got keys that differ in dtype"),
        ({"name": "hm"}, "expected model to be one of .*, got 'hm'; did you mean 'hmm'"),
        ({"name": 3}, "expected model to be one of"),
        ({"dtype": "int7"}, "expected dtype to be one of float64, .*, got 'int7'"),
        ({"class": "HMM"}, "expected class as 'package.module:Name' in .*model.json, got 'HMM'"),
        ({"class": 3}, "expected class as 'package.module:Name' in .*model.json, got 3"),
        ({"arguments": ARGUMENTS | {"num_stats": 2}}, "that this version can follow, got .*'num_stats'"),
        ({"arguments": ARGUMENTS | {"seed": 2}}, "that this version can follow, got .*'seed'"),
        (
            {"arguments": {"num_states": 2}},
            "that this version can follow, got .*exactly one of num_symbols and emission",
        ),
        ({"arguments": ARGUMENTS | {"emission": family("Cauchy")}}, "expected family to be one of .*, got 'Cauchy'"),
        ({"arguments": ARGUMENTS | {"emission": "Bernoulli"}}, "expected a family such as .* as emission, got str"),
        ({"arguments": ARGUMENTS | {"emission": {"family": "Bernoulli"}}}, "expected a family as its name and its arg"),
        ({"arguments": ARGUMENTS | {"emission": family("Bernoulli", wide=3)}}, "'wide'"),
        ({"arguments": ARGUMENTS | {"num_states": 0}}, "expected num_states to be an integer of at least 1, got 0"),
        ({"arguments": ARGUMENTS | {"num_states": 3}}, r"expected .* in .* as torch.float64 \(3,.*, got .* \(2,"),
        ({"arguments": []}, "expected arguments by name, as a JSON object, in .*model.json, got list"),
        ({"dtype": "float32"}, r"expected .* as torch.float32 .*, got torch.float64"),
        ({"name": "rnn-gru", "arguments": ARGUMENTS | {"num_states": None}}, "that this version can follow"),
    ],
)
def test_a_description_that_does_not_fit_is_one_clear_error(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=message):
        load_model(edited(tmp_path, **changes))


def test_tensors_of_another_model_are_an_error(tmp_path: Path) -> None:
    save_model(RNN("gru", 3, hidden_dim=2), tmp_path / "rnn")
    save_model(HMM.random(2, 3), tmp_path / "hmm")
    (tmp_path / "rnn" / TENSORS).replace(tmp_path / "hmm" / TENSORS)
    with pytest.raises(
        StorageError, match=r"expected the tensors initial_logits, .* got tensors that differ in .*cell\.network"
    ):
        load_model(tmp_path / "hmm")


@pytest.mark.parametrize("name", [DESCRIPTION, TENSORS])
@pytest.mark.parametrize("content", [None, b"", b"\x80\x04\x95not a pickle either", b"[" * 100_000, b"[]"])
def test_a_file_that_is_missing_or_of_another_kind_is_an_error(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    save_model(HMM.random(2, 3), tmp_path / "model")
    path = tmp_path / "model" / name
    path.unlink() if content is None else path.write_bytes(content)
    message = "got no file" if content is None else "cannot be read" if name == TENSORS else "got something else"
    with pytest.raises(StorageError, match=message):
        load_model(tmp_path / "model")


def test_a_truncated_file_of_tensors_is_an_error(tmp_path: Path) -> None:
    save_model(HMM.random(2, 3), tmp_path / "model")
    path = tmp_path / "model" / TENSORS
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StorageError, match=r"expected a safetensors file at .*, got one that cannot be read"):
        load_model(tmp_path / "model")


def test_no_folder_is_an_error_that_names_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"expected a saved model in a folder, got no file .*nowhere.model\.json"):
        load_model(tmp_path / "nowhere")


def test_tensors_are_never_read_as_a_pickle(tmp_path: Path) -> None:
    save_model(HMM.random(2, 3), tmp_path / "model")
    path = tmp_path / "model" / TENSORS
    torch.save(HMM.random(2, 3).state_dict(), path)
    with pytest.raises(StorageError, match="cannot be read"):
        load_model(tmp_path / "model")
