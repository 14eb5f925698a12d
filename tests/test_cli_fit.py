"""`pgm-rnn fit` as a person meets it: the table, the saved model, the interrupt, and every wrong argument."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pgm_rnn import load_model
from pgm_rnn.data import Dataset, catalogue, load
from pgm_rnn.data.catalogue import DatasetInfo
from pgm_rnn.emissions import (
    Beta,
    Categorical,
    Emission,
    Gamma,
    Gaussian,
    Mixture,
    NadeBits,
    NegativeBinomial,
    Pen,
    Poisson,
    StudentT,
    Tied,
    VonMises,
    ZeroInflated,
)
from pgm_rnn.inference import kalman, smc, svi
from pgm_rnn.inference.em.baum_welch import BaumWelch
from pgm_rnn.inference.em.gaussian_em import GaussianEm
from pgm_rnn.inference.svi import training
from pgm_rnn.inference.svi.goals import Goal
from pgm_rnn.kernels import compilation
from pgm_rnn.models import HMM, RNN, LinearGaussianSSM, NoisyRNN
from pgm_rnn.registries import OWN
from pgm_rnn.report import material, state_numbers
from pgm_rnn.report.fitted import Job, scores_table
from pgm_rnn.report.fitting import fit_lgssm, fitted_hmm
from pgm_rnn.report.material import FileOptions, Score, from_file
from pgm_rnn.sequences import Sequences
from tests.cases import Cases
from tests.instances import assert_same, of_sequences
from tests.test_cli import call, pgm_rnn
from tools.published.data import NILE

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_synthetic_sequences: None) -> None:
    """An empty folder as the present one, and float32 as in a fresh interpreter."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)


def series(num_steps: int = 60, num_sequences: int = 1, seed: int = 0) -> np.ndarray:
    """Of a random linear-Gaussian model with two variables, (T, 2) or (batch, T, 2), float64."""
    model = LinearGaussianSSM.random(latent_dim=2, obs_dim=2, seed=0).double()
    x = model.sample(num_sequences, num_steps, seed=seed).x.numpy()
    return x[0] if num_sequences == 1 else x


def write_csv(path: Path, rows: np.ndarray, header: str = "") -> None:
    np.savetxt(path, rows, fmt="%.17g", delimiter=",", header=header, comments="")


# What comes out.


def test_an_hmm_is_fitted_scored_and_saved(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    arguments = "fit hmm --data synthetic-hmm --num-states 2 --iterations 3 --restarts 2 --json results.json"
    assert call(monkeypatch, *arguments.split()) == 0
    output = capsys.readouterr().out
    assert 'saved in fits/hmm-synthetic-hmm-2; pgm_rnn.load_model("fits/hmm-synthetic-hmm-2")' in output
    assert max(map(len, output.splitlines()[2:-1])) <= 80
    model, dataset = load_model("fits/hmm-synthetic-hmm-2"), load("synthetic-hmm", seed=0)
    assert isinstance(model, HMM)
    assert model.initial_logits.dtype == torch.float32
    record = json.loads(Path("results.json").read_text())
    assert (record["stopped_by"], record["iterations"], record["folder"]) == (
        "num_iterations",
        3,
        "fits/hmm-synthetic-hmm-2",
    )
    for score in record["scores"]:
        data = getattr(dataset, score["split"])
        expected = svi.evaluate(model, data)
        assert score["nats_per_step"] == expected.nats_per_step
        assert score["standard_error"] == expected.standard_error
        assert (score["bound"], score["num_sequences"]) == ("exact", len(data.lengths))
        assert f"{expected.nats_per_step:.3f}   {expected.standard_error:.3f}   exact" in output


def three_levels() -> np.ndarray:
    """A chain of three well separated levels, (300, 1)."""
    table = Gaussian(1).table(torch.tensor([[0.0], [10.0], [30.0]]), torch.ones(3, 1))
    moves = torch.full((3, 3), 0.05) + 0.85 * torch.eye(3)
    x: np.ndarray = HMM(torch.ones(3) / 3, moves, table).sample(1, 300, seed=0).x[0].numpy()
    return x


def test_several_numbers_of_states_are_compared_and_the_lowest_bic_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_csv(Path("levels.csv"), three_levels(), "level")
    arguments = "fit hmm --data levels.csv --num-states 1,2,3,4 --restarts 3 --test-fraction 0.1 --json r.json"
    assert call(monkeypatch, *arguments.split()) == 0
    output, record = capsys.readouterr().out, json.loads(Path("r.json").read_text())
    assert max(map(len, output.split("states   parameters")[1].split("split")[0].splitlines())) <= 90
    found = {one["num_states"]: one for one in record["candidates"]}
    assert (list(found), record["rule"], record["sizes"]) == ([1, 2, 3, 4], "lowest BIC", {"num_states": 3})
    assert min(found, key=lambda num: found[num]["bic"]) == 3
    assert "kept: 3 states, the lowest BIC" in output
    model = load_model("fits/hmm-levels-3")
    assert isinstance(model, HMM)
    assert sorted(str(path) for path in Path("fits").iterdir()) == ["fits/hmm-levels-3"]
    for num, one in found.items():
        assert one["num_free_parameters"] == (num - 1) + num * (num - 1) + 2 * num
        nats = 240 * one["nats_per_step"]["train"]
        assert one["aic"] == pytest.approx(2 * nats + 2 * one["num_free_parameters"])
        assert one["bic"] == pytest.approx(2 * nats + math.log(240) * one["num_free_parameters"])
    train = next(score for score in record["scores"] if score["split"] == "train")
    x = torch.from_numpy(three_levels()[:240]).double()[None]
    assert train["nats_per_step"] == found[3]["nats_per_step"]["train"]
    assert -float(model.log_marginal_likelihood(x).detach()) / 240 == pytest.approx(train["nats_per_step"], rel=1e-6)


def test_a_number_of_states_among_several_is_fitted_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(Path("levels.csv"), three_levels(), "level")
    for numbers in ("3", "2,3"):
        command = f"fit hmm --data levels.csv --num-states {numbers} --restarts 2 --iterations 9 --output of-{numbers}"
        assert call(monkeypatch, *command.split()) == 0
    assert_same(load_model("of-3").state_dict(), load_model("of-2,3").state_dict())


def test_a_comparison_of_numbers_of_states_goes_on_where_an_earlier_one_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_csv(Path("levels.csv"), three_levels(), "level")
    fitted, fit = list[int](), fitted_hmm

    def noted(job: Any, material: Any, num: int, options: Any, *, half: bool) -> Any:
        fitted.append(num)
        return fit(job, material, num, options, half=half)

    monkeypatch.setattr(state_numbers, "fitted_hmm", noted)
    command = "fit hmm --data levels.csv --restarts 1 --iterations 20 --json {}.json --num-states {}"
    assert call(monkeypatch, *command.format("alone", 2).split()) == 0
    for name, numbers, new in (
        ("some", "1,2", [1]),
        ("more", "1,2,3", [3]),
        ("again", "1,2,3", []),
        ("last", "3,4", [4]),
    ):
        fitted.clear()
        assert call(monkeypatch, *command.format(name, numbers).split()) == 0
        assert fitted == new
    assert "1 state: fitted by an earlier run of this command" in capsys.readouterr().out
    first, again = (json.loads(Path(f"{name}.json").read_text()) for name in ("more", "again"))
    assert first["candidates"] == again["candidates"]
    fitted.clear()
    assert call(monkeypatch, *command.format("new", "1,2,3").split(), "--output", "other", "--overwrite") == 0
    assert fitted == [1, 2, 3]
    whole = json.loads(Path("new.json").read_text())
    assert whole["candidates"] == first["candidates"]  # as if all had been fitted at once


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("--seed 1", "the seed"),
        ("--iterations 7", "the options of the fit"),
        ("--test-fraction 0.1", "the data and how"),
    ],
)
def test_a_stored_fit_of_another_configuration_is_not_compared(
    option: str, what: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_csv(Path("levels.csv"), three_levels(), "level")
    command = "fit hmm --data levels.csv --restarts 1 --iterations 5 --num-states"
    assert call(monkeypatch, *command.split(), "2") == 0
    before = Path("fits/hmm-levels-2/model.json").read_bytes()
    assert call(monkeypatch, *command.split(), "1,2", *option.split()) == 2
    assert re.search(f"differs in {what}.* choose another folder with --output", capsys.readouterr().err, re.DOTALL)
    assert Path("fits/hmm-levels-2/model.json").read_bytes() == before


def test_an_rnn_is_fitted_scored_and_saved(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    arguments = "fit rnn --data synthetic-hmm --cell gru --hidden-dim 4 --epochs 1 --output here/rnn"
    assert call(monkeypatch, *arguments.split()) == 0
    model = load_model("here/rnn")
    assert isinstance(model, RNN)
    score = svi.evaluate(model, load("synthetic-hmm", seed=0).test)  # type: ignore[arg-type]
    assert f"{score.nats_per_step:.3f}   {score.standard_error:.3f}   exact" in capsys.readouterr().out


@pytest.mark.parametrize("objective", ["elbo", "iwae", "fivo"])
def test_a_network_with_noise_is_fitted_scored_and_saved(
    objective: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    np.save("many.npy", series(num_steps=12, num_sequences=20))
    arguments = f"fit noisy-rnn --data many.npy --latent-dim 2 --objective {objective} --num-particles 3 --epochs 2"
    assert call(monkeypatch, *arguments.split(), "--metrics", "m.jsonl", "--json", "r.json") == 0
    model = load_model("fits/noisy-rnn-many-2")
    assert isinstance(model, NoisyRNN)
    assert model.initial_mean.dtype == torch.float64
    record = json.loads(Path("r.json").read_text())
    assert (record["fit"]["objective"], record["fit"]["num_particles"]) == (objective, 3)
    terms = smc.filter(model, torch.from_numpy(np.load("many.npy")), num_particles=128, seed=0).log_normalizers[16:]
    score = record["scores"][2]
    assert (score["split"], score["bound"], score["num_steps"]) == ("test", "FIVO_128", 48)
    assert score["nats_per_step"] == pytest.approx(-float(terms.sum()) / 48, rel=1e-12)
    output = capsys.readouterr().out
    assert "FIVO_128: from a particle filter, above the exact number on average" in output
    assert [json.loads(line)["epoch"] for line in Path("m.jsonl").read_text().splitlines()] == [1, 2]


def test_a_network_is_scored_one_step_ahead_on_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    x = series()
    write_csv(Path("river.csv"), x, "flow,rain")
    command = "fit rnn --data river.csv --hidden-dim 3 --epochs 2 --json r.json"
    assert call(monkeypatch, *command.split()) == 0
    model = of_sequences(load_model("fits/rnn-lstm-river-3"))
    whole = torch.from_numpy(x)[None]
    until, all_of_it = (float(model.log_prob(whole[:, :n]).detach()) for n in (48, 60))
    score = json.loads(Path("r.json").read_text())["scores"][2]
    assert score["nats_per_step"] == pytest.approx(-(all_of_it - until) / 12, rel=1e-9)


def test_every_model_of_the_zoo_has_a_command(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    commands = {"rnn" if name.startswith("rnn-") else name for name in Cases(OWN).models}  # files have no inputs yet
    for command in sorted(commands):
        assert call(monkeypatch, "fit", command, "--help") == 0
        assert "--data" in capsys.readouterr().out


def test_the_help_shows_the_defaults_of_a_command(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert call(monkeypatch, "fit", "rnn", "--help") == 0
    shown = capsys.readouterr().out
    assert "[default: lstm]" in shown
    assert "[default: 64]" in shown
    assert call(monkeypatch, "fit", "vrnn", "--help") == 0
    assert "[default: (its own)]" in capsys.readouterr().out


def test_a_belief_rnn_is_fitted_and_scored(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    np.save("symbols.npy", np.random.default_rng(0).integers(3, size=(20, 5, 1)))
    command = "fit belief-rnn --data symbols.npy --emission categorical --num-states 2 --epochs 2"
    assert call(monkeypatch, *command.split()) == 0
    assert load_model("fits/belief-rnn-symbols-2").recipe[0] == "belief-rnn"
    assert "exact" in capsys.readouterr().out


def test_chains_side_by_side_may_have_different_numbers_of_states(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    np.save("symbols.npy", np.random.default_rng(0).integers(3, size=(20, 5, 1)))
    command = "fit factorial-hmm --data symbols.npy --emission categorical --epochs 1 --output sizes --num-states 3"
    assert call(monkeypatch, *command.split(), "--num-states", "2") == 0
    assert load_model("sizes").recipe[1]["num_states"] == [3, 2]
    assert call(monkeypatch, *command.split(), "--overwrite") == 0
    assert load_model("sizes").recipe[1]["num_states"] == 3
    assert call(monkeypatch, *command.split(), "--num-chains", "3", "--num-states", "2", "--overwrite") != 0
    assert "expected num_states as one number or 3 of them, got 2" in capsys.readouterr().err


def made_data(name: str) -> Dataset:
    """Of the shape and dtype of a data set of speech or handwriting, ragged and small."""
    family = {"japanese-vowels": Gaussian(12), "pen-digits": Gaussian(2), "kanji": Pen(20)}[name]
    numbers = torch.Generator().manual_seed(0)

    def split(num: int) -> Sequences:
        x = torch.randn(num, 6, *family.event_shape, generator=numbers)
        if name == "kanji":
            x[..., 2] = x[..., 2].gt(0).float()
        return Sequences(x, torch.arange(num) % 4 + 3)

    return Dataset(name, "made up", family, split(30), split(8), split(8))


@pytest.mark.parametrize(
    ("command", "name", "bound"),
    [
        ("lgssm --latent-dim 2 --iterations 2", "japanese-vowels", "exact"),
        ("lgssm --latent-dim 2 --iterations 2", "pen-digits", "exact"),
        ("hmm --num-states 2 --iterations 2 --restarts 2", "japanese-vowels", "exact"),
        ("rnn --cell gru --hidden-dim 3 --epochs 1", "japanese-vowels", "exact"),
        ("rnn --cell min-gru --hidden-dim 3 --epochs 1", "japanese-vowels", "exact"),
        ("rnn --cell lru --hidden-dim 3 --num-layers 2 --epochs 1", "kanji", "exact"),
        ("rnn --hidden-dim 3 --epochs 1", "kanji", "exact"),
        ("belief-rnn --num-states 2 --epochs 1", "kanji", "exact"),
        ("vrnn --latent-dim 2 --hidden-dim 3 --epochs 1", "kanji", "FIVO_128"),
        ("vrnn --latent-dim 2 --hidden-dim 3 --epochs 1", "pen-digits", "FIVO_128"),
        ("dmm --latent-dim 2 --hidden-dim 3 --epochs 1", "kanji", "FIVO_128"),
        ("dmm --latent-dim 2 --hidden-dim 3 --epochs 1", "japanese-vowels", "FIVO_128"),
        ("noisy-rnn --latent-dim 2 --epochs 1", "japanese-vowels", "FIVO_128"),
    ],
)
def test_speech_and_handwriting_are_fitted_scored_and_saved(
    command: str, name: str, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material, "load", lambda name, **options: made_data(name))
    assert call(monkeypatch, "fit", *command.split(), "--data", name, "--output", "out", "--json", "r.json") == 0
    model, data = of_sequences(load_model("out")), made_data(name)
    assert model.family == data.emission
    score = json.loads(Path("r.json").read_text())["scores"][2]
    assert (score["split"], score["bound"], score["num_sequences"]) == ("test", bound, 8)
    assert data.test is not None
    if bound == "exact":
        x = data.test.x.to(next(model.parameters()).dtype)
        expected = -float(model.log_marginal_likelihood(x, data.test.lengths).detach().sum()) / data.test.num_steps
        assert score["nats_per_step"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "lgssm --latent-dim 2",
            "expected vectors of real numbers for lgssm, got kanji, whose observations are finite",
        ),
        ("noisy-rnn --latent-dim 2", "expected vectors of real numbers for noisy-rnn, got kanji"),
        ("rnn --emission gaussian", "expected --emission only with a file, got it with the data set kanji"),
    ],
)
def test_a_model_that_handwriting_does_not_fit_is_one_sentence(
    command: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(material, "load", lambda name, **options: made_data(name))
    assert call(monkeypatch, "fit", *command.split(), "--data", "kanji") == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_one_series_is_scored_one_step_ahead_given_what_came_before(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """log p(x_{1:T}) - log p(x_{1:n}), n = 48 of T = 60, with the saved model."""
    x = series()
    write_csv(Path("river.csv"), x, "flow,rain")
    command = "fit lgssm --data river.csv --latent-dim 2 --iterations 5 --json r.json"
    assert call(monkeypatch, *command.split()) == 0
    model = load_model("fits/lgssm-river-2")
    assert isinstance(model, LinearGaussianSSM)
    assert model.initial_mean.dtype == torch.float64
    whole = torch.from_numpy(x)[None]
    until, all_of_it = (float(model.log_marginal_likelihood(whole[:, :n]).detach()) for n in (48, 60))
    train, test = json.loads(Path("r.json").read_text())["scores"]
    assert train["nats_per_step"] == pytest.approx(-until / 48, rel=1e-12)
    assert test["nats_per_step"] == pytest.approx(-(all_of_it - until) / 12, rel=1e-12)
    terms = kalman.filter(model, whole).log_normalizers[0, 48:]
    assert test["standard_error"] == pytest.approx(float(terms.std()) / math.sqrt(12), rel=1e-12)
    output = capsys.readouterr().out
    assert "river.csv: 60 steps, 2 variables (flow, rain)" in output
    assert "test: one step ahead, given all steps before" in output


def test_several_series_are_split_by_series() -> None:
    x = series(num_steps=20, num_sequences=10)
    x[0, 3:5] = x[9, 1] = np.nan
    np.savez("many.npz", x=x)
    many = from_file(Path("many.npz"), FileOptions(valid_fraction=0.1, test_fraction=0.2))
    assert many.valid is not None
    assert (len(many.train.lengths), len(many.valid.lengths), many.single) == (7, 1, False)
    model = LinearGaussianSSM.random(latent_dim=2, obs_dim=2, seed=1).double()
    scores = {score.split: score for score in many.scores(model)}
    assert [score.num_steps for score in scores.values()] == [138, 20, 39]
    assert [score.num_sequences for score in scores.values()] == [7, 1, 2]
    expected = kalman.filter(model, torch.from_numpy(x[8:])).log_marginal_likelihood.sum()
    assert scores["test"].nats_per_step == pytest.approx(-float(expected) / 39, rel=1e-12)
    assert math.isnan(scores["valid"].standard_error)


def test_the_local_level_of_the_nile_is_found() -> None:
    """Durbin & Koopman (2012), sec. 2.10: variances 15099 and 1469; -641.5856 nats from a start of variance 1e7.

    Here A is free and the start's variance is that of the states; both can only help.
    """
    x = torch.tensor(NILE).double()[:, None]
    write_csv(Path("nile.csv"), x.numpy(), "nile")
    job = Job("nile.csv", file=FileOptions(test_fraction=0.0))
    fit_lgssm(job, latent_dim=1, num_iterations=500, tolerance=1e-7)
    model = load_model("fits/lgssm-nile-1").requires_grad_(False)
    assert isinstance(model, LinearGaussianSSM)
    C = model.emission_matrix
    assert -641.5856 < float(model.log_marginal_likelihood(x[None])) < -635
    assert float(model.transition_matrix) == pytest.approx(1, abs=0.01)
    assert float(model.emission_cov) == pytest.approx(15099, rel=0.1)
    assert float(C @ model.transition_cov @ C.mT) == pytest.approx(1469, rel=0.4)


@pytest.mark.parametrize(
    ("said", "family"),
    [
        ("", None),
        ("--kind real", Gaussian(1)),
        ("--kind count", Poisson()),
        ("--kind 1=symbol", Categorical(3)),
        ("--emission gaussian", Gaussian()),
        ("--emission poisson", Poisson()),
        ("--emission student-t", StudentT()),
        ("--emission negative-binomial", NegativeBinomial()),
        ("--emission zero-inflated-poisson", ZeroInflated(Poisson())),
        ("--emission zero-inflated-negative-binomial", ZeroInflated(NegativeBinomial())),
        ("--emission full-gaussian", Gaussian()),
        ("--emission spherical-gaussian", Gaussian()),
        ("--emission tied-gaussian", Tied(Gaussian())),
        ("--emission tied-full-gaussian", Tied(Gaussian())),
        ("--emission gaussian-mixture", Mixture(Gaussian(), 2)),
        ("--emission full-gaussian-mixture:1", Mixture(Gaussian(), 1)),
        ("--emission poisson-mixture:3", Mixture(Poisson(), 3)),
        ("--emission categorical", Categorical(3)),
    ],
)
def test_whole_numbers_are_what_the_user_says_and_nothing_before(
    said: str, family: Emission | None, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_csv(Path("counts.csv"), np.random.default_rng(0).integers(3, size=(40, 1)))
    arguments = f"fit hmm --data counts.csv --num-states 2 --iterations 3 {said}".split()
    assert call(monkeypatch, *arguments) == (2 if family is None else 0)
    if family is None:
        assert (
            "expected a kind for column '1', whose cells are whole numbers with 3 different values"
            in capsys.readouterr().err
        )
    else:
        assert load_model("fits/hmm-counts-2").family == family


@pytest.mark.parametrize(("said", "family"), [("gamma", Gamma()), ("beta", Beta()), ("von-mises", VonMises())])
def test_families_of_positive_numbers_shares_and_angles(
    said: str, family: Emission, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(Path("shares.csv"), np.random.default_rng(0).uniform(0.1, 0.9, size=(40, 1)))
    arguments = f"fit hmm --data shares.csv --num-states 2 --iterations 3 --emission {said}".split()
    assert call(monkeypatch, *arguments) == 0
    assert load_model("fits/hmm-shares-2").family == family


@pytest.mark.parametrize("said", ["poisson:2", "gaussian-mixture:0", "gaussian-mixture:many", "gaussian-mixture:"])
def test_a_number_of_components_is_for_mixtures(said: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    write_csv(Path("counts.csv"), np.random.default_rng(0).integers(3, size=(40, 1)))
    arguments = f"fit hmm --data counts.csv --num-states 2 --emission {said}".split()
    assert call(monkeypatch, *arguments) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert (
        f"only for a mixture, such as gaussian-mixture:3, full-gaussian-mixture:3, poisson-mixture:3, got '{said}'"
        in error
    )


@pytest.mark.parametrize(
    ("command", "note"),
    [
        ("hmm --num-states 2 --restarts 1 --iterations 5 --kind real", "in states 0, 1, column 2"),
        ("lgssm --latent-dim 2 --iterations 120", "The noise of "),
    ],
)
def test_a_column_without_noise_is_fitted_and_named(
    command: str, note: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    rows = series()
    third = np.full((len(rows), 1), 7.0) if command.startswith("hmm") else 2 * rows[:, :1]
    write_csv(Path("river.csv"), np.concatenate([rows, third], 1))
    assert call(monkeypatch, "fit", *command.split(), "--data", "river.csv", "--output", "out") == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "note: The " in output
    assert "is held at min_scale=" in output
    assert note in output
    assert (" is the best on the " in output) == command.startswith("hmm")
    load_model("out")


@pytest.mark.parametrize(
    ("steps", "command", "unit"),
    [
        (BaumWelch, "fit hmm --data synthetic-hmm --num-states 2 --restarts 2", "iteration"),
        (GaussianEm, "fit lgssm --data river.csv --latent-dim 1", "iteration"),
        (training.Run, "fit rnn --data synthetic-hmm --hidden-dim 2", "epoch"),
        (training.Run, "fit noisy-rnn --data river.csv --latent-dim 1", "epoch"),
    ],
)
def test_an_interrupted_fit_reports_and_saves_what_there_is(
    steps: type, command: str, unit: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_csv(Path("river.csv"), series())
    name = "epoch" if unit == "epoch" else "maximise"
    method: Callable[..., object] = getattr(steps, name)
    calls: list[int] = []

    def interrupted(self: object, *arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return method(self, *arguments)

    monkeypatch.setattr(steps, name, interrupted)
    assert call(monkeypatch, *command.split(), "--output", "out", "--json", "r.json") == 130
    output = capsys.readouterr().out
    assert re.search(rf"interrupted after \d {unit}", output)
    assert "saved in out" in output
    assert json.loads(Path("r.json").read_text())["stopped_by"] == "interrupt"
    load_model("out")


def test_one_seed_gives_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        command = f"fit hmm --data river.npy --num-states 2 --iterations 3 --restarts 3 --output {folder} --seed {seed}"
        np.save("river.npy", series())
        assert call(monkeypatch, *command.split()) == 0
    a, b, c = (torch.cat([p.detach().flatten() for p in load_model(name).parameters()]) for name in "abc")
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.nightly
def test_a_redirected_output_without_unicode_is_no_error(tmp_path: Path) -> None:
    write_csv(tmp_path / "river.csv", series())
    arguments = ["fit", "lgssm", "--data", "river.csv", "--latent-dim", "1"]
    done = pgm_rnn(*arguments, PYTHONIOENCODING="ascii", PYTHONPATH=str(Path(__file__).parents[1]))
    assert done.returncode == 0, done.stderr
    assert done.stderr.removeprefix(f"{compilation.MESSAGE}\n") == ""


def test_a_table_fits_eighty_columns(capsys: Capture) -> None:
    from rich.console import Console

    score = Score("train", 12345.678, 1234.567, "exact", 1_234_567_890, 1_234_567_890_123)
    Console(width=80).print(scores_table([score, score._replace(standard_error=math.nan, nats_per_step=math.inf)]))
    lines = capsys.readouterr().out.splitlines()
    assert "12345.678" in lines[2]
    assert "inf" in lines[3]
    assert max(map(len, lines)) <= 80


# What the user gets wrong.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("hmm --data jbs --num-states 2", "or an existing file, got 'jbs'; did you mean 'jsb'"),
        ("hmm --data river.cvs --num-states 2", "or an existing file, got 'river.cvs'"),
        ("hmm --data synthetic-hmm --num-states 0", "expected num_states"),
        ("hmm --data synthetic-hmm --num-states two", "Invalid value for '--num-states'"),
        ("hmm --data synthetic-hmm --num-states 1,x", "expected whole numbers such as 4 or 1,2,3,4, got '1,x'"),
        ("hmm --data synthetic-hmm --num-states 1,0", "expected num_states to be an integer of at least 1, got 0"),
        (
            "hmm --data synthetic-hmm --num-states 2,3,2",
            "expected each number of --num-states once, got 2 twice in 2,3",
        ),
        ("hmm --data synthetic-hmm --num-states 2,3 --restarts 0", "expected restarts"),
        ("hmm --data synthetic-hmm", "Missing option '--num-states'"),
        ("hmm --num-states 2", "Missing option '--data'"),
        ("hmm --data synthetic-hmm --num-state 2", "No such option: --num-state"),
        ("hmm --data synthetic-hmm --num-states 2 --restarts 0", "expected restarts"),
        ("hmm --data synthetic-hmm --num-states 2 --iterations 0", "expected iterations"),
        ("hmm --data synthetic-hmm --num-states 2 --pseudo-count -1", "expected pseudo_count to be at least 0, got -1"),
        ("hmm --data synthetic-hmm --num-states 2 --tolerance nan", "expected tolerance to be at least 0, got nan"),
        ("hmm --data synthetic-hmm --num-states 2 --emission poisson", "expected --emission only with a file"),
        ("hmm --data synthetic-hmm --num-states 2 --test-fraction 0", "expected --test-fraction only with a file"),
        ("hmm --data synthetic-hmm --num-states 2 --column x", "expected --column only with a file"),
        ("hmm --data river.csv --num-states 2 --emission poison", "did you mean 'poisson'"),
        (
            "hmm --data river.csv --num-states 2 --emission poisson",
            "expected counts 0, 1, 2, ... in column 'flow'",
        ),
        (
            "hmm --data river.csv --num-states 2 --emission categorical",
            "expected words or whole numbers in column",
        ),
        ("hmm --data river.csv --num-states 2 --emission categorical --column flow", "read the column by --kind flow="),
        ("hmm --data gaps.csv --num-states 2", "choose --kind 1=count or --kind 1=symbol or --kind 1=real"),
        ("hmm --data gaps.csv --num-states 2 --kind reel", "did you mean 'real'"),
        (
            "hmm --data river.csv --num-states 2 --kind flow=count --kind real",
            "expected one --kind for all columns",
        ),
        ("hmm --data river.csv --num-states 2 --sequence site", "expected --sequence to be one of flow, rain"),
        ("hmm --data synthetic-hmm --num-states 2 --sequence x", "expected --sequence only with a file"),
        ("lgssm --data synthetic-hmm --latent-dim 2", "whose observations are symbols in 0..2; use pgm-rnn fit hmm"),
        ("lgssm --data river.csv --latent-dim 0", "expected latent_dim"),
        ("lgssm --data river.csv --latent-dim 95", "expected latent_dim of at most M (T - 1) = 94, got 95"),
        ("lgssm --data river.csv --latent-dim 1 --column flwo", "expected --column to be one of flow, rain"),
        ("lgssm --data river.csv --latent-dim 1 --test-fraction 1", "together below 1, got 0.0 and 1.0"),
        ("lgssm --data river.csv --latent-dim 1 --valid-fraction -1", "together below 1, got -1.0 and 0.2"),
        ("lgssm --data short.csv --latent-dim 1", "expected more steps to train on, got 2 for all splits"),
        ("lgssm --data row.csv --latent-dim 1", "got 1 for all splits; a series needs at least 2 rows"),
        ("lgssm --data row.csv --latent-dim 1 --test-fraction 0", "got 1 for all splits; a series needs at least"),
        ("lgssm --data text.csv --latent-dim 1", "got 'x' in line 2"),
        ("lgssm --data empty.csv --latent-dim 1", "expected a table in empty.csv, got an empty file"),
        ("lgssm --data . --latent-dim 1", "expected a file, got ., which does not exist or is a folder"),
        ("lgssm --data river.csv --latent-dim 1 --output .", "expected a new folder or one that holds a saved model"),
        ("lgssm --data river.csv --latent-dim 1 --output river.csv", "expected a new folder or one that holds"),
        ("lgssm --data river.csv --latent-dim 1 --output river.csv/x", "expected --output to name a folder"),
        ("lgssm --data river.csv --latent-dim 1 --json no/such/x.json", "expected --json to name a file"),
        ("rnn --data river.cvs", "or an existing file, got 'river.cvs'"),
        (
            "rnn --data gaps.csv --kind real",
            "expected no gaps, because the memory of RNN reads every observation",
        ),
        ("rnn --data synthetic-hmm --cell lsmt", "did you mean 'lstm'"),
        ("rnn --data synthetic-hmm --epochs 0", "expected num_epochs"),
        ("rnn --data synthetic-hmm --learning-rate 0", "expected learning_rate to be a positive number"),
        ("rnn --data synthetic-hmm --schedule cosin", "did you mean 'cosine'"),
        ("rnn --data synthetic-hmm --device gpu", "expected device to be cpu or cuda, got 'gpu'"),
        ("rnn --data synthetic-hmm --metrics no/such.jsonl", "expected --metrics to name a file in a folder"),
        ("noisy-rnn --data river.csv", "expected --latent-dim for noisy-rnn, got none"),
        ("noisy-rnn --data synthetic-hmm --latent-dim 2", "expected vectors of real numbers for noisy-rnn, got synth"),
        ("noisy-rnn --data gaps.csv --latent-dim 2", "expected no missing values for noisy-rnn"),
        ("noisy-rnn --data river.csv --latent-dim 0", "expected latent_dim"),
        ("noisy-rnn --data river.csv --latent-dim 2 --hidden-dim 3", "No such option: --hidden-dim"),
        ("noisy-rnn --data river.csv --latent-dim 2 --emission poisson", "expected --emission to be one of gaussian"),
        ("noisy-rnn --data river.csv --latent-dim 2 --objective mle", "expected --objective to be one of elbo, iwae"),
        ("noisy-rnn --data river.csv --latent-dim 2 --num-particles 0", "expected num_particles to be an integer"),
        ("noisy-rnn --data river.csv --latent-dim 2 --objective fivo --kl-warmup 2", "expected kl_warmup only with"),
        ("noisy-rnn --data river.csv --latent-dim 2 --batch-size 0", "expected batch_size to be an integer"),
        ("hm --data synthetic-hmm", "No such command 'hm'"),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence_before_any_work(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_csv(Path("river.csv"), series(), "flow,rain")
    Path("gaps.csv").write_text("1\n\n3\n4\n5\n")
    Path("short.csv").write_text("1\n2\n")
    Path("row.csv").write_text("a,b\n1.5,2.5\n")
    Path("text.csv").write_text("1,2\n3,x\n")
    Path("empty.csv").write_text("")
    before = {path: path.stat().st_mtime_ns for path in Path().iterdir()}
    assert call(monkeypatch, "fit", *arguments.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert {path: path.stat().st_mtime_ns for path in Path().iterdir()} == before


def test_a_variable_without_noise_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    # whether rounding or the tolerance ends such a fit first depends on the last bit, so the first is made to happen
    def exact(self: GaussianEm) -> None:
        raise kalman.CovarianceError("expected predictions with positive definite covariances, got one that is not")

    monkeypatch.setattr(GaussianEm, "maximise", exact)
    write_csv(Path("odd.csv"), np.ones((9, 1)))
    assert call(monkeypatch, *["fit", "lgssm", "--data", "odd.csv", "--latent-dim", "2"]) == 2
    assert "such as a constant or a row number; leave it out with --column" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["hmm", "--help"], ["lgssm", "-h"], ["rnn", "-h"], ["noisy-rnn", "-h"]])
def test_help_says_what_there_is(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert call(monkeypatch, "fit", *arguments) == (0 if arguments else 2)
    captured = capsys.readouterr()
    assert ("--data" if arguments else "lgssm") in captured.out + captured.err


def test_a_markov_chain_is_counted(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    np.save("symbols.npy", np.random.default_rng(0).integers(3, size=(20, 5, 1)))
    assert call(monkeypatch, "fit", "markov-chain", "--data", "symbols.npy") == 0
    assert load_model("fits/markov-chain-symbols-1").recipe[0] == "markov-chain"
    assert "1 pass in" in capsys.readouterr().out
    np.save("reals.npy", np.random.default_rng(0).normal(size=(20, 5, 1)))
    assert call(monkeypatch, "fit", "markov-chain", "--data", "reals.npy", "--emission", "gaussian") == 2
    assert "expected symbols or bits for markov-chain" in capsys.readouterr().err


@pytest.mark.parametrize("sizes", ["particle-filter-rnn --num-states 2", "multi-particle-rnn --num-particles 3"])
def test_networks_with_particles_are_fitted(sizes: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    np.save("symbols.npy", np.random.default_rng(0).integers(3, size=(20, 5, 1)))
    assert call(monkeypatch, *f"fit {sizes} --data symbols.npy --emission categorical --epochs 2".split()) == 0
    assert "exact" in capsys.readouterr().out


def test_a_size_that_a_model_needs_or_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert call(monkeypatch, *["fit", "belief-rnn", "--data", "synthetic-hmm"]) == 2
    assert "expected --num-states for belief-rnn, got none" in capsys.readouterr().err
    assert call(monkeypatch, *["fit", "multi-particle-rnn", "--data", "synthetic-hmm", "--num-states", "2"]) == 2
    assert "No such option: --num-states" in capsys.readouterr().err


# What networks are trained on, and from where.


@pytest.fixture
def rolls() -> str:
    """A file of eight short pieces with keys in the middle of the keyboard."""
    x = np.zeros((8, 4, 88))
    x[..., 40:50] = np.random.default_rng(0).integers(2, size=(8, 4, 10))
    np.save("rolls.npy", x)
    return "--data rolls.npy --emission bernoulli --epochs 1"


def test_a_network_is_trained_on_transposed_copies_of_a_roll(
    rolls: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    seen: list[int] = []
    run = training.Run.__init__

    def watched(self: training.Run, goal: Goal, *others: Any) -> None:
        seen.append(len(goal.train.lengths))
        run(self, goal, *others)

    monkeypatch.setattr(training.Run, "__init__", watched)
    command = f"fit rnn {rolls} --hidden-dim 2 --overwrite --transpose"
    assert call(monkeypatch, *command.split(), "2") == 0
    assert call(monkeypatch, *command.split(), "0") == 0
    assert seen[0] == 5 * seen[1]
    assert call(monkeypatch, *command.split(), "99") == 2
    assert "expected a transposition by 1 to 38 keys" in capsys.readouterr().err
    command = "fit rnn --data synthetic-hmm --hidden-dim 2 --transpose 1"
    assert call(monkeypatch, *command.split()) == 2
    assert "expected piano rolls of 88 keys with --transpose" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["rnn --hidden-dim 2", "vrnn --latent-dim 1 --hidden-dim 2"])
def test_bits_can_depend_on_each_other(
    model: str, rolls: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert call(monkeypatch, *f"fit {model} {rolls} --nade-dim 3 --output out".split()) == 0
    assert load_model("out").family == NadeBits(88, 3)
    assert call(monkeypatch, *["evaluate", "out", "--data", "rolls.npy", "--num-particles", "2"]) == 0
    assert call(monkeypatch, *["fit", "rnn", "--data", "synthetic-hmm", "--nade-dim", "3"]) == 2
    assert "expected vectors of bits with --nade-dim, got symbols in 0..2" in capsys.readouterr().err


def test_a_networks_numbers_are_stored_in_half_the_space(rolls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for option, folder in (([], "whole"), (["--half"], "half")):
        command = [*f"fit rnn {rolls} --hidden-dim 8".split(), *option, "--output", folder, "--json", f"{folder}.json"]
        assert call(monkeypatch, *command) == 0
    sizes = {folder: Path(folder, "model.safetensors").stat().st_size for folder in ("whole", "half")}
    assert sizes["half"] < 0.6 * sizes["whole"]
    score = json.loads(Path("half.json").read_text())["scores"][-1]
    x = torch.from_numpy(np.load("rolls.npy"))[-2:]  # of the rounded numbers
    assert svi.evaluate(of_sequences(load_model("half")), x).nats_per_step == pytest.approx(
        score["nats_per_step"], rel=1e-6
    )


def test_a_fit_begins_with_the_numbers_of_another(rolls: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = f"fit vrnn {rolls} --latent-dim 1 --hidden-dim 2"
    assert call(monkeypatch, *command.split(), "--output", "first") == 0
    begin = f"{command} --objective fivo --num-particles 2 --learning-rate 1e-12 --start first --output second"
    assert call(monkeypatch, *begin.split(), "--json", "r.json") == 0
    first, second = (load_model(name).state_dict() for name in ("first", "second"))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-8)
    before = json.loads(Path("r.json").read_text())["fit"]["start"]
    assert "--output first" in before["command"]
    assert call(monkeypatch, *command.split(), "--latent-dim", "2", "--start", "first") == 2
    assert "expected --start to name a vrnn with {'latent_dim': 2" in capsys.readouterr().err


def test_handwriting_gets_an_hmm_with_one_normal_law_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """By EM, which has no closed form for the mixtures that networks draw with."""
    drawn = HMM.random(2, emission=Pen(1), seed=0).sample(12, 6, seed=1)
    train, valid, test = (drawn.select(torch.arange(i, i + 4)) for i in (0, 4, 8))
    strokes = Dataset("strokes", "Made strokes", Pen(20), train, valid, test)
    monkeypatch.setitem(catalogue.DATASETS, "strokes", DatasetInfo("strokes", lambda seed: strokes, Pen))
    options = ["--num-states", "2", "--half", "--output", "out"]
    assert call(monkeypatch, "fit", "hmm", "--data", "strokes", *options) == 0
    assert load_model("out").family == Pen(1)
    assert call(monkeypatch, *["evaluate", "out", "--data", "strokes"]) == 0


# Runs that go on.


def test_a_run_goes_on_from_its_checkpoint_and_saves_the_same_model(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    command = "fit rnn --data synthetic-hmm --cell gru --hidden-dim 2 --epochs 2 --metrics m.jsonl --checkpoint run"
    assert call(monkeypatch, *command.split(), "--output", "out") == 0
    first, lines = load_model("out").state_dict(), Path("m.jsonl").read_text()
    assert call(monkeypatch, *command.split(), "--output", "again", "--resume") == 0
    assert_same(load_model("again").state_dict(), first)
    assert Path("m.jsonl").read_text() == lines
    assert call(monkeypatch, *command.split(), "--output", "third") == 2
    assert "expected a new folder for a new run" in capsys.readouterr().err


def test_a_run_that_may_go_on_but_is_new_starts_near_the_data(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = "fit hsmm --data synthetic-hmm --num-states 2 --max-duration 3 --epochs 1 --output {}"
    assert call(monkeypatch, *command.format("out").split()) == 0
    assert call(monkeypatch, *command.format("again").split(), "--checkpoint", "run", "--resume") == 0
    assert capsys.readouterr().out.count("from EM") == 2
    assert_same(load_model("again").state_dict(), load_model("out").state_dict())


def test_resume_without_a_folder_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert call(monkeypatch, *["fit", "rnn", "--data", "synthetic-hmm", "--hidden-dim", "2", "--resume"]) == 2
    assert "expected --checkpoint with --resume" in capsys.readouterr().err
