"""A law of labels learns what can be learnt, keeps its best parameters, and its scores are those of the definition."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.inference import svi
from pgm_rnn.inference.svi import label_scores, supervised
from pgm_rnn.inference.svi.checkpoints import CheckpointError
from pgm_rnn.inference.svi.plan import minibatches
from pgm_rnn.inference.svi.supervised import Confusion, Labelled
from pgm_rnn.inference.svi.training import Run
from pgm_rnn.models import RNN, BidirectionalRNN, Tagger
from pgm_rnn.models.bidirectional_rnn import Task
from pgm_rnn.models.label_registry import LABEL_MODELS
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model.label_model import LabelModel
from pgm_rnn.sequences import Sequences
from tests.definitions import all_words
from tests.instances import LENGTHS, assert_same, draw, ragged, randomised

every_model = pytest.mark.parametrize("name", list(LABEL_MODELS))
every_task = pytest.mark.parametrize("task", ["tagging", "classification"])


def make(task: Task, **options: Any) -> BidirectionalRNN:
    settings: dict[str, Any] = {"num_symbols": 2, "num_labels": 2, "hidden_dim": 4} | options
    with seeded(0):
        return randomised(BidirectionalRNN("gru", task=task, **settings))


def words(task: Task, seed: int = 0) -> Labelled:
    """Each word of five symbols once, and whether its ends differ, or where it is like its last symbol."""
    x = all_words(2, 5)
    y = (x[:, 0] != x[:, -1]).long() if task == "classification" else (x == x[:, -1:]).long()
    order = torch.randperm(32, generator=torch.Generator().manual_seed(seed))
    return Labelled(Sequences(x, torch.full((32,), 5)), y).select(order)


def ragged_words(task: Task) -> tuple[BidirectionalRNN, Labelled]:
    model = make(task, num_symbols=None, inputs=Gaussian(2), num_labels=3)
    y = ragged(Categorical(3), seed=1) if task == "tagging" else draw(Categorical(3), 3, seed=1)
    return model, Labelled(Sequences(ragged(Gaussian(2)), LENGTHS), y)


@pytest.mark.slow
@every_task
def test_what_only_both_ends_tell_is_learnt(task: Task) -> None:
    model, data = make(task), words(task)
    before = supervised.evaluate(model, data)
    found = supervised.fit(model, data, num_epochs=60, batch_size=8, learning_rate=0.03, progress=False)
    after = supervised.evaluate(model, data)
    assert found.model is model
    assert (found.stopped_by, len(found.history), found.best_epoch) == ("num_epochs", 60, 60)
    assert after.nats_per_label < 0.05 < before.nats_per_label
    assert after.accuracy == 1 > before.accuracy
    assert found.history[-1].train_nats_per_label < 0.1 < found.history[0].train_nats_per_label
    shuffled = data._replace(labels=data.labels[torch.randperm(32, generator=torch.Generator().manual_seed(1))])
    assert supervised.evaluate(model, shuffled).accuracy < 0.9


def test_a_causal_law_does_not_learn_what_only_the_end_tells() -> None:
    """The control: each word once, so that its last symbol is a fair coin until it is read."""
    data = words("tagging")
    model = randomised(Tagger("gru", 2, 2, hidden_dim=4))
    supervised.fit(model, data, num_epochs=60, batch_size=8, learning_rate=0.03, progress=False)
    assert supervised.evaluate(model, data).nats_per_label >= 0.8 * math.log(2) - 1e-12


@every_task
def test_a_score_is_that_of_its_definition(task: Task) -> None:
    model, data = ragged_words(task)
    found = supervised.evaluate(model, data)
    nats, hits = [], []
    for i, n in enumerate(LENGTHS.tolist()):
        law = model.label_law(data.inputs.x[i : i + 1, :n]).probs[0].detach().reshape(-1, 3)
        labels = data.labels[i, :n] if task == "tagging" else data.labels[i : i + 1]
        nats.append(-law[torch.arange(len(labels)), labels].log())
        hits.append((law.argmax(-1) == labels).double())
    counts = [len(each) for each in nats]
    assert (found.num_sequences, found.num_labels) == (3, sum(counts))
    for name, error, parts in (
        ("nats_per_label", "standard_error", nats),
        ("accuracy", "accuracy_error", hits),
    ):
        mean = float(torch.cat(parts).mean())
        assert getattr(found, name) == pytest.approx(mean, rel=1e-12)
        residuals = sum(float(part.sum() - mean * len(part)) ** 2 for part in parts)
        assert getattr(found, error) == pytest.approx(math.sqrt(residuals * 3 / 2) / sum(counts), rel=1e-12)


def test_a_score_does_not_depend_on_how_many_are_scored_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = ragged_words("tagging")
    whole = supervised.evaluate(model, data)
    monkeypatch.setattr(label_scores, "CHUNK", 2)
    assert supervised.evaluate(model, data) == pytest.approx(whole, rel=1e-12)


def test_labels_that_are_no_symbols_have_no_accuracy() -> None:
    model = make("classification", num_labels=None, labels=Gaussian())
    found = supervised.evaluate(model, words("classification")._replace(labels=torch.zeros(32)))
    assert math.isfinite(found.nats_per_label)
    assert math.isnan(found.accuracy)


@every_task
def test_confusions_are_counted_outside_the_padding(task: Task) -> None:
    model, data = ragged_words(task)
    found = supervised.predicted(model, data.inputs)
    pairs: list[tuple[int, int]] = []
    for i, n in enumerate(LENGTHS.tolist()):
        rows = (data.labels[i], found[i]) if task == "classification" else (data.labels[i, :n], found[i, :n])
        pairs += zip(*(row.reshape(-1).tolist() for row in rows), strict=True)
    wrong = {pair for pair in pairs if pair[0] != pair[1]}
    assert wrong
    confused = supervised.confusions(model, data)
    assert {pair[:2] for pair in confused} == wrong
    assert len(confused) == len(wrong)
    for label, taken_for, times, of in confused:
        assert times == pairs.count((label, taken_for))
        assert of == sum(first == label for first, _ in pairs)
    assert [pair.times for pair in confused] == sorted((pair.times for pair in confused), reverse=True)
    right = data._replace(labels=found)
    assert supervised.confusions(model, right) == []
    assert str(Confusion(5, 9, 1028, 3350)) == "5 as 9 (1,028 of 3,350)"


# The run.


def flipped(data: Labelled) -> Labelled:
    return data._replace(labels=1 - data.labels)


@every_task
def test_the_parameters_are_those_of_the_best_epoch(task: Task) -> None:
    """Validation data that say the opposite get worse from the start."""
    model, data = make(task), words(task)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = supervised.fit(model, data, flipped(data), learning_rate=0.03, patience=3, progress=False)
    losses = [epoch.valid_nats_per_label for epoch in found.history]
    assert found.stopped_by == "patience"
    assert len(losses) == found.best_epoch + 3
    best = supervised.evaluate(model, flipped(data)).nats_per_label
    if found.best_epoch == 0:
        assert_same(model.state_dict(), before)
    else:
        assert best == losses[found.best_epoch - 1]
    assert all(loss is not None and loss >= best for loss in losses)


def test_one_seed_gives_one_model_and_another_seed_another() -> None:
    found = []
    for seed in (1, 1, 2):
        model = make("tagging")
        supervised.fit(model, words("tagging"), num_epochs=2, batch_size=8, seed=seed, progress=False)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_an_interrupt_leaves_the_best_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = make("tagging"), words("tagging")
    step, calls = Run.step, []

    def interrupted(self: Run, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Run, "step", interrupted)
    found = supervised.fit(model, data, data, batch_size=32, learning_rate=0.01, progress=False)
    assert (found.stopped_by, len(found.history), found.best_epoch) == ("interrupt", 1, 1)
    assert supervised.evaluate(model, data).nats_per_label == found.history[0].valid_nats_per_label


# The loop, which is that of `svi.fit`.


def some(name: str, task: Task) -> LabelModel:
    with seeded(0):
        return randomised(LABEL_MODELS[name].make("gru", inputs=Gaussian(2), num_labels=3, hidden_dim=3, task=task))


def ragged_data(task: Task, num: int = 20) -> Labelled:
    numbers = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 6, (num,), generator=numbers)
    y = torch.randint(3, (num, 5) if task == "tagging" else (num,), generator=numbers)
    return Labelled(Sequences(torch.randn(num, 5, 2, generator=numbers), lengths), y)


@every_task
@every_model
def test_a_fit_is_a_plain_loop_of_adamw(name: str, task: Task) -> None:
    """Minibatches, cosine schedule, clipped gradients of nats per label."""
    model, data, num_epochs, batch_size = some(name, task), ragged_data(task), 3, 8
    plain = copy.deepcopy(model)
    adam, step = torch.optim.AdamW(plain.parameters(), weight_decay=0.1), 0
    for epoch in range(1, num_epochs + 1):
        for index in minibatches(20, batch_size, 4, epoch):
            x, lengths, y = data.inputs.x[index], data.inputs.lengths[index], data.labels[index]
            adam.param_groups[0]["lr"] = 0.02 * 0.5 * (1 + math.cos(math.pi * (step + 0.5) / (3 * num_epochs)))
            adam.zero_grad()
            num_labels = int(lengths.sum()) if task == "tagging" else len(index)
            (-plain.log_prob(y, x, lengths).sum() / num_labels).backward()
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
            adam.step()
            step += 1
    options: dict[str, Any] = {"num_epochs": num_epochs, "batch_size": batch_size, "weight_decay": 0.1, "seed": 4}
    options |= {"learning_rate": 0.02, "schedule": "cosine", "clip_norm": 0.1, "progress": False}
    supervised.fit(model, data, **options)
    for name_of, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name_of], value, rtol=1e-12, atol=1e-14)


class Lost(BaseException):
    """Ends a run without its knowing, as a test can."""


@every_task
@every_model
def test_a_killed_fit_goes_on_to_the_same_bits(
    name: str, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ragged_data(task)

    def run(folder: str, **more: Any) -> supervised.LabelFit:
        options: dict[str, Any] = {"num_epochs": 3, "batch_size": 8, "learning_rate": 0.02, "progress": False} | more
        options |= {"checkpoint": tmp_path / folder, "checkpoint_seconds": 0, "metrics": tmp_path / f"{folder}.jsonl"}
        return supervised.fit(some(name, task), data, data.select(torch.arange(5)), **options)

    whole = run("whole")
    step, steps = Run.step, iter(range(100))

    def lost(self: Run, *arguments: Any) -> Any:
        if next(steps) == 4:  # in the second epoch
            raise Lost
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", lost)
        with pytest.raises(Lost):
            run("dead")
    found = run("dead", resume=True)
    assert_same(found.model.state_dict(), whole.model.state_dict())
    assert found.history == whole.history
    records = [(tmp_path / f"{folder}.jsonl").read_text().splitlines() for folder in ("whole", "dead")]
    lines = [[{**json.loads(line), "seconds": 0} for line in record] for record in records]
    assert lines[0] == lines[1]
    assert lines[0][2]["valid_nats_per_label"] == whole.history[2].valid_nats_per_label
    assert set(lines[0][0]) == {
        "epoch",
        "train_nats_per_label",
        "valid_nats_per_label",
        "seconds",
        "learning_rate",
    }
    with pytest.raises(CheckpointError, match="continue from it with resume=True"):
        run("dead")
    other = data._replace(labels=(data.labels + 1) % 3)
    with pytest.raises(CheckpointError, match="with another training data"):
        supervised.fit(some(name, task), other, data, checkpoint=tmp_path / "dead", resume=True, progress=False)


def test_what_is_no_law_of_labels_or_has_no_checkpoint_to_go_on_from_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"expected a label model, such as Tagger, got RNN; svi\.fit fits"):
        supervised.fit(RNN(num_symbols=2), words("tagging"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a SequenceModel, such as RNN or HMM, got BidirectionalRNN"):
        svi.fit(make("tagging"), words("tagging").inputs)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected checkpoint=FOLDER with resume=True, got none"):
        supervised.fit(make("tagging"), words("tagging"), resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_epochs": 0}, "expected num_epochs to be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "expected batch_size to be an integer of at least 1, got 0"),
        ({"learning_rate": -1.0}, "expected learning_rate to be a positive number, got -1.0"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"lr_warmup": 101}, r"expected lr_warmup in 0\.\.100 epochs, got 101"),
        ({"patience": 0}, "expected patience to be an integer of at least 1, got 0"),
    ],
)
def test_options_out_of_range_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        supervised.fit(make("tagging"), words("tagging"), **options)


def test_labels_of_the_other_task_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected labels of shape \(32,\) for classification, got \(32, 5\)"):
        supervised.fit(make("classification"), words("tagging"), words("tagging"))


def test_labels_of_fewer_sequences_are_an_error() -> None:
    data = words("classification")
    fewer = data._replace(labels=data.labels[:30])
    for train, valid in ((fewer, None), (data, fewer)):
        with pytest.raises(ValueError, match="expected labels of 32 sequences, got those of 30"):
            supervised.fit(make("classification"), train, valid)
    with pytest.raises(ValueError, match="expected labels of 32 sequences, got those of 30"):
        supervised.evaluate(make("classification"), fewer)


def test_a_loss_that_is_not_finite_ends_the_fit_with_the_best_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = make("tagging"), words("tagging")
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def broken(self: BidirectionalRNN, y: Tensor, x: Tensor, lengths: Tensor) -> Tensor:
        return math.nan * sum(p.sum() for p in self.parameters()) * torch.ones(len(x))

    monkeypatch.setattr(BidirectionalRNN, "log_prob", broken)
    message = r"the loss became nan in epoch 1 at learning rate 0\.001; the parameters are those of epoch 0"
    with pytest.raises(FloatingPointError, match=message):
        supervised.fit(model, data, progress=False)
    assert_same(model.state_dict(), before)
