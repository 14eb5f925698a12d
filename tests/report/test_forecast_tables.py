"""`forecast`: intervals from definitions and from the engines called directly, times that go on, tables and files."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from scipy import stats

import pgm_rnn as pr
from pgm_rnn.emissions import Bernoulli, Gaussian, Poisson
from pgm_rnn.inference import forward_backward, kalman, mixture_kalman, smc
from pgm_rnn.legend import Column, Legend
from pgm_rnn.models import HMM, RNN, LinearGaussianSSM, NoisyRNN, SwitchingLinearSSM
from pgm_rnn.report.forecasts import Forecast
from pgm_rnn.report.future_times import future_times
from pgm_rnn.report.laws_ahead import of_draws
from pgm_rnn.sequences import Sequences, pad
from tests import mixtures

TRANSITION = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
LENGTHS = (9, 5)
MONTHS = np.arange("2020-01", "2030-01", dtype="datetime64[M]").astype("datetime64[ns]")
DAYS = np.arange("2024-01-01", "2025-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
WORKDAYS = np.asarray(pandas.bdate_range("2024-01-01", periods=20))


def hmm(emission: Any) -> HMM:
    return HMM(torch.tensor([0.5, 0.5]), TRANSITION, emission)


def ragged(model: Any, legend: Legend | None = None) -> Sequences:
    x = model.sample(len(LENGTHS), max(LENGTHS), seed=1).x
    return pad([row[:length] for row, length in zip(x, LENGTHS, strict=True)])._replace(legend=legend)


def weights(model: HMM, data: Sequences, sequence: int, step: int) -> np.ndarray:
    """p(z_{L+step} | x_{1:L}) by the filter and powers of the transition matrix."""
    last = forward_backward.filter(model, data).filtered_probs[sequence, LENGTHS[sequence] - 1]
    return (last @ torch.linalg.matrix_power(TRANSITION, step)).numpy()


# Exact laws.


def test_intervals_of_a_random_walk_are_normal_quantiles() -> None:
    """z_t = z_{t-1} + N(0, q), x_t = z_t + N(0, r): the n-th x ahead is N(m_T, P_T + n q + r)."""
    one = torch.ones(1, 1)
    model = LinearGaussianSSM(torch.zeros(1), one, one, 0.5 * one, one, 2.0 * one)
    data = ragged(model)
    ahead = pr.forecast(model, data, 4, levels=(50, 80, 95))
    found, end = kalman.filter(model, data), torch.tensor(LENGTHS) - 1
    mean = found.filtered_means[[0, 1], end, 0].numpy()
    variance = found.filtered_covs[[0, 1], end, 0, 0].numpy()
    for n in range(4):
        law = stats.norm(mean, np.sqrt(variance + 0.5 * (n + 1) + 2.0))
        for level, pair in zip((0.5, 0.8, 0.95), ahead.intervals, strict=True):
            low, high = law.interval(level)
            np.testing.assert_allclose(pair[0, :, n, 0], low, rtol=1e-9)
            np.testing.assert_allclose(pair[1, :, n, 0], high, rtol=1e-9)
        assert np.abs(ahead.intervals[2, 0, :, n, 0].numpy() - law.interval(0.9)[0]).min() > 0.1  # another level
        np.testing.assert_allclose(ahead.medians[:, n, 0], mean, rtol=1e-9)
    assert ahead.how == "the exact moments of the Kalman filter"


def test_quantiles_of_normal_states_are_those_of_the_mixture() -> None:
    loc, scale = np.array([[-3.0, 0.0], [4.0, 0.5]]), np.array([[1.0, 2.0], [0.5, 1.0]])
    model = hmm(Gaussian(2).table(torch.tensor(loc), torch.tensor(scale)))
    data = ragged(model)
    ahead = pr.forecast(model, data, 3, levels=(90,))
    for b, n, m in np.ndindex(2, 3, 2):
        weight = weights(model, data, b, n + 1)
        assert float(ahead.means[b, n, m]) == pytest.approx(float(weight @ loc[:, m]), abs=1e-12)
        for point, value in zip((0.05, 0.95), ahead.intervals[0, :, b, n, m].tolist(), strict=True):
            assert weight @ stats.norm(loc[:, m], scale[:, m]).cdf(value) == pytest.approx(point, abs=1e-12)
            assert abs(weight @ stats.norm(loc[:, m], scale[:, m]).cdf(value) - 0.1) > 0.01
    assert ahead.how == "the exact mixture over 2 states"


@pytest.mark.parametrize("family", ["counts", "bits"])
def test_quantiles_of_whole_numbers_are_the_smallest_with_enough_probability(family: str) -> None:
    law: Any
    if family == "counts":
        values = np.array([[2.0, 40.0, 0.01], [30.0, 3.0, 500.0]])
        law, model = stats.poisson(values), hmm(Poisson(3).table(torch.tensor(values)))
    else:
        values = np.array([[0.1, 0.7], [0.4, 0.999]])
        law, model = stats.bernoulli(values), hmm(Bernoulli(2).table(torch.tensor(values)))
    data = ragged(model)
    ahead = pr.forecast(model, data, 2, levels=(20, 90))
    quantiles = torch.cat([ahead.medians[None], ahead.intervals.flatten(0, 1)])
    for q, point in enumerate((0.5, 0.4, 0.6, 0.05, 0.95)):
        for b, n, m in np.ndindex(2, 2, values.shape[1]):
            weight, value = weights(model, data, b, n + 1), float(quantiles[q, b, n, m])
            assert value == int(value)
            assert weight @ law.cdf(value)[:, m] >= point - 1e-9
            assert weight @ law.cdf(value - 1)[:, m] < point


def test_symbols_have_the_probabilities_of_the_mixture() -> None:
    table = torch.tensor([[0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
    model = hmm(table)
    data = ragged(model, Legend((Column("base", "symbol", words=("A", "C", "G")),), sequence="gene", ids=("u", "v")))
    frame = pr.forecast(model, data, 3).to_frame()
    assert list(frame.columns) == ["gene", "step", "variable", "word", "probability"]
    assert list(frame["word"][:4]) == ["A", "C", "G", "A"]
    for b, n in np.ndindex(2, 3):
        rows = frame[(frame["gene"] == "uv"[b]) & (frame["step"] == LENGTHS[b] + n + 1)]
        np.testing.assert_allclose(rows["probability"], weights(model, data, b, n + 1) @ table.numpy(), atol=1e-12)
    once = forward_backward.predict(model, data).probs[0, LENGTHS[0] - 1].numpy()
    np.testing.assert_allclose(frame["probability"][:3], once, atol=1e-12)


def test_missing_observations_are_integrated_out() -> None:
    model = hmm(Gaussian(1).table(torch.tensor([[-2.0], [2.0]]), torch.ones(2, 1)))
    data = ragged(model)
    x = data.x.clone()
    x[0, -2:] = torch.nan
    cut = pr.forecast(model, Sequences(data.x[:1, :7], torch.tensor([7])), 5)
    ahead = pr.forecast(model, data._replace(x=x), 3)
    torch.testing.assert_close(ahead.intervals[:, :, 0], cut.intervals[:, :, 0, 2:])
    assert not torch.allclose(pr.forecast(model, data, 3).intervals[:, :, 0], cut.intervals[:, :, 0, 2:])


# Draws.


def test_other_models_have_the_quantiles_of_their_draws() -> None:
    model = NoisyRNN.random(2, 2, seed=0)
    data = ragged(model)
    ahead = pr.forecast(model, data, 3, levels=(80,), num_samples=99, num_particles=30, seed=5)
    x = smc.forecast(model, data, 3, num_samples=99, num_particles=30, seed=5).x.numpy()
    np.testing.assert_allclose(ahead.means, x.mean(0))
    np.testing.assert_allclose(ahead.medians, np.median(x, axis=0))
    np.testing.assert_allclose(ahead.intervals[0, 0], np.quantile(x, 0.1, axis=0))
    np.testing.assert_allclose(ahead.intervals[0, 1], np.quantile(x, 0.9, axis=0))
    assert ahead.how == "99 draws after 30 particles"


def test_forecasts_of_switching_systems_come_from_regimes_with_kalman_filters() -> None:
    model = SwitchingLinearSSM.random(2, 1, 1, seed=0).double()
    x = model.sample(1, 6, seed=1).x
    with torch.no_grad():
        paths = mixtures.all_paths(model, torch.cat([x[0], x.new_full((2, 1), torch.nan)]))
        weights = torch.stack([path.log_joint for path in paths]).softmax(0)
        ahead = torch.tensor([path.regimes for path in paths])[:, -2:]
        y = torch.stack([path.mean[-2:, 0] for path in paths])
        exact = weights @ (model.emission_matrix[ahead][..., 0, 0] * y + model.emission_offset[ahead][..., 0])
    options: Any = {"num_samples": 4_000, "num_particles": 4_000, "seed": 0}
    found = pr.forecast(model, x, num_steps=2, **options).means[0, :, 0]
    drawn = mixture_kalman.forecast(model, x, 2, **options).x[:, 0, :, 0]
    torch.testing.assert_close(found, drawn.mean(0))
    error = drawn.std(0) * (2 / 4_000) ** 0.5  # of the draws, and of the particles
    assert bool(((found - exact).abs() < 5 * error).all())
    assert not torch.allclose(found, smc.forecast(model, x, 2, **options).x[:, 0, :, 0].mean(0))
    recurrent = SwitchingLinearSSM.random(2, 1, 1, seed=0, recurrent=True).double()
    whole = smc.forecast(recurrent, x, 2, **options).x[:, 0, :, 0].mean(0)  # regimes that read y
    torch.testing.assert_close(pr.forecast(recurrent, x, num_steps=2, **options).means[0, :, 0], whole)


def test_a_network_of_symbols_has_frequencies() -> None:
    model = RNN("gru", num_symbols=3, hidden_dim=2)
    data = ragged(model)
    ahead = pr.forecast(model, data, 2, num_samples=50, seed=1)
    x = model.forecast(data, 2, num_samples=50, seed=1).x
    torch.testing.assert_close(ahead.probs[0], torch.stack([(x == k).double().mean(0) for k in range(3)], dim=-1))


def test_many_sequences_are_drawn_in_groups() -> None:
    model = RNN("gru", num_symbols=3, hidden_dim=2)
    ahead = pr.forecast(model, model.sample(130, 3, seed=0), 2, num_samples=20)
    assert ahead.probs[0].shape == (130, 2, 3)
    torch.testing.assert_close(ahead.probs[0].sum(-1), torch.ones(130, 2))


def test_a_table_holds_numbers_and_words_beside_each_other() -> None:
    draws = torch.tensor([[[[1.0, 0.0]]], [[[3.0, 1.0]]], [[[2.0, 1.0]]]])  # (3 draws, 1 sequence, 1 step, 2 variables)
    legend = Legend((Column("flow", unit="l"), Column("sky", "symbol", words=("dry", "wet"))))
    data = Sequences(torch.zeros(1, 4, 2), torch.tensor([4]), legend=legend)
    found = of_draws(lambda part, first: draws, data, (0.5, 0.25, 0.75), {1: 2}, whole=True)
    frame = Forecast("draws", (50.0,), found.means, found.quantiles[0], found.quantiles[1:][None], found.probs, data)
    table = frame.to_frame()
    assert list(table["variable"]) == ["flow", "sky", "sky"]
    assert list(table["word"]) == ["", "dry", "wet"]
    np.testing.assert_allclose(table["probability"], [np.nan, 1 / 3, 2 / 3])
    np.testing.assert_allclose(table["mean"], [2.0, np.nan, np.nan])
    assert (table["lower_50"][0], table["upper_50"][0]) == (1.0, 3.0)


# Times.


@pytest.mark.parametrize(
    ("times", "ahead"),
    [
        (MONTHS[:14], MONTHS[14:17]),
        (np.delete(MONTHS[:14], [3, 8]), MONTHS[14:17]),
        (MONTHS[:2], MONTHS[2:5]),
        (MONTHS[:30:3], MONTHS[30:37:3]),
        (MONTHS[1:9] - np.timedelta64(1, "D"), MONTHS[9:12] - np.timedelta64(1, "D")),
        (np.delete(MONTHS[1:9] - np.timedelta64(1, "D"), 4), MONTHS[9:12] - np.timedelta64(1, "D")),
        (DAYS[:10], DAYS[10:13]),
        (np.delete(DAYS[:20], [4, 9]), DAYS[20:23]),
        (WORKDAYS[:12], WORKDAYS[12:15]),
        (np.delete(WORKDAYS[:13], 3), WORKDAYS[13:16]),
        (DAYS[:70:7], DAYS[70:91:7]),
        (DAYS[0] + np.arange(5) * np.timedelta64(10, "m"), DAYS[0] + np.arange(5, 8) * np.timedelta64(10, "m")),
        (np.array([1990, 1991, 1993, 1994]), np.array([1995, 1996, 1997])),
        (np.arange(7) / 10, np.arange(7, 10) / 10),
    ],
)
def test_times_go_on_as_they_came(times: np.ndarray, ahead: np.ndarray) -> None:
    found = future_times(Legend((), times=(times,)), 3)
    assert found is not None
    if times.dtype.kind == "M":
        np.testing.assert_array_equal(found[0].astype(ahead.dtype), ahead)
    else:
        np.testing.assert_allclose(found[0], ahead, rtol=1e-12)


def test_a_sequence_with_one_time_goes_on_in_the_step_of_another() -> None:
    found = future_times(Legend((), times=(MONTHS[5:6], MONTHS[:4])), 2)
    assert found is not None
    np.testing.assert_array_equal(found[0], MONTHS[6:8])


@pytest.mark.parametrize("times", [(MONTHS[:1], MONTHS[:1]), (np.array(["a", "b"]), np.array(["c"])), ()])
def test_times_that_cannot_go_on_become_steps(times: tuple[np.ndarray, ...]) -> None:
    assert future_times(Legend((), times=times), 3) is None


def test_a_forecast_has_a_row_per_sequence_step_and_variable_in_the_users_words() -> None:
    model = LinearGaussianSSM.random(latent_dim=2, obs_dim=2, seed=0)
    columns = (Column("flow", unit="m3/s"), Column("level"))
    times = tuple(MONTHS[:length] for length in LENGTHS)
    data = ragged(model, Legend(columns, sequence="river", ids=("Nile", "Rhine"), time="month", times=times))
    ahead = pr.forecast(model, data, 2, levels=(50, 99.5))
    frame = ahead.to_frame()
    assert list(frame.columns[:5]) == ["river", "month", "variable", "mean", "median"]
    assert list(frame.columns[5:]) == ["lower_50", "upper_50", "lower_99.5", "upper_99.5"]
    assert list(frame["river"]) == ["Nile"] * 4 + ["Rhine"] * 4
    assert list(frame["variable"]) == ["flow", "level"] * 4
    assert list(frame["month"][:4]) == [pandas.Timestamp("2020-10-01")] * 2 + [pandas.Timestamp("2020-11-01")] * 2
    assert list(frame["month"][4:6]) == [pandas.Timestamp("2020-06-01")] * 2
    assert frame["upper_99.5"][5] == float(ahead.intervals[1, 1, 1, 0, 1])


def test_without_a_legend_variables_and_steps_have_numbers() -> None:
    model = LinearGaussianSSM.random(latent_dim=1, obs_dim=2, seed=0)
    frame = pr.forecast(model, ragged(model), 1).to_frame()
    assert list(frame["sequence"]) == [0, 0, 1, 1]
    assert list(frame["step"]) == [10, 10, 6, 6]
    assert list(frame["variable"]) == ["1", "2", "1", "2"]


# Files and errors.


@pytest.mark.parametrize("kind", ["numbers", "symbols", "one step"])
def test_forecasts_are_written_and_drawn(kind: str, tmp_path: Path) -> None:
    table = torch.tensor([[0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
    model = hmm(table) if kind == "symbols" else NoisyRNN.random(2, 2, seed=0)
    ahead = pr.forecast(model, ragged(model), 1 if kind == "one step" else 4, num_samples=20, num_particles=20)
    ahead.write(tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    ahead.write(tmp_path / "f.csv")
    again = pandas.read_csv(tmp_path / "f.csv", dtype={"variable": str, "word": str})
    pandas.testing.assert_frame_equal(again, ahead.to_frame(), check_dtype=False)


@pytest.mark.parametrize("levels", [(), (0,), (100,), (50, 50), (float("nan"),), (-3, 50)])
def test_levels_are_different_percentages(levels: tuple[float, ...]) -> None:
    model = hmm(torch.eye(2))
    with pytest.raises(ValueError, match="expected different levels between 0 and 100 in percent"):
        pr.forecast(model, torch.tensor([[0, 1]]), 2, levels=levels)


def test_a_file_of_another_kind_is_one_sentence_and_nothing_is_written(tmp_path: Path) -> None:
    ahead = pr.forecast(hmm(torch.eye(2)), torch.tensor([[0, 1]]), 2)
    with pytest.raises(ValueError, match=r"expected the file to end in .csv, .parquet, .png or .svg, got"):
        ahead.write(tmp_path / "f.nc")
    assert list(tmp_path.iterdir()) == []
