"""`pgm-rnn fit bidirectional-rnn` and `tagger` as a person meets them: tables, saved models, wrong arguments."""

import errno
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from pgm_rnn import load_model
from pgm_rnn.data import Dataset, catalogue, load
from pgm_rnn.data.catalogue import DatasetInfo
from pgm_rnn.data.dataset import Labels
from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.inference import forward_backward
from pgm_rnn.inference.svi.metrics import Metrics
from pgm_rnn.inference.svi.training import Run
from pgm_rnn.models import BidirectionalRNN, Tagger
from pgm_rnn.models.label_registry import LABEL_MODELS
from pgm_rnn.report.label_fitting import SplitScore, label_table
from pgm_rnn.sequences import Sequences
from tests.instances import assert_same
from tests.test_cli import call

Capture = pytest.CaptureFixture[str]
TAGGER = "fit bidirectional-rnn --data synthetic-hmm --hidden-dim 2 --epochs 2 --batch-size 1000 --output out"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder as the present one, and float32 as in a fresh interpreter."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)


def made_digits(seed: int = 0) -> Dataset:
    """Points whose first one says the label, of unequal lengths."""
    numbers = torch.Generator().manual_seed(seed)

    def split(num: int) -> tuple[Sequences, torch.Tensor]:
        y = torch.arange(num) % 3
        x = torch.randn(num, 5, 2, generator=numbers) * 0.1
        x[:, 0, 0] += y
        return Sequences(x, torch.arange(num) % 3 + 3), y

    (train, y), (valid, valid_y), (test, test_y) = split(60), split(12), split(15)
    labels = Labels(Categorical(3), y, valid_y, test_y)
    return Dataset("pen-digits", "made up", Gaussian(2), train, valid, test, labels=labels)


def test_sequences_are_classified_scored_and_saved(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(catalogue.DATASETS, "pen-digits", DatasetInfo("pen-digits", made_digits, Gaussian))
    command = "fit bidirectional-rnn --data pen-digits --cell lstm --hidden-dim 4 --num-layers 2 --epochs 3"
    assert call(monkeypatch, *command.split(), "--json", "r.json") == 0
    output, folder = capsys.readouterr().out, "fits/bidirectional-rnn-pen-digits-4"
    assert f"saved in {folder};" in output
    assert max(map(len, output.splitlines()[2:-1])) <= 80
    model, data = load_model(folder).requires_grad_(False), made_digits()
    assert isinstance(model, BidirectionalRNN)
    assert model.recipe[1] == {"cell": "lstm", "hidden_dim": 4, "num_layers": 2, "task": "classification"}
    assert (model.inputs, model.labels, model.readout.weight.dtype) == (Gaussian(2), Categorical(3), torch.float32)
    record = json.loads(Path("r.json").read_text())
    assert (record["model"], record["stopped_by"], record["epochs"]) == ("bidirectional-rnn", "num_epochs", 3)
    assert data.test is not None
    assert data.labels is not None
    assert data.labels.test is not None
    law = model.label_law(*data.test[:2])
    score = record["scores"][2]
    assert (score["split"], score["num_sequences"], score["num_labels"]) == ("test", 15, 15)
    assert score["nats_per_label"] == pytest.approx(-float(law.log_prob(data.labels.test).mean()), rel=1e-6)
    right = (law.probs.argmax(-1) == data.labels.test).double()
    assert score["accuracy"] == pytest.approx(float(right.mean()))
    assert re.search(rf"test +{score['nats_per_label']:.4f} +\d\.\d+ +{score['accuracy']:.4f}", output)
    assert "smoother" not in record


def test_states_are_tagged_beside_the_exact_smoother(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert call(monkeypatch, *TAGGER.split(), "--seed", "1", "--json", "r.json") == 0
    output, record = capsys.readouterr().out, json.loads(Path("r.json").read_text())
    model, data = load_model("out").requires_grad_(False), load("synthetic-hmm", seed=1)
    assert isinstance(model, BidirectionalRNN)
    assert (model.task, model.inputs, model.labels) == ("tagging", Categorical(3), Categorical(2))
    assert data.test is not None
    assert data.test.z is not None
    assert data.model is not None
    probs = forward_backward.smooth(data.model, data.test.x).smoothed_probs
    expected = {
        "scores": (model.log_prob(data.test.z, data.test.x).sum(), model.label_law(data.test.x).probs.argmax(-1)),
        "smoother": (probs.gather(-1, data.test.z[..., None]).log().sum(), probs.argmax(-1)),
    }
    for key, (log_prob, found) in expected.items():
        score = record[key][2]
        assert score["nats_per_label"] == pytest.approx(-float(log_prob) / 800, rel=1e-5)
        assert score["accuracy"] == pytest.approx(float((found == data.test.z).double().mean()), rel=1e-6)
        assert (score["split"], score["num_labels"]) == ("test", 800)
        assert f"{score['nats_per_label']:.4f}" in output
    assert "the exact smoother of the model that drew the data" in output
    assert max(map(len, output.splitlines()[2:-1])) <= 80


def test_a_causal_tagger_stands_beside_the_exact_filter(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = TAGGER.replace("bidirectional-rnn", "tagger") + " --cell deep-transition --num-layers 2 --embedding-dim 2"
    assert call(monkeypatch, *command.split(), "--json", "r.json") == 0
    output, record = capsys.readouterr().out, json.loads(Path("r.json").read_text())
    model, data = load_model("out").requires_grad_(False), load("synthetic-hmm", seed=0)
    assert isinstance(model, Tagger)
    expected = {"hidden_dim": 2, "num_layers": 2, "embedding_dim": 2, "cell": "deep-transition"}
    assert model.recipe[1] == expected | {"task": "tagging", "start": "zero"}
    assert data.model is not None
    assert data.test is not None
    assert data.test.z is not None
    probs = forward_backward.filter(data.model, data.test.x).filtered_probs
    nats = -float(probs.gather(-1, data.test.z[..., None]).log().mean())
    assert record["filter"][2]["nats_per_label"] == pytest.approx(nats, rel=1e-5)
    score = record["scores"][2]["nats_per_label"]
    assert score == pytest.approx(-float(model.log_prob(data.test.z, data.test.x).sum()) / 800, rel=1e-5)
    assert "smoother" not in record
    assert "the exact filter of the model that drew the data" in output


@pytest.mark.slow
@pytest.mark.parametrize("name", list(LABEL_MODELS))
def test_a_fit_goes_on_from_its_checkpoint_and_notes_its_epochs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = f"fit {name} --data synthetic-hmm --hidden-dim 2 --epochs 2 --batch-size 1000 --device cpu"
    assert call(monkeypatch, *command.split(), "--output", "whole", "--metrics", "whole.jsonl") == 0
    with_files = [*command.split(), "--output", "out", "--metrics", "m.jsonl", "--checkpoint", "run", "--resume"]
    epoch = Run.epoch

    def killed(self: Run, number: int) -> dict[str, str]:
        if number == 2:
            raise SystemError
        return epoch(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "epoch", killed)
        with pytest.raises(SystemError):
            call(monkeypatch, *with_files, "--checkpoint-minutes", "0")
    assert not Path("out").exists()
    assert call(monkeypatch, *with_files, "--checkpoint-minutes", "0") == 0
    assert_same(load_model("out").state_dict(), load_model("whole").state_dict())
    assert [json.loads(line)["epoch"] for line in Path("m.jsonl").read_text().splitlines()] == [1, 2]
    assert call(monkeypatch, *with_files) == 0  # the same command again, as after a kill
    assert_same(load_model("out").state_dict(), load_model("whole").state_dict())


def test_a_disk_that_is_full_costs_no_fit(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    add = Metrics.add

    def full(self: Metrics, epoch: int, values: Mapping[str, float | None]) -> None:
        if epoch == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, epoch, values)

    monkeypatch.setattr(Metrics, "add", full)
    assert call(monkeypatch, *TAGGER.split(), "--metrics", "m.jsonl") == 2
    captured = capsys.readouterr()
    assert (
        "the fit could not continue, could not write m.jsonl: No space left on device; the parameters" in captured.err
    )
    assert captured.err.rstrip().endswith("are saved in out; make room or choose another place, and fit again")
    assert "ended by an error after" in captured.out
    load_model("out")


def test_one_seed_gives_one_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        monkeypatch.setitem(
            catalogue.DATASETS, "pen-digits", DatasetInfo("pen-digits", lambda seed: made_digits(), Gaussian)
        )
        command = f"fit bidirectional-rnn --data pen-digits --hidden-dim 3 --epochs 1 --seed {seed} --output {folder}"
        assert call(monkeypatch, *command.split()) == 0
    a, b, c = (load_model(name).state_dict() for name in "abc")
    assert_same(a, b)
    assert not torch.equal(a["readout.weight"], c["readout.weight"])


def test_an_interrupted_fit_reports_and_saves_what_there_is(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    epoch, calls = Run.epoch, []

    def interrupted(self: Run, number: int) -> dict[str, str]:
        calls.append(number)
        if number == 2:
            raise KeyboardInterrupt
        return epoch(self, number)

    monkeypatch.setattr(Run, "epoch", interrupted)
    assert call(monkeypatch, *TAGGER.split(), "--json", "r.json") == 130
    assert "interrupted after 1 epoch" in capsys.readouterr().out
    assert json.loads(Path("r.json").read_text())["stopped_by"] == "interrupt"
    load_model("out")


def test_a_table_of_labels_fits_eighty_columns(capsys: Capture) -> None:
    from rich.console import Console

    score = SplitScore("train", 12.34567, 1.23456, float("nan"), float("nan"), 1_234_567, 1_234_567_890)
    Console(width=80).print(label_table([score]))
    lines = capsys.readouterr().out.splitlines()
    assert "12.3457" in lines[2]
    assert "-" in lines[2]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data pen-digit", "did you mean 'pen-digits'"),
        ("--data river.csv", "expected --data to be one of gnp, japanese-vowels, jsb,"),
        (
            "--data strokes",
            "expected a data set with labels of its sequences, such as pen-digits, or with known states",
        ),
        ("--data synthetic-hmm --cell gur", "expected cell to be one of elman, gru, lstm, got 'gur'"),
        ("--data synthetic-hmm --hidden-dim 0", "expected hidden_dim to be an integer of at least 1, got 0"),
        ("--data synthetic-hmm --num-layers 0", "expected num_layers to be an integer of at least 1, got 0"),
        ("--data synthetic-hmm --epochs 0", "expected num_epochs to be an integer of at least 1, got 0"),
        ("--data synthetic-hmm --batch-size 0", "expected batch_size to be an integer of at least 1, got 0"),
        ("--data synthetic-hmm --learning-rate 0", "expected learning_rate to be a positive number"),
        ("--data synthetic-hmm --schedule cosin", "did you mean 'cosine'"),
        ("--data synthetic-hmm --resume", "expected --checkpoint with --resume, got none"),
        ("--data synthetic-hmm --device tpu", "expected device to be cpu or cuda, got 'tpu'"),
        ("--data synthetic-hmm --metrics no/such/m.jsonl", "no/such"),
        ("--data synthetic-hmm --patience 0", "expected patience to be an integer of at least 1, got 0"),
        ("--data synthetic-hmm --output river.csv", "expected a new folder or one that holds a saved model"),
        ("--data synthetic-hmm --json no/such/x.json", "expected --json to name a file"),
        ("--data synthetic-hmm --emission poisson", "No such option: --emission"),
        ("", "Missing option '--data'"),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence_before_any_work(
    options: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    strokes = Dataset("strokes", "made up", Gaussian(2), Sequences(torch.zeros(2, 3, 2), torch.tensor([3, 2])))
    monkeypatch.setitem(catalogue.DATASETS, "strokes", DatasetInfo("strokes", lambda seed: strokes, Gaussian))
    Path("river.csv").write_text("1\n2\n")
    assert call(monkeypatch, "fit", "bidirectional-rnn", *options.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert [path.name for path in Path().iterdir()] == ["river.csv"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["evaluate out --data synthetic-hmm", "sample out", "fit rnn --data synthetic-hmm --start out"]
)
def test_a_law_of_labels_is_no_model_of_sequences(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert call(monkeypatch, *TAGGER.split()) == 0
    capsys.readouterr()
    assert call(monkeypatch, *command.split()) == 2
    assert "expected a model of sequences, got out, a label model" in capsys.readouterr().err
