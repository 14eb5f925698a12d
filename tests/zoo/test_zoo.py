"""Every trained model is what its card says, and an entry that was changed is none."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import pgm_rnn as pr
from pgm_rnn import zoo
from pgm_rnn.data.catalogue import DATASETS
from pgm_rnn.emissions import Categorical, Emission, EmissionTable, Gaussian
from pgm_rnn.inference import forward_backward, svi
from pgm_rnn.models import HMM, BidirectionalRNN, FactorialHMM, InputHMM, NoisyRNN, StructuralSSM, SwitchingMeanAR
from pgm_rnn.models.additive import AdditiveEmission
from pgm_rnn.models.bidirectional_rnn import Task
from pgm_rnn.models.label_registry import LABEL_MODELS
from pgm_rnn.models.registry import list_models
from pgm_rnn.report.label_fitting import label_data
from pgm_rnn.report.material import in_dtype_of, score_of_series
from pgm_rnn.report.saved import data_of_fit
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.storage import StorageError, read_description
from pgm_rnn.zoo import entries, label_references, references
from pgm_rnn.zoo.comparisons import ESTIMATES, agrees, estimated, is_in_sample, shown
from pgm_rnn.zoo.label_references import LabelReference
from pgm_rnn.zoo.publish import MAX_BYTES, publish
from pgm_rnn.zoo.recipes import RECIPES
from tests.instances import assert_same, every_family_of_heads, of_sequences, randomised
from tests.test_cli import call

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAMES = zoo.list_pretrained()
DESCRIBED = {name: read_description(entries.HOME / name / entries.CONFIG) for name in NAMES}
every_entry = pytest.mark.parametrize("name", NAMES)
every_model = pytest.mark.parametrize("name", [name for name in NAMES if DESCRIBED[name].name in list_models()])
every_law_of_labels = pytest.mark.parametrize(
    "name", [name for name in NAMES if DESCRIBED[name].name == "bidirectional-rnn"]
)
"""Each entry is one or the other."""


def known_sequences(name: str, home: Path = entries.HOME) -> references.Reference:
    found = zoo.reference(name, home=home)
    assert isinstance(found, references.Reference)
    return found


def known_labels(name: str, home: Path = entries.HOME) -> LabelReference:
    found = zoo.reference(name, home=home)
    assert isinstance(found, LabelReference)
    return found


def law_of_labels(name: str) -> BidirectionalRNN:
    found = pr.load_pretrained(name)
    assert isinstance(found, BidirectionalRNN)
    return found.requires_grad_(False)


def has_data(name: str) -> None:
    info = DESCRIBED[name].info
    if not info["data"].startswith("synthetic") and "PGM_RNN_DATA" not in os.environ:
        pytest.skip(f"needs the data set {info['data']} in PGM_RNN_DATA")


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_synthetic_sequences: None) -> Path:
    """A model that the command line fitted and saved."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    command = "fit hmm --data synthetic-hmm --num-states 2 --iterations 2 --restarts 1 --output fitted"
    assert call(monkeypatch, *command.split()) == 0
    torch.set_default_dtype(torch.float64)
    return tmp_path / "fitted"


# The entries that there are.


@every_entry
def test_an_entry_is_a_model_of_the_list_or_a_law_of_labels(name: str) -> None:
    expected = SequenceModel if DESCRIBED[name].name in list_models() else BidirectionalRNN
    assert isinstance(pr.load_pretrained(name), expected)
    assert not set(LABEL_MODELS) & set(list_models())


@every_model
def test_an_entry_reproduces_its_cards_figure_on_its_fixed_set(name: str) -> None:
    model, known = of_sequences(pr.load_pretrained(name)).double(), known_sequences(name)
    assert not model.training
    card = (entries.HOME / name / entries.CARD).read_text()
    assert f"{known.nats_per_step:.6f} nats per step, {known.bound}" in card
    if model.exact:
        exact = svi.evaluate(model, known.data)
        assert exact.nats_per_step == pytest.approx(known.nats_per_step, rel=1e-10)
        torch.testing.assert_close(exact.log_likelihoods, known.log_marginal_likelihoods, rtol=1e-10, atol=1e-10)
        return
    found, errors = references.estimated(model, known.data, seed=1, num_runs=8, num_particles=512)
    spread = (errors.square() + known.standard_errors.square()).sqrt()
    assert ((found - known.log_marginal_likelihoods).abs() < 5 * spread + 1e-9).all()


@every_law_of_labels
def test_a_law_of_labels_reproduces_its_cards_figure_on_its_fixed_set(name: str) -> None:
    model, known = law_of_labels(name).double(), known_labels(name)
    assert not model.training
    found = model.log_prob(known.labels, *known.data[:2])
    torch.testing.assert_close(found, known.log_probs, rtol=1e-10, atol=1e-10)
    number = int(known.data.lengths.sum()) if model.task == "tagging" else len(known.labels)
    card = (entries.HOME / name / entries.CARD).read_text()
    assert f"{-float(found.sum()) / number:.6f} nats per label, exact" in card
    model.readout.bias[0] += 0.1
    assert not torch.allclose(model.log_prob(known.labels, *known.data[:2]), known.log_probs, rtol=1e-4)


@every_entry
def test_an_entry_is_small_whole_and_documented(name: str) -> None:
    entries.check_published(name, entries.FILES, entries.HOME)
    assert (entries.HOME / name / entries.TENSORS).stat().st_size <= MAX_BYTES
    assert {path.name for path in (entries.HOME / name).iterdir()} == set(entries.FILES)
    card = (entries.HOME / name / entries.CARD).read_text()
    info = read_description(entries.HOME / name / entries.CONFIG).info
    nats = "nats_per_label" if DESCRIBED[name].name == "bidirectional-rnn" else "nats_per_step"
    for score in info["scores"]:
        split = "train, the whole series" if is_in_sample(info) else score["split"]
        assert f"| {split} | {score[nats]:.4f} | {score['standard_error']:.4f} |" in card
        assert nats == "nats_per_label" or score["bound"] in card
    number = sum(p.numel() for p in pr.load_pretrained(name).parameters())
    for fact in (
        info["description"],
        info["command"],
        f"Seed {info['seed']}",
        info["torch"],
        f"{number:,}, float",
        f"- licence of the data: {DATASETS[info['data']].licence}\n",
        "## What it gets wrong",
    ):
        assert fact in card
    assert info["command"] == f"pgm-rnn {RECIPES[name].command}"


@every_model
def test_an_entry_has_its_cards_score_on_its_test_split(name: str) -> None:
    has_data(name)
    info = DESCRIBED[name].info
    dataset, score = data_of_fit(info), info["scores"][-1]  # valid where there is no test
    split = getattr(dataset, score["split"])
    model = of_sequences(pr.load_pretrained(name))
    if dataset.is_series:
        assert score_of_series(model, split).nats_per_step == pytest.approx(score["nats_per_step"], rel=1e-5)
    elif model.exact:
        assert svi.evaluate(model, in_dtype_of(model, split)).nats_per_step == pytest.approx(
            score["nats_per_step"], rel=1e-5
        )


@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_are_the_published_ones(name: str) -> None:
    model, info = of_sequences(pr.load_pretrained(name)), DESCRIBED[name].info
    card = (entries.HOME / name / entries.CARD).read_text()
    for estimate in ESTIMATES[name]:
        ours = estimated(model, info, estimate)
        assert agrees(ours, estimate), (estimate, ours)
        assert not agrees(estimate.published + 1.01 * estimate.within, estimate)  # a control
        assert f"| {estimate.quantity} | {shown(ours)} | {shown(estimate.published)} | {estimate.source} |" in card
        assert estimate.within < 0.3 * max(abs(estimate.published), 0.05)  # a close statement, or none
    assert is_in_sample(info)


@every_law_of_labels
def test_a_law_of_labels_has_its_cards_scores_and_confusions_on_its_test_split(name: str) -> None:
    has_data(name)
    info = DESCRIBED[name].info
    found = label_data(info["data"], info["seed"])
    model, test = law_of_labels(name), found.splits["test"]
    (kept,) = (score for score in info["scores"] if score["split"] == "test")
    law, mask = model.label_law(*test.inputs[:2]), test.inputs.mask
    parts = (-law.log_prob(test.labels), test.labels, law.probs.argmax(-1))
    nats, labels, taken_for = (part[mask] for part in parts) if model.task == "tagging" else parts
    assert float(nats.mean()) == pytest.approx(kept["nats_per_label"], rel=1e-4)
    tied = 1.5  # labels that rounding may decide
    assert float((labels == taken_for).sum()) == pytest.approx(kept["accuracy"] * len(labels), abs=tied)
    for pair in info["confusions"]:
        times = ((labels == pair["label"]) & (taken_for == pair["taken_for"])).sum()
        assert int(times) == pytest.approx(pair["times"], abs=tied)
        assert int((labels == pair["label"]).sum()) == pair["of"]
    card = (entries.HOME / name / entries.CARD).read_text()
    assert f"| {kept['accuracy']:.4f} | {kept['accuracy_error']:.4f} |" in card
    assert f"{info['confusions'][0]['label']} as {info['confusions'][0]['taken_for']} (" in card


def test_the_tagger_comes_close_to_the_smoother_and_not_below_it() -> None:
    """E[-log p(z_t | x_{1:T})] is the least that any law of single labels has: their difference is a KL divergence."""
    (name,) = (name for name in NAMES if name.startswith("bidirectional-rnn-synthetic-hmm"))
    model, data = law_of_labels(name), label_data("synthetic-hmm", DESCRIBED[name].info["seed"])
    assert data.truth is not None
    inputs = data.splits["test"].inputs
    exact = forward_backward.smooth(data.truth, *inputs[:2]).smoothed_probs.double()
    learnt = model.label_law(*inputs[:2]).logits.double()
    divergence = (exact * (exact.log() - learnt.log_softmax(-1))).sum(-1)
    assert (divergence > -1e-6).all()
    assert float(divergence.mean()) < 0.01
    assert float((exact * (exact.log() - torch.tensor(0.5).log())).sum(-1).mean()) > 0.05  # a guess is far from it
    scores = {key: DESCRIBED[name].info[key][0] for key in ("scores", "smoother")}  # of the training split, the largest
    gap = scores["scores"]["nats_per_label"] - scores["smoother"]["nats_per_label"]
    assert abs(gap) < 0.01


def test_every_recipe_was_published_and_nothing_else() -> None:
    assert zoo.list_pretrained() == sorted(RECIPES)
    assert zoo.list_pretrained("jsb") == [name for name in sorted(RECIPES) if "jsb" in name]
    folders = {path.name for path in entries.HOME.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(RECIPES)


def test_the_particle_filter_agrees_with_an_exact_reference() -> None:
    hmm, known = of_sequences(pr.load_pretrained("hmm-jsb-16")).double(), known_sequences("hmm-jsb-16")
    found, errors = references.estimated(hmm, known.data, num_runs=8, num_particles=200)
    assert ((found - known.log_marginal_likelihoods).abs() / errors).max() < 5
    broken = (found + 1 - known.log_marginal_likelihoods).abs() / errors
    assert broken.max() > 5


@torch.no_grad()
def test_the_factorial_entry_is_one_chain_of_all_combinations_of_states() -> None:
    """The recursion of one dense chain knows nothing of products; float64 keeps 1e-12 of a sum over 60 steps."""
    name = "factorial-hmm-jsb-16x16"
    model, known = of_sequences(pr.load_pretrained(name)).double(), known_sequences(name)
    assert isinstance(model, FactorialHMM)
    assert isinstance(model.emission_law, AdditiveEmission)
    start, moves = (torch.kron(*tables) for tables in (model.initial_probs, model.transition_probs))
    laws = EmissionTable(model.family, model.emission_law.params_at(torch.arange(256)))
    ours = model.log_marginal_likelihood(*known.data[:2])
    theirs = HMM(start, moves, laws).log_marginal_likelihood(*known.data[:2])
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=0.0)
    start, moves = (torch.kron(*reversed(tables)) for tables in (model.initial_probs, model.transition_probs))
    swapped = HMM(start, moves, laws).log_marginal_likelihood(*known.data[:2])
    assert float((swapped - ours).abs().min()) > 0.1


def test_a_trained_model_loads_within_a_fifth_of_a_second() -> None:
    name = zoo.list_pretrained()[0]
    code = (
        "import time, pgm_rnn as pr, pgm_rnn.zoo; start = time.perf_counter(); "
        f"pr.load_pretrained({name!r}); print(time.perf_counter() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert float(done.stdout) < 0.2


def test_the_distribution_holds_every_file_of_every_entry() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = tables["package-data"]["pgm_rnn.zoo"]
    held = {path.relative_to(entries.HOME) for pattern in patterns for path in entries.HOME.glob(pattern)}
    expected = {Path(name) / file for name in zoo.list_pretrained() for file in entries.FILES}
    assert held == expected | {Path(entries.MANIFEST)}


# Publishing.


def test_a_published_model_loads_as_it_was_saved(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["publish", "fitted", "two-states", "--failure-modes", "All of it.", "--into", "zoo"]
    assert call(monkeypatch, *command) == 0
    assert "published in zoo/two-states" in capsys.readouterr().out
    model, home = of_sequences(pr.load_model(saved)), tmp_path / "zoo"
    assert_same(zoo.load_pretrained("two-states", home=home).state_dict(), model.state_dict())
    known = known_sequences("two-states", home)
    assert torch.equal(known.log_marginal_likelihoods, references.made(model).log_marginal_likelihoods)
    assert known.data.lengths.tolist() == list(references.LENGTHS)
    assert "All of it." in (home / "two-states" / entries.CARD).read_text()


@pytest.mark.parametrize(
    ("model", "unknown"),
    [
        (SwitchingMeanAR.random(order=2, seed=0, first="condition"), 3),
        (StructuralSSM(trend="stochastic"), 2),
        (StructuralSSM(trend="stochastic", start_scale=10.0), 0),
    ],
)
def test_a_model_without_a_law_of_its_start_continues_other_numbers(model: SequenceModel, unknown: int) -> None:
    known, again = references.made(model), references.made(model)
    assert known.data.lengths.tolist() == [length + unknown for length in references.LENGTHS]
    assert torch.equal(known.data.x, again.data.x)
    found = model.double().log_marginal_likelihood(known.data.x, known.data.lengths)
    torch.testing.assert_close(found.detach(), known.log_marginal_likelihoods)
    assert known.log_marginal_likelihoods.isfinite().all()


def with_a_diffuse_start() -> SequenceModel:
    model = StructuralSSM(level="stochastic", regression=3).double()
    model.set_parameters(coefficients=torch.tensor([1.0, -0.5, 2.0]))
    return model


@pytest.mark.parametrize(
    "make",
    [lambda: InputHMM.random(2, 3, emission=Gaussian(), seed=0), with_a_diffuse_start],
    ids=["from-the-start", "continued"],
)
@torch.no_grad()
def test_a_model_with_inputs_gets_a_reference_with_inputs(make: Callable[[], SequenceModel]) -> None:
    model = make()
    known = references.made(model)
    again = references.from_json(json.loads(json.dumps(references.as_json(known))))
    inputs, lengths = known.data.inputs, known.data.lengths.tolist()
    assert inputs is not None
    assert again.data.inputs is not None
    assert torch.equal(again.data.inputs, inputs)
    assert [bool(row[length:].any()) for row, length in zip(inputs, lengths, strict=True)] == [False] * 3
    found = model.double().log_marginal_likelihood(again.data)
    torch.testing.assert_close(found, known.log_marginal_likelihoods)
    other = model.log_marginal_likelihood(again.data._replace(inputs=-inputs))
    assert not torch.allclose(other, found, rtol=1e-3)  # a control: they matter


def test_a_model_without_a_likelihood_gets_a_reference_with_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("many.npy", NoisyRNN.random(latent_dim=1, obs_dim=1, seed=0).double().sample(20, 6, seed=1).x.numpy())
    command = "fit noisy-rnn --data many.npy --latent-dim 1 --epochs 1 --output fitted"
    assert call(monkeypatch, *command.split()) == 0
    publish(tmp_path / "fitted", "noisy", "Everything.", tmp_path / "zoo")
    model, known = of_sequences(pr.load_model(tmp_path / "fitted")), known_sequences("noisy", tmp_path / "zoo")
    assert known.bound == "SMC_2048 (16 runs)"
    assert (known.standard_errors > 0).all()
    found, errors = references.estimated(model, known.data, seed=1)
    gaps = (found - known.log_marginal_likelihoods).abs() / (errors.square() + known.standard_errors.square()).sqrt()
    assert (gaps < 5).all()


@pytest.mark.parametrize(
    ("model_name", "exact", "given"),
    [("bidirectional-rnn", "smoother", "whole sequence"), ("tagger", "filter", "sequence up to it")],
)
def test_a_law_of_labels_is_published_with_its_scores_and_confusions(
    model_name: str, exact: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    command = f"fit {model_name} --data synthetic-hmm --hidden-dim 2 --epochs 1 --batch-size 2000 --output fitted"
    assert call(monkeypatch, *command.split()) == 0
    publish(tmp_path / "fitted", "tagger", "All of it.", tmp_path / "zoo")
    loaded, model = zoo.load_pretrained("tagger", home=tmp_path / "zoo"), pr.load_model(tmp_path / "fitted")
    assert_same(loaded.state_dict(), model.state_dict())
    card = (tmp_path / "zoo" / "tagger" / entries.CARD).read_text()
    info = read_description(tmp_path / "zoo" / "tagger" / entries.CONFIG).info
    for score, label in ((info["scores"][2], "test"), (info[exact][2], f"test, exact {exact}")):
        figures = ("nats_per_label", "standard_error", "accuracy", "accuracy_error")
        numbers = " | ".join(f"{score[figure]:.4f}" for figure in figures)
        assert f"| {label} | {numbers} | 100 | 800 |" in card
    assert f"Sum of -log p(label | {given}) over the number of labels, exact" in card
    worst = info["confusions"][0]
    assert f"{worst['label']} as {worst['taken_for']} ({worst['times']} of {worst['of']})" in card
    for fact in ("- inputs: Categorical(3)\n", "- labels: Categorical(2)\n", "task tagging", "\nAll of it.\n"):
        assert fact in card
    known = known_labels("tagger", tmp_path / "zoo")
    assert f"{known.nats_per_label:.6f} nats per label, exact" in card


@pytest.mark.parametrize("name", list(LABEL_MODELS))
@every_family_of_heads
@pytest.mark.parametrize("task", ["tagging", "classification"])
def test_a_reference_of_labels_is_of_values_that_the_model_takes_and_comes_back(
    family: Emission, task: Task, name: str
) -> None:
    for inputs, labels in ((family, Categorical(3)), (Gaussian(2), family)):
        model = randomised(LABEL_MODELS[name].make("gru", hidden_dim=2, inputs=inputs, labels=labels, task=task))
        known, again = label_references.made(model), label_references.made(model)
        torch.testing.assert_close(model.log_prob(known.labels, *known.data[:2]), known.log_probs)
        assert len(known.data.x.flatten().unique()) > 1
        for found in (again, label_references.from_json(json.loads(json.dumps(label_references.as_json(known))))):
            assert torch.equal(found.data.x, known.data.x)
            assert torch.equal(found.labels, known.labels)
            assert torch.equal(found.log_probs, known.log_probs)
            assert found.labels.dtype == known.labels.dtype
            assert found.nats_per_label == known.nats_per_label
        assert not known.data.x[~known.data.mask].any()


@pytest.mark.parametrize("name", ["Upper", "under_score", "", "../x", "a--b"])
def test_a_name_of_another_kind_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a name of lower-case words and numbers with hyphens, got"):
        publish(tmp_path, name, "Nothing.", tmp_path)


def test_a_model_that_was_not_fitted_by_the_command_line_is_an_error(tmp_path: Path) -> None:
    pr.save_model(HMM.random(2, 3), tmp_path / "model")
    with pytest.raises(
        ValueError, match=r"expected a model that pgm-rnn fit saved, got .* without command, data, description, sco"
    ):
        publish(tmp_path / "model", "hmm", "Everything.", tmp_path / "zoo")
    with pytest.raises(ValueError, match="expected a sentence on what the model gets wrong, got none"):
        publish(tmp_path / "model", "hmm", " ", tmp_path / "zoo")


def test_a_large_model_is_an_error(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgm_rnn.zoo.publish.MAX_BYTES", 100)
    with pytest.raises(ValueError, match="expected at most 100 bytes of numbers, got"):
        publish(saved, "hmm", "Everything.", saved.parent / "zoo")


# Bad input.


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of the entries, to be changed."""
    return Path(shutil.copytree(entries.HOME, tmp_path / "zoo"))


def test_an_unknown_name_is_an_error_with_a_close_one() -> None:
    with pytest.raises(ValueError, match=r"expected the trained model to be one of .*did you mean 'vrnn-jsb'"):
        pr.load_pretrained("vrnn-jbs")


@pytest.mark.parametrize("file", [entries.CONFIG, entries.TENSORS])
def test_a_file_that_was_changed_is_an_error(file: str, home: Path) -> None:
    path = home / "hmm-jsb-16" / file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StorageError, match=rf"expected .*{re.escape(file)} as it was published, got a changed"):
        zoo.load_pretrained("hmm-jsb-16", home=home)
    path.unlink()
    with pytest.raises(StorageError, match=rf"expected {re.escape(file)} of the trained model hmm-jsb-16, got no file"):
        zoo.load_pretrained("hmm-jsb-16", home=home)


def test_a_reference_that_was_changed_is_an_error(home: Path) -> None:
    path = home / "hmm-jsb-16" / entries.REFERENCE
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "bound": "none"}))
    with pytest.raises(StorageError, match="as it was published, got a changed"):
        zoo.reference("hmm-jsb-16", home=home)


def test_where_nothing_was_published_there_is_nothing(tmp_path: Path) -> None:
    assert entries.read_manifest(tmp_path) == {}
