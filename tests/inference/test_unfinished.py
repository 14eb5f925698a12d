"""The remark on a fit by gradient steps that ran out of epochs while its objective was still rising."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pgm_rnn import Sequences
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import svi
from pgm_rnn.inference.svi import supervised, unfinished
from pgm_rnn.inference.svi.label_scores import Labelled
from pgm_rnn.models import BidirectionalRNN, StructuralSSM
from pgm_rnn.models.hmm import HMM

TOLD = r"^the log likelihood was still rising when the fit ended: it gained (\S+) nats in the last 10 of 40 epochs, "
MOVES = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).double()


def walk() -> Sequences:
    """A walk with steps of scale 1, seen with noise of scale 0.5, far from zero."""
    steps, noise = torch.randn(2, 120, generator=torch.Generator().manual_seed(0)).double()
    return Sequences((300 + steps.cumsum(0) + 0.5 * noise)[None], torch.tensor([120]))


def two_states(mean: float) -> HMM:
    law = Gaussian().table(torch.tensor([-mean, mean]).double(), torch.ones(2).double())
    return HMM(torch.ones(2).double() / 2, MOVES, law)


def fit(model: Any, train: Any, valid: Any = None, **options: Any) -> svi.Fit:
    given: dict[str, Any] = {"objective": "mle", "num_epochs": 40, "learning_rate": 0.01, "progress": False}
    return svi.fit(model, train, valid, **(given | options))


def fit_silently(*arguments: Any, **options: Any) -> svi.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return fit(*arguments, **options)


def far_off() -> StructuralSSM:
    """A level with variances a thousand times too large."""
    model = StructuralSSM().double()
    model.start_from(walk())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(3.5)
    return model


def test_a_fit_that_ends_far_below_the_maximum_says_so() -> None:
    data = walk()
    with pytest.warns(svi.UnfinishedWarning, match=TOLD) as raised:
        found = fit(far_off(), data)
    assert len(raised) == 1
    assert raised[0].filename == __file__
    losses = [entry.train_nats_per_step for entry in found.history]
    gain = float(str(raised[0].message).split("gained ")[1].split()[0])
    assert gain == pytest.approx(120 * (losses[29] - losses[39]), rel=0.15)  # a straight line through a curve
    assert "and 1 are within the error of estimation" in str(raised[0].message)  # two variances


def test_the_same_fit_says_nothing_at_the_maximum() -> None:
    data, model = walk(), StructuralSSM().double()
    model.start_from(data)
    fit_silently(model, data, num_epochs=150, learning_rate=0.05)


@pytest.mark.parametrize("learning_rate", [1e-3, 1e-2, 5e-2])
def test_the_noise_of_small_batches_about_the_maximum_is_no_rise(learning_rate: float) -> None:
    data = two_states(2.0).sample(100, 20, seed=0)
    fit_silently(two_states(2.0), data.x, num_epochs=60, batch_size=10, learning_rate=learning_rate)


def test_validation_data_are_judged_where_there_are_any() -> None:
    train, valid = (two_states(4.0).sample(20, 20, seed=seed).x for seed in (0, 1))
    with pytest.warns(svi.UnfinishedWarning, match="^the log likelihood of the validation data, for as many steps as"):
        fit(two_states(1.0), train, valid)
    with pytest.warns(svi.UnfinishedWarning, match=TOLD):
        fit(two_states(1.0), train)
    fit_silently(two_states(1.0), train, 0 * valid, patience=40)  # between the states, which part


def test_short_fits_and_those_that_patience_ended_say_nothing() -> None:
    train = two_states(4.0).sample(20, 20, seed=0).x
    fit_silently(two_states(1.0), train, num_epochs=19)
    assert fit_silently(two_states(1.0), train, 0 * train, patience=25).stopped_by == "patience"


def test_a_rise_is_a_straight_line_that_stands_out_from_the_scatter() -> None:
    line, noise = -0.1 * torch.arange(100.0), torch.randn(100, generator=torch.Generator().manual_seed(1))
    assert unfinished.rise(line.tolist()).gain == pytest.approx(2.5)  # 25 epochs
    assert unfinished.rise((line + 0.1 * noise).tolist()).gain == pytest.approx(2.5, abs=0.15)
    nothing = unfinished.Rise(0.0, 0.0)
    for losses in (line + 2 * noise, noise, -line, torch.tensor([*line[:-1], torch.inf]), line[:19], line[:0]):
        assert unfinished.rise(losses.tolist()) == nothing


@pytest.mark.parametrize("rate", [0.95, 0.97, 0.99])
def test_what_lies_ahead_of_a_geometric_approach_is_its_remainder(rate: float) -> None:
    """Losses 5 rate^t: the slopes of lines through quarters shrink by rate^25, so the sum of gains is known."""
    losses = (5 * rate ** torch.arange(100.0, dtype=torch.float64)).tolist()
    gain, ahead = unfinished.rise(losses)
    assert ahead == pytest.approx(gain * rate**25 / (1 - rate**25))
    assert ahead == pytest.approx(losses[-1], rel=0.1)  # the limit is 0
    assert unfinished.rise([-(step**2) for step in range(100)]).ahead == torch.inf


def test_what_counts_is_the_smaller_of_the_gain_and_of_what_lies_ahead() -> None:
    """Losses that fall by a factor per epoch, of a model with one parameter and one step: p / 2 is half a nat."""
    goal = SimpleNamespace(
        num_valid=None,
        unit="step",
        train=SimpleNamespace(lengths=torch.ones(1)),
        num_units=lambda index: 1,
        model=torch.nn.Linear(1, 1, bias=False),
    )

    def said(scale: float, rate: float) -> list[str]:
        history = [svi.Epoch(epoch, scale * rate**epoch, None, 0.0) for epoch in range(1, 61)]
        return unfinished.of_fit(goal, history, "num_epochs")  # type: ignore[arg-type]

    assert len(said(20.0, 0.95)) == 1  # 0.92 nats are ahead after a gain of 1.1
    assert said(8.0, 0.95) == []  # 0.37 ahead
    assert said(1.0, 0.99) == []  # 0.55 ahead, but a gain of 0.09
    assert len(said(8.0, 0.99)) == 1


def test_labels_are_judged_alike() -> None:
    x = torch.randint(2, (400, 3), generator=torch.Generator().manual_seed(0))
    data = Labelled(Sequences(x, torch.full((400,), 3)), x[:, 0])
    model = BidirectionalRNN(num_symbols=2, num_labels=2, hidden_dim=1, task="classification")
    with pytest.warns(svi.UnfinishedWarning, match=TOLD):
        supervised.fit(model, data, num_epochs=40, learning_rate=1e-3, progress=False)
