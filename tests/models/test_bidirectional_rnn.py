from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, NadeBits, Poisson
from pgm_rnn.models.bidirectional_rnn import NETWORKS, BidirectionalRNN, Task
from pgm_rnn.models.tagger import Tagger
from tests.definitions import all_words, layer_step, log_density
from tests.instances import LENGTHS, draw, gradients, ragged, randomised, spoiled

every_cell = pytest.mark.parametrize("cell", list(NETWORKS))
every_task = pytest.mark.parametrize("task", ["tagging", "classification"])
LABELS = Categorical(3)


def make(cell: str = "gru", task: Task = "tagging", labels: Emission = LABELS, **options: Any) -> BidirectionalRNN:
    settings: dict[str, Any] = {"inputs": Gaussian(2), "hidden_dim": 3} | options
    return randomised(BidirectionalRNN(cell, labels=labels, task=task, **settings))


def some_labels(task: Task, family: Emission = LABELS) -> Tensor:
    return ragged(family, seed=1) if task == "tagging" else draw(family, 3, seed=1)


def run_chain(model: BidirectionalRNN, cell: str, values: Tensor, layer: int, suffix: str) -> Tensor:
    """Hidden vectors of one chain of one layer over values (T, width), from the first of them to the last."""
    weights = dict(model.network.named_parameters())
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    w_ih, w_hh, b_ih, b_hh = (weights[f"{kind}_l{layer}{suffix}"] for kind in kinds)
    h = c = torch.zeros(w_hh.shape[1])
    hidden = []
    for x_t in values:
        h, c = layer_step(cell, w_ih @ x_t + b_ih, w_hh @ h + b_hh, h, c)
        hidden.append(h)
    return torch.stack(hidden)


def features_by_loops(model: BidirectionalRNN, cell: str, x: Tensor) -> Tensor:
    """(f_t, b_t) of one sequence without padding (T, width), or (f_T, b_1)."""
    for layer in range(model.network.num_layers):
        forward = run_chain(model, cell, x, layer, "")
        backward = run_chain(model, cell, x.flip(0), layer, "_reverse").flip(0)
        x = torch.cat([forward, backward], dim=-1)
    return x if model.task == "tagging" else torch.cat([forward[-1], backward[0]])


@pytest.mark.parametrize("num_layers", [1, 2])
@every_task
@every_cell
def test_the_log_prob_is_that_of_two_loops_over_each_sequence(cell: str, task: Task, num_layers: int) -> None:
    model, x, y = make(cell, task, num_layers=num_layers), ragged(Gaussian(2)), some_labels(task)
    expected = []
    for row, label, n in zip(x, y, LENGTHS.tolist(), strict=True):
        params = features_by_loops(model, cell, row[:n]) @ model.readout.weight.T + model.readout.bias
        expected.append(log_density(LABELS, params, label[:n] if task == "tagging" else label).sum())
    torch.testing.assert_close(model.log_prob(y, x, LENGTHS), torch.stack(expected))


@pytest.mark.parametrize("garbage", [torch.nan, 1e300])
@every_task
@every_cell
def test_padding_changes_no_value_and_no_gradient(cell: str, task: Task, garbage: float) -> None:
    model, x, y = make(cell, task), ragged(Gaussian(2)), some_labels(task)
    other = spoiled(y, LENGTHS, -1) if task == "tagging" else y
    clean = model.log_prob(y, x, LENGTHS)
    dirty = model.log_prob(other, spoiled(x, LENGTHS, garbage), LENGTHS)
    assert torch.equal(clean, dirty)
    found = gradients(clean.sum(), model), gradients(dirty.sum(), model)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert all(bool(value.any()) for value in found[0].values())


@every_task
def test_a_step_more_of_the_sequence_changes_the_law(task: Task) -> None:
    model, x = make(task=task), ragged(Gaussian(2))
    shorter, longer = (model.label_law(x[2:, :n]).logits for n in (3, 4))
    assert not torch.allclose(shorter[0, 0], longer[0, 0])


@every_task
def test_what_a_constructor_is_given_is_what_it_draws(task: Task) -> None:
    """The order of the draws is part of what a seed means: embedding, network, readout."""
    torch.manual_seed(0)
    model = BidirectionalRNN("gru", 3, 2, hidden_dim=4, task=task)
    torch.manual_seed(0)
    table, network = nn.Embedding(3, 4), nn.GRU(4, 4, batch_first=True, bidirectional=True)
    readout = nn.Linear(8, 2)
    expected = [*table.parameters(), *network.parameters(), *readout.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected, strict=True))


def test_the_probabilities_of_all_labellings_sum_to_one() -> None:
    model, x, words = make(), draw(Gaussian(2), 1, 3), all_words(3, 3)
    total = model.log_prob(words, x.expand(len(words), -1, -1)).exp().sum()
    assert float(total.detach()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("labels", [Bernoulli(2), Gaussian(), NadeBits(3, 2)], ids=str)
@every_task
def test_labels_may_be_of_any_family(task: Task, labels: Emission) -> None:
    model, x, y = make(task=task, labels=labels), ragged(Gaussian(2)), some_labels(task, labels)
    law = model.label_law(x, LENGTHS)
    assert law.event_shape == labels.event_shape
    log_probs = law.log_prob(y)
    expected = log_probs if task == "classification" else (log_probs * (torch.arange(4) < LENGTHS[:, None])).sum(1)
    torch.testing.assert_close(model.log_prob(y, x, LENGTHS), expected)


@pytest.mark.parametrize("inputs", [Categorical(3), Bernoulli(), Poisson(2)], ids=str)
def test_inputs_may_be_of_any_family(inputs: Emission) -> None:
    model = make(inputs=inputs)
    assert model.log_prob(some_labels("tagging"), ragged(inputs), LENGTHS).isfinite().all()


# The program.


@every_task
def test_the_elbo_of_the_programs_is_the_log_prob(task: Task) -> None:
    model, x, y = make(task=task), ragged(Gaussian(2)), some_labels(task)
    loss = Trace_ELBO().differentiable_loss(model.model, model.guide, x, LENGTHS, y)
    value = model.log_prob(y, x, LENGTHS).sum()
    torch.testing.assert_close(-loss, value)
    left, right = gradients(-loss, model), gradients(value, model)
    for name, gradient in left.items():
        torch.testing.assert_close(gradient, right[name])


@every_task
def test_the_program_has_the_features_and_the_labels_as_sites(task: Task) -> None:
    model, x = make(task=task), ragged(Gaussian(2))
    trace: Any = poutine.trace(model.model).get_trace(x, LENGTHS)
    assert {name for name, site in trace.nodes.items() if site["type"] == "sample"} == {"sequences", "h", "y"}
    assert trace.nodes["h"]["infer"]["_deterministic"]
    drawn = trace.nodes["_RETURN"]["value"]
    assert drawn.shape == ((3, 4) if task == "tagging" else (3,))
    assert not LABELS.invalid(drawn).any()


# What two chains are for.


def test_the_next_symbol_is_learnt_by_two_chains_and_cannot_be_by_one() -> None:
    x = all_words(2, 5)  # each word once: what follows says nothing of what is to come
    y = torch.cat([x[:, 1:], torch.zeros(32, 1, dtype=torch.long)], dim=1)
    nats = {}
    sizes: dict[str, Any] = {"num_symbols": 2, "num_labels": 2, "hidden_dim": 6}
    for module in (BidirectionalRNN("gru", **sizes), Tagger("gru", **sizes)):
        torch.manual_seed(0)
        randomised(module)
        optimizer = torch.optim.Adam(module.parameters(), 0.05)
        for _ in range(100):
            optimizer.zero_grad()
            loss = -module.log_prob(y, x).mean() / 5
            loss.backward()
            optimizer.step()
        nats[type(module)] = float(loss.detach())
    assert nats[BidirectionalRNN] < 0.05
    assert nats[Tagger] >= 0.8 * torch.log(torch.tensor(2.0)) - 1e-12


def test_one_label_of_the_sequence_is_learnt_from_both_ends() -> None:
    x = all_words(2, 5)
    y = (x[:, 0] != x[:, -1]).long()
    torch.manual_seed(0)
    model = BidirectionalRNN("lstm", num_symbols=2, num_labels=2, hidden_dim=6, task="classification")
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    elbo = Trace_ELBO()(model.model, model.guide)  # type: ignore[arg-type]
    with pyro.settings.context(module_local_params=True):
        for _ in range(100):
            optimizer.zero_grad()
            loss = elbo(x, y=y) / 32
            loss.backward()
            optimizer.step()
    assert float(loss.detach()) < 0.05


# Errors.


def test_labels_that_do_not_fit_are_errors() -> None:
    x = ragged(Gaussian(2))
    with pytest.raises(ValueError, match=r"expected labels of shape \(3, 4\) for tagging, got \(3,\)"):
        make().log_prob(some_labels("classification"), x)
    with pytest.raises(ValueError, match=r"expected labels of shape \(3,\) for classification, got \(3, 4\)"):
        make(task="classification").log_prob(some_labels("tagging"), x)
    with pytest.raises(TypeError, match=r"expected labels of an integer dtype for .*, got torch.float64"):
        make().log_prob(some_labels("tagging").double(), x)
    with pytest.raises(ValueError, match=r"expected symbols in 0\.\.2, got 3 in sequence 0 at step 1"):
        make().log_prob(torch.full((3, 4), 3), x)


def test_options_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ValueError, match="expected cell to be one of elman, gru, lstm, got 'gur'; did you mean 'gru'"):
        BidirectionalRNN("gur", 2, 2)
    with pytest.raises(ValueError, match="expected task to be one of tagging, classification, got 'tags'"):
        BidirectionalRNN("gru", 2, 2, task="tags")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected exactly one of num_symbols and inputs, such as num_symbols=3"):
        BidirectionalRNN("gru", None, 2)
    with pytest.raises(ValueError, match="expected exactly one of num_labels and labels, such as num_labels=3"):
        BidirectionalRNN("gru", 2, 2, labels=LABELS)
    with pytest.raises(TypeError, match=r"expected a family such as Bernoulli\(88\) as inputs, got ABCMeta"):
        BidirectionalRNN("gru", inputs=Gaussian, num_labels=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected hidden_dim to be an integer of at least 1, got 0"):
        BidirectionalRNN("gru", 2, 2, hidden_dim=0)


def test_a_sequence_of_one_step_is_enough() -> None:
    model, x = make(), draw(Gaussian(2), 1, 1)
    assert model.log_prob(torch.zeros(1, 1, dtype=torch.long), x).shape == (1,)
