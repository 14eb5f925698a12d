"""Fits by bounds, of models whose likelihood has no closed form, and what a fit writes down."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor
from typing_extensions import override

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import svi
from pgm_rnn.inference.svi import objectives
from pgm_rnn.models import NoisyRNN
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.state_law import StateLaw
from pgm_rnn.sequences import Sequences
from tests.inference.fits import LENGTHS, state
from tests.inference.test_bounds import Positive
from tests.instances import assert_same, every_model_of_vectors, make_hmm, make_model, make_rnn, ragged
from tests.latent_toy import LatentToy

BOUNDS = ["elbo", "iwae", "fivo"]
every_bound = pytest.mark.parametrize("objective", BOUNDS)


def data(seed: int = 0) -> Sequences:
    return Sequences(ragged(Gaussian(2), LENGTHS, seed), LENGTHS)


def network(seed: int = 0) -> SequenceModel:
    return make_model("noisy-rnn", Gaussian(2), seed=seed)


def fit(model: SequenceModel, train: Sequences | None = None, **options: Any) -> svi.Fit:
    given = {"num_epochs": 3, "batch_size": 4, "num_particles": 3, "learning_rate": 0.01, "progress": False} | options
    return svi.fit(model, train or data(), **given)


# What a fit is.


@every_bound
def test_the_same_seed_gives_the_same_parameters_and_another_does_not(objective: str) -> None:
    states = []
    for seed in (3, 3, 4):
        model = network()
        fit(model, objective=objective, seed=seed, valid=data(1))
        states.append(state(model))
        torch.rand(1)
    assert_same(states[0], states[1])
    assert any(not torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True))


@pytest.mark.slow
@every_bound
def test_a_fit_raises_the_bound(objective: str) -> None:
    model = network()
    before = svi.evaluate(model, data(), bound=objective, num_particles=64)
    fit(model, objective=objective, num_epochs=40, learning_rate=0.05)
    after = svi.evaluate(model, data(), bound=objective, num_particles=64)
    error = math.hypot(before.monte_carlo_error, after.monte_carlo_error)
    assert after.nats_per_step + 4.5 * error < before.nats_per_step


@every_bound
@pytest.mark.parametrize("num_particles", [1, 3])
def test_the_first_loss_is_the_bound_over_the_steps(objective: str, num_particles: int) -> None:
    """One step, on many copies of the data, against as many others; the control: one more particle, or one fewer."""
    copies = 300
    many = Sequences(data().x.repeat(copies, 1, 1), LENGTHS.repeat(copies))

    def bound(num: int) -> tuple[float, float]:
        values = svi.evaluate(network(), many, bound=objective, num_particles=num, seed=1).log_likelihoods
        totals = -values.reshape(copies, -1).sum(-1) / int(LENGTHS.sum())
        return float(totals.mean()), float(totals.std()) / math.sqrt(copies)

    options: dict[str, Any] = {"num_epochs": 1, "batch_size": len(many.lengths), "num_particles": num_particles}
    loss = fit(network(), many, objective=objective, **options).history[0].train_nats_per_step
    mean, error = bound(num_particles)
    limit = 4.5 * math.sqrt(2) * error
    assert abs(loss - mean) < limit
    if objective != "elbo":
        assert abs(loss - bound(4 - num_particles)[0]) > limit


def test_the_objective_is_the_likelihood_where_it_is_known_and_the_elbo_otherwise() -> None:
    assert fit(make_rnn("gru", Gaussian(2)), num_particles=1).objective == "mle"
    assert fit(network()).objective == "elbo"
    exact, elbo = make_hmm(Gaussian(2)), make_hmm(Gaussian(2))
    fit(exact, num_particles=1)
    fit(elbo, num_particles=1, objective="elbo")
    assert_same(state(exact), state(elbo))


def test_a_batch_of_one_sequence_of_one_step_can_be_fitted_by_every_bound() -> None:
    for objective in BOUNDS:
        result = fit(network(), Sequences(data().x[:1, :1], torch.tensor([1])), objective=objective)
        assert all(math.isfinite(entry.train_nats_per_step) for entry in result.history)


# Pyro's own engines.


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO, RenyiELBO])
@every_model_of_vectors
def test_pyros_own_svi_and_its_elbos_run_on_every_models_programs(name: str, elbo: Any) -> None:
    model = make_model(name, Gaussian(2))
    options = {"strict_enumeration_warning": False, "max_plate_nesting": 1} if elbo is TraceEnum_ELBO else {}
    before = state(model)
    engine = SVI(model.model, model.guide, Adam({"lr": 0.01}), elbo(**options))
    if elbo is TraceMeanField_ELBO and not (model.exact or model.reparametrised):
        with pytest.raises(NotImplementedError, match="must be fully reparameterized"):  # Pyro's own words
            engine.step(data().x, LENGTHS)
        return
    losses = [engine.step(data().x, LENGTHS) for _ in range(2)]
    assert all(math.isfinite(loss) for loss in losses)
    assert all(value.isfinite().all() for value in state(model).values())
    assert any(not torch.equal(before[key], value) for key, value in state(model).items())
    if model.exact:
        expected = -float(make_model(name, Gaussian(2)).log_prob(data().x, lengths=LENGTHS).detach().sum())
        assert losses[0] == pytest.approx(expected, rel=1e-9)


# KL annealing.


def test_the_weight_scales_the_latent_site_and_no_other() -> None:
    model = LatentToy()
    with objectives.ScaledLatents(0.25):
        trace = poutine.trace(model.model).get_trace(torch.zeros(2, 3), torch.tensor([3, 1]))
        guide = poutine.trace(model.guide).get_trace(torch.zeros(2, 3), torch.tensor([3, 1]))
    assert trace.nodes["z"]["scale"] == guide.nodes["z"]["scale"] == 0.25
    assert trace.nodes["x"]["scale"] == trace.nodes["h"]["scale"] == 1


def test_the_annealed_loss_is_reconstruction_plus_weight_times_divergence() -> None:
    model, batch = network(), data()
    x, lengths = batch[:2]
    make = objectives.make_objective(model, "elbo", 1)

    def loss(weight: float) -> Tensor:
        with pyro.settings.context(module_local_params=True), seeded(0):
            return make(weight)(batch)

    with seeded(0), torch.no_grad():
        z = StateLaw(model, x, lengths, "model", guide=True).sample()
        inside = torch.arange(x.shape[1]) < lengths[:, None]
        reconstruction = -model.emission(z, None).log_prob(x).where(inside, 0.0).sum()
    none, half, all_of_it = (loss(weight).detach() for weight in (1e-9, 0.5, 1.0))
    torch.testing.assert_close(none, reconstruction, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(half, (none + all_of_it) / 2)


def test_the_weight_rises_to_one_over_the_warm_up_and_patience_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    result = fit(
        LatentToy(),
        Sequences(torch.randn(6, 4), torch.full((6,), 4)),
        kl_warmup=6,
        num_epochs=30,
        patience=2,
        learning_rate=1e-300,
        valid=Sequences(torch.randn(6, 4), torch.full((6,), 4)),
        metrics=path,
    )
    weights = [json.loads(line)["kl_weight"] for line in path.read_text().splitlines()]
    assert weights[:6] == pytest.approx([(epoch + 0.25) / 6 for epoch in range(6)])
    assert set(weights[6:]) == {1.0}
    assert (len(result.history), result.stopped_by, result.best_epoch) == (8, "patience", 0)


# The learning rate.


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_follows_its_schedule(schedule: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    fit(network(), num_epochs=8, batch_size=6, learning_rate=0.01, schedule=schedule, lr_warmup=2, metrics=path)
    found = [json.loads(line)["learning_rate"] / 0.01 for line in path.read_text().splitlines()]
    done = [epoch + 0.5 for epoch in range(8)]  # half of the epoch's one step is done
    rising = [min(1, value / 2) for value in done]
    falling = [0.5 * (1 + math.cos(math.pi * value / 8)) if schedule == "cosine" else 1 for value in done]
    assert found == pytest.approx([a * b for a, b in zip(rising, falling, strict=True)])


# Validation.


@every_bound
def test_the_parameters_at_the_end_are_those_of_the_best_epoch_by_the_same_noise(objective: str) -> None:
    model, valid = network(), data(1)
    result = fit(model, objective=objective, valid=valid, num_epochs=40, learning_rate=0.1, patience=3, seed=5)
    losses = [entry.valid_nats_per_step for entry in result.history if entry.valid_nats_per_step is not None]
    assert result.best_epoch == 1 + min(range(len(losses)), key=losses.__getitem__)
    again = svi.evaluate(model, valid, bound=objective, num_particles=3, seed=5).nats_per_step
    assert again == losses[result.best_epoch - 1]
    assert result.stopped_by == "patience"


def test_more_particles_can_judge_than_train() -> None:
    model, valid = network(), data(1)
    result = fit(model, objective="iwae", valid=valid, num_epochs=1, valid_particles=50, num_particles=2)
    if result.best_epoch == 1:
        expected = svi.evaluate(model, valid, bound="iwae", num_particles=50).nats_per_step
        assert result.history[0].valid_nats_per_step == expected


# What is written down.


def test_metrics_are_one_line_of_json_an_epoch_and_are_continued(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = fit(network(), num_epochs=2, valid=data(1), metrics=path)
    second = fit(network(), num_epochs=3, metrics=str(path))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 1, 2, 3]
    for line, entry in zip(lines, first.history + second.history, strict=True):
        assert {name: line[name] for name in entry._fields} == entry._asdict()
    assert list(lines[0]) == [*svi.Epoch._fields, "learning_rate", "kl_weight"]


def test_metrics_of_an_epoch_are_there_when_a_fit_fails_in_the_next(tmp_path: Path) -> None:
    path, model = tmp_path / "metrics.jsonl", network()
    calls = iter(range(100))
    program = model.model

    def failing(*arguments: Any, **options: Any) -> Tensor:
        if next(calls) >= 2:
            raise RuntimeError("out of luck")
        return program(*arguments, **options)

    object.__setattr__(model, "model", failing)
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(model, batch_size=6, metrics=path)
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1]


def test_metrics_that_cannot_be_written_are_an_error_before_any_work(tmp_path: Path) -> None:
    model = network()
    before = state(model)
    with pytest.raises(OSError, match="No such file"):
        fit(model, metrics=tmp_path / "no" / "such.jsonl")
    assert_same(before, state(model))


def test_tensorboard_gets_the_same_numbers_and_its_absence_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Writer:
        written: list[tuple[str, float, int]] = []  # noqa: RUF012

        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path)

        def add_scalar(self, name: str, value: float, epoch: int) -> None:
            self.written.append((name, value, epoch))

        def close(self) -> None:
            self.written.append(("closed", 0.0, 0))

    module = type(sys)("torch.utils.tensorboard")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboard, or use metrics=FILE"):
        fit(network(), tensorboard=str(tmp_path))
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    result = fit(network(), num_epochs=2, tensorboard=str(tmp_path))
    assert ("train_nats_per_step", result.history[1].train_nats_per_step, 2) in Writer.written
    assert Writer.written[-1] == ("closed", 0.0, 0)
    assert not [name for name, _, _ in Writer.written if name == "valid_nats_per_step"]


# The device.


def test_the_cpu_by_name_is_the_same_fit() -> None:
    named, plain = network(), network()
    fit(named, device="cpu")
    fit(plain)
    assert_same(state(named), state(plain))


def test_cuda_where_there_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ValueError, match="expected a CUDA device for device='cuda', got a machine without one; use device='cpu'"
    ):
        fit(network(), device="cuda")
    with pytest.raises(ValueError, match="expected device to be cpu or cuda, got 'gpu'"):
        fit(network(), device="gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_bound
def test_a_fit_on_cuda_is_close_to_one_on_the_cpu_and_comes_back(objective: str) -> None:
    model = network()
    before = svi.evaluate(model, data(), bound=objective, num_particles=64)
    fit(model, objective=objective, num_epochs=40, learning_rate=0.05, device="cuda", valid=data(1), patience=40)
    assert next(model.parameters()).device.type == "cpu"
    after = svi.evaluate(model, data(), bound=objective, num_particles=64)
    assert after.nats_per_step < before.nats_per_step


# Bad input.


@pytest.mark.filterwarnings("ignore:Encountered (NaN|[+]inf):UserWarning")
@every_bound
def test_a_loss_that_is_not_finite_leaves_the_last_good_parameters(objective: str) -> None:
    model = network()
    assert isinstance(model, NoisyRNN)
    train = data()._replace(x=data().x * 1e200)
    before = state(model)
    with pytest.raises(
        FloatingPointError, match=r"in epoch 1 at learning rate 0.01; the parameters are those of epoch 0"
    ):
        fit(model, train, objective=objective)
    assert_same(before, state(model))


class Discrete(LatentToy):
    """Draws of states that do not follow their parameters."""

    @override
    def initial(self, h: Tensor | None) -> Any:
        law = super().initial(h)
        law.has_rsample = False
        return law

    @override
    def proposal(self, z: Tensor | None, h: Tensor | None, features: Tensor | None) -> Any:
        law = super().proposal(z, h, features)
        law.has_rsample = False
        return law


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("noisy-rnn", {"objective": "mle"}, "expected objective elbo, iwae or fivo for NoisyRNN, which has no exact"),
        ("rnn-gru", {"objective": "fivo"}, "expected objective mle for RNN, which has no latent"),
        ("hmm", {"objective": "fivo"}, r"got discrete states from HMM; use mle"),
        ("rnn-gru", {}, "expected num_particles only with elbo, iwae and fivo, got 3 with mle"),
        ("noisy-rnn", {"num_particles": 0}, "expected num_particles to be an integer of at least 1, got 0"),
        ("noisy-rnn", {"valid_particles": 0}, "expected valid_particles to be an integer of at least 1, got 0"),
        (
            "noisy-rnn",
            {"objective": "fivo", "kl_warmup": 3},
            "expected kl_warmup only with objective elbo .* with fivo",
        ),
        (
            "noisy-rnn",
            {"objective": "iwae", "kl_warmup": 3},
            "expected kl_warmup only with objective elbo .* with iwae",
        ),
        ("hmm", {"objective": "elbo", "kl_warmup": 3}, "expected kl_warmup only with objective elbo"),
        ("noisy-rnn", {"kl_warmup": -1}, "expected kl_warmup to be a number of epochs, at least 0, got -1"),
        ("noisy-rnn", {"schedule": "cosin"}, "did you mean 'cosine'"),
        ("noisy-rnn", {"lr_warmup": 4}, r"expected lr_warmup in 0\.\.3 epochs, got 4"),
        ("noisy-rnn", {"lr_warmup": -1.0}, r"expected lr_warmup in 0\.\.3 epochs, got -1"),
    ],
)
def test_options_that_do_not_fit_are_errors(name: str, options: dict[str, Any], message: str) -> None:
    model = make_model(name, Gaussian(2))
    before = state(model)
    with pytest.raises(ValueError, match=message):
        fit(model, **options)
    assert_same(before, state(model))


@every_bound
def test_a_guide_that_misses_states_of_the_model_cannot_be_fitted(objective: str) -> None:
    with pytest.raises(ValueError, match=r"expected a guide over .*Real.*, the support of the model's states, got"):
        svi.fit(Positive(), torch.zeros(2, 3), objective=objective)


@pytest.mark.parametrize("objective", ["iwae", "fivo"])
def test_draws_that_do_not_follow_their_parameters_are_an_error_but_for_the_elbo(objective: str) -> None:
    with pytest.raises(ValueError, match=rf"for objective {objective}, got discrete states from Discrete; use elbo"):
        svi.fit(Discrete(), torch.zeros(2, 3), objective=objective)
    assert svi.fit(Discrete(), torch.zeros(2, 3), num_epochs=1, progress=False).objective == "elbo"


def test_empty_sequences_are_an_error() -> None:
    with pytest.raises(ValueError, match="drop empty sequences first"):
        fit(network(), Sequences(data().x, LENGTHS * 0))
