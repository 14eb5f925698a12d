import copy
import math
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam  # type: ignore[attr-defined]

from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.inference import svi
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequences import Sequences
from tests.inference.fits import LENGTHS, SYMBOLS, data, fit, state
from tests.instances import assert_same, every_first, every_model, make_hmm, make_model, make_rnn, ragged

# What a fit is.


@every_model
def test_the_same_seed_gives_the_same_parameters_and_another_does_not(name: str) -> None:
    states = []
    for seed in (3, 3, 4):
        model = make_model(name, SYMBOLS)
        fit(model, seed=seed, learning_rate=0.01)
        states.append(state(model))
        torch.rand(1)  # what the global generator does in between must not matter
    assert_same(states[0], states[1])
    assert any(not torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True))


def test_parameters_with_gaps_are_fitted_as_those_without() -> None:
    """A weight whose columns are transposed, or every other number of a tensor, whose other half stays as it is."""
    states, around = [], torch.zeros(0)
    for layout in ("plain", "transposed", "every other"):
        model: Any = make_rnn("gru", Gaussian(1))
        weight = model.cell.network.weight_hh_l0.detach()
        if layout == "transposed":
            model.cell.network.weight_hh_l0 = torch.nn.Parameter(weight.mT.contiguous().mT)
        if layout == "every other":
            around = torch.stack([weight, torch.full_like(weight, 7)], -1)
            model.cell.network.weight_hh_l0 = torch.nn.Parameter(around[..., 0])
        fit(model, Sequences(ragged(Gaussian(1)), torch.tensor([4, 1, 3])), learning_rate=0.05)
        states.append(state(model))
    assert float((around[..., 1] - 7).abs().max()) == 0
    for other in states[1:]:
        assert_same(states[0], other, rtol=1e-10, atol=1e-12)


@every_first
@every_model
def test_the_first_loss_is_the_negative_log_likelihood_in_nats_per_step(name: str, first: Any) -> None:
    model, batch = make_model(name, SYMBOLS, first=first), data()
    steps = int(LENGTHS.sum()) - (len(LENGTHS) if first == "condition" else 0)
    expected = -float(model.log_prob(batch.x, lengths=LENGTHS).detach().sum()) / steps
    result = fit(model, num_epochs=1, batch_size=100)
    assert result.history[0].train_nats_per_step == pytest.approx(expected, rel=1e-12)


@every_model
def test_a_fit_raises_the_likelihood(name: str) -> None:
    model = make_model(name, SYMBOLS)
    before = svi.evaluate(model, data()).nats_per_step
    result = fit(model, num_epochs=20, learning_rate=0.03)
    assert svi.evaluate(model, data()).nats_per_step < before - 0.01
    assert result.history[-1].train_nats_per_step < result.history[0].train_nats_per_step


def test_a_fit_by_gradient_recovers_most_of_an_hmms_advantage() -> None:
    truth = HMM(torch.tensor([0.5, 0.5]), torch.tensor([[0.95, 0.05], [0.05, 0.95]]), torch.eye(2) * 0.8 + 0.1)
    train = truth.sample(60, 20, seed=0)
    hmm = make_hmm(Categorical(2), seed=3)
    start, best = (svi.evaluate(model, train).nats_per_step for model in (hmm, truth))
    fit(hmm, train, num_epochs=15, batch_size=20, learning_rate=0.1)
    assert svi.evaluate(hmm, train).nats_per_step < best + 0.2 * (start - best)


def test_a_fit_works_in_place_and_reports_every_epoch() -> None:
    model = make_rnn("gru", SYMBOLS)
    before = state(model)
    result = fit(model, num_epochs=4)
    assert result.model is model
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [entry.epoch for entry in result.history] == [1, 2, 3, 4]
    assert all(entry.valid_nats_per_step is None and entry.seconds > 0 for entry in result.history)
    assert (result.best_epoch, result.stopped_by) == (4, "num_epochs")
    assert result.seconds >= sum(entry.seconds for entry in result.history)


@every_model
def test_nothing_stays_in_pyros_parameter_store_or_in_the_random_state(name: str) -> None:
    pyro.param("mine", torch.tensor(1.0))
    before = torch.get_rng_state()
    fit(make_model(name, SYMBOLS), valid=data(1))
    assert list(pyro.get_param_store()) == ["mine"]
    assert torch.equal(torch.get_rng_state(), before)
    assert not pyro.settings.get("module_local_params")


def test_weight_decay_shrinks_what_the_data_do_not_ask_for() -> None:
    norms = []
    for weight_decay in (0.0, 1.0):
        model = make_rnn("gru", SYMBOLS)
        fit(model, num_epochs=10, learning_rate=0.01, weight_decay=weight_decay)
        norms.append(sum(float(p.detach().square().sum()) for p in model.parameters()))
    assert norms[1] < 0.95 * norms[0]


def test_every_sequence_is_seen_once_an_epoch_in_an_order_of_the_seed_and_the_epoch() -> None:
    orders = []
    for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1)):
        torch.rand(1)  # what the global generator does in between must not matter
        batches = svi.minibatches(20, 6, seed, epoch)
        assert [len(batch) for batch in batches] == [6, 6, 6, 2]
        orders.append(torch.cat(batches).tolist())
        assert sorted(orders[-1]) == list(range(20)) != orders[-1]
    assert orders[0] == orders[1]
    assert orders[0] not in orders[2:]


def test_a_fit_needs_no_padding_information_for_a_tensor_without_padding() -> None:
    x = ragged(SYMBOLS, torch.tensor([4, 4]))
    models = [make_rnn("gru", SYMBOLS), make_rnn("gru", SYMBOLS)]
    svi.fit(models[0], x, num_epochs=2, progress=False)
    svi.fit(models[1], Sequences(x, torch.tensor([4, 4])), num_epochs=2, progress=False)
    assert_same(state(models[0]), state(models[1]))


# Pyro's own SVI.


@every_model
def test_pyros_own_svi_trains_the_same_programs(name: str) -> None:
    model, batch = make_model(name, SYMBOLS), data()
    ours = fit(make_model(name, SYMBOLS), num_epochs=1, batch_size=100).history[0].train_nats_per_step
    theirs = SVI(model.model, model.guide, Adam({"lr": 0.02}), Trace_ELBO())
    losses = [theirs.step(batch.x, batch.lengths) for _ in range(20)]
    assert losses[0] == pytest.approx(ours * int(LENGTHS.sum()), rel=1e-12)
    assert losses[-1] < losses[0] - 0.1
    assert svi.evaluate(model, batch).nats_per_step * int(LENGTHS.sum()) < losses[-2]
    assert all(key.startswith(model.site_prefix) for key in pyro.get_param_store())


def test_pyros_own_svi_trains_a_copy_apart_from_its_original() -> None:
    original, batch = make_rnn("gru", SYMBOLS), data()
    twin = copy.deepcopy(original)
    for model in (original, twin):
        before = state(model)
        SVI(model.model, model.guide, Adam({"lr": 0.02}), Trace_ELBO()).step(batch.x, batch.lengths)
        assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert_same(state(original), state(twin))


# Bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"objective": "elbow"},
            "expected objective to be one of mle, elbo, iwae, fivo, got 'elbow'; did you mean 'elbo'",
        ),
        ({"num_epochs": 0}, "expected num_epochs to be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "expected batch_size to be an integer of at least 1, got 0"),
        ({"patience": -1}, "expected patience to be an integer of at least 1, got -1"),
        ({"learning_rate": 0.0}, "expected learning_rate to be a positive number, got 0.0"),
        ({"learning_rate": math.inf}, "expected learning_rate to be a positive number, got inf"),
        ({"learning_rate": math.nan}, "expected learning_rate to be a positive number, got nan"),
        ({"learning_rate": "1e-3"}, "expected learning_rate to be a positive number, got '1e-3'"),
        ({"clip_norm": -1.0}, "expected clip_norm to be a positive number, got -1.0"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"valid": data().x + 3}, "expected symbols in 0..2, got"),
    ],
)
def test_options_that_do_not_fit_are_errors(options: dict[str, Any], message: str) -> None:
    model = make_rnn("gru", SYMBOLS)
    before = state(model)
    with pytest.raises(ValueError, match=message):
        fit(model, **options)
    assert_same(before, state(model))


def test_data_that_do_not_fit_are_errors() -> None:
    model = make_rnn("gru", SYMBOLS)
    with pytest.raises(TypeError, match="expected observations as a tensor"):
        svi.fit(model, "12")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected lengths in 1..T = 1..5, got 6"):
        svi.fit(model, Sequences(data().x, LENGTHS + 1))
    with pytest.raises(TypeError, match="expected x of an integer dtype"):
        svi.fit(model, data().x.double())
    with pytest.raises(TypeError, match="expected seed as an integer or None"):
        fit(model, seed="0")


def test_lengths_in_the_place_of_validation_data_are_named() -> None:
    batch = Sequences(torch.randn(3, 4, 2), torch.tensor([4, 2, 3]))
    with pytest.raises(
        ValueError, match=r"got shape \(3,\); .*; lengths are given with the observations, as Sequences"
    ):
        svi.fit(make_model("rnn-elman", Gaussian(2)), batch.x, batch.lengths, num_epochs=1)


def test_a_fit_to_first_observations_only_is_an_error_when_the_model_conditions_on_them() -> None:
    with pytest.raises(ValueError, match="expected at least one observation"):
        fit(make_rnn("gru", SYMBOLS, first="condition"), Sequences(data().x[:, :1], torch.ones(6).long()))
