"""Cross-validation and rolling origin, from folds done by hand."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

import pgm_rnn as pr
from pgm_rnn.emissions import Gaussian
from pgm_rnn.models import HMM, RNN, LinearGaussianSSM, MarkovChain
from pgm_rnn.report.comparison import Comparison
from pgm_rnn.report.comparison.cross_validation import fold_places, origins_of
from pgm_rnn.report.comparison.refitting import default_refit
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences, pad


def level(x: Tensor) -> HMM:
    """A normal law of the mean and standard deviation of x, as an HMM with one state."""
    one = torch.ones(1)
    return HMM(one, one[None], Gaussian().table(x.mean()[None], x.std(correction=0)[None]))


def fit_level(model: SequenceModel, train: Sequences) -> HMM:
    return level(train.x[train.mask])


def standard(model: SequenceModel, train: Sequences) -> HMM:
    """What does not look at the data."""
    return level(torch.tensor([-1.0, 1.0]))


def series(*lengths: int) -> Sequences:
    return pad([1 + 2 * torch.randn(length) for length in lengths])


def held_out(found: Comparison, name: str) -> Any:
    frame = found.to_frame()
    return frame[(frame["measure"] != "the data as they are") & (frame["model"] == name)].iloc[0]


def test_every_sequence_is_scored_by_the_fit_to_the_other_folds() -> None:
    data = series(5, 3, 4, 6, 2)
    models = {"fitted": level(data.x), "standard": level(torch.tensor([-1.0, 1.0]))}
    found = pr.compare(models, data, folds=2, fit={"fitted": fit_level, "standard": standard}, seed=3)
    nats = []
    folds = [part.tolist() for part in fold_places(5, 2, seed=3)]
    assert sorted(folds[0] + folds[1]) == [0, 1, 2, 3, 4]
    for fold, others in (folds, folds[::-1]):
        train = torch.cat([data.x[i, : data.lengths[i]] for i in others])
        law = Normal(train.mean(), train.std(correction=0))
        nats += [float(-law.log_prob(data.x[i, : data.lengths[i]]).sum()) for i in fold]
    assert held_out(found, "fitted")["nats_per_step"] == pytest.approx(sum(nats) / 20)
    assert found.best == "fitted"
    on_data = float(-Normal(*_moments(data)).log_prob(data.x[data.mask]).mean())
    assert held_out(found, "fitted")["nats_per_step"] > on_data + 1e-3  # the two could be told apart


def _moments(data: Sequences) -> tuple[Tensor, Tensor]:
    seen = data.x[data.mask]
    return seen.mean(), seen.std(correction=0)


def test_folds_of_one_sequence_leave_one_out() -> None:
    data = series(3, 3, 3)
    found = pr.compare({"A": level(data.x), "B": level(data.x)}, data, folds=3, fit=fit_level)
    nats = [
        float(-Normal(train.mean(), train.std(correction=0)).log_prob(data.x[i]).sum())
        for i in range(3)
        for train in [data.x[[j for j in range(3) if j != i]]]
    ]
    assert held_out(found, "A")["nats_per_step"] == pytest.approx(sum(nats) / 9)


def test_each_step_after_an_origin_is_scored_by_the_latest_fit() -> None:
    data = series(12)
    found = pr.compare({"A": level(data.x), "B": level(data.x)}, data, origins=2, first_origin=6, fit=fit_level)
    x = data.x[0]
    expected = sum(
        float(-Normal(x[:start].mean(), x[:start].std(correction=0)).log_prob(x[start:stop]).sum())
        for start, stop in ((6, 9), (9, 12))
    )
    assert held_out(found, "A")["nats_per_step"] == pytest.approx(expected / 6)


def test_a_horizon_is_scored_jointly_given_the_steps_before_the_origin() -> None:
    model = LinearGaussianSSM.random(latent_dim=1, obs_dim=1, seed=0)
    data = model.sample(1, 10, seed=1)
    kept = {"A": lambda model, train: model, "B": lambda model, train: model}
    found = pr.compare({"A": model, "B": model}, data, origins=2, first_origin=4, horizon=3, fit=kept)
    law = _joint(model, 10)
    expected = sum(_conditional(law, data.x[0, :, 0], start, start + 3) for start in (4, 7))
    assert held_out(found, "A")["nats_per_step"] == pytest.approx(-expected / 6)
    assert held_out(found, "A")["unit"] == "2 origins"
    apart = sum(float(Normal(law.mean[t], law.variance[t].sqrt()).log_prob(data.x[0, t, 0])) for t in range(4, 10))
    assert abs(apart - expected) > 1e-3


def _joint(model: LinearGaussianSSM, num_steps: int) -> MultivariateNormal:
    """The law of x_1, ..., x_T, by x_t = c z_t + v_t and z_t = a z_{t-1} + w_t."""
    a, q, c, r = (
        float(p.detach())
        for p in (model.transition_matrix, model.transition_cov, model.emission_matrix, model.emission_cov)
    )
    means, variances = [float(model.initial_mean.detach())], [float(model.initial_cov.detach())]
    for _ in range(num_steps - 1):
        means.append(a * means[-1])
        variances.append(a * a * variances[-1] + q)
    cov = torch.tensor(
        [[c * c * a ** abs(s - t) * variances[min(s, t)] for s in range(num_steps)] for t in range(num_steps)]
    )
    return MultivariateNormal(c * torch.tensor(means), cov + r * torch.eye(num_steps))


def _conditional(law: MultivariateNormal, x: Tensor, start: int, stop: int) -> float:
    def first(n: int) -> float:
        return float(MultivariateNormal(law.mean[:n], law.covariance_matrix[:n, :n]).log_prob(x[:n]))

    return first(stop) - first(start)


def test_a_markov_chain_is_refitted_by_counts() -> None:
    x = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1]])
    chain = MarkovChain.random(2, seed=0)
    found = pr.compare({"A": chain, "B": MarkovChain.random(2, seed=1)}, x, folds=3)
    assert found.groups[0].standings[1].behind == 0  # the refits are the same, whatever the models were
    nats = 0.0
    for i in range(3):
        others = [row for j, row in enumerate(x.tolist()) if j != i]
        first = [0.1 + sum(row[0] == k for row in others) for k in range(2)]
        moves = [[0.1] * 2, [0.1] * 2]
        for row in others:
            for before, after in pairwise(row):
                moves[before][after] += 1
        row = x[i].tolist()
        nats -= math.log(first[row[0]] / sum(first))
        nats -= sum(math.log(moves[b][a] / sum(moves[b])) for b, a in pairwise(row))
    assert held_out(found, "A")["nats_per_step"] == pytest.approx(nats / 12)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (HMM.random(2, 3, seed=0), {"num_iterations": 5}),
        (LinearGaussianSSM.random(latent_dim=1, obs_dim=1, seed=0), {"num_iterations": 5}),
        (RNN("elman", num_symbols=3, hidden_dim=2), {"num_epochs": 1}),
    ],
)
def test_a_refit_has_not_seen_the_parameters_of_the_first_fit(model: SequenceModel, options: dict[str, Any]) -> None:
    model = model.double()
    train = model.sample(8, 6, seed=1)
    first = default_refit(model, train, seed=4, options=options).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter + 0.3)
    again, other = (
        default_refit(model, data, seed=4, options=options).model for data in (train, train.select(slice(2)))
    )
    score = [float(one.log_marginal_likelihood(train).detach().sum()) for one in (first, again, other)]
    assert score[0] == score[1] != score[2]


def test_ctrl_c_leaves_the_folds_that_are_finished() -> None:
    data = series(3, 4, 5, 6)
    calls: list[Sequences] = []

    def interrupted(model: SequenceModel, train: Sequences) -> HMM:
        calls.append(train)
        if len(calls) == 6:  # in the third fold
            raise KeyboardInterrupt
        return fit_level(model, train)

    found = pr.compare({"A": level(data.x), "B": level(data.x)}, data, folds=4, fit=interrupted, seed=0)
    scored = torch.cat(fold_places(4, 4, seed=0)[:2])
    assert held_out(found, "A")["num_steps"] == int(data.lengths[scored].sum())
    assert found.interrupted
    assert "interrupted after 2 of 4 folds" in str(found)
    with pytest.raises(KeyboardInterrupt):
        pr.compare({"A": level(data.x), "B": level(data.x)}, data, folds=4, fit=_never)


def _never(model: SequenceModel, train: Sequences) -> HMM:
    raise KeyboardInterrupt


def test_origins_cover_each_later_step_once() -> None:
    cuts = origins_of(101, 4)
    assert cuts.starts[0] == 50
    assert cuts.starts[1:] == cuts.stops[:-1]
    assert cuts.stops[-1] == 101


@pytest.mark.parametrize(
    ("options", "lengths", "message"),
    [
        ({"folds": 5}, (9,), "expected several sequences for cross-validation, got 1; use rolling origin, origins=5"),
        ({"folds": 5}, (4, 4, 4), r"expected folds in 2..3, .* got 5; use fewer folds, or rolling origin"),
        ({"folds": 1}, (4, 4), r"expected folds in 2..2"),
        ({"origins": 2}, (4, 4), "expected a single series for rolling origin, got 2 sequences; use cross-validation"),
        ({"origins": 9}, (9,), r"expected at most 5 origins from step 4 of 9 on, got 9; take fewer"),
        ({"origins": 2, "horizon": 9}, (9,), r"expected first_origin in 2..0"),
        ({"origins": 2, "folds": 2}, (9,), "expected folds .* or origins .*, got both; leave one out"),
        ({"horizon": 2}, (9,), "expected horizon only with origins"),
        ({"folds": 2.5}, (9, 9), "expected folds to be an integer of at least 1, got 2.5"),
    ],
)
def test_too_few_sequences_or_steps_are_one_sentence(
    options: dict[str, Any], lengths: tuple[int, ...], message: str
) -> None:
    data = series(*lengths)
    with pytest.raises(ValueError, match=message):
        pr.compare({"A": level(data.x), "B": level(data.x)}, data, fit=fit_level, **options)


def test_a_fit_that_returns_no_model_is_named() -> None:
    data = series(4, 4)
    with pytest.raises(TypeError, match="expected fit= to return a model or the result of a fit, got NoneType"):
        pr.compare({"A": level(data.x), "B": level(data.x)}, data, folds=2, fit=lambda model, train: None)
