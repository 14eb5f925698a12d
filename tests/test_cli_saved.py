"""`pgm-rnn evaluate`, `sample`, `show` and `forecast` as a person meets them, on models saved before."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import pgm_rnn as pr
from pgm_rnn import data as datasets
from pgm_rnn import load_model, load_pretrained, save_model
from pgm_rnn.data.dataset import Dataset
from pgm_rnn.emissions import Bernoulli, Categorical, Gaussian, Pen, Poisson
from pgm_rnn.inference import kalman, svi
from pgm_rnn.models import HMM, RNN, DeepMarkovModel, LinearGaussianSSM, NoisyRNN
from pgm_rnn.randomness import seeded
from pgm_rnn.report import material, predicting, saved, showing
from pgm_rnn.report.midi import midi
from pgm_rnn.sequences import pad
from tests.instances import of_sequences
from tests.test_cli import call

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with saved models and files of numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("folders"))
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        with seeded(0):
            _fill()
        torch.set_default_dtype(dtype)
        return Path.cwd()


@pytest.fixture(autouse=True)
def _folder(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of it as the present folder, and float32 as in a fresh interpreter."""
    shutil.copytree(folders, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)


def _fill() -> None:
    """Save models and numbers in the present folder."""
    save_model(HMM.random(num_states=2, num_symbols=3, seed=0), "hmm", info={"data": "synthetic-hmm", "seed": 0})
    save_model(noisy(), "noisy")
    save_model(linear(), "linear", info={"data": "named.csv", "file": {"columns": ["b", "a"]}})
    save_model(RNN("gru", emission=Poisson(), hidden_dim=2), "counts")
    save_model(RNN("gru", emission=Bernoulli(88), hidden_dim=2), "keys")
    np.save("many.npy", series())
    np.savetxt("river.csv", series()[0], delimiter=",")
    np.savetxt("named.csv", series()[0], delimiter=",", header="a,b", comments="")
    np.save("counts.npy", np.arange(6.0))


def noisy() -> NoisyRNN:
    return NoisyRNN.random(2, 2, feedback=True, seed=0).double()


def linear() -> LinearGaussianSSM:
    return LinearGaussianSSM.random(latent_dim=2, obs_dim=2, seed=0).double()


def series() -> np.ndarray:
    return linear().sample(12, 15, seed=0).x.numpy()


def run(monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: str) -> str:
    assert call(monkeypatch, *command.split()) == 0
    return capsys.readouterr().out


# Evaluate.


def test_a_model_is_scored_exactly_on_a_data_set(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    output = run(monkeypatch, capsys, "evaluate hmm --data synthetic-hmm --json r.json")
    hmm = saved.open_saved(Path("hmm")).model
    expected = svi.evaluate(hmm, datasets.load("synthetic-hmm", seed=0).test)  # type: ignore[arg-type]
    assert f"{expected.nats_per_step:.3f}   {expected.standard_error:.3f}   exact" in output
    record = json.loads(Path("r.json").read_text())
    assert (record["nats_per_step"], record["bound"], record["split"]) == (expected.nats_per_step, "exact", "test")
    assert len(record["log_likelihoods"]) == 100


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ("--bound elbo", "ELBO"),
        ("", "FIVO_128"),
        ("--num-particles 9", "FIVO_9"),
        ("--bound iwae --num-particles 5", "IWAE_5"),
        ("--bound fivo --num-particles 6 --normalisation skip-first", "FIVO_6"),
        ("--bound importance --num-particles 7 --normalisation sequence --seed 3", "importance_7"),
    ],
)
def test_a_model_without_a_likelihood_is_scored_by_a_bound_with_its_error(
    options: str, label: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    output = run(monkeypatch, capsys, f"evaluate noisy --data many.npy {options} --json r.json")
    record = json.loads(Path("r.json").read_text())
    words = options.split()
    given = dict(zip(words[::2], words[1::2], strict=True))
    expected = svi.evaluate(
        noisy(),
        torch.from_numpy(series()),
        bound=given.get("--bound", "fivo"),  # of a model without a guide
        num_particles=int(given.get("--num-particles", 500 if "--bound" in given else 128)),
        normalisation=given.get("--normalisation", "sum"),
        seed=int(given.get("--seed", 0)),
    )
    assert record["nats_per_step"] == expected.nats_per_step
    assert record["monte_carlo_error"] == expected.monte_carlo_error > 0
    assert expected.bound == label
    assert f"{expected.nats_per_step:.3f}   {expected.standard_error:.3f}   {label}" in output
    assert "of the draws alone" in output
    assert (f"{label}: from a particle filter, above the exact number" in output) == label.startswith("FIVO")


def test_a_model_with_a_guide_is_scored_by_its_elbo(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    save_model(DeepMarkovModel(latent_dim=2, hidden_dim=3, emission=Gaussian(2)).double(), "guided")
    assert "ELBO" in run(monkeypatch, capsys, "evaluate guided --data many.npy")


def test_the_error_of_one_series_is_that_of_its_steps(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    output = run(monkeypatch, capsys, "evaluate linear --data named.csv --json r.json")
    x = torch.from_numpy(series()[0][:, ::-1].copy())
    logs = [float(linear().log_marginal_likelihood(x[:steps]).detach()) for steps in range(1, len(x) + 1)]
    terms = -np.diff(logs, prepend=0.0)
    record = json.loads(Path("r.json").read_text())
    assert record["standard_error"] == pytest.approx(terms.std(ddof=1) / len(terms) ** 0.5)
    assert "± standard error over steps" in output
    assert f"{terms.mean():.3f}   {record['standard_error']:.3f}   exact" in output


def test_an_error_that_few_draws_carry_is_not_shown_alone(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    np.save("long.npy", linear().sample(4, 200, seed=0).x.numpy())
    output = run(monkeypatch, capsys, "evaluate noisy --data long.npy --bound importance --num-particles 20")
    assert "of the draws carry the weight of a sequence: too few for that error; try --bound fivo" in output
    assert "carry the weight" not in run(monkeypatch, capsys, "evaluate noisy --data long.npy --bound fivo")


def test_the_columns_of_a_file_are_those_of_the_fit(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    found = []
    for options in ("", "--column b --column a", "--column a --column b"):
        run(monkeypatch, capsys, f"evaluate linear --data named.csv {options} --json r.json")
        found.append(json.loads(Path("r.json").read_text())["nats_per_step"])
    assert found[0] == found[1] == found[2]
    x = torch.from_numpy(np.loadtxt("named.csv", delimiter=",", skiprows=1))
    for order, is_right in (([1, 0], True), ([0, 1], False)):
        nats = -float(linear().log_prob(x[None][..., order]).sum().detach()) / len(x)
        assert (nats == pytest.approx(found[0], rel=1e-9)) == is_right


def test_swapped_columns_are_put_right_by_their_names(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2)) + np.array([0.0, 100.0])
    np.savetxt("ab.csv", rows, delimiter=",", header="a,b", comments="")
    np.savetxt("ba.csv", rows[:, ::-1], delimiter=",", header="b,a", comments="")
    np.savetxt("more.csv", np.c_[range(60), rows[:, 1], rows], delimiter=",", header="year,b,a,c", comments="")
    np.savetxt("bare.csv", rows, delimiter=",")
    np.savetxt("cd.csv", rows, delimiter=",", header="c,d", comments="")
    run(monkeypatch, capsys, "fit lgssm --data ab.csv --latent-dim 1 --iterations 5 --test-fraction 0 --output m")
    assert saved.open_saved(Path("m")).info["file"]["columns"] == ["a", "b"]
    found = {}
    for options in (
        "ab.csv",
        "ba.csv",
        "more.csv",
        "bare.csv",
        "ba.csv --column b --column a",
        "cd.csv --column c --column d",
    ):
        run(monkeypatch, capsys, f"evaluate m --data {options} --json r.json")
        found[options] = json.loads(Path("r.json").read_text())["nats_per_step"]
    assert list(found.values()) == pytest.approx([found["ab.csv"]] * len(found))
    assert found["ab.csv"] < 10  # of two columns of unit variance; swapped they are 100 away
    assert call(monkeypatch, "evaluate", "m", "--data", "bare.csv") == 0
    assert "bare.csv names no columns; they are taken in the order of the fit: a, b" in capsys.readouterr().err
    assert call(monkeypatch, "forecast", "m", "--data", "cd.csv") == 2
    assert "expected the columns of the fit, a, b, in cd.csv, got c, d; rename them, or" in capsys.readouterr().err
    swapped = ("--column", "b", "--column", "c")
    assert call(monkeypatch, "evaluate", "m", "--data", "more.csv", *swapped) == 2
    assert (
        "expected --column in the order of the fit, a, b, got b, c, where 'b' is at another place"
        in capsys.readouterr().err
    )


def test_fits_without_names_take_columns_in_their_order(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    save_model(linear(), "nameless", info={"data": "named.csv", "file": {"columns": []}})
    save_model(linear(), "numbered", info={"data": "river.csv", "file": {"columns": ["1", "2"]}})
    found = []
    for name, data in (("nameless", "named"), ("numbered", "river"), ("numbered", "named"), ("nameless", "river")):
        run(monkeypatch, capsys, f"evaluate {name} --data {data}.csv --json r.json")
        found.append(json.loads(Path("r.json").read_text())["nats_per_step"])
    assert found == [found[0]] * 4
    assert call(monkeypatch, "evaluate", "numbered", "--data", "named.csv") == 0
    assert "the columns of the fit have no names; those of named.csv are taken" in capsys.readouterr().err


# Sample.


def test_draws_are_printed_a_line_a_sequence(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    output = run(monkeypatch, capsys, "sample hmm --num-sequences 3 --num-steps 7 --seed 5")
    expected = saved.open_saved(Path("hmm")).model.sample(3, 7, seed=5).x
    assert [[int(word) for word in line.split()] for line in output.splitlines()] == expected.tolist()
    assert len(run(monkeypatch, capsys, "sample counts --num-steps 4").splitlines()) == 5


def test_draws_are_written_with_their_states(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    output = run(monkeypatch, capsys, "sample noisy --num-sequences 3 --num-steps 7 --seed 5 --out draws.npz")
    assert "written to draws.npz: x (3, 7, 2), z (3, 7, 2)" in output
    with np.load("draws.npz") as file:
        expected = noisy().sample(3, 7, seed=5)
        assert expected.z is not None
        assert np.array_equal(file["x"], expected.x.numpy())
        assert np.array_equal(file["z"], expected.z.numpy())


def test_a_file_is_what_its_suffix_says(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    save_model(RNN("gru", emission=Bernoulli(88), hidden_dim=2), "tunes", info={"data": "nottingham"})
    save_model(RNN("gru", emission=Pen(2), hidden_dim=2), "pen", info={"data": "kanji"})
    save_model(RNN("gru", emission=Gaussian(2), hidden_dim=2), "digits", info={"data": "pen-digits"})
    save_model(RNN("gru", emission=Gaussian(12), hidden_dim=2), "speech", info={"data": "japanese-vowels"})
    for command, beginning, what in (
        ("sample keys --out a.mid --tempo 60", b"MThd", "music"),
        ("sample keys --out a.PNG", b"\x89PNG", "music"),
        ("sample pen --out a.svg", b"<?xml", "handwriting"),
        ("sample pen --out a.png", b"\x89PNG", "handwriting"),
        ("sample digits --out a.svg", b"<?xml", "handwriting"),
        ("sample speech --out a.png", b"\x89PNG", "speech"),
        ("sample noisy --out a.png", b"\x89PNG", "vectors of numbers"),
        ("sample counts --out a.svg", b"<?xml", "numbers"),
        ("sample hmm --out a.txt", b"", "symbols"),
    ):
        output = run(monkeypatch, capsys, f"{command} --num-sequences 2 --num-steps 6")
        file = command.split()[3]
        assert output == f"written to {file}: 2 sequences, 12 steps of {what}\n"
        assert Path(file).read_bytes().startswith(beginning)
    assert Path("a.txt").read_text() == run(monkeypatch, capsys, "sample hmm --num-sequences 2 --num-steps 6")
    x = saved.open_saved(Path("tunes")).model.sample(2, 6, seed=0).x
    run(monkeypatch, capsys, "sample tunes --num-sequences 2 --num-steps 6 --out b.mid")
    assert Path("b.mid").read_bytes() == midi(list(x), steps_per_beat=2)


def test_a_trained_model_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    output = run(monkeypatch, capsys, "sample rnn-gru-synthetic-hmm-8 --num-sequences 2 --num-steps 5 --seed 3")
    expected = of_sequences(load_pretrained("rnn-gru-synthetic-hmm-8")).sample(2, 5, seed=3).x
    assert [[int(word) for word in line.split()] for line in output.splitlines()] == expected.tolist()
    assert "exact" in run(monkeypatch, capsys, "evaluate rnn-gru-synthetic-hmm-8 --data synthetic-hmm")


def test_draws_that_are_not_finite_are_no_picture(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    model = LinearGaussianSSM.random(latent_dim=2, obs_dim=2, seed=0)
    with torch.no_grad():
        model.emission_matrix.fill_(torch.inf)
    monkeypatch.setattr(predicting, "open_saved", lambda *_: saved.Saved(model, {}))
    assert call(monkeypatch, *["sample", "linear", "--out", "a.png"]) == 2
    assert "expected finite numbers to draw, got NaN or infinity; write them to a .npz" in capsys.readouterr().err
    assert not Path("a.png").exists()


def test_a_full_disk_leaves_the_file_that_was_there(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for file in ("a.mid", "a.npz"):
        Path(file).write_text("before")
    monkeypatch.setattr(os, "fsync", full)
    for file in ("a.mid", "a.npz"):
        assert call(monkeypatch, *["sample", "keys", "--out", file]) == 2
        assert "No space left on device" in capsys.readouterr().err
        assert Path(file).read_text() == "before"
    assert not list(Path().glob(".*"))


# Show.


def made_data(name: str, seed: int = 0) -> Dataset:
    if name == "tiny-shakespeare":
        return text()
    rolls = [torch.eye(88, dtype=torch.uint8)[i : i + length] for i, length in enumerate((5, 2, 7))]
    return Dataset(name, "", Bernoulli(88), pad(rolls), pad(rolls[:2]), pad(rolls))


def test_real_sequences_are_shown_as_draws_are(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(showing, "load", lambda name, **options: made_data(name))
    test = made_data("jsb").test
    assert test is not None
    assert "3 sequences, 14 steps of music" in run(monkeypatch, capsys, "show jsb --out a.mid")
    assert Path("a.mid").read_bytes() == midi([x[:length] for x, length in zip(test.x, (5, 2, 7), strict=True)])
    command = "show nottingham --first 1 --num-sequences 2 --num-steps 4 --tempo 200 --out b.mid"
    assert "2 sequences, 6 steps of music" in run(monkeypatch, capsys, command)
    assert Path("b.mid").read_bytes() == midi([test.x[1, :2], test.x[2, :4]], steps_per_beat=2, tempo=200)
    assert "x (2, 5, 88), lengths (2,)" in run(monkeypatch, capsys, "show jsb --split valid --out c.npz")
    with np.load("c.npz") as file:
        assert file["lengths"].tolist() == [5, 2]
    assert run(monkeypatch, capsys, "show tiny-shakespeare --split train") == "ab\n\n"
    run(monkeypatch, capsys, "show tiny-shakespeare --split train --out d.txt")
    assert Path("d.txt").read_text() == "ab\n\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("show jbs", "did you mean 'jsb'?"),
        ("show", "Missing argument"),
        ("show jsb", "expected --out FILE for music, got none; it may end in .mid, .png, .svg or .npz"),
        ("show jsb --out a.txt", "expected --out to end in .mid, .png, .svg or .npz for music, got a.txt"),
        ("show jsb --out a", "expected --out to end in .mid, .png, .svg or .npz for music, got a"),
        ("show jsb --out no/a.mid", "expected --out to name a file in a folder that can be written to, got no/a.mid"),
        ("show jsb --out folder.mid", "expected --out to name a file in a folder that can be written to"),
        ("show jsb --out a.mid --tempo 0", "expected --tempo in 4..1000 beats per minute, got 0"),
        ("show jsb --out a.png --tempo 90", "expected --tempo only with --out FILE.mid, got it with a.png"),
        ("show jsb --out a.mid --num-sequences 0", "expected num_sequences to be an integer of at least 1, got 0"),
        ("show jsb --out a.mid --num-steps 0", "expected num_steps to be an integer of at least 1, got 0"),
        ("show jsb --out a.mid --first 3", "expected --first in 0..2, got 3"),
        ("show jsb --out a.mid --first -1", "expected --first in 0..2, got -1"),
        ("show jsb --out a.mid --split tset", "did you mean 'test'?"),
        ("show tiny-shakespeare", "expected --split to be one of train for tiny-shakespeare"),
        ("show tiny-shakespeare --split train --out a.mid", "expected --out to end in .txt or .npz for text, got"),
        ("sample keys --out a.svgz", "expected --out to end in .mid, .png, .svg or .npz for music, got a.svgz"),
        ("sample keys --out a.mid --num-sequences 0", "expected num_sequences"),
        ("sample hmm --tempo 90", "expected --tempo only with --out FILE.mid, got it with no file"),
        ("sample hmm --out a.mid", "expected --out to end in .txt or .npz for symbols, got a.mid"),
        ("sample noisy --out a.mid --tempo 90", "expected --out to end in .png, .svg or .npz for vectors of numbers"),
        ("sample hmm-jsb-17", "expected the folder of a saved model, got hmm-jsb-17; did you mean the trained hmm-jsb"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(showing, "load", lambda name, **options: made_data(name))
    Path("folder.mid").mkdir()
    before = sorted(Path().iterdir())
    assert call(monkeypatch, *arguments.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert sorted(Path().iterdir()) == before


def text() -> Dataset:
    return Dataset("tiny-shakespeare", "", Categorical(3), pad([torch.tensor([0, 1, 2])]), vocabulary="ab\n")


def test_a_model_of_text_draws_text_without_the_data_if_its_fit_noted_the_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(material, "load", lambda name, **options: text())
    command = "fit rnn --data tiny-shakespeare --cell gru --hidden-dim 2 --epochs 1 --output text"
    run(monkeypatch, capsys, command)
    monkeypatch.setattr(saved, "load", lambda name, **options: pytest.fail("the data are not there"))
    output = run(monkeypatch, capsys, "sample text --num-sequences 1 --num-steps 30")
    symbols = of_sequences(load_model("text")).sample(1, 30, seed=0).x[0].tolist()
    assert output == "".join("ab\n"[symbol] for symbol in symbols) + "\n"


def test_a_model_of_text_draws_text(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(saved, "load", lambda name, **options: text())
    model = HMM.random(num_states=2, num_symbols=3, seed=0)
    save_model(model, "text", info={"data": "tiny-shakespeare"})
    output = run(monkeypatch, capsys, "sample text --num-sequences 1 --num-steps 30")
    expected = "".join("ab\n"[symbol] for symbol in model.sample(1, 30, seed=0).x[0].tolist())
    assert output == expected + "\n"
    assert call(monkeypatch, *["evaluate", "text", "--data", "tiny-shakespeare"]) == 2
    assert "expected --split to be one of train for tiny-shakespeare" in capsys.readouterr().err


# Forecast.


@pytest.mark.parametrize("name", ["linear", "noisy"])
def test_a_forecast_is_a_table_of_means_and_intervals(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    command = f"forecast {name} --data river.csv --num-steps 2 --num-samples 400 --num-particles 50 --seed 1"
    lines = run(monkeypatch, capsys, command).splitlines()
    x = torch.from_numpy(series()[:1])
    model = saved.open_saved(Path(name)).model
    ahead = pr.forecast(model, x, 2, num_samples=400, num_particles=50, seed=1, levels=(90,))
    assert lines[0] == f"from {ahead.how}"
    assert lines[1].split()[:3] == ["step", "variable", "mean"]
    rows = [line.split() for line in lines[3:]]
    assert [row[:2] for row in rows] == [["16", "1"], ["16", "2"], ["17", "1"], ["17", "2"]]
    frame = ahead.to_frame()
    for column, place in (("mean", 2), ("lower_90", 3), ("upper_90", 4)):
        assert [float(row[place]) for row in rows] == pytest.approx(frame[column].tolist(), abs=6e-4), column


def test_a_forecast_of_symbols_is_printed_as_draws(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    output = run(monkeypatch, capsys, "forecast hmm --data synthetic-hmm --num-steps 4 --num-samples 3 --index 2")
    assert [len(line.split()) for line in output.splitlines()] == [4, 4, 4]


def test_all_forecasts_go_to_a_file(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = "forecast noisy --data many.npy --num-steps 2 --num-samples 4 --num-particles 9 --out f.npz"
    assert "written to f.npz: x (4, 12, 2, 2), z (4, 12, 2, 2)" in run(monkeypatch, capsys, command)


# What the user gets wrong.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("evaluate nowhere --data many.npy", "expected a saved model in a folder, got no file nowhere/model.json"),
        ("evaluate noisy", "Missing option '--data'"),
        ("evaluate --data many.npy", "Missing argument"),
        ("evaluate noisy --data synthetic-hm", "did you mean 'synthetic-hmm'"),
        ("evaluate noisy --data synthetic-hmm", "expected data for a model of Gaussian(size=2), got synthetic-hmm"),
        ("evaluate noisy --data many.npy --split test", "expected --split only with a data set"),
        ("evaluate hmm --data synthetic-hmm --split tset", "did you mean 'test'"),
        ("evaluate hmm --data synthetic-hmm --column a", "expected --column only with a file"),
        ("evaluate noisy --data counts.npy", "expected 2 variables for a model of Gaussian(size=2), got 1"),
        ("evaluate hmm --data river.csv --column 1", "expected words or whole numbers in column '1' of kind symbol"),
        ("evaluate noisy --data many.npy --bound exact", "has no exact likelihood"),
        ("evaluate noisy --data many.npy --bound ivae", "did you mean 'iwae'"),
        ("evaluate counts --data counts.npy --bound fivo", "expected a model with latent states for smc"),
        ("evaluate noisy --data many.npy --num-particles 0", "expected num_particles"),
        ("evaluate noisy --data many.npy --normalisation mean", "expected normalisation to be one of sum, sequence"),
        ("evaluate noisy --data many.npy --json no/such/x.json", "expected --json to name a file"),
        ("sample", "Missing argument"),
        ("sample nowhere", "expected a saved model in a folder"),
        ("sample noisy", "expected --out FILE for vectors of numbers, got none; it may end in .png, .svg or .npz"),
        ("sample hmm --num-sequences 0", "expected num_sequences"),
        ("sample hmm --num-steps 0", "expected num_steps"),
        ("sample hmm --out draws.csv", "expected --out to end in .txt or .npz for symbols, got draws.csv"),
        ("sample hmm --out no/such/draws.npz", "expected --out to name a file in a folder that can be written to"),
        (
            "forecast noisy --data many.npy --out f.txt",
            "expected --out to end in .csv, .parquet, .png, .svg or .npz, got f.txt",
        ),
        (
            "forecast noisy --data many.npy --out no/such/f.npz",
            "expected --out to be in a folder that can be written to, got no/such/f.npz",
        ),
        ("forecast noisy --data many.npy --num-steps 0", "expected num_steps"),
        ("forecast noisy --data many.npy --num-samples 0", "expected num_samples"),
        ("forecast noisy --data many.npy --num-particles 0", "expected num_particles"),
        ("forecast noisy --data many.npy --index 12", "expected --index in 0..11, got 12"),
        ("forecast keys --data counts.npy", "expected 0 or 1 in column '1', got 2 in step 3"),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path().iterdir()}
    assert call(monkeypatch, *arguments.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert {path: path.stat().st_mtime_ns for path in Path().iterdir()} == before


def test_too_many_variables_to_print_go_to_a_file(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    np.save("rolls.npy", np.zeros((2, 4, 88)))
    assert call(monkeypatch, "forecast", "keys", "--data", "rolls.npy") == 2
    assert "expected --out FILE.npz for observations of 88 variables" in capsys.readouterr().err
    assert "x (1000, 2, 10, 88)" in run(monkeypatch, capsys, "forecast keys --data rolls.npy --out f.npz")


@pytest.mark.parametrize("command", ["evaluate", "sample", "forecast"])
def test_help_says_what_there_is(command: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert "FOLDER" in run(monkeypatch, capsys, f"{command} --help")


def test_a_single_series_is_filtered_once(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    calls, filtered = [], kalman.filter

    def counted(*given: object, **options: object) -> object:
        calls.append(1)
        return filtered(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(kalman, "filter", counted)
    monkeypatch.setattr(svi, "evaluate", lambda *given, **options: pytest.fail("evaluated again"))
    np.savetxt("one.csv", series()[0], delimiter=",", header="b,a", comments="")
    assert "steps, each given those before it" in run(monkeypatch, capsys, "evaluate linear --data one.csv")
    assert calls == [1]
