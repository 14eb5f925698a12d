"""When a fit ends, and which parameters it leaves."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import svi
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests.inference.fits import LENGTHS, SYMBOLS, data, fit, state
from tests.instances import assert_same, make_model, make_rnn, ragged


def test_the_parameters_at_the_end_are_those_of_the_best_epoch() -> None:
    model, valid = make_rnn("gru", SYMBOLS), data(1)
    result = fit(model, valid=valid, num_epochs=60, learning_rate=0.01, patience=4)
    losses = [entry.valid_nats_per_step for entry in result.history if entry.valid_nats_per_step is not None]
    assert result.best_epoch == 1 + min(range(len(losses)), key=losses.__getitem__)
    assert svi.evaluate(model, valid).nats_per_step == losses[result.best_epoch - 1]
    assert result.stopped_by == "patience"
    assert len(losses) == result.best_epoch + 4 < 60


def test_the_parameters_of_the_best_epoch_are_those_of_a_fit_that_ends_there() -> None:
    stopped, ended = make_rnn("gru", SYMBOLS), make_rnn("gru", SYMBOLS)
    result = fit(stopped, valid=data(1), num_epochs=60, learning_rate=0.01, patience=4)
    assert result.best_epoch > 0
    fit(ended, num_epochs=result.best_epoch, learning_rate=0.01)
    assert_same(state(stopped), state(ended))


def interrupt_after(model: SequenceModel, num_calls: int, error: type[BaseException]) -> None:
    """Let the model's program raise from some call on."""
    program, calls = model.model, iter(range(10_000))

    def interrupted(*args: Any, **options: Any) -> Tensor:
        if next(calls) >= num_calls:
            raise error
        return program(*args, **options)

    object.__setattr__(model, "model", interrupted)


@pytest.mark.parametrize("valid", [None, data(1)], ids=["without validation", "with validation"])
@pytest.mark.parametrize("num_calls", [1, 2, 3, 4])
def test_an_interrupt_ends_the_fit_at_the_best_whole_epoch(num_calls: int, valid: Sequences | None) -> None:
    model, reference = make_rnn("gru", SYMBOLS), make_rnn("gru", SYMBOLS)
    interrupt_after(model, num_calls, KeyboardInterrupt)  # two batches an epoch
    result = fit(model, valid=valid)
    assert (result.stopped_by, len(result.history)) == ("interrupt", num_calls // 2)
    if result.best_epoch > 0:
        fit(reference, num_epochs=result.best_epoch)
    assert_same(state(model), state(reference))


# Losses that are not finite: under validation Pyro warns of them before they are an error.

NOT_FINITE = pytest.mark.filterwarnings("ignore:Encountered (NaN|[+]inf):UserWarning")


def with_infinite_loss(model: SequenceModel) -> SequenceModel:
    with torch.no_grad():
        next(iter(model.parameters())).fill_(torch.inf)
    return model


@NOT_FINITE
@pytest.mark.parametrize("name", ["rnn-elman-relu", "rnn-gru", "hmm"])
def test_parameters_that_are_not_finite_are_an_error(name: str) -> None:
    with pytest.raises(FloatingPointError, match=r"the loss became nan in epoch 1 at learning rate 0.001"):
        fit(with_infinite_loss(make_model(name, SYMBOLS)))


@NOT_FINITE
@pytest.mark.parametrize("valid", [None, data(1)], ids=["without validation", "with validation"])
@pytest.mark.parametrize("learning_rate", [1e200, 1e308])
@pytest.mark.parametrize("batch_size", [2, 100])
@pytest.mark.parametrize("name", ["rnn-elman-relu", "rnn-lstm"])
def test_an_absurd_learning_rate_is_an_error_that_leaves_finite_parameters(
    name: str, batch_size: int, learning_rate: float, valid: Sequences | None
) -> None:
    model, reference = make_model(name, Gaussian()), make_model(name, Gaussian())
    train = Sequences(ragged(Gaussian(), LENGTHS), LENGTHS)
    held_out = None if valid is None else train
    options: dict[str, Any] = {"learning_rate": learning_rate, "batch_size": batch_size, "valid": held_out}
    with pytest.raises(FloatingPointError, match=r"the parameters are those of epoch \d; try a smaller"):
        fit(model, train, **options)
    assert all(p.isfinite().all() for p in model.parameters())
    if batch_size == 2:  # it happens in the first epoch
        assert_same(state(model), state(reference))


@NOT_FINITE
def test_an_impossible_sequence_is_an_error_and_leaves_the_parameters() -> None:
    hmm = HMM(torch.tensor([1.0, 0.0]), torch.eye(2), torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    before = state(hmm)
    with pytest.raises(FloatingPointError, match=r"the loss became (inf|nan) in epoch 1"):
        fit(hmm)
    assert_same(before, state(hmm))


@NOT_FINITE
def test_a_gradient_that_is_not_finite_is_an_error_that_leaves_finite_parameters() -> None:
    model = make_rnn("elman", SYMBOLS)
    model.readout.bias.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(FloatingPointError, match=r"nan|finite"):
        fit(model, batch_size=100)
    assert all(p.isfinite().all() for p in model.parameters())
