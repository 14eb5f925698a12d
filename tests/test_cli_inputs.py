"""Inputs at the command line: columns that drive a model and are not observed, as a person names them.

Each command's numbers are those of the Python interface on the same table.
"""

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgm_rnn as pr
from pgm_rnn.data import load
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import kalman, svi
from pgm_rnn.models import HMM, InputHMM
from pgm_rnn.randomness import seeded
from pgm_rnn.sequences import Sequences
from pgm_rnn.storage import describe
from tests.test_cli import call

Capture = pytest.CaptureFixture[str]
NAMES = ["dose", "light"]
ROLES = {"sequence": "animal", "time": "day"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of four animals, the inputs of the days ahead, and a fit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("folders"))
        random = np.random.default_rng(0)
        table(random, ["a", "b", "c", "d"], 1, 30).to_csv("animals.csv", index=False)
        table(random, ["d", "c", "b", "a"], 31, 4).drop(columns="weight").to_csv("ahead.csv", index=False)
        with seeded(0):
            assert call(patch, *FIT.split()) == 0
        pr.save_model(HMM.random(2, emission=Gaussian(1), seed=0), "hmm")
        return Path.cwd()


FIT = (
    "fit input-hmm --data animals.csv --sequence animal --time day --column weight --input dose --input light "
    "--num-states 2 --epochs 2 --test-fraction 0.25 --output fit"
)


def table(random: np.random.Generator, animals: Sequence[str], first: int, num_days: int) -> pd.DataFrame:
    """Weights that go with the dose, by animal and day."""
    parts = []
    for animal in animals:
        dose, light = random.normal(size=num_days), random.integers(2, size=num_days)
        weight = 1.5 * dose - light + 0.3 * random.normal(size=num_days)
        days = np.arange(first, first + num_days)
        parts.append(pd.DataFrame({"animal": animal, "day": days, "dose": dose, "weight": weight, "light": light}))
    return pd.concat(parts)


@pytest.fixture(autouse=True)
def _folder(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folders, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def run(monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: str) -> str:
    assert call(monkeypatch, *command.split()) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def error(monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: str) -> str:
    assert call(monkeypatch, *command.split()) == 2
    return " ".join(capsys.readouterr().err.split())


def loaded(folder: str) -> Any:
    return pr.load_model(folder)


def animals(**options: object) -> Sequences:
    torch.set_default_dtype(torch.float64)
    return pr.read_sequences("animals.csv", columns=["weight"], inputs=NAMES, **ROLES, **options)  # type: ignore[arg-type]


# What a fit keeps, and what later commands do with it.


def test_a_fit_learns_from_the_inputs_and_keeps_their_names() -> None:
    record = json.loads(Path("fit/model.json").read_text())["info"]
    assert record["legend"]["inputs"] == NAMES
    model = loaded("fit")
    assert isinstance(model, InputHMM)
    assert (model.input_dim, model.drives) == (2, "both")
    effects = model.emission_weight.detach()[:, 0]  # (K, 2)
    torch.testing.assert_close(effects, torch.tensor([[1.5, -1.0]]).double().expand(2, 2), atol=0.25, rtol=0)
    data = animals()
    without = data._replace(inputs=torch.zeros_like(data.inputs))  # type: ignore[arg-type]
    gain = svi.evaluate(model, without).nats_per_step - svi.evaluate(model, data).nats_per_step
    assert gain > 1  # without them, 0.3 of noise have to explain a spread of 1.6


def test_a_score_needs_no_names_of_inputs(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    pd.read_csv("animals.csv")[["light", "weight", "animal", "dose", "day"]].to_csv("moved.csv", index=False)
    run(monkeypatch, capsys, "evaluate fit --data moved.csv --json r.json")
    expected = svi.evaluate(loaded("fit"), animals())
    assert json.loads(Path("r.json").read_text())["nats_per_step"] == pytest.approx(expected.nats_per_step, rel=1e-12)


def test_other_columns_are_taken_in_the_order_in_which_they_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    pd.read_csv("animals.csv").rename(columns={"dose": "u", "light": "v"}).to_csv("renamed.csv", index=False)
    command = "evaluate fit --data renamed.csv --json r.json"
    missing = error(monkeypatch, capsys, command)
    assert "expected the inputs of the fit, dose, light, in renamed.csv, got no column 'dose'; rename it" in missing
    scores = []
    for order in ("--input u --input v", "--input v --input u"):
        run(monkeypatch, capsys, f"{command} {order}")
        scores.append(json.loads(Path("r.json").read_text())["nats_per_step"])
    expected = svi.evaluate(loaded("fit"), animals()).nats_per_step
    assert scores[0] == pytest.approx(expected, rel=1e-12)
    assert abs(scores[1] - expected) > 0.1  # the order counts


def test_states_are_those_of_the_python_interface(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run(monkeypatch, capsys, "infer fit --data animals.csv --out states.csv")
    expected = pr.infer(loaded("fit"), animals()).to_frame()
    written = pd.read_csv("states.csv")
    assert list(written) == list(expected)
    np.testing.assert_allclose(written["smoothed_0"], expected["smoothed_0"], atol=1e-9)


def test_a_forecast_is_given_the_inputs_of_the_days_ahead_by_animal(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run(monkeypatch, capsys, "forecast fit --data animals.csv --future-inputs ahead.csv --level 90 --out f.csv")
    ahead = pd.read_csv("ahead.csv")
    future = np.stack([ahead.loc[ahead["animal"] == animal, NAMES].to_numpy() for animal in "abcd"])  # as in the data
    model, data = loaded("fit"), animals()
    options: dict[str, Any] = {"levels": [90], "num_samples": 1000, "seed": 0}
    expected = pr.forecast(model, data, 4, future_inputs=torch.as_tensor(future), **options).to_frame()
    written = pd.read_csv("f.csv")
    assert written[["animal", "day"]].values.tolist() == expected[["animal", "day"]].values.tolist()
    np.testing.assert_allclose(written["mean"], expected["mean"], atol=1e-9)
    mixed = pr.forecast(model, data, 4, future_inputs=torch.as_tensor(future[::-1].copy()), **options).to_frame()
    assert float((written["mean"] - mixed["mean"]).abs().max()) > 0.5  # the ids count, and not the order of rows


def test_a_forecast_may_be_shorter_and_in_draws(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run(monkeypatch, capsys, "forecast fit --data animals.csv --future-inputs ahead.csv --num-steps 2 --out f.npz")
    with np.load("f.npz") as arrays:
        assert arrays["x"].shape == (1000, 4, 2, 1)
    out = run(monkeypatch, capsys, "forecast fit --data animals.csv --future-inputs ahead.csv --index 2 --num-steps 2")
    assert "animal c" in out


def test_draws_are_given_inputs_of_a_table(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run(monkeypatch, capsys, "sample fit --inputs-from ahead.csv --num-steps 3 --seed 1 --out d.npz")
    ahead = pd.read_csv("ahead.csv")
    inputs = torch.as_tensor(np.stack([ahead.loc[ahead["animal"] == one, NAMES].to_numpy()[:3] for one in "dcba"]))
    expected = loaded("fit").sample(4, 3, seed=1, inputs=inputs)
    with np.load("d.npz") as arrays:
        np.testing.assert_array_equal(arrays["x"], expected.x.numpy())
        np.testing.assert_allclose(arrays["inputs"], inputs)
    ahead[ahead["animal"] == "a"].to_csv("one.csv", index=False)
    run(monkeypatch, capsys, "sample fit --inputs-from one.csv --num-sequences 7 --out d.npz")
    with np.load("d.npz") as arrays:
        assert arrays["x"].shape == (7, 4, 1)


def test_draws_with_their_inputs_are_a_file_to_score(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run(monkeypatch, capsys, "sample fit --inputs-from ahead.csv --out d.npz")
    run(monkeypatch, capsys, "evaluate fit --data d.npz --json r.json")
    with np.load("d.npz") as arrays:
        x, inputs = (torch.as_tensor(arrays[name]) for name in ("x", "inputs"))
    expected = loaded("fit").log_marginal_likelihood(x, inputs=inputs).detach()
    record = json.loads(Path("r.json").read_text())
    assert record["nats_per_step"] == pytest.approx(-float(expected.sum()) / 16, rel=1e-9)


def test_a_diagnosis_and_a_comparison_read_the_inputs(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    quick = "--num-simulations 3 --num-origins 4 --num-restarts 0"
    run(monkeypatch, capsys, f"diagnose fit --data animals.csv {quick} --steps steps.csv")
    assert len(pd.read_csv("steps.csv")) == 120
    fit = FIT.replace("--output fit", "--drives emission --output other")
    run(monkeypatch, capsys, fit)
    out = run(monkeypatch, capsys, "compare fit other --data animals.csv")
    score = svi.evaluate(loaded("other"), animals()).nats_per_step
    assert f"{score:.3f}" in out


def test_a_linear_model_has_the_effects_of_a_regression(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    fit = FIT.replace("input-hmm", "lgssm").replace("--num-states 2 --epochs 2", "--latent-dim 1 --iterations 200")
    run(monkeypatch, capsys, f"{fit.replace('--output fit', '--output linear')} --json r.json")
    model, data = loaded("linear"), animals()
    effects = model.feedthrough_matrix.detach()
    torch.testing.assert_close(effects, torch.tensor([[1.5, -1.0]]).double(), atol=0.15, rtol=0)
    train = data.select(torch.arange(3))
    expected = -float(kalman.filter(model, train).log_marginal_likelihood.sum()) / 90
    scores = {one["split"]: one["nats_per_step"] for one in json.loads(Path("r.json").read_text())["scores"]}
    assert scores["train"] == pytest.approx(expected, rel=1e-9)


def test_a_structural_model_has_regressors(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    Path("one.csv").write_text("\n".join(Path("animals.csv").read_text().splitlines()[:31]))
    options = "--time day --column weight --input dose --input light --epochs 1 --test-fraction 0"
    run(monkeypatch, capsys, f"fit structural --data one.csv {options} --output structural")
    effects = loaded("structural").coefficients.detach()
    torch.testing.assert_close(effects, torch.tensor([1.5, -1.0]).double(), atol=0.3, rtol=0)


def test_a_large_input_is_remarked_on(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    table = pd.read_csv("animals.csv")
    table["dose"] += 1900
    table.to_csv("large.csv", index=False)
    out = run(monkeypatch, capsys, FIT.replace("animals.csv", "large.csv").replace("--output fit", "--output large"))
    assert "input 'dose' is 1900 on average" in " ".join(out.split())
    assert "input 'light'" not in out


# What is wrong with inputs, in a sentence.


WITH_LAW = "fit input-hmm --data uk-drivers --input law --input sin_year --num-states 2 --epochs 2 --output drivers"


@pytest.mark.skipif("PGM_RNN_DATA" not in os.environ, reason="needs the data set uk-drivers")
def test_inputs_of_a_data_set_are_chosen_by_name_and_kept(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run(monkeypatch, capsys, WITH_LAW)
    model, data = loaded("drivers"), load("uk-drivers").with_inputs(["law", "sin_year"]).train
    expected = -float(model.log_marginal_likelihood(data).detach()) / 192
    assert model.input_dim == 2
    assert describe("drivers").info["scores"][0]["nats_per_step"] == pytest.approx(expected)
    assert f"{expected:.3f}" in run(monkeypatch, capsys, "evaluate drivers --data uk-drivers --split train")
    command = "evaluate drivers --data uk-drivers --split train --input sin_year --input law"
    assert f"{expected:.3f}" in run(monkeypatch, capsys, command)  # they are those of the fit, in its order
    other = load("uk-drivers").with_inputs(["sin_year", "law"]).train
    swapped = -float(model.log_marginal_likelihood(other).detach()) / 192
    assert f"{swapped:.3f}" != f"{expected:.3f}"
    assert re.search(r"^state +law +sin_year$", run(monkeypatch, capsys, "describe drivers"), re.MULTILINE)
    for wrong, sentence in (
        (WITH_LAW.replace("law", "lawn"), "expected inputs to be one of law, cos_year, sin_year"),
        (WITH_LAW.replace("sin_year", "law"), "expected each input once, got 'law' twice"),
        (WITH_LAW.replace("--input law --input sin_year", ""), "expected 1 input for input-hmm, got none"),
        (WITH_LAW.replace("uk-drivers", "pound-dollar"), "expected no inputs of pound-dollar, which has none"),
        ("evaluate drivers --data uk-drivers --input law", "expected the inputs of the fit to uk-drivers, law and sin"),
        (
            "evaluate drivers --data uk-drivers --input law --input cos_year",
            "law and sin_year, got law, cos_year;",
        ),
    ):
        assert sentence in error(monkeypatch, capsys, wrong.replace("--output drivers", "--output others"))


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (FIT.replace("--input dose --input light", ""), "expected 1 input for input-hmm, got none; name the columns"),
        (
            FIT.replace("--input light", "--input lihgt"),
            "expected --input to be one of animal, day, dose, weight, light",
        ),
        (FIT.replace("--input light", "--input animal"), "in column 'animal'"),
        (
            FIT.replace("input-hmm", "hmm").replace("--epochs 2", ""),
            "expected no inputs for hmm, which takes none, got dose, light; leave --input out",
        ),
        (
            FIT.replace("input-hmm", "autoregressive-hmm"),
            "expected no inputs for autoregressive-hmm, which takes none, got dose, light; leave --input out",
        ),
        (
            "evaluate fit --data animals.csv --input dose",
            "expected 2 inputs for InputHMM, got 1: dose; choose with --input",
        ),
        (
            "evaluate hmm --data animals.csv --column weight --input dose --input light --sequence animal --time day",
            "expected no inputs for HMM, which takes none, got dose, light; leave --input out",
        ),
        (
            "fit input-hmm --data gnp --num-states 2 --input dose",
            "expected no inputs of gnp, which has none, got dose; leave them out",
        ),
        (
            "forecast fit --data animals.csv",
            "expected --future-inputs FILE with the inputs dose, light of the steps ahead",
        ),
        (
            "forecast fit --data animals.csv --future-inputs ahead.csv --num-steps 5 --out f.csv",
            "expected the inputs of 5 steps ahead of sequence 'a' in ahead.csv, got 4; add rows, or use --num-steps 4",
        ),
        ("forecast fit --data animals.csv --future-inputs animals.csv", "expected rows after 30, the last of the data"),
        (
            "forecast fit --data animals.csv --future-inputs none.csv",
            "expected --future-inputs to name a file, got none.csv",
        ),
        (
            "forecast hmm --data animals.csv --column weight --future-inputs ahead.csv",
            "expected no --future-inputs for HMM, which takes none, got ahead.csv; leave it out",
        ),
        ("sample fit --out d.npz", "expected --inputs-from with the inputs dose, light of the draws, got none"),
        (
            "sample fit --inputs-from ahead.csv --num-sequences 5 --out d.npz",
            "expected --num-sequences 4, a draw for each sequence of inputs in ahead.csv, got 5; leave it out",
        ),
        ("sample fit --inputs-from ahead.csv --num-steps 0 --out d.npz", "expected num_steps"),
        ("sample fit --inputs-from ahead.csv --num-steps 5 --out d.npz", "expected --num-steps of at most 4"),
        ("sample hmm --inputs-from ahead.csv --out d.npz", "expected no --inputs-from for HMM, which takes no inputs"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    command: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    said = error(monkeypatch, capsys, f"{command} --overwrite" if command.startswith("fit") else command)
    assert sentence in said
    assert said.count("error:") == 1


@pytest.mark.parametrize("where", ["animals.csv", "ahead.csv"])
@pytest.mark.parametrize(("cell", "words"), [("", "got none in column 'dose'"), ("much", "'much'")])
def test_an_input_that_is_no_number_is_named_with_its_line(
    cell: str, words: str, where: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    lines = Path(where).read_text().splitlines()
    cells = lines[4].split(",")
    cells[2] = cell
    lines[4] = ",".join(cells)
    Path(where).write_text("\n".join(lines))
    said = error(monkeypatch, capsys, "forecast fit --data animals.csv --future-inputs ahead.csv")
    assert words in said
    assert "line 5" in said


def test_an_animal_without_days_ahead_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    ahead = pd.read_csv("ahead.csv")
    ahead[ahead["animal"] != "c"].to_csv("few.csv", index=False)
    said = error(monkeypatch, capsys, "forecast fit --data animals.csv --future-inputs few.csv --out f.csv")
    assert "expected the inputs of the steps ahead of sequence 'c' in few.csv, got none; add rows" in said
