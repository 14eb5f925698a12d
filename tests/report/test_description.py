"""Descriptions: every number against its definition, names, orders, and what has no standard error."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import pgm_rnn as pr
from pgm_rnn.emissions import Bernoulli, FullGaussian, Gaussian, Poisson
from pgm_rnn.inference import em, forward_backward
from pgm_rnn.legend import Column, Legend
from pgm_rnn.models import HMM, RNN, LinearGaussianSSM, NoisyRNN
from pgm_rnn.models.markov_chain import MarkovChain
from pgm_rnn.report.description import Description, describe
from pgm_rnn.report.finite_chain import stationary_law
from pgm_rnn.report.number_tables import WIDTH, number
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests.own_models import Fixed, SwitchingAR
from tools.published.data import NILE

LEGEND = Legend((Column("flow", unit="m3/s"), Column("rain", unit="mm")))
MOVES = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.25, 0.25, 0.5]], dtype=torch.float64)


def weather() -> HMM:
    loc, scale = torch.tensor([[5.0, -1.0], [1.0, 2.0], [3.0, 0.0]]), torch.tensor([[1.0, 0.5], [2.0, 1.0], [0.5, 3.0]])
    return HMM(torch.tensor([0.5, 0.25, 0.25]), MOVES, Gaussian(2).table(loc, scale))


def observed(model: SequenceModel, legend: Legend | None = LEGEND) -> Sequences:
    return model.sample(6, 40, seed=0)._replace(z=None, legend=legend)


def test_a_structural_model_is_described_by_standard_deviations_period_and_damping() -> None:
    model = LinearGaussianSSM.structural(trend="stochastic", cycle="damped", ar=2, regression=1, cycle_periods=(3, 40))
    model.double().set_parameters(
        irregular_variance=4.0,
        level_variance=0.25,
        slope_variance=0.01,
        cycle_variance=9.0,
        cycle_frequency=2 * math.pi / 11,
        cycle_damping=0.9,
        ar_coefficients=torch.tensor([0.5, -0.2]),
        ar_variance=1.0,
        coefficients=torch.tensor([3.0]),
    )
    found = describe(model)
    assert [table.name for table in found.tables] == ["component_sd", "cycle", "ar_coefficients", "coefficients"]
    sds = {name: row(found, "component_sd", name)[0] for name in found.table("component_sd").rows}
    assert sds == pytest.approx({"irregular": 2, "level": 0.5, "slope": 0.1, "cycle": 3, "ar": 1})
    assert dict(zip(found.table("cycle").columns, row(found, "cycle", ""), strict=True)) == pytest.approx(
        {"period in steps": 11, "damping per step": 0.9}
    )
    assert row(found, "ar_coefficients", "") == pytest.approx((0.5, -0.2))
    assert row(found, "coefficients", "") == pytest.approx((3.0,))
    assert describe(LinearGaussianSSM.structural(level="fixed", irregular=True)).table("component_sd").rows == (
        "irregular",
    )


def row(description: Description, table: str, name: str) -> tuple[float, ...]:
    found = description.table(table)
    return found.values[found.rows.index(name)]


def test_the_numbers_of_states_are_those_of_their_definitions() -> None:
    model, data = weather(), observed(weather())
    found = describe(model, data, standard_errors=False)
    states, law = found.to_frame("states"), np.linalg.matrix_power(MOVES.numpy(), 2000)[0]
    assert states["initial"].tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert states["duration"].tolist() == pytest.approx([10, 1 / 0.3, 2])
    assert states["stationary"].tolist() == pytest.approx(law.tolist(), rel=1e-9)
    smoothed = forward_backward.smooth(model, data).smoothed_probs
    assert states["share"].tolist() == pytest.approx(smoothed.reshape(-1, 3).mean(0).tolist())
    assert found.to_frame("loc").columns.tolist() == ["flow (m3/s)", "rain (mm)"]
    assert row(found, "loc", "1") == pytest.approx((1.0, 2.0))
    assert row(found, "scale", "2") == pytest.approx((0.5, 3.0))
    assert (found.num_free_parameters, found.num_steps) == (2 + (1 + 2 + 2) + 12, 240)
    assert found.log_likelihood == pytest.approx(float(model.log_marginal_likelihood(data).sum().detach()))


@pytest.mark.parametrize(("order", "places"), [("flow", "120"), ("rain", "021"), (1, "021"), ("size", "012")])
def test_an_order_permutes_every_table_alike(order: str | int, places: str) -> None:
    plain, found = describe(weather(), legend=LEGEND), describe(weather(), order=order, legend=LEGEND)
    assert found.order == tuple(map(int, places))
    for table in found.tables:
        assert "".join(table.rows) == places
        for name in table.rows:
            columns = plain.table(table.name).columns
            expected = dict(zip(columns, row(plain, table.name, name), strict=True))
            assert dict(zip(table.columns, row(found, table.name, name), strict=True)) == expected
    assert found.table("transition_probs").columns == tuple(f"to {k}" for k in places)
    assert (found.order == plain.order) == (order == "size")


def test_standard_errors_follow_the_order() -> None:
    model, data = weather(), observed(weather())
    model.set_probs(transition_probs=torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.25, 0.25, 0.5]]))
    em.fit(model, data, num_iterations=200, progress=False)
    plain, found = (describe(model, data, order=order).table("loc") for order in (None, "flow"))
    assert plain.errors is not None
    assert found.errors is not None
    assert found.errors == tuple(plain.errors[int(k)] for k in found.rows)
    assert all(error > 0 for of_row in plain.errors for error in of_row)


def test_the_size_of_states_is_their_share_of_the_data() -> None:
    model = weather()
    only = Sequences(torch.tensor([3.0, 0.0]).expand(1, 30, 2), torch.tensor([30]))
    found = describe(model, only, order="size", standard_errors=False)
    shares = found.to_frame("states")["share"].tolist()
    assert shares == sorted(shares, reverse=True)
    assert found.order != describe(model, order="size").order


@pytest.mark.parametrize(
    ("moves", "unique"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], False),
        ([[0.5, 0.5], [0.0, 1.0]], True),
        ([[0.0, 1.0], [1.0, 0.0]], True),
        ([[0.2, 0.4, 0.4], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], False),
    ],
)
def test_a_stationary_law_exists_where_one_class_of_states_is_never_left(
    moves: list[list[float]], unique: bool
) -> None:
    table = torch.tensor(moves)
    law = stationary_law(table)
    assert (law is not None) == unique
    if law is not None:
        assert torch.allclose(law @ table, law)
        assert float(law.sum()) == pytest.approx(1)
    start = torch.ones(len(table)) / len(table)
    found = describe(HMM(start, table, torch.full((len(table), 2), 0.5)))
    assert any("no stationary law" in remark for remark in found.remarks) != unique
    assert all(math.isnan(p) for p in found.to_frame("states")["stationary"]) != unique


def test_symbols_have_their_words() -> None:
    words = Legend((Column("weather", "symbol", words=("sun", "rain", "snow")),))
    model = HMM.random(2, num_symbols=3, seed=0)
    found = describe(model, legend=words)
    assert found.to_frame("emission_probs").columns.tolist() == ["sun", "rain", "snow"]
    probs = model.emission_probs.detach()
    assert torch.tensor(found.table("emission_probs").values).allclose(probs)
    chain = MarkovChain.random(3, seed=0)
    moves = describe(chain, legend=words).table("transition_probs")
    assert (moves.rows, moves.columns) == (("sun", "rain", "snow"),) * 2
    assert torch.tensor(moves.values).allclose(chain.transition_probs.detach())


def test_correlations_and_rates_are_shown_by_state() -> None:
    full = HMM.random(2, emission=FullGaussian(2), seed=0)
    found = describe(full, legend=LEGEND)
    assert found.table("correlation").rows == ("0 flow (m3/s)", "0 rain (mm)", "1 flow (m3/s)", "1 rain (mm)")
    assert [table.name for table in found.tables] == ["states", "transition_probs", "loc", "scale", "correlation"]
    counts = HMM.random(2, emission=Poisson(), seed=0)
    rates = describe(counts).table("rate")
    assert (rates.title, rates.columns) == ("rates", ("x",))
    mean = counts.emission(torch.arange(2), None).mean.detach()
    assert torch.tensor(rates.values)[:, 0].allclose(mean)


def test_a_linear_model_has_its_matrices_and_eigenvalues() -> None:
    model = LinearGaussianSSM.random(2, 2, input_dim=1, seed=0)
    found = describe(model, legend=LEGEND._replace(inputs=("heat",)))
    for name, matrix in model.moments().items():
        assert torch.tensor(found.table(name).values).allclose(torch.atleast_2d(matrix.detach()))
    assert found.table("emission_matrix").rows == ("flow (m3/s)", "rain (mm)")
    assert found.table("input_matrix").columns == ("heat",)
    moduli = np.abs(np.linalg.eigvals(model.transition_matrix.detach().numpy()))
    assert found.to_frame("eigenvalues")["modulus"].tolist() == pytest.approx(sorted(moduli, reverse=True))


def test_the_nile_is_described_with_its_standard_errors() -> None:
    one = torch.eye(1)
    model = LinearGaussianSSM(torch.zeros(1), 0 * one, one, 1469.18 * one, one, 15098.52 * one, diffuse=[True])
    for name in ("transition_matrix", "emission_matrix"):
        getattr(model, name).requires_grad_(False)
    found = describe(model, torch.tensor(NILE).double()[None, :, None])
    assert "15099 ± 3146" in str(found)  # as in tests/inference/test_information.py
    assert "1469 ± 1280" in str(found)
    frame = found.to_frame()
    noise = frame[frame["table"] == "emission_cov"].iloc[0]
    assert noise["standard_error"] == pytest.approx(3145.55, rel=1e-3)
    assert frame[frame["table"] == "transition_matrix"]["standard_error"].tolist() == [0]


def test_a_model_of_ones_own_is_described_by_its_laws_and_parameters() -> None:
    model = SwitchingAR(3)
    found = describe(model, model.sample(4, 30, seed=0).x)
    assert [table.name for table in found.tables] == ["states", "transition_probs", "start", "moves", "a", "b", "raw"]
    assert row(found, "states", "0")[:3] == pytest.approx((1 / 3, 1 / 3, 1.5))
    assert torch.tensor(found.table("a").values).allclose(model.a.detach())
    fixed = describe(Fixed(), Fixed().sample(1, 5, seed=0).x)
    assert row(fixed, "transition_probs", "0") == pytest.approx((0.8, 0.2))
    assert "expected 1 to 500 parameters for standard errors, got 0" in fixed.remarks[0]


def test_other_models_have_sizes_and_say_why_they_have_no_standard_errors() -> None:
    network = RNN("gru", num_symbols=3, hidden_dim=4)
    found = describe(network)
    numbers = found.to_frame("parameters")["numbers"]
    assert numbers.sum() == found.num_free_parameters
    noisy = NoisyRNN.random(2, 2, seed=0)
    remarks = describe(noisy, noisy.sample(2, 5, seed=0).x).remarks
    assert remarks == (
        "no standard errors: expected a model with an exact likelihood for standard errors, got NoisyRNN",
    )


def test_a_model_of_single_precision_is_described_like_one_of_double() -> None:
    model, data = weather(), observed(weather())
    half = describe(weather().float(), data._replace(x=data.x.float()))
    for table, expected in zip(half.tables, describe(model, data).tables, strict=True):
        assert np.array(table.values) == pytest.approx(np.array(expected.values), rel=1e-4, nan_ok=True)


def test_what_is_wrong_is_one_sentence() -> None:
    with pytest.raises(TypeError, match="expected a SequenceModel to describe, got str"):
        describe("hmm")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="expected order to be one of size, flow, rain, got 'rian'; did you mean 'rain'"
    ):
        describe(weather(), order="rian", legend=LEGEND)
    with pytest.raises(ValueError, match=r"expected order as a column in 0\.\.1, got 2"):
        describe(weather(), order=2)
    with pytest.raises(ValueError, match="expected order='size', for the states have no means of a column"):
        describe(HMM.random(2, num_symbols=3, seed=0), order="x")
    with pytest.raises(ValueError, match="expected order only for a model with finite states, got NoisyRNN"):
        describe(NoisyRNN.random(2, 2, seed=0), order="size")
    with pytest.raises(ValueError, match="expected data for order='size'"):
        describe(HMM(torch.ones(2) / 2, torch.eye(2), torch.full((2, 2), 0.5)), order="size")
    with pytest.raises(ValueError, match=r"expected the table to be one of states, .*did you mean 'scale'"):
        describe(weather()).to_frame("scales")


@pytest.mark.parametrize("num_bits", [2, 30, 200])
def test_a_description_fits_eighty_columns(num_bits: int) -> None:
    text = str(describe(HMM.random(4, emission=Bernoulli(num_bits), seed=0)))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert ("4 x 200 numbers; --out FILE.csv writes them" in text) == (num_bits == 200)
    assert ("x30" in text) == (num_bits == 30)


def test_numbers_are_written_for_people() -> None:
    shown = [number(v) for v in (15098.52, 0.5, 1 / 3, 3.0, 0.0, math.nan, math.inf, 1.5e-7, 2.5e9, -12.34567)]
    assert shown == ["15099", "0.5000", "0.3333", "3", "0", "-", "inf", "1.500e-07", "2.500e+09", "-12.35"]


def test_an_error_has_two_digits_and_a_fit_that_is_no_maximum_says_so() -> None:
    assert number(0.00391, 2) == "0.0039"
    model, data = weather(), observed(weather())
    em.fit(model, data, num_iterations=300, tolerance=1e-10, progress=False)
    assert not any("approximate" in remark for remark in describe(model, data).remarks)
    em.fit(model, data, num_iterations=100, pseudo_observations=10.0, progress=False)
    assert any("standard errors are approximate" in remark for remark in describe(model, data).remarks)


def test_the_name_is_found_without_pandas() -> None:
    code = "import sys, pgm_rnn as pr; pr.describe; assert 'pandas' not in sys.modules, 'pandas'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert pr.describe is describe
