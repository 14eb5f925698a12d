"""PSIS-LOO and PSIS-LFO: ArviZ's own values, and conjugate models whose held-out laws are known."""

import warnings
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import pgm_rnn as pr
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.models import HMM
from pgm_rnn.report.comparison.entries import entries_of
from pgm_rnn.report.comparison.leaving_out import (
    Weighted,
    leave_future_out,
    leave_one_out,
    of_draws,
    sequence_values,
    step_values,
)
from pgm_rnn.report.comparison.psis import relative_efficiency, smoothed_weights
from pgm_rnn.report.comparison.scores import Scores
from pgm_rnn.sequences import Sequences, pad

DRAWS = 200


def program() -> pr.WithPriors:
    """x_t ~ N(theta, 1), theta ~ N(0, 2^2), as an HMM with one state."""
    one = torch.ones(1)
    model = HMM(one, one[None], Gaussian().table(torch.zeros(1), one))
    return pr.WithPriors(model, {"loc": dist.Normal(torch.zeros(1), 2.0)})


def law_of_level(x: Tensor) -> Normal:
    """p(theta | x), by conjugacy."""
    precision = 1 / 4 + len(x)
    return Normal(x.sum() / precision, precision**-0.5)


def posterior(x: Tensor, num_chains: int = 1) -> Posterior:
    """Independent draws from p(theta | x): its quantiles, in random order, so that little chance is left."""
    quantiles = (torch.arange(DRAWS) + 0.5) / DRAWS
    draws = law_of_level(x).icdf(quantiles)[torch.randperm(DRAWS)].reshape(num_chains, -1, 1)
    return Posterior({"loc": draws}, torch.zeros(num_chains, dtype=torch.int64), 0.0)


def exact(x: Tensor, given: Tensor) -> float:
    """log p(x | given), theta integrated out, one term after the other."""
    total = 0.0
    for value in x:
        law = law_of_level(given)
        total += float(Normal(law.mean, (1 + law.variance).sqrt()).log_prob(value))
        given = torch.cat([given, value[None]])
    return total


def seen(data: Sequences, places: Any = slice(None)) -> Tensor:
    return data.x[places][data.mask[places]]


def shapes(found: Scores) -> Tensor:
    assert found.pareto_k is not None
    return found.pareto_k


def few() -> Sequences:
    return pad([0.5 + torch.randn(length) for length in (3, 3, 3)])


def entry_and_draws(data: Sequences, num_chains: int = 1, **options: Any) -> tuple[Any, Weighted]:
    pair = (program(), posterior(seen(data), num_chains))
    entry = entries_of({"A": pair, "B": pair}, data, **options)[0]
    values = step_values if len(data.lengths) == 1 else sequence_values
    return entry, of_draws(entry, pair[1], entry.data, values, progress=False)


def test_log_likelihoods_of_draws_are_those_of_the_law() -> None:
    data = few()
    entry, weighted = entry_and_draws(data)
    theta = entry.posterior.samples["loc"][0, :, 0]
    expected = torch.stack([Normal(theta, 1.0).log_prob(row[:, None]).sum(0) for row in _rows(data)], 1)
    torch.testing.assert_close(weighted.terms, expected)


def _rows(data: Sequences) -> list[Tensor]:
    return [row[:length] for row, length in zip(data.x, data.lengths.tolist(), strict=True)]


def test_leave_one_out_is_the_conjugate_predictive_law() -> None:
    data = few()
    found = leave_one_out(*entry_and_draws(data))
    rows = _rows(data)
    expected = [exact(row, torch.cat(rows[:i] + rows[i + 1 :])) for i, row in enumerate(rows)]
    np.testing.assert_allclose(-found.nats, expected, atol=0.05)
    assert float(shapes(found).max()) < 0.7
    with_it = [float(_averaged(data, row)) for row in rows]
    assert np.abs(np.array(with_it) - expected).max() > 0.1  # scores of seen sequences are not held-out ones


def _averaged(data: Sequences, row: Tensor) -> Tensor:
    theta = posterior(seen(data)).samples["loc"][0, :, 0]
    return Normal(theta, 1.0).log_prob(row[:, None]).sum(0).logsumexp(0) - np.log(DRAWS)


@pytest.mark.parametrize("num_chains", [1, 4])
def test_values_are_arvizs_own(num_chains: int) -> None:
    arviz = pytest.importorskip("arviz")
    if int(arviz.__version__.split(".")[0]) >= 1:
        pytest.skip("the interface before version 1; that of version 1 gives the same numbers")
    data = few()
    entry, weighted = entry_and_draws(data, num_chains)
    found = leave_one_out(entry, weighted)
    draws = {name: values.numpy() for name, values in entry.posterior.samples.items()}
    values = weighted.terms.reshape(num_chains, -1, len(data.lengths)).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = arviz.loo(arviz.from_dict(posterior=draws, log_likelihood={"x": values}), pointwise=True)
    np.testing.assert_allclose(-found.nats, theirs.loo_i.values, rtol=0, atol=1e-10)
    np.testing.assert_allclose(shapes(found), theirs.pareto_k.values, rtol=0, atol=1e-10)
    assert float(-found.nats.sum()) == pytest.approx(theirs.elpd_loo, abs=1e-9)


def test_smoothed_weights_sum_to_one_and_a_heavy_tail_shows_in_k() -> None:
    rng = np.random.default_rng(0)
    light, heavy = rng.exponential(size=(2, 1000)) * np.array([[0.3], [1.5]])
    weights, k = smoothed_weights(np.stack([light, heavy]))
    np.testing.assert_allclose(np.exp(weights).sum(1), 1)
    assert k[0] < 0.7 < k[1]  # weights with tail index 1 / 0.3 and 1 / 1.5: k is 0.3 and 1.5


def test_dependent_chains_are_less_efficient_than_independent_ones() -> None:
    rng = np.random.default_rng(0)
    free = rng.normal(size=(2, 300))
    slow = np.cumsum(free, axis=1)
    assert relative_efficiency({"a": free}) > 0.5 > 0.1 > relative_efficiency({"a": slow})
    assert relative_efficiency({"a": slow[:1]}) == 1.0  # as arviz.loo has it


def test_leave_future_out_is_the_conjugate_predictive_law() -> None:
    data = pad([0.5 + torch.randn(24)])
    entry, weighted = entry_and_draws(data)
    found = leave_future_out(entry, weighted, 16)
    x = data.x[0]
    expected = [exact(x[i : i + 1], x[:i]) for i in range(16, 24)]
    assert float(-found.nats.sum()) == pytest.approx(sum(expected), abs=0.1)
    assert float(shapes(found).max()) < 0.7
    assert abs(float(weighted.terms[:, 16:].logsumexp(0).sum() - 8 * np.log(DRAWS)) - sum(expected)) > 0.15


def test_a_horizon_scores_steps_jointly() -> None:
    data = pad([0.5 + torch.randn(24)])
    entry, weighted = entry_and_draws(data)
    found, x = leave_future_out(entry, weighted, 15, horizon=3), data.x[0]
    expected = sum(exact(x[i : i + 3], x[:i]) for i in (15, 18, 21))
    assert float(-found.nats.sum()) == pytest.approx(expected, abs=0.1)
    assert (int(found.steps.sum()), found.unit) == (9, "blocks of 3 steps")


def shifted() -> Sequences:
    """A series whose level changes, so that draws fitted to all of it miss those of its beginning."""
    return pad([torch.cat([torch.randn(5), 3 + torch.randn(5)])])


def test_terms_with_a_large_k_are_refitted_and_then_exact() -> None:
    data = shifted()
    x = data.x[0]
    kept = leave_future_out(*entry_and_draws(data), first=3)
    assert float(shapes(kept).max()) > 0.7
    entry, weighted = entry_and_draws(data, fit=lambda program, train: posterior(train.x[0]))
    found = leave_future_out(entry, weighted, first=3)
    expected = sum(exact(x[i : i + 1], x[:i]) for i in range(3, 10))
    assert found.num_refits > 0
    assert float(-found.nats.sum()) == pytest.approx(expected, abs=0.1)
    assert abs(float(-kept.nats.sum()) - expected) > 0.5


def test_a_sequence_that_pulls_the_posterior_is_refitted() -> None:
    data = pad([torch.randn(2), torch.randn(2), 0.8 + torch.randn(14)])
    rows = _rows(data)
    without = leave_one_out(*entry_and_draws(data))
    assert float(shapes(without)[2]) > 0.7
    found = leave_one_out(*entry_and_draws(data, fit=lambda program, train: posterior(seen(train))))
    assert found.num_refits >= 1
    expected = exact(rows[2], torch.cat(rows[:2]))
    assert float(-found.nats[2]) == pytest.approx(expected, abs=0.05)
    assert abs(float(-without.nats[2]) - expected) > 0.1


def test_bayesian_fits_stand_apart_from_models_with_one_value() -> None:
    data = few()
    pair = (program(), posterior(seen(data)))
    found = pr.compare({"bayes": pair, "again": (program(), posterior(seen(data))), "point": pair[0].model}, data)
    assert [(group.label, len(group.standings)) for group in found.groups] == [
        ("PSIS-LOO", 2),
        ("exact", 1),
        ("averaged over the posterior", 2),
    ]
    assert set(found.criteria) == {"point"}
    assert "scores of one value of the parameters and of a posterior stand apart" in " ".join(str(found).split())


def test_unreliable_weights_are_said() -> None:
    data = shifted()
    pair = (program(), posterior(seen(data)))
    found = pr.compare({"A": pair, "B": pair}, data, first_origin=3)
    assert "A: Pareto k is above 0.7 for " in str(found)
    assert found.to_frame()["num_unreliable"].max() > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda pair: pair[1], r"expected a Bayesian fit as a pair \(program, posterior\), got the posterior alone"),
        (lambda pair: (pair[0], pair[1]._replace(samples={"scale": torch.ones(1, 5)})), "expected draws of loc"),
        (lambda pair: "hmm", "expected a SequenceModel, a result of em.fit or svi.fit, or a pair"),
    ],
)
def test_half_a_bayesian_fit_is_one_sentence(given: Any, message: str) -> None:
    data = few()
    pair = (program(), posterior(seen(data)))
    with pytest.raises((TypeError, ValueError), match=message):
        pr.compare({"A": given(pair), "B": pair}, data)


def test_a_refit_that_is_no_posterior_is_named() -> None:
    data = shifted()
    pair = (program(), posterior(seen(data)))
    with pytest.raises(TypeError, match=r"expected fit= to return a result of mcmc.run for the Bayesian fit A"):
        pr.compare({"A": pair, "B": pair}, data, first_origin=3, fit=lambda program, train: program)


def test_bayesian_fits_alone_need_no_folds() -> None:
    data = few()
    pair = (program(), posterior(seen(data)))
    with pytest.raises(
        ValueError, match="expected folds or origins only for models to fit again, got only Bayesian fits"
    ):
        pr.compare({"A": pair, "B": pair}, data, folds=3)
