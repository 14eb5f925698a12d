"""Sections of a diagnosis: silent on data of the model itself, and a finding for each model that is wrong."""

import dataclasses
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from pgm_rnn.emissions import Bernoulli, Categorical, Gaussian, Poisson
from pgm_rnn.inference import em
from pgm_rnn.inference.at_limits import NO_BOUND
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.legend import Column, Legend
from pgm_rnn.models import HMM, VRNN, LinearGaussianSSM, NoisyRNN, SwitchingLinearSSM
from pgm_rnn.report.diagnostics import coverage as coverage_module
from pgm_rnn.report.diagnostics import simulations as simulations_module
from pgm_rnn.report.diagnostics.coverage import coverage, origins
from pgm_rnn.report.diagnostics.guides import guide, has_guide
from pgm_rnn.report.diagnostics.one_step import one_step
from pgm_rnn.report.diagnostics.particle_laws import Filtering
from pgm_rnn.report.diagnostics.particles import particles
from pgm_rnn.report.diagnostics.residuals import normal_scores, pit_values, residuals
from pgm_rnn.report.diagnostics.restarts import of_fit, refitted
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.diagnostics.simulations import simulations
from pgm_rnn.report.diagnostics.state_use import law_distances, move_distances, state_use
from pgm_rnn.report.diagnostics.switching import switching
from pgm_rnn.report.diagnostics.wording import LEVEL, Variables, listed, p_text
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequences import Sequences
from tests.report.diagnostics.test_one_step import autoregression, counts

OPTIONS: dict[str, Any] = {"num_samples": 200, "num_particles": 100, "seed": 0}


def of(model: Any, x: Any, legend: Legend | None = None) -> tuple[Sequences, Variables]:
    data = checked(model, x)._replace(legend=legend)
    return data, Variables.of(model.family, legend)


def residuals_of(model: Any, x: Any) -> Section:
    data, variables = of(model, x)
    found = one_step(model, data)
    return residuals(found, pit_values(found, 0), variables, 5)


# One-step residuals: a right model, then wrong variance, wrong lag, wrong number of states.

SERIES = autoregression().sample(4, 150, seed=3).x


def test_a_right_model_has_no_finding_and_its_numbers_are_those_of_scipy() -> None:
    section = residuals_of(autoregression(), SERIES)
    assert section.findings == ()
    data, _ = of(autoregression(), SERIES)
    u = one_step(autoregression(), data).upto.flatten().numpy()
    row = dict(zip(section.table.columns, section.table.values[0], strict=True))
    assert row["p uniform"] == pytest.approx(stats.kstest(u, "uniform").pvalue)
    assert row["score sd"] == pytest.approx(stats.norm.ppf(u).std())
    assert row["values"] == 600


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (autoregression(scale=0.25), "predictions are too narrow"),
        (autoregression(scale=1.0), "predictions are too wide"),
        (autoregression(phi=0.2), "errors are correlated over time"),
    ],
    ids=["small variance", "large variance", "short memory"],
)
def test_a_wrong_autoregression_is_found(model: LinearGaussianSSM, words: str) -> None:
    assert any(words in finding for finding in residuals_of(model, SERIES).findings)


def test_a_level_that_has_moved_is_found() -> None:
    assert any("too low on average" in finding for finding in residuals_of(autoregression(), SERIES + 5.0).findings)


def test_a_wrong_number_of_states_is_found() -> None:
    x = counts().sample(4, 150, seed=0).x
    assert residuals_of(counts(), x).findings == ()
    one = HMM(torch.ones(1), torch.ones(1, 1), Poisson().table(x.mean()[None]))
    assert any("correlated" in finding for finding in residuals_of(one, x).findings)


def test_the_pit_is_uniform_on_simulated_data_of_counts() -> None:
    """One test over 40 data sets: with a level of 1 %, four rejections have a probability below 1e-3."""
    model = counts()
    x = model.sample(40, 60, seed=1).x
    found = one_step(model, checked(model, x))
    u = pit_values(found, 0)[..., 0].numpy()
    assert sum(stats.kstest(row, "uniform").pvalue < LEVEL for row in u) < 4
    middle = (found.below + found.upto)[..., 0].numpy() / 2  # the control: without v it is not uniform
    assert sum(stats.kstest(row, "uniform").pvalue < LEVEL for row in middle) < 40
    assert stats.kstest(middle.ravel(), "uniform").pvalue < LEVEL < stats.kstest(u.ravel(), "uniform").pvalue


def test_variables_with_the_same_fault_share_a_sentence_with_the_worst_first() -> None:
    table = Gaussian(4).table(torch.zeros(1, 4), torch.tensor([[1.0, 0.5, 0.2, 0.5]]))
    model = HMM(torch.ones(1), torch.ones(1, 1), table)
    [finding] = residuals_of(model, torch.randn(1, 200, 4)).findings
    assert finding.startswith("x3, x")
    assert "and 1 more" not in finding  # three are named
    assert "for x3" in finding


def test_scores_are_normal_quantiles_and_finite() -> None:
    scores = normal_scores(torch.tensor([0.0, 0.3, 1.0]))
    np.testing.assert_allclose(scores[1], stats.norm.ppf(0.3))
    assert bool(scores.isfinite().all())


# Simulations.


def simulated(model: Any, x: Any, legend: Legend | None = None) -> Section:
    data, variables = of(model, x, legend)
    return simulations(model, data, variables, 40, seed=0)


def test_statistics_of_the_data_are_their_definitions() -> None:
    x = torch.tensor([[2.0, 0.0, 3.0, torch.nan], [0.0, 1.0, 1.0, 4.0]])
    section = simulated(counts(), x)
    values = {row: numbers[0] for row, numbers in zip(section.table.rows, section.table.values, strict=True)}
    seen = x[~x.isnan()]
    assert values["mean of x"] == pytest.approx(float(seen.mean()))
    assert values["sd of x"] == pytest.approx(float(seen.std(correction=0)))
    assert values["share of zeros in x"] == pytest.approx(2 / 7)
    assert (values["smallest x"], values["largest x"]) == (0.0, 4.0)
    c = x - seen.mean()
    expected = float((c[:, 1:] * c[:, :-1]).nansum() / (c**2).nansum())
    assert values["lag-1 correlation of x"] == pytest.approx(expected)


def test_simulations_of_the_right_model_surround_the_data_and_those_of_a_wrong_one_do_not() -> None:
    x = counts().sample(3, 100, seed=5).x
    assert simulated(counts(), x).findings == ()
    one = HMM(torch.ones(1), torch.ones(1, 1), Poisson().table(x.mean()[None]))
    [finding] = simulated(one, x).findings
    assert "sd of x" in finding
    assert "lag-1 correlation of x" in finding
    assert "mean of x" not in finding


def test_symbols_are_counted_by_their_words() -> None:
    model = HMM.random(2, 3, seed=0)
    legend = Legend((Column("mode", "symbol", words=("idle", "run", "stop")),))
    section = simulated(model, torch.tensor([[1, 1, 2, 1, 0, 0]]), legend)
    expected = {"share of run in mode": 1 / 2, "share of repeats in mode": 2 / 5, "distinct symbols in mode": 3.0}
    values = [numbers[0] for numbers in section.table.values]
    assert dict(zip(section.table.rows, values, strict=True)) == pytest.approx(expected)


def test_tail_areas_count_the_data_among_the_simulations() -> None:
    section = simulated(counts(), torch.full((1, 30), 50.0))
    row = dict(zip(section.table.rows, section.table.values, strict=True))["mean of x"]
    assert row[3] == pytest.approx(2 / 41)


def test_long_data_are_simulated_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulations_module, "MOST_STEPS", 30 * 25)
    assert simulated(counts(), torch.ones(1, 30)).note.startswith("25 simulations")
    monkeypatch.setattr(simulations_module, "MOST_STEPS", 1)
    assert simulated(counts(), torch.ones(1, 30)).note.startswith("20 simulations")


# Coverage of forecasts.


def covered(model: Any, x: Any, num_steps: int = 2) -> Section:
    data, variables = of(model, x)
    found = coverage(model, data, variables, num_steps, 1000, OPTIONS)
    assert found is not None
    return found


def test_origins_are_as_far_apart_as_the_horizon_and_leave_room_for_it() -> None:
    data = Sequences(torch.zeros(2, 8, 1), torch.tensor([8, 4]))
    sequence, origin = origins(autoregression(), data, 3, 100)
    assert [*zip(sequence.tolist(), origin.tolist(), strict=True)] == [(0, 5), (0, 2), (1, 1)]
    assert len(origins(autoregression(), data, 3, 2)[0]) == 2


def test_long_sequences_have_fewer_forecasts_made_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = covered(autoregression(), SERIES, 1).table.values[0]
    monkeypatch.setattr(coverage_module, "GROUP", 400)
    assert covered(autoregression(), SERIES, 1).table.values[0] == whole
    monkeypatch.setattr(coverage_module, "MOST_STEPS", 4000)
    sequence, origin = origins(autoregression(), Sequences(SERIES, torch.full((4,), 150)), 1, 1000)
    assert 3000 < int(origin.sum()) < 5000
    assert set(sequence.tolist()) == {0, 1, 2, 3}


def test_coverage_counts_values_within_known_normal_intervals() -> None:
    x = SERIES[:1]
    section = covered(autoregression(), x, 1)
    series = x[0, :, 0].numpy()
    inside = np.abs(series[1:] - 0.8 * series[:-1]) <= stats.norm.ppf(0.9) * 0.5
    row = dict(zip(section.table.columns, section.table.values[0], strict=True))
    assert row["80 %"] == pytest.approx(100 * inside.mean())
    assert row["forecasts"] == 149
    errors = section.table.errors
    assert errors is not None
    assert errors[0][1] == pytest.approx(100 * math.sqrt(0.8 * 0.2 / 149))


def test_coverage_is_nominal_for_the_right_model_and_not_for_a_wrong_variance() -> None:
    assert covered(autoregression(), SERIES).findings == ()
    [narrow] = covered(autoregression(scale=0.25), SERIES).findings
    assert "intervals of forecasts are too narrow" in narrow
    [wide] = covered(autoregression(scale=1.0), SERIES).findings
    assert "intervals of forecasts are too wide" in wide


def test_sets_of_symbols_and_intervals_of_counts_cover_at_least_their_level() -> None:
    for model in (counts(), HMM.random(2, 5, seed=0)):
        section = covered(model, model.sample(4, 100, seed=2).x)
        assert section.findings == ()
        for row, error in zip(section.table.values, section.table.errors or (), strict=True):
            assert all(share > level - 4 * e for share, level, e in zip(row[:3], (50, 80, 90), error[:3], strict=True))
    sure = HMM(torch.ones(1), torch.ones(1, 1), Categorical(3).table(torch.tensor([[0.98, 0.01, 0.01]])))
    [finding] = covered(sure, torch.arange(3).repeat(40)[None]).findings
    assert "too narrow" in finding


def test_missing_values_are_not_counted_and_short_series_have_no_coverage() -> None:
    x = SERIES[:1].clone()
    x[0, 10:140] = torch.nan
    assert covered(autoregression(), x, 1).table.values[0][-1] == 19
    data, variables = of(autoregression(), SERIES[:1, :5])
    assert coverage(autoregression(), data, variables, 5, 10, OPTIONS) is None


# Particle filters and guides.

MACHINES = Legend((Column("flow"),), sequence="machine", ids=("machine-01", "machine-03"))


def test_the_step_at_which_a_filter_loses_its_particles_is_named() -> None:
    model = NoisyRNN.random(1, 1, seed=0)
    x = model.sample(2, 30, seed=0).x
    x[1, 11] += 40.0
    data, _ = of(model, x, MACHINES)
    found = one_step(model, data, num_particles=200)
    assert found.filtering is not None
    section = particles(data, found.filtering)
    assert any("lost its particles at step 12 of machine-03" in finding for finding in section.findings)
    assert section.worst[0] == 1
    quiet, _ = of(model, model.sample(2, 30, seed=0).x, MACHINES)
    filtering = one_step(model, quiet, num_particles=200).filtering
    assert filtering is not None
    assert particles(quiet, filtering).findings == ()


def test_numbers_of_a_filter_are_those_of_its_record() -> None:
    nan = math.nan
    ess = torch.tensor([[50.0, 3.0, 80.0], [60.0, 70.0, nan]])
    k = torch.tensor([[0.1, 0.9, 0.2], [0.3, 0.2, nan]])
    terms = torch.tensor([[-1.0, -2.0, -1.0], [-1.0, -torch.inf, nan]])
    model = NoisyRNN.random(1, 1, seed=0)
    data = Sequences(torch.zeros(2, 3, 1), torch.tensor([3, 2]))
    section = particles(data, Filtering(model, 100, ess, k, terms))
    assert section.table.values[0] == pytest.approx((3, 3.0, 2, 133 / 3, 1, 0.9, 1))
    assert section.table.values[1] == pytest.approx((2, 0.0, 2, 30.0, 1, 0.3, 0))
    assert "step 2 of sequence 1 (every weight is zero" in section.findings[0]
    assert "20% of the steps" in section.findings[-1]


def test_particles_that_are_regimes_have_no_tails_and_no_guide() -> None:
    model = SwitchingLinearSSM.random(2, 1, 1, seed=0)
    data, _ = of(model, model.sample(2, 30, seed=0).x)
    filtering = one_step(model, data, num_particles=200).filtering
    assert filtering is not None
    section = particles(data, filtering)
    assert section.table.columns == ("steps", "least ESS", "at step", "mean ESS", "lost")
    assert all(len(row) == 5 for row in section.table.values)
    assert "each a regime with a Kalman filter" in section.note
    assert "Pareto" not in section.note
    assert section.findings == ()
    lost = dataclasses.replace(filtering, ess=torch.ones_like(filtering.ess))
    assert particles(data, lost).findings[0].endswith("; use more particles")


def test_an_untrained_guide_is_found_and_one_of_the_posterior_itself_is_not() -> None:
    model = VRNN(emission=Gaussian(1), latent_dim=2, hidden_dim=3)
    data, _ = of(model, model.sample(2, 20, seed=0).x)
    assert has_guide(model)
    assert "The guide's draws are too far from the posterior" in guide(model, data, 200, 0).findings[0]
    exact = autoregression()
    data, _ = of(exact, SERIES[:2, :5])
    assert not has_guide(exact)
    assert guide(exact, data, 200, 0).findings == ()  # all its weights are p(x)


# Finite states.


def test_distances_of_laws_are_total_variations_of_equal_mixtures() -> None:
    """Two normal laws m apart: TV = 2 Phi(m / 2) - 1."""
    model = HMM(
        torch.tensor([0.5, 0.5]), torch.full((2, 2), 0.5), Gaussian().table(torch.tensor([0.0, 1.5]), torch.ones(2))
    )
    x = model.sample(200, 100, seed=0).x
    log_emission = model.emission_log_probs(x).flatten(0, 1).detach()
    found = law_distances(log_emission, log_emission.softmax(-1))
    assert float(found[0, 1]) == pytest.approx(2 * stats.norm.cdf(0.75) - 1, abs=0.01)
    assert found.diagonal().tolist() == [0.0, 0.0]


def test_distances_of_moves_count_both_states_as_one() -> None:
    table = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.2, 0.2, 0.6]])
    found = move_distances(table)
    assert float(found[0, 1]) == pytest.approx(0.0, abs=1e-12)  # 0.8 and 0.2 from either
    assert float(found[0, 2]) == pytest.approx(abs(0.3 - 0.2))


def test_two_states_alone_have_no_moves_to_differ_in() -> None:
    """Rows in float32 sum to one up to rounding only, and rounding is no distance."""
    table = torch.tensor([[0.9268079, 0.0731921], [0.1177097, 0.8822904]], dtype=torch.float32)
    assert float((table[0] - table[1]).sum()) != 0.0
    assert move_distances(table).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    note = state_use(counts(), of(counts(), counts().sample(1, 30, seed=0).x)[0]).note
    assert "two states alone have 0" in note


def test_a_state_without_a_share_and_states_that_are_alike_are_found() -> None:
    transition = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
    model = HMM(torch.tensor([0.5, 0.5, 0.0]), transition, Poisson().table(torch.tensor([1.0, 6.0, 30.0])))
    data, _ = of(model, counts().sample(2, 50, seed=0).x)
    [finding] = state_use(model, data).findings
    assert "less than 0.1 expected steps, belongs to state 2 " in finding
    twins = HMM(torch.tensor([0.5, 0.5]), torch.full((2, 2), 0.5), Poisson().table(torch.tensor([3.0, 3.05])))
    [finding] = state_use(twins, data).findings
    assert "States 0 and 1 are nearly the same" in finding
    assert state_use(counts(), data).findings == ()


@pytest.mark.filterwarnings("ignore::pgm_rnn.inference.em.EmWarning")
def test_restarts_tell_a_global_from_a_local_maximum() -> None:
    x = (
        HMM(
            torch.ones(3) / 3,
            torch.full((3, 3), 1 / 3),
            Gaussian().table(torch.tensor([-6.0, 0.0, 6.0]), torch.ones(3)),
        )
        .sample(1, 200, seed=0)
        .x
    )
    apart, together = (
        HMM(torch.ones(3) / 3, torch.full((3, 3), 1 / 3), Gaussian().table(torch.tensor(loc), torch.tensor(scale)))
        for loc, scale in (([-6.0, 0.0, 6.0], [1.0, 1.0, 1.0]), ([-6.0, 3.0, 3.0], [1.0, 3.0, 3.0]))
    )
    data, _ = of(apart, x)
    before = [value.clone() for value in together.parameters()]
    assert refitted(apart, data, 3, 100, seed=0).findings == ()
    section = refitted(together, data, 3, 100, seed=0)
    assert "ended in a local maximum" in section.findings[0]
    assert all(torch.equal(old, new) for old, new in zip(before, together.parameters(), strict=True))


def fit_of(*values: float, chosen: int) -> em.EmFit:
    restarts = em.Restarts(torch.tensor(values), None, chosen)
    return em.EmFit(counts(), torch.tensor(values[:1]), restarts, "tolerance", 0.0)


@pytest.mark.parametrize(
    ("sentence", "finding"),
    [
        (f"scale ends at 1e-300, in state 1: {NO_BOUND}; use fewer states", "where the likelihood has no bound: that"),
        ("Almost none of the data belongs to state 1", "ended in a local maximum: from the data ends 170.0 nats above"),
    ],
)
def test_a_start_that_ends_where_the_likelihood_has_no_bound_is_no_better_fit(
    sentence: str, finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: Any, start: str, **options: Any) -> em.EmFit:
        if start == "data":
            warnings.warn(sentence, em.EmWarning, stacklevel=1)
        return fit_of(*([-100.0] if start == "model" else [70.0, -100.0]), chosen=0)

    monkeypatch.setattr(em, "fit", fit)
    model = HMM(torch.ones(1), torch.ones(1, 1), Gaussian().table(torch.zeros(1), torch.ones(1)))
    section = refitted(model, of(model, torch.zeros(1, 3))[0], 1, 10, seed=0)
    assert finding in section.findings[0]


def test_the_record_of_a_fit_says_whether_its_starts_agree() -> None:
    assert of_fit(fit_of(-100.0, -100.2, -130.0, chosen=0), 50).findings == ()
    assert "No two of 2 starts agree" in of_fit(fit_of(-100.0, -130.0, chosen=0), 50).findings[0]
    assert "start 0 ends 30.0 nats above start 1" in of_fit(fit_of(-100.0, -130.0, chosen=1), 50).findings[0]


def posterior(share: float) -> Posterior:
    """Means of two states near 0 and 3; the second chain has them in the other order in this share of its draws."""
    loc = torch.tensor([0.0, 3.0]) + 0.1 * torch.randn(2, 40, 2)
    loc[1, : int(40 * share)] = loc[1, : int(40 * share)].flip(-1)
    return Posterior({"loc": loc, "transition_probs": torch.rand(2, 40, 2, 2)}, torch.zeros(2), 0.0)


def test_labels_that_switch_between_draws_are_counted() -> None:
    section = switching(posterior(0.75), 2)
    assert section is not None
    assert list(section.table.values) == [(40, 0.0, 0.0), (40, 30.0, 0.75)]
    assert "most of those of chain 1" in section.findings[0]
    quiet = switching(posterior(0.0), 2)
    assert quiet is not None
    assert quiet.findings == ()
    assert switching(Posterior({"rate": torch.rand(2, 40)}, torch.zeros(2), 0.0), 2) is None


# Words.


def test_names_and_p_values_in_words() -> None:
    assert listed(["a", "b", "c", "d"]) == "a, b, c and 1 more variable"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more variables"
    assert (p_text(1e-30), p_text(0.0023)) == ("p < 1e-16", "p = 0.002")
    assert Variables.of(Bernoulli(2), None).kinds == ("binary", "binary")
