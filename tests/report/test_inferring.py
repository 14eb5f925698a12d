"""`infer`: numbers from definitions and from the engines called directly, rows in the source's order, and files."""

import math
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
import xarray
from torch import Tensor

import pgm_rnn as pr
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import forward_backward, kalman, smc
from pgm_rnn.inference.forward_backward import engine
from pgm_rnn.legend import Column, Legend
from pgm_rnn.models import (
    HMM,
    HSMM,
    RNN,
    VRNN,
    DeepMarkovModel,
    FactorialHMM,
    LinearGaussianSSM,
    NoisyRNN,
    SwitchingLinearSSM,
)
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.tables import Tables, tables_of
from pgm_rnn.sequences import Sequences, pad
from tests import mixtures

LENGTHS = (7, 4, 5)
INITIAL = torch.tensor([0.6, 0.4], dtype=torch.float64)
TRANSITION = torch.tensor([[0.7, 0.3], [0.2, 0.8]], dtype=torch.float64)
EMISSION = torch.tensor([[0.5, 0.4, 0.1], [0.1, 0.2, 0.7]], dtype=torch.float64)


def chain() -> HMM:
    return HMM(INITIAL, TRANSITION, EMISSION)


def normal_chain() -> HMM:
    table = Gaussian(1).table(torch.tensor([[-1.0], [1.5]]), torch.ones(2, 1))
    return HMM(INITIAL, TRANSITION, table)


def linear() -> LinearGaussianSSM:
    return LinearGaussianSSM.random(latent_dim=2, obs_dim=2, seed=0)


def ragged(model: SequenceModel, legend: Legend | None = None) -> Sequences:
    x = model.sample(len(LENGTHS), max(LENGTHS), seed=3).x
    return pad([row[:length] for row, length in zip(x, LENGTHS, strict=True)])._replace(legend=legend)


def enumerated(x: list[int]) -> dict[tuple[int, ...], float]:
    """p(x, z) of every path z, from the definition."""
    found = {}
    for path in product(range(2), repeat=len(x)):
        prob = float(INITIAL[path[0]])
        for before, after in pairwise(path):
            prob *= float(TRANSITION[before, after])
        for z, symbol in zip(path, x, strict=True):
            prob *= float(EMISSION[z, symbol])
        found[path] = prob
    return found


def marginal(paths: dict[tuple[int, ...], float], t: int) -> np.ndarray:
    probs = np.array([sum(p for path, p in paths.items() if path[t] == k) for k in range(2)])
    return probs / probs.sum()


# The numbers.


def test_probabilities_path_and_entropy_are_those_of_all_paths() -> None:
    x = [0, 2, 2, 1, 0]
    states, paths = pr.infer(chain(), torch.tensor([x])), enumerated(x)
    assert states.log_marginal_likelihood is not None
    assert float(states.log_marginal_likelihood[0]) == pytest.approx(np.log(sum(paths.values())), abs=1e-12)
    frame = states.to_frame()
    assert tuple(frame["state"]) == max(paths, key=lambda path: paths[path])
    for t in range(len(x)):
        smoothed, filtered = marginal(paths, t), marginal(enumerated(x[: t + 1]), t)
        np.testing.assert_allclose(frame.loc[t, ["smoothed_0", "smoothed_1"]].astype(float), smoothed, atol=1e-12)
        np.testing.assert_allclose(frame.loc[t, ["filtered_0", "filtered_1"]].astype(float), filtered, atol=1e-12)
        assert frame.loc[t, "entropy"] == pytest.approx(-(smoothed * np.log(smoothed)).sum(), abs=1e-12)
        if t < len(x) - 1:
            assert np.abs(smoothed - filtered).max() > 1e-3  # the two could be told apart


def test_finite_states_are_those_of_forward_backward() -> None:
    model = normal_chain()
    data = ragged(model)
    states, smoothed = pr.infer(model, data), forward_backward.smooth(model, data)
    path = forward_backward.most_likely_states(model, data).states
    for found, expected in (
        (states.filtered_probs, smoothed.filtered_probs),
        (states.smoothed_probs, smoothed.smoothed_probs),
        (states.most_likely_states, path),
    ):
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_states_with_durations_are_exact_and_particles_come_close() -> None:
    model = HSMM.random(num_states=2, num_symbols=3, max_duration=4, seed=0)
    data = model.sample(3, 12, seed=1)
    exact, found = forward_backward.smooth(model, data), pr.infer(model, data)
    assert found.engine == "forward"
    assert found.smoothed_probs is not None
    torch.testing.assert_close(found.smoothed_probs, exact.smoothed_probs, rtol=0, atol=0)
    particles = pr.infer(model, data, engine="smc", num_particles=4000, num_paths=0)
    assert particles.filtered_probs is not None
    assert (particles.filtered_probs - exact.filtered_probs).abs().max() < 0.1
    assert (exact.smoothed_probs - exact.filtered_probs).abs().max() > 0.1  # the two could be told apart


def test_the_laws_of_a_model_are_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(model: object, data: Sequences) -> Tables:
        calls.append(len(data.lengths))
        return tables_of(model, data)

    monkeypatch.setattr(engine, "tables_of", counted)
    monkeypatch.setattr(engine, "in_groups", lambda *given: pytest.fail("evaluated again"))
    model = normal_chain()
    pr.infer(model, ragged(model)).to_frame()
    assert calls == [3]


def test_gaussian_states_are_those_of_the_kalman_smoother() -> None:
    model = linear()
    data = ragged(model)
    states, smoothed = pr.infer(model, data), kalman.smooth(model, data)
    frame = states.to_frame()
    for row, (b, t) in enumerate((b, t) for b, length in enumerate(LENGTHS) for t in range(length)):
        cov = smoothed.smoothed_covs[b, t]
        law = torch.distributions.MultivariateNormal(smoothed.smoothed_means[b, t], cov)
        assert frame.loc[row, "entropy"] == pytest.approx(float(law.entropy()), abs=1e-10)
        for d in range(2):
            assert frame.loc[row, f"smoothed_{d}"] == float(smoothed.smoothed_means[b, t, d])
            assert frame.loc[row, f"smoothed_sd_{d}"] == pytest.approx(float(cov[d, d].sqrt()), rel=1e-12)
            assert frame.loc[row, f"filtered_{d}"] == float(smoothed.filtered_means[b, t, d])
            sd = float(smoothed.filtered_covs[b, t, d, d].sqrt())
            assert frame.loc[row, f"filtered_sd_{d}"] == pytest.approx(sd, rel=1e-12)


def test_each_chain_has_its_law_and_its_states_on_the_best_path() -> None:
    model = FactorialHMM.random(2, (2, 3), emission=Gaussian(), seed=0)
    x, lengths = torch.tensor([[0.3, -1.2, 2.0], [1.0, 0.5, 9.0]]), [3, 2]
    found = pr.infer(model, Sequences(x, torch.tensor(lengths)))
    frame, starts, moves = found.to_frame(), *_laws_of_chains(model)
    for b, length in enumerate(lengths):
        weights = {}
        for path in product(product(range(2), range(3)), repeat=length):  # ((a_1, b_1), (a_2, b_2), ...)
            law = math.prod(float(starts[m][path[0][m]]) for m in (0, 1))
            law *= math.prod(float(moves[m][u[m], v[m]]) for m in (0, 1) for u, v in pairwise(path))
            for t, (first, second) in enumerate(path):
                emission = model.emission(torch.tensor(3 * first + second), None)
                law *= float(emission.log_prob(x[b, t]).detach().exp())
            weights[path] = law
        total, best = sum(weights.values()), max(weights, key=lambda path: weights[path])
        rows = frame[frame["sequence"] == b]
        for m, size in enumerate((2, 3)):
            assert rows[f"chain_{m}_state"].tolist() == [z[m] for z in best]
            for k, t in product(range(size), range(length)):
                expected = sum(law for path, law in weights.items() if path[t][m] == k) / total
                assert rows[f"chain_{m}_smoothed_{k}"].iloc[t] == pytest.approx(expected, rel=1e-4)
    assert found.chains is not None
    assert found.chains.states[1][1, 2] == -1  # the padding
    assert found.to_xarray()["chain_1_smoothed"].dims == ("sequence", "time", "chain_1_value")
    assert pr.infer(HMM.random(2, emission=Gaussian(), seed=0), x).chains is None


def _laws_of_chains(model: FactorialHMM) -> tuple[list[Tensor], list[Tensor]]:
    """Initial probabilities and transitions of each chain."""
    starts = [row.detach().softmax(-1) for row in model.initial_logits]
    return starts, [rows.detach().softmax(-1) for rows in model.transition_logits]


def test_particles_have_the_weighted_moments_of_the_filters_history() -> None:
    model = NoisyRNN.random(2, 2, seed=0)
    data = ragged(model)
    states = pr.infer(model, data, num_particles=50, seed=4)
    kept = smc.filter(model, data, num_particles=50, keep="all", seed=4)
    assert (states.engine, kept.history is None) == ("smc", False)
    assert states.filtered_means is not None
    assert states.filtered_sds is not None
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            weights = kept.history.log_weights[t, :, b].softmax(0)[:, None]  # type: ignore[union-attr]
            z = kept.history.z[t, :, b]  # type: ignore[union-attr]
            mean = (weights * z).sum(0)
            torch.testing.assert_close(states.filtered_means[b, t], mean)
            torch.testing.assert_close(states.filtered_sds[b, t], (weights * (z - mean).square()).sum(0).sqrt())
    np.testing.assert_array_equal(states.to_frame()["ess"][:7], kept.ess[0].numpy())


def errors_of_smoothing(seed: int) -> tuple[Tensor, Tensor]:
    """Smoothed and filtered means by particles minus the exact smoothed ones, in standard errors of the first."""
    model = linear()
    data = model.sample(6, 12, seed=1).x
    exact = kalman.smooth(model, data).smoothed_means
    found = pr.infer(model, data, engine="smc", num_particles=300, seed=seed)
    assert found.smoothed_means is not None
    assert found.smoothed_errors is not None
    assert found.filtered_means is not None
    return tuple((means - exact) / found.smoothed_errors for means in (found.smoothed_means, found.filtered_means))  # type: ignore[return-value]


def test_smoothed_means_by_particles_are_those_of_the_kalman_smoother_within_their_standard_errors() -> None:
    """With ten filters, errors in standard errors have Student's law with 9 degrees of freedom: variance 9/7."""
    smoothed, filtered = (torch.stack(parts) for parts in zip(*map(errors_of_smoothing, range(3)), strict=True))
    assert 0.7 < float(smoothed.square().mean()) < 2.2
    assert float((smoothed.abs() < 2.262).double().mean()) > 0.9  # 95 % in truth
    assert float(filtered.square().mean()) > 8  # the control: the filter's means are no smoothed means
    assert float((smoothed * 3).square().mean()) > 5  # the control: errors of a third of the size would not pass


def test_smoothed_laws_of_finite_states_by_particles_are_those_of_all_paths() -> None:
    model = normal_chain()
    data = ragged(model)
    exact, found = pr.infer(model, data), pr.infer(model, data, engine="smc", num_particles=400, num_paths=200)
    assert found.smoothed_probs is not None
    assert found.smoothed_errors is not None
    assert exact.smoothed_probs is not None
    assert (found.smoothed_probs - exact.smoothed_probs).abs().max() < 5 * found.smoothed_errors.max()
    assert 0 < float(found.smoothed_errors.max()) < 0.1
    assert torch.equal(found.most_likely_states, exact.most_likely_states)  # type: ignore[arg-type]
    assert (found.most_likely_states == -1).sum() == sum(7 - length for length in LENGTHS)  # type: ignore[union-attr]
    assert found.remarks == ("the most likely path is the most probable one of 200 that were drawn",)
    assert found.to_frame()["state"].min() >= 0


def test_states_that_a_memory_reads_are_smoothed_by_genealogies_and_this_is_said() -> None:
    model = VRNN(latent_dim=2, hidden_dim=3, emission=Gaussian(2))
    states = pr.infer(model, ragged(model), num_particles=50, num_paths=20)
    assert states.smoothed_means is not None
    (remark,) = states.remarks
    assert remark.startswith("smoothed laws follow the ancestors of the last particles: the 2 paths of each of 10")
    assert "smoothed_se_0" in states.to_frame()
    assert (states.smoothed_means[1, LENGTHS[1] :] == 0).all()


def test_without_paths_particles_give_filtered_laws_alone() -> None:
    states = pr.infer(linear(), ragged(linear()), engine="smc", num_particles=20, num_paths=0)
    assert states.smoothed_means is None
    with pytest.raises(ValueError, match="expected num_paths as 0 or at least 2, for standard errors, got 1"):
        pr.infer(linear(), ragged(linear()), engine="smc", num_paths=1)


def test_standard_deviations_of_particles_far_from_zero_do_not_cancel() -> None:
    zero, one = torch.zeros(1), torch.eye(1)
    model = LinearGaussianSSM(zero + 1e9, one, one, one, one, one)
    x = 1e9 + torch.randn(1, 6, 1)
    exact, found = pr.infer(model, x), pr.infer(model, x, engine="smc", num_particles=4000)
    assert exact.filtered_sds is not None
    assert found.filtered_sds is not None
    error = 5 / 4000**0.5
    torch.testing.assert_close(found.filtered_sds, exact.filtered_sds, rtol=error, atol=0)
    assert not torch.allclose(found.filtered_sds, 1.2 * exact.filtered_sds, rtol=error, atol=0)


def test_particles_of_finite_states_estimate_their_probabilities() -> None:
    model = normal_chain()
    data = ragged(model)
    exact, found = pr.infer(model, data), pr.infer(model, data, engine="smc", num_particles=2500)
    for probs, near in ((exact.filtered_probs, True), (exact.smoothed_probs, False)):
        assert probs is not None
        assert found.filtered_probs is not None
        assert (float((found.filtered_probs - probs).abs().max()) < 5 * 0.5 / 50) is near


def test_draws_of_a_guide_have_its_moments() -> None:
    model = DeepMarkovModel(obs_dim=2, latent_dim=2)
    data, num = ragged(model), 400
    states = pr.infer(model, data, engine="svi", num_particles=num)
    law = model.proposal(None, None, model.encode(data.x, data.lengths)[:, 0])
    assert states.smoothed_means is not None
    assert states.smoothed_sds is not None
    error = 5 * law.stddev / num**0.5
    assert bool(((states.smoothed_means[:, 0] - law.mean).abs() < error).all())
    assert bool(((states.smoothed_sds[:, 0] - law.stddev).abs() < error).all())
    assert not bool(((states.smoothed_sds[:, 0] - 1.5 * law.stddev).abs() < error).any())
    assert bool((states.smoothed_means[1, LENGTHS[1] :] == 0).all())


@pytest.mark.parametrize(
    ("model", "engine", "reason"),
    [
        (chain(), "forward", "HMM has 2 finite states, for which the forward-backward algorithm is exact"),
        (linear(), "kalman", "LinearGaussianSSM has linear Gaussian states, for which the Kalman filter and smoother"),
        (NoisyRNN.random(1, 1, seed=0), "smc", "NoisyRNN has nonlinear Gaussian states, which 30 particles approxim"),
    ],
)
def test_auto_takes_the_exact_engine_and_says_why(model: SequenceModel, engine: str, reason: str) -> None:
    states = pr.infer(model.double(), model.sample(2, 3, seed=0), num_particles=30)
    assert states.engine == engine
    assert states.reason.startswith(reason)
    assert f"engine='{engine}'" in repr(states)


def test_missing_observations_are_integrated_out() -> None:
    model = normal_chain()
    data = ragged(model)
    gap = data.x.clone()
    gap[0, 2] = torch.nan
    states, whole = pr.infer(model, data._replace(x=gap)), pr.infer(model, data)
    before = states.filtered_probs[0, 1] @ TRANSITION  # type: ignore[index]
    torch.testing.assert_close(states.filtered_probs[0, 2], before)  # type: ignore[index]
    assert not torch.allclose(whole.filtered_probs[0, 2], before)  # type: ignore[index]


# The table.


def long_table() -> pandas.DataFrame:
    """A table of machines and months in no order, as a person may have it."""
    rows = [
        (machine, month)
        for machine, length in zip("CAB", LENGTHS, strict=True)
        for month in pandas.date_range("2024-01-01", periods=length, freq="MS")
    ]
    return pandas.DataFrame(rows, columns=["machine", "month"]).sample(frac=1, random_state=0).reset_index(drop=True)


def legend_of(table: pandas.DataFrame) -> Legend:
    parts = [table[table["machine"] == machine].sort_values("month") for machine in "CAB"]
    times = tuple(part["month"].to_numpy() for part in parts)
    rows = tuple(part.index.to_numpy() for part in parts)
    return Legend((Column("load"),), (), "machine", ("C", "A", "B"), "month", times, rows)


def test_rows_stand_as_in_a_shuffled_table_with_its_ids_and_times() -> None:
    model, table = normal_chain(), long_table()
    states = pr.infer(model, ragged(model, legend_of(table)))
    frame = states.to_frame()
    pandas.testing.assert_frame_equal(frame[["machine", "month"]], table, check_dtype=False)
    assert list(frame.columns[2:]) == ["filtered_0", "filtered_1", "smoothed_0", "smoothed_1", "state", "entropy"]
    assert states.smoothed_probs is not None
    for machine, month, prob in zip(frame["machine"], frame["month"], frame["smoothed_1"], strict=True):
        b, t = "CAB".index(machine), (month.year - 2024) * 12 + month.month - 1
        assert prob == float(states.smoothed_probs[b, t, 1])


def test_steps_that_were_no_row_are_left_out() -> None:
    model, table = normal_chain(), long_table()
    legend = legend_of(table)
    first = legend.rows[0].copy()
    first[2] = -1
    legend = legend._replace(rows=(first, *legend.rows[1:]))
    frame = pr.infer(model, ragged(model, legend)).to_frame()
    gone = (table["machine"] == "C") & (table["month"] == legend.times[0][2])
    kept = table[~gone].reset_index(drop=True)
    pandas.testing.assert_frame_equal(frame[["machine", "month"]], kept, check_dtype=False)


def test_without_a_legend_rows_have_a_number_and_a_step_and_no_padding() -> None:
    frame = pr.infer(chain(), ragged(chain())).to_frame()
    assert list(frame["sequence"]) == [0] * 7 + [1] * 4 + [2] * 5
    assert list(frame["step"]) == [*range(1, 8), *range(1, 5), *range(1, 6)]


def test_a_single_series_with_a_legend_has_no_column_of_ids() -> None:
    frame = pr.infer(chain(), torch.tensor([[0, 1, 2]])).to_frame()
    assert list(frame.columns[:2]) == ["sequence", "step"]
    data = Sequences(torch.tensor([[0, 1, 2]]), torch.tensor([3]), legend=Legend((Column("x"),)))
    assert list(pr.infer(chain(), data).to_frame().columns[:2]) == ["step", "filtered_0"]


def test_a_column_of_the_users_keeps_its_name_where_a_result_has_the_same() -> None:
    legend = Legend((Column("load"),), sequence="state", ids=("Ohio", "Iowa", "Utah"))
    frame = pr.infer(chain(), ragged(chain(), legend)).to_frame()
    assert list(frame["state"][:8]) == ["Ohio"] * 7 + ["Iowa"]
    assert set(frame["model_state"]) <= {0, 1}


# Files.


def test_a_csv_holds_the_table(tmp_path: Path) -> None:
    model = normal_chain()
    states = pr.infer(model, ragged(model, legend_of(long_table())))
    states.write(tmp_path / "s.csv")
    again = pandas.read_csv(tmp_path / "s.csv", parse_dates=["month"])
    pandas.testing.assert_frame_equal(again, states.to_frame(), check_dtype=False)


def test_a_netcdf_has_the_axes_sequence_time_and_state(tmp_path: Path) -> None:
    model, legend = normal_chain(), legend_of(long_table())
    states = pr.infer(model, ragged(model, legend))
    states.write(tmp_path / "s.nc")
    with xarray.open_dataset(tmp_path / "s.nc", engine="h5netcdf") as found:
        assert found["smoothed"].dims == ("sequence", "time", "state")
        assert list(found["sequence"].values) == ["C", "A", "B"]
        assert (found["time"].values == legend.times[0]).all()
        assert found.attrs["engine"] == "forward"
        inside = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
        np.testing.assert_array_equal(~np.isnan(found["entropy"].values), inside.numpy())
        np.testing.assert_array_equal(found["most_likely_state"].values[~inside.numpy()], -1)
        values: Tensor = states.smoothed_probs  # type: ignore[assignment]
        np.testing.assert_array_equal(found["smoothed"].values[inside.numpy()], values[inside].numpy())


def test_times_that_differ_are_kept_beside_the_steps(tmp_path: Path) -> None:
    legend = legend_of(long_table())
    moved = legend._replace(times=(legend.times[0] + np.timedelta64(1, "D"), *legend.times[1:]))
    pr.infer(chain(), ragged(chain(), moved)).write(tmp_path / "s.nc")
    with xarray.open_dataset(tmp_path / "s.nc", engine="h5netcdf") as found:
        assert list(found["time"].values) == list(range(1, 8))
        assert str(found["times"].values[0, 0]).startswith("2024-01-02")


@pytest.mark.parametrize("name", ["finite", "gaussian", "particles", "long"])
def test_states_are_drawn(name: str, tmp_path: Path) -> None:
    model = {"gaussian": linear(), "particles": NoisyRNN.random(2, 2, seed=0)}.get(name, normal_chain())
    assert isinstance(model, SequenceModel)
    data = model.sample(1, 5001, seed=0) if name == "long" else ragged(model)
    pr.infer(model, data, num_particles=20).write(tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", ["s.txt", "s", "no/such/s.csv", "s.parquet"])
def test_a_file_that_cannot_be_written_is_one_sentence_and_nothing_is_written(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgm_rnn.report.table_files.find_spec", lambda name: None)
    message = r"pip install .pgm-rnn\[parquet\]." if path.endswith("parquet") else "expected the file to "
    with pytest.raises(ValueError, match=message):
        pr.infer(chain(), ragged(chain())).write(tmp_path / path)
    assert list(tmp_path.iterdir()) == []


# What the user gets wrong.


def test_a_model_without_latent_states_says_so() -> None:
    rnn = RNN("gru", num_symbols=3, hidden_dim=2)
    with pytest.raises(TypeError, match=r"expected a model with latent states, got RNN, which has none; use forecast"):
        pr.infer(rnn, torch.tensor([[0, 1]]))


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("kalman", r"expected an engine for finite states, which HMM has, got 'kalman'; use 'forward'"),
        (
            "svi",
            r"expected a model with a guide that reads the observations, got HMM, which has none; use engine='forward'",
        ),
    ],
)
def test_an_engine_that_does_not_take_the_model_names_one_that_does(engine: str, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        pr.infer(chain(), torch.tensor([[0, 1]]), engine=engine)


def test_an_unknown_engine_is_an_error_before_the_work() -> None:
    with pytest.raises(ValueError, match="did you mean 'forward'"):
        pr.infer(chain(), torch.tensor([[0, 1]]), engine="forwrd")
    with pytest.raises(ValueError, match="expected num_particles"):
        pr.infer(chain(), torch.tensor([[0, 1]]), num_particles=0)


@pytest.mark.parametrize("recurrent", [False, True])
def test_switching_states_have_probabilities_of_regimes_beside_moments_of_vectors(recurrent: bool) -> None:
    model = SwitchingLinearSSM.random(3, 2, 1, seed=0, recurrent=recurrent)
    x, lengths = model.sample(2, 4, seed=1).x, torch.tensor([4, 2])
    found = pr.infer(model, Sequences(x, lengths), num_particles=200, num_paths=40)
    assert found.engine == ("smc" if recurrent else "mixture")
    assert found.filtered_probs is not None
    assert found.smoothed_means is not None
    torch.testing.assert_close(found.filtered_probs.sum(-1), (torch.arange(4) < lengths[:, None]).double())
    assert found.smoothed_means.shape == (2, 4, 2)
    frame = found.to_frame()
    assert len(frame) == 6
    wanted = {"filtered_2", "filtered_mean_1", "filtered_sd_1", "smoothed_2", "smoothed_mean_1", "smoothed_se_2", "ess"}
    assert wanted <= set(frame.columns)
    arrays = found.to_xarray()
    assert arrays["smoothed"].dims == ("sequence", "time", "state")
    assert arrays["smoothed_mean"].dims == ("sequence", "time", "entry")


def test_the_mixture_engine_agrees_with_the_sum_over_all_paths() -> None:
    model = SwitchingLinearSSM.random(2, 1, 1, seed=0)
    x = model.sample(1, 4, seed=1).x
    found = pr.infer(model, x, num_particles=2_000, num_paths=1_000)
    assert found.smoothed_probs is not None
    assert found.smoothed_errors is not None
    expected = mixtures.smoothed(model, x[0])[0].detach()
    far = (found.smoothed_probs[0] - expected).abs()
    assert bool((far < 9 * found.smoothed_errors[0] + 5 / 2_000).all())  # Student t of 9 degrees, at 1e-5
    with pytest.raises(TypeError, match="expected an engine for finite states, which HMM has, got 'mixture'"):
        pr.infer(HMM.random(2, 3, seed=0), torch.zeros(1, 3, dtype=torch.long), engine="mixture")
