"""The tagger's labels are those of a loop over steps, and no step's law depends on what follows it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from pgm_rnn.models import BidirectionalRNN, Tagger
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.tagger import Start
from pgm_rnn.sequence_model.label_model import LabelModel, Task
from tests.definitions import log_density
from tests.instances import LENGTHS, draw, gradients, ragged, randomised, spoiled

every_cell = pytest.mark.parametrize("cell", list(CELLS))
every_task = pytest.mark.parametrize("task", ["tagging", "classification"])
LABELS = Categorical(3)


def make(cell: str = "gru", task: Task = "tagging", **options: Any) -> Tagger:
    settings: dict[str, Any] = {"inputs": Gaussian(2), "labels": LABELS, "hidden_dim": 3} | options
    return randomised(Tagger(cell, task=task, **settings))


def some_labels(task: Task) -> Tensor:
    return ragged(LABELS, seed=1) if task == "tagging" else draw(LABELS, 3, seed=1)


@pytest.mark.parametrize("num_layers", [1, 2])
@every_task
@every_cell
def test_the_log_prob_is_that_of_a_loop_over_each_sequence(cell: str, task: Task, num_layers: int) -> None:
    """`Cell.step` itself is tested against the equations."""
    model, x, y = make(cell, task, num_layers=num_layers, start="trained"), ragged(Gaussian(2)), some_labels(task)
    expected = []
    for row, label, n in zip(x, y, LENGTHS.tolist(), strict=True):
        state, hidden = model.initial_memory, []
        for x_t in row[:n]:
            state = model.cell.step(x_t, state)
            hidden.append(state[: model.cell.hidden_dim])
        h = torch.stack(hidden) if task == "tagging" else hidden[-1]
        params = h @ model.readout.weight.T + model.readout.bias
        expected.append(log_density(LABELS, params, label[:n] if task == "tagging" else label).sum())
    torch.testing.assert_close(model.log_prob(y, x, LENGTHS), torch.stack(expected))


def test_a_network_of_symbols_is_the_equations_of_the_paper() -> None:
    """Choe et al. (2017), sec. 2.1, with h_0 = 0."""
    model, x = make("elman", inputs=Categorical(3)), torch.tensor([[2, 0]])
    weights = dict(model.cell.named_parameters())
    w, u = weights["network.weight_ih_l0"], weights["network.weight_hh_l0"]
    b = weights["network.bias_ih_l0"] + weights["network.bias_hh_l0"]
    h, expected = torch.zeros(3), []
    for symbol in x[0]:
        h = torch.tanh(w[:, symbol] + u @ h + b)
        expected.append((model.readout.weight @ h + model.readout.bias).softmax(-1))
    torch.testing.assert_close(model.label_law(x).probs[0], torch.stack(expected))


@pytest.mark.parametrize("embedding_dim", [None, 5])
def test_symbols_enter_by_their_embedding_or_one_hot(embedding_dim: int | None) -> None:
    model, x = make(inputs=Categorical(3), embedding_dim=embedding_dim), ragged(Categorical(3))
    one_hot = torch.eye(3)[x]
    table = one_hot if model.embedding is None else one_hot @ model.embedding.weight
    assert model.cell.input_dim == (3 if embedding_dim is None else 5)
    expected = model.cell.unroll(table.transpose(0, 1), model.initial_memory)[1:].transpose(0, 1)
    torch.testing.assert_close(model.features(x), expected)


def changed_future(model: LabelModel, step: int) -> tuple[Tensor, Tensor]:
    """Log probabilities of the labels of steps 1..step, before and after all later values change: (3, step, 3)."""
    x = draw(Gaussian(2), 3, 4)
    other = torch.cat([x[:, :step], x[:, step:] + 1.0], dim=1)
    before, after = (model.label_law(values).logits[:, :step] for values in (x, other))
    return before.detach(), after.detach()


@pytest.mark.parametrize("step", [1, 2, 3])
@every_cell
def test_a_step_s_law_does_not_depend_on_what_follows(cell: str, step: int) -> None:
    before, after = changed_future(make(cell, num_layers=2), step)
    assert torch.equal(before, after)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_the_bidirectional_law_does_depend_on_it(step: int) -> None:
    model = randomised(BidirectionalRNN("gru", inputs=Gaussian(2), labels=LABELS, hidden_dim=3))
    before, after = changed_future(model, step)
    assert (before - after).abs().amax(-1).min() > 1e-4  # at every step before the change
    assert (Tagger.causal, BidirectionalRNN.causal) == (True, False)


@pytest.mark.parametrize("garbage", [torch.nan, 1e300])
@every_task
@every_cell
def test_padding_changes_no_value_and_no_gradient(cell: str, task: Task, garbage: float) -> None:
    model, x, y = make(cell, task, start="trained"), ragged(Gaussian(2)), some_labels(task)
    other = spoiled(y, LENGTHS, -1) if task == "tagging" else y
    clean = model.log_prob(y, x, LENGTHS)
    dirty = model.log_prob(other, spoiled(x, LENGTHS, garbage), LENGTHS)
    assert torch.equal(clean, dirty)
    found = gradients(clean.sum(), model), gradients(dirty.sum(), model)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert all(bool(value.any()) for value in found[0].values())
    if task == "tagging":
        assert not model.features(x, LENGTHS)[2, 3:].any()


@pytest.mark.parametrize("inputs", [Categorical(3), Bernoulli(), Poisson(2)], ids=str)
def test_inputs_may_be_of_any_family(inputs: Emission) -> None:
    model = make(inputs=inputs)
    assert model.log_prob(some_labels("tagging"), ragged(inputs), LENGTHS).isfinite().all()


@pytest.mark.parametrize(("start", "trained"), [("zero", False), ("trained", True)])
def test_the_start_is_trained_on_request_alone(start: Start, trained: bool) -> None:
    model = Tagger("lstm", 3, 2, hidden_dim=4, start=start)
    assert not model.initial_memory.any()
    assert model.initial_memory.shape == (8,)
    assert ("initial_memory" in dict(model.named_parameters())) is trained
    assert "initial_memory" in model.state_dict()


@every_task
def test_predictions_are_the_most_probable_labels(task: Task) -> None:
    model, x = make(task=task), ragged(Gaussian(2))
    probs = model.label_law(x, LENGTHS).probs
    found = model.predict(x, LENGTHS)
    assert torch.equal(probs.gather(-1, found[..., None])[..., 0], probs.amax(-1))
    with pytest.raises(TypeError, match="expected labels that are symbols, got Gaussian"):
        make(task=task, labels=Gaussian()).predict(x, LENGTHS)


def test_a_model_in_another_dtype_than_the_default_reads_symbols() -> None:
    model = make(inputs=Categorical(3)).to(torch.float32)
    assert model.log_prob(ragged(LABELS), ragged(Categorical(3)), LENGTHS).dtype == torch.float32


def test_options_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ValueError, match=r"expected cell to be one of elman, .*, got 'gur'; did you mean 'gru'"):
        Tagger("gur", 2, 2)
    with pytest.raises(ValueError, match="expected task to be one of tagging, classification, got 'tags'"):
        Tagger("gru", 2, 2, task="tags")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected start to be one of zero, trained, got 'one'"):
        Tagger("gru", 2, 2, start="one")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected exactly one of num_symbols and inputs, such as num_symbols=3"):
        Tagger("gru", None, 2)
    with pytest.raises(TypeError, match=r"expected a family such as Bernoulli\(88\) as labels, got int"):
        Tagger("gru", 2, labels=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected hidden_dim to be an integer of at least 1, got 0"):
        Tagger("gru", 2, 2, hidden_dim=0)
    with pytest.raises(ValueError, match="expected embedding_dim to be an integer of at least 1, got 0"):
        Tagger("gru", 2, 2, embedding_dim=0)
    with pytest.raises(ValueError, match=r"expected embedding_dim only for symbols, got 3 for .*; leave it out"):
        Tagger("gru", inputs=Gaussian(2), num_labels=2, embedding_dim=3)


def test_a_sequence_of_one_step_is_enough() -> None:
    model, x = make(), draw(Gaussian(2), 1, 1)
    assert model.log_prob(torch.zeros(1, 1, dtype=torch.long), x).shape == (1,)
