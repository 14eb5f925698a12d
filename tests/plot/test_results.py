"""Pictures of results: particles, draws, residuals, fits, scores, rolls and forecasts say what the data say."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

import pgm_rnn as pr
from pgm_rnn.inference import em, smc
from pgm_rnn.inference.em.engine import EmFit, Restarts
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.inference.smc import Filtered
from pgm_rnn.inference.svi import Fit
from pgm_rnn.inference.svi.plan import Epoch
from pgm_rnn.plot.particles import ancestral_places
from pgm_rnn.report.forecasts import Forecast
from pgm_rnn.report.looks import AHEAD, INK
from pgm_rnn.report.residual_pictures import autocorrelations
from pgm_rnn.sequences import Sequences
from tests.plot.looking import DATES, covered, cut_off, figure_of, line, machines, names, outlines

HMM = pr.get_model("hmm", num_states=2, num_symbols=3, seed=0)
POSTERIOR = Posterior(
    {"loc": torch.arange(12.0).reshape(2, 3, 2), "scale": torch.arange(6.0).reshape(2, 3)},
    torch.zeros(2, dtype=torch.long),
    0.0,
)


def filtered() -> Filtered:
    lgssm = pr.get_model("lgssm", latent_dim=1, obs_dim=1, seed=0)
    return smc.filter(lgssm, lgssm.sample(2, 6, seed=0).x, num_particles=8, keep="all", seed=0)


def wrong(value: object) -> Any:
    """A value of a type that type checkers refuse."""
    return value


def areas_of(panel: Any) -> NDArray[Any]:
    """The areas of the points of a cloud."""
    return np.asarray(panel.collections[0].get_sizes())


# Particles.


def test_a_cloud_has_every_particle_and_the_sample_size_below() -> None:
    found = filtered()
    cloud, sizes = pr.plot.particles(found, sequence=1)
    assert found.history is not None
    points = np.asarray(cloud.collections[0].get_offsets())
    np.testing.assert_allclose(points[:, 1], found.history.z[:, :, 1, 0].numpy().ravel(), rtol=1e-6)
    np.testing.assert_array_equal(points[:, 0], np.arange(1, 7).repeat(8))
    np.testing.assert_allclose(np.asarray(sizes.get_lines()[0].get_ydata()), found.ess[1].numpy())
    assert sizes.get_ylabel() == "ESS"


def test_of_a_long_series_the_last_steps_are_drawn() -> None:
    model = pr.get_model("lgssm", latent_dim=1, obs_dim=1, seed=0)
    found = smc.filter(model, model.sample(1, 260, seed=0).x, num_particles=20, keep="all", seed=0)
    cloud, sizes = pr.plot.particles(found)
    assert cloud.get_title(loc="left").startswith("last 200 of 260 steps, 20 particles")
    assert np.asarray(sizes.get_lines()[0].get_xdata()).tolist() == list(range(61, 261))
    np.testing.assert_array_equal(sizes.get_lines()[0].get_ydata(), found.ess[0, 60:].numpy())
    assert np.size(pr.plot.particles(found, last=None)[1].get_lines()[0].get_xdata()) == 260


def test_areas_are_in_proportion_to_weights() -> None:
    found = filtered()
    assert found.history is not None
    cloud, _ = pr.plot.particles(found)
    areas = areas_of(cloud).reshape(6, 8)
    weights = found.history.log_weights[:, :, 0].softmax(1).numpy()
    small = weights < 0.1
    np.testing.assert_allclose(areas[small] / weights[small], areas[small][0] / weights[small][0], rtol=1e-5)


def test_ancestry_is_followed_from_the_last_step_back() -> None:
    ancestors = torch.tensor([[0, 1, 2], [2, 2, 0], [1, 1, 2]])
    assert ancestral_places(ancestors).tolist() == [[2, 2, 0], [1, 1, 2], [0, 1, 2]]


def test_finite_states_are_one_point_each_with_all_their_weight() -> None:
    found = smc.filter(HMM, HMM.sample(1, 4, seed=0).x, num_particles=20, keep="all", seed=0)
    cloud, _ = pr.plot.particles(found)
    points = np.asarray(cloud.collections[0].get_offsets())
    assert len(points) == 4 * 2
    areas = areas_of(cloud).reshape(4, 2)
    np.testing.assert_allclose(areas.sum(1), areas.sum(1)[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: pr.plot.particles(filtered(), sequence=2), ValueError, "expected sequence in 0..1, got 2"),
        (lambda: pr.plot.particles(filtered(), component=1), ValueError, "expected component in 0..0, got 1"),
        (lambda: pr.plot.particles(filtered()._replace(history=None)), ValueError, "expected a filter that keeps"),
        (lambda: pr.plot.particles(wrong([1])), TypeError, "expected a result of smc.filter, got list"),
        (lambda: pr.plot.trace(wrong([1])), TypeError, "expected a result of mcmc.run or pmmh.run, got list"),
        (lambda: pr.plot.trace(POSTERIOR, names=["rate"]), ValueError, "expected names among loc, scale, got 'rate'"),
        (lambda: pr.plot.residuals(), ValueError, "expected residuals or PIT values, got neither"),
        (lambda: pr.plot.residuals(pit=[0.1, 1.2, 0.3]), ValueError, r"expected PIT values in 0..1, got 0.1 to 1.2"),
        (lambda: pr.plot.residuals([0.1, math.nan]), ValueError, "expected at least three residuals, got 1"),
        (lambda: pr.plot.convergence(wrong(3)), TypeError, "expected a result of em.fit or svi.fit, got int"),
        (lambda: pr.plot.compare({}), ValueError, "expected at least one score, got none"),
        (lambda: pr.plot.compare([1.0]), TypeError, "expected scores by name"),
        (
            lambda: pr.plot.compare({"a": (math.nan, 1.0)}),
            ValueError,
            "expected finite scores, got NaN or infinity for 'a'",
        ),
        (lambda: pr.plot.compare(pd.DataFrame({"x": [1.0]})), ValueError, "expected a column 'nats_per_step', got x"),
        (lambda: pr.plot.rolls(torch.full((1, 3, 2), 0.5)), TypeError, "expected observed sequences of bits"),
        (
            lambda: pr.plot.rolls(torch.zeros(1, 3, 2), torch.zeros(1, 3, 4)),
            ValueError,
            "expected sequences of one number of bits, got 2 observed and 4 drawn",
        ),
        (lambda: pr.plot.forecast(wrong(HMM)), TypeError, "expected a result of pgm_rnn.forecast, got HMM"),
    ],
)
def test_wrong_arguments_are_one_sentence(draw: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw()


# Draws of parameters.


def test_every_number_has_a_row_with_a_line_for_each_chain() -> None:
    panels = pr.plot.trace(POSTERIOR)
    assert panels.shape == (3, 2)
    assert [panel.get_title(loc="left") for panel in panels[:, 0]] == ["loc[0]", "loc[1]", "scale"]
    np.testing.assert_array_equal(line(panels[1, 1], "chain 2").get_ydata(), [7, 9, 11])
    styles = {str(found.get_linestyle()) for found in panels[0, 1].get_lines()}
    assert len(styles) == 2
    assert panels[0, 1].get_title(loc="right").startswith("mean 5,")
    assert names(panels) == ["chain 1", "chain 2"]
    assert pr.plot.trace(POSTERIOR, names=["scale"]).shape == (1, 2)


def test_numbers_without_a_row_are_counted() -> None:
    many = POSTERIOR._replace(samples={"loc": torch.randn(1, 4, 9)}, divergences=torch.zeros(1, dtype=torch.long))
    panels = pr.plot.trace(many)
    assert panels[-1, 1].get_xlabel() == "draw (the first 6 of 9 numbers)"


# Residuals.


def test_autocorrelations_are_those_of_the_definition_and_stay_within_sequences() -> None:
    rows = np.array([[1.0, -2.0, 3.0, -1.0], [2.0, 0.0, -3.0, np.nan]])
    mean = np.nanmean(rows)
    pairs = [(row[t], row[t + 2]) for row in rows for t in range(2) if not np.isnan(row[t + 2])]
    expected = sum((a - mean) * (b - mean) for a, b in pairs) / np.nansum((rows - mean) ** 2)
    assert autocorrelations(rows, 2)[1] == pytest.approx(expected)


def test_the_panels_show_the_residuals_and_the_counts_of_pit_values() -> None:
    pit = np.linspace(0.005, 0.995, 100)
    course, correlation, histogram = pr.plot.residuals(pit=torch.tensor(pit))
    points = course.get_lines()[-1]
    assert np.asarray(points.get_ydata())[0] == pytest.approx(-2.5758, abs=1e-4)  # the 0.005 quantile of N(0, 1)
    np.testing.assert_array_equal(histogram.patches[-1].get_data().values, [10] * 10)  # type: ignore[attr-defined]
    assert len(np.asarray(correlation.get_lines()[-1].get_xdata())) == 30
    only = pr.plot.residuals(np.arange(5.0))
    assert len(only) == 2


def titles(panel: Any) -> str:
    return " ".join(panel.get_title(loc) for loc in ("left", "center", "right"))


def test_a_diagnosis_is_drawn_with_all_its_variables() -> None:
    model = pr.get_model("lgssm", latent_dim=2, obs_dim=2, seed=0)
    found = pr.diagnose(model, model.sample(2, 30, seed=1).x, num_simulations=0, num_restarts=0, progress=False)
    assert found.pit is not None
    panels, expected = pr.plot.residuals(found), pr.plot.residuals(pit=found.pit.movedim(-1, 1).flatten(0, 1))
    assert found.pit.numel() == 2 * 30 * 2
    assert len(panels) == 3
    assert "residuals of 2 variables in 2 sequences;" in titles(panels[0])
    assert "residuals of 4 sequences;" in titles(expected[0])
    for panel, same in zip(panels[:2], expected[:2], strict=True):
        for one, other in zip(panel.get_lines(), same.get_lines(), strict=True):
            ours, theirs = np.asarray(one.get_ydata(), float), np.asarray(other.get_ydata(), float)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_an_object_with_residuals_and_pit_is_taken_as_it_is() -> None:
    class Diagnosis:
        residuals = np.array([0.1, -0.4, 2.0, 0.3])
        pit = np.array([0.5, 0.3, 0.97, 0.6])

    panels = pr.plot.residuals(Diagnosis())
    assert len(panels) == 3
    np.testing.assert_array_equal(np.asarray(panels[0].get_lines()[-1].get_ydata()), Diagnosis.residuals)


# Fits.


def em_fit(values: list[float], ends: list[float]) -> EmFit:
    restarts = Restarts(torch.tensor(ends).double(), None, int(np.argmax(ends)))
    return EmFit(HMM, torch.tensor(values).double(), restarts, "tolerance", 1.0)


def test_the_record_of_em_is_drawn_with_its_restarts() -> None:
    record, ends = pr.plot.convergence(em_fit([-90.0, -50.0, -42.0], [-44.0, -42.0, -60.0]))
    np.testing.assert_array_equal(record.get_lines()[0].get_ydata(), [-90, -50, -42])
    np.testing.assert_array_equal(ends.get_lines()[0].get_ydata(), [-42, -44, -60])
    assert [text.get_text() for text in ends.get_xticklabels()] == ["1", "0", "2"]
    np.testing.assert_array_equal(ends.get_lines()[1].get_ydata(), [-42])  # the chosen one
    assert record.get_title(loc="left") == "start 1: 2 iterations, ended by tolerance"
    assert len(pr.plot.convergence(em_fit([-3.0, -2.0], [-2.0]))) == 1


def test_differences_far_below_a_nat_are_not_magnified_and_large_first_steps_do_not_hide_the_rest() -> None:
    flat = [-5.0, *[-4.0 + 1e-9 * (k % 2) for k in range(20)]]
    (panel,) = pr.plot.convergence(em_fit(flat, [-4.0]))
    assert np.diff(panel.get_ylim())[0] >= 1.0
    steep = [-1e6, -1e4, *np.linspace(-20, -10, 20)]
    (panel,) = pr.plot.convergence(em_fit(steep, [-10.0]))
    low, high = panel.get_ylim()
    assert low > -1000
    assert low < -20 < -10 < high


def test_the_record_of_gradient_steps_has_both_losses_and_the_epoch_that_was_kept() -> None:
    history = (Epoch(1, 3.0, 3.5, 1.0), Epoch(2, 2.0, 2.5, 1.0), Epoch(3, 1.0, 2.75, 1.0))
    (panel,) = pr.plot.convergence(Fit(HMM, history, 2, "patience", 3.0, "elbo"))
    np.testing.assert_array_equal(line(panel, "training").get_ydata(), [3, 2, 1])
    np.testing.assert_array_equal(line(panel, "validation").get_ydata(), [3.5, 2.5, 2.75])
    assert line(panel, "kept: epoch 2").get_xdata() == [2, 2]
    assert panel.get_ylabel() == "-ELBO, nats per step"
    assert line(panel, "training").get_linestyle() != line(panel, "validation").get_linestyle()


# Scores.


def test_models_stand_in_the_order_of_their_scores() -> None:
    scores = {"a": (1.5, 0.2), "b": (1.2, 0.1), "c": (1.3, math.nan)}
    panel = pr.plot.compare(scores)
    assert [text.get_text() for text in panel.get_yticklabels()] == ["b", "c", "a"]
    np.testing.assert_allclose(np.asarray(panel.get_lines()[1].get_xdata()), [1.2, 1.3, 1.5])
    bars = [segment[:, 0].tolist() for segment in panel.collections[0].get_segments()]  # type: ignore[attr-defined]
    np.testing.assert_allclose(bars, [[1.1, 1.3], [1.3, 1.3], [1.3, 1.7]])
    high = pr.plot.compare(scores, higher_is_better=True, unit="elpd, nats")
    assert [text.get_text() for text in high.get_yticklabels()] == ["a", "c", "b"]
    assert high.get_xlabel() == "elpd, nats (higher is better)"


def test_a_comparison_is_drawn_as_its_table() -> None:
    models = {f"{k} states": pr.get_model("hmm", num_states=k, num_symbols=3, seed=0) for k in (1, 2)}
    found = pr.compare(models, models["2 states"].sample(8, 10, seed=1))
    drawn, table = pr.plot.compare(found), pr.plot.compare(found.to_frame())
    assert [label.get_text() for label in drawn.get_yticklabels()] == found.to_frame()["model"].tolist()
    for one, other in zip(drawn.get_lines(), table.get_lines(), strict=True):
        np.testing.assert_array_equal(one.get_xdata(), other.get_xdata())


def test_a_table_has_the_errors_of_its_differences() -> None:
    table = pd.DataFrame(
        {
            "model": ["a", "b"],
            "nats_per_step": [1.5, 1.2],
            "standard_error": [0.2, 0.1],
            "behind": [0.3, 0.0],
            "behind_error": [0.05, math.nan],
        }
    )
    panel = pr.plot.compare(table)
    (bar,) = [segment[:, 0].tolist() for segment in panel.collections[1].get_segments()]  # type: ignore[attr-defined]
    assert bar == pytest.approx([1.45, 1.55])
    assert names(panel) == ["score ± standard error", "± error of the difference to the best"]
    with pytest.raises(ValueError, match="expected each model once, got 'a' 2 times; select one row per model first"):
        pr.plot.compare(table.assign(model="a"))


# Rolls and forecasts.


def test_rolls_are_runs_of_ones_in_the_colour_of_their_group() -> None:
    observed = torch.tensor([[[0, 1], [0, 1], [1, 0], [0, 0]]])
    first, second = pr.plot.rolls(observed, observed.flip(-1))
    assert [panel.get_title(loc="left") for panel in (first, second)] == ["observed", "drawn"]
    bars = [(bar.get_x(), bar.get_width()) for bar in first.containers[0]]
    assert bars == [(0, 2), (2, 1)]
    assert [text.get_text() for text in first.get_yticklabels()] == ["1", "2"]
    colours = [panel.containers[0][0].get_facecolor()[:3] for panel in (first, second)]
    assert colours == [to_rgb(colour) for colour in (INK, AHEAD)]


def forecast_of(num_steps: int = 2) -> Forecast:
    data = Sequences(torch.arange(8.0).reshape(2, 4, 1), torch.tensor([4, 3]), legend=machines("real"))
    means = torch.full((2, num_steps, 1), 5.0).double()
    intervals = torch.stack([torch.stack([means - width, means + width]) for width in (1.0, 3.0)])
    return Forecast("draws", (50, 90), means, means, intervals, {}, data)


def test_a_forecast_goes_on_after_the_series_in_its_dates() -> None:
    panel, other = pr.plot.forecast(forecast_of())
    observed, median = line(panel, "observed"), line(panel, "median")
    np.testing.assert_array_equal(observed.get_ydata(), [0, 1, 2, 3])
    assert np.asarray(median.get_xdata()).astype("datetime64[D]").astype(str).tolist() == [
        "2024-01-05",
        "2024-01-06",
    ]
    assert np.asarray(line(other, "median").get_xdata())[0] > DATES[2]
    wide, narrow = (outlines(area)[0][:, 1] for area in panel.collections)
    assert (wide.min(), wide.max(), narrow.min(), narrow.max()) == (2, 8, 4, 6)
    assert panel.get_title(loc="left") == "machine A, flow real (m3/s)"
    assert names(panel) == ["observed", "90 % interval", "50 % interval", "median"]
    assert other.get_xlabel() == "day"


def test_of_many_words_the_most_probable_are_named_and_the_others_are_one_area() -> None:
    probs = torch.full((2, 2, 12), 0.02).double()
    probs[..., [3, 11]] = torch.tensor([0.5, 0.3]).double()
    words = tuple("abcdefghijkl")
    legend = machines("symbol")
    legend = legend._replace(columns=(legend.columns[0]._replace(words=words),))
    data = Sequences(torch.zeros(2, 4, dtype=torch.long), torch.tensor([4, 3]), legend=legend)
    nothing = torch.full((2, 2, 1), math.nan)
    found = Forecast("exact", (), nothing, nothing, torch.zeros(0, 2, 2, 2, 1), {0: probs}, data)
    panel, _ = pr.plot.forecast(found)
    assert names(panel) == ["a", "b", "c", "d", "e", "f", "l", "5 others"]
    sizes = {area.get_label(): np.ptp(outlines(area)[0][:2, 1]) for area in panel.collections}
    assert sizes["d"] == pytest.approx(0.5)
    assert sizes["l"] == pytest.approx(0.3)
    assert sizes["5 others"] == pytest.approx(0.1)


def test_one_step_ahead_is_a_bar() -> None:
    panel, _ = pr.plot.forecast(forecast_of(1))
    assert [np.diff(bars.get_segments()[0][:, 1])[0] for bars in panel.collections] == [6, 2]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: pr.plot.trace(POSTERIOR),
        lambda: pr.plot.compare({"a long name of a model": (1.0, 0.1), "b": (2.0, 0.1)}),
        lambda: pr.plot.forecast(forecast_of()),
        lambda: pr.plot.convergence(Fit(HMM, (Epoch(1, 3.0, 3.5, 1.0),), 1, "num_epochs", 1.0)),
    ],
)
def test_legends_cover_nothing_and_are_whole(draw: Callable[[], Any]) -> None:
    figure = figure_of(draw())
    assert len(figure.legends) == 1
    assert covered(figure) == cut_off(figure) == []


def test_a_real_fit_can_be_drawn() -> None:
    hmm = pr.get_model("hmm", num_states=2, num_symbols=3, seed=1)
    fit = em.fit(hmm, HMM.sample(3, 8, seed=0), num_iterations=3, num_restarts=2, progress=False)
    record, ends = pr.plot.convergence(fit)
    np.testing.assert_allclose(np.asarray(record.get_lines()[0].get_ydata()), fit.log_likelihoods.numpy())
    assert len(np.asarray(ends.get_lines()[0].get_ydata())) == 2
