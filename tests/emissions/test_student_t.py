"""Student's t law: densities against scipy, draws, ECM, starts, errors, and models that are fitted and saved."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor

from pgm_rnn.distributions.student_t import StudentT as Law
from pgm_rnn.emissions import EmissionTable, Gaussian, Joint, Poisson, StudentT
from pgm_rnn.inference import em, forward_backward, svi
from pgm_rnn.inference.em.weighted_estimates import estimate
from pgm_rnn.models import HMM, RNN
from pgm_rnn.report.description import describe
from pgm_rnn.storage import load_model, save_model
from tests.emissions.climbing import climbed

LOC, SCALE, DF = torch.tensor([[0.0, -3.0, 1e3], [1.0, 1e-3, 50.0], [0.3, 2.5, 40.0]], dtype=torch.float64)
STAY = torch.tensor([[0.95, 0.05], [0.05, 0.95]])


def natural(table: EmissionTable, name: str) -> Tensor:
    return table.natural_parameters[name].read(table.params.detach())


@pytest.mark.parametrize("df", [1e-3, 0.3, 1.0, 2.0, 7.5, 49.9, 50.1, 1e3, 1e6])
@pytest.mark.parametrize("x", [0.0, 1.0, -3.5, 1e4, 1e12])
def test_densities_are_scipys(df: float, x: float) -> None:
    found = Law(torch.tensor(df), 0.5, 2.0).log_prob(torch.tensor(x))
    assert float(found) == pytest.approx(stats.t(df, 0.5, 2.0).logpdf(x), rel=1e-9)
    assert float(found) != pytest.approx(stats.t(1.1 * df, 0.5, 2.0).logpdf(x + 0.1), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_degrees_of_freedom_give_the_normal_law_in_both_precisions(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, 1.0, -4.0], dtype=dtype)
    law = Law(torch.tensor(1e20, dtype=dtype), torch.tensor(0.0, dtype=dtype), torch.tensor(1.0, dtype=dtype))
    expected = torch.as_tensor(stats.norm.logpdf(x)).to(dtype)
    torch.testing.assert_close(law.log_prob(x), expected, rtol=16 * torch.finfo(dtype).eps, atol=0)


def test_pyros_own_formula_loses_digits_there() -> None:
    df = torch.tensor(1e9, dtype=torch.float32)
    theirs = torch.distributions.StudentT(df).log_prob(torch.tensor(0.0, dtype=torch.float32))
    assert abs(float(theirs) - stats.norm.logpdf(0.0)) > 0.01


@pytest.mark.parametrize("x", [1e25, 1e200])
def test_a_density_and_its_slope_are_finite_however_far_out(x: float) -> None:
    parameters = [torch.tensor(value, requires_grad=True) for value in (2.0, 0.0, 1e-3)]
    found = Law(*parameters, validate_args=False).log_prob(torch.tensor(x))
    assert float(found.detach()) == pytest.approx(stats.t(2.0, 0.0, 1e-3).logpdf(1e25) - 3 * np.log(x / 1e25), rel=1e-9)
    assert all(bool(slope.isfinite()) for slope in torch.autograd.grad(found, parameters))


def test_the_gradient_is_that_of_finite_differences() -> None:
    x = torch.tensor([0.0, 0.5, -20.0, 1e10])
    parameters = [torch.tensor(value).requires_grad_() for value in ([0.7, 3.0, 60.0, 5.0], [0.1] * 4, [1.5] * 4)]
    assert torch.autograd.gradcheck(lambda df, loc, scale: Law(df, loc, scale).log_prob(x), parameters)


def test_draws_have_the_quantiles_of_their_law_and_not_of_the_normal_one() -> None:
    num, law = 20_000, StudentT().table(LOC[:1], SCALE[:1], torch.tensor([2.0]))(torch.tensor(0))
    x = law.sample((num,)).numpy()
    error = 5 / (2 * num**0.5)  # five standard errors of a frequency
    for point in (0.01, 0.25, 0.5, 0.9, 0.99):
        assert abs(float((x <= stats.t(2.0).ppf(point)).mean()) - point) < error
    assert abs(float((x <= stats.norm.ppf(0.01)).mean()) - 0.01) > error


def test_a_table_has_the_given_parameters() -> None:
    table = StudentT().table(LOC, SCALE, DF)
    for name, values in (("loc", LOC), ("scale", SCALE), ("df", DF)):
        torch.testing.assert_close(natural(table, name), values)
    x = torch.tensor([0.5, 900.0])
    expected = np.stack([stats.t(v, m, s).logpdf(x) for v, m, s in zip(DF, LOC, SCALE, strict=True)], -1)
    np.testing.assert_allclose(table.log_probs(x).detach(), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"df": DF[:2]}, "expected df of 3 states, as loc has, got 2"),
        ({"df": -DF}, "expected df to be positive, got -40.0"),
        ({"scale": 0 * SCALE}, "expected scale to be positive, got 0.0"),
        ({"loc": LOC * torch.nan}, "expected loc as finite floating-point numbers"),
        ({"loc": LOC[None]}, r"expected loc of shape \(num_states\), got \(1, 3\)"),
    ],
)
def test_parameters_of_no_law_are_an_error(change: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudentT().table(**{"loc": LOC, "scale": SCALE, "df": DF, **change})


def test_numbers_that_are_not_finite_are_no_observations() -> None:
    model = HMM.random(2, emission=StudentT(), seed=0).double()
    with pytest.raises(ValueError, match="expected finite real numbers"):
        model.log_prob(torch.tensor([[0.0, torch.inf]]))


# The M-step.


def weighted_value(table: EmissionTable, x: Tensor, weights: Tensor, observed: Tensor | None = None) -> float:
    return float((weights * table.log_probs(x, observed)).sum().detach())


@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_steps_never_lower_the_weighted_likelihood_and_end_where_it_is_stationary(gaps: bool) -> None:
    x, weights = torch.distributions.StudentT(2.5).sample((200, 2)), torch.rand(200, 2)
    observed = torch.rand(200, 2) > 0.3 if gaps else None
    table = StudentT(2).random_table(2)
    value = weighted_value(table, x, weights, observed)
    for _ in range(100):
        table = estimate(StudentT(2), x, weights, 0.0, observed=observed, before=table)
        new = weighted_value(table, x, weights, observed)
        assert new > value - 1e-9
        value = new
    (slope,) = torch.autograd.grad((weights * table.log_probs(x, observed)).sum(), table.params)
    assert float(slope.abs().max()) < 1e-3
    first = estimate(StudentT(2), x, weights, 0.0, observed=observed, before=StudentT(2).random_table(2))
    (slope,) = torch.autograd.grad((weights * first.log_probs(x, observed)).sum(), first.params)
    assert float(slope.abs().max()) > 1e-2


def test_the_maximum_is_scipys() -> None:
    x = torch.as_tensor(stats.t(3.0, 5.0, 2.0).rvs(400, random_state=0))
    table = StudentT().table(*(torch.tensor([value]) for value in (4.0, 1.0, 10.0)))
    for _ in range(60):
        table = estimate(StudentT(), x, torch.ones(400, 1), 0.0, before=table)

    def loss(at: Any) -> float:
        return -float(stats.t(np.exp(at[2]), at[0], np.exp(at[1])).logpdf(x).sum())

    best = optimize.minimize(loss, [5.0, 0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
    found = [float(natural(table, name)) for name in ("loc", "scale", "df")]
    assert found == pytest.approx([best.x[0], np.exp(best.x[1]), np.exp(best.x[2])], rel=1e-4)


def test_normal_data_get_many_degrees_of_freedom_and_no_more_than_the_most() -> None:
    x = torch.as_tensor(stats.norm.ppf((np.arange(500) + 0.5) / 500))  # whose tails are too light for any t law
    table = StudentT().table(torch.zeros(1), torch.ones(1), torch.tensor([5.0]))
    for _ in range(60):
        table = estimate(StudentT(), x, torch.ones(500, 1), 0.0, before=table)
    assert 100 < float(natural(table, "df")) <= 1000.0001


def test_one_outlier_moves_no_mean_as_it_does_in_a_normal_law() -> None:
    x = torch.cat([torch.randn(200), torch.tensor([1e6])])
    table = estimate(StudentT(), x, torch.ones(201, 1), 0.0)
    assert abs(float(natural(table, "loc"))) < 0.5
    assert float(natural(estimate(Gaussian(), x, torch.ones(201, 1), 0.0), "loc")) > 1000


@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_constants_and_states_without_observations_keep_laws_finite(constant: float) -> None:
    x, weights = torch.full((10,), constant), torch.ones(10, 2)
    weights[:, 1] = 0
    for before in (None, StudentT().random_table(2)):
        assert bool(estimate(StudentT(), x, weights, 0.0, before=before).log_probs(x).isfinite().all())


# Models.


def regimes(dtype: torch.dtype = torch.float64) -> tuple[HMM, Any]:
    loc, scale, df = torch.tensor([[0.0, 5.0], [6.0, 1.0]]), torch.ones(2, 2), torch.full((2, 2), 2.5)
    truth = HMM(torch.tensor([0.5, 0.5]), STAY, StudentT(2).table(loc, scale, df))
    batch = truth.sample(8, 100, seed=0)
    return truth, batch._replace(x=batch.x.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_em_finds_regimes_from_the_data_and_beats_normal_laws(dtype: torch.dtype) -> None:
    truth, batch = regimes(dtype)
    model = HMM.random(2, emission=StudentT(2), seed=0).to(dtype)
    found = climbed(model, batch, 30)
    best = float(truth.log_marginal_likelihood(batch.x.double()).detach().sum())
    assert float(found.log_likelihoods[-1]) > best
    normal = HMM.random(2, emission=Gaussian(2), seed=0).to(dtype)
    assert float(em.fit(normal, batch, num_iterations=30, progress=False).log_likelihoods[-1]) < best - 100
    loc = natural(model.emission_table, "loc")
    order = loc[:, 0].argsort()
    torch.testing.assert_close(loc[order].double(), torch.tensor([[0.0, 5.0], [6.0, 1.0]]), rtol=0, atol=0.5)
    assert bool((natural(model.emission_table, "df") < 5).all())


def test_the_likelihood_never_falls_with_gaps_restarts_and_other_units() -> None:
    _, batch = regimes()
    x = 1e4 * batch.x + 1e6
    mask = torch.rand(x.shape) > 0.2
    model = HMM.random(2, emission=StudentT(2), seed=3).double()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "min_scale=|No share", em.EmWarning)  # a fall would be an error
        warnings.filterwarnings("error", ".*fell|.*lowered", em.EmWarning)
        found = em.fit(model, x, mask=mask, num_iterations=30, tolerance=0.0, num_restarts=3, progress=False)
    assert found.stopped_by == "num_iterations"
    assert float(found.log_likelihoods.diff().min()) > -1e-8
    torch.testing.assert_close(
        found.log_likelihoods[-1], model.log_marginal_likelihood(x, mask=mask).sum().detach(), rtol=1e-9, atol=0
    )


def test_columns_of_other_kinds_may_stand_beside_it() -> None:
    _, batch = regimes()
    counts = torch.poisson(torch.where(batch.x[..., :1] > 3, 8.0, 1.0))
    model = HMM.random(2, emission=Joint([StudentT(2), Poisson()]), seed=0).double()
    found = em.fit(model, torch.cat([batch.x, counts], -1), num_iterations=20, tolerance=0.0, progress=False)
    assert float(found.log_likelihoods.diff().min()) > -1e-8


def test_filters_gradients_and_networks_take_it() -> None:
    _, batch = regimes()
    model = HMM.random(2, emission=StudentT(2), seed=0).double()
    before = float(model.log_marginal_likelihood(batch.x).detach().sum())
    smoothed = forward_backward.smooth(model, batch.x).smoothed_probs
    torch.testing.assert_close(smoothed.sum(-1), torch.ones(8, 100))
    svi.fit(model, batch, objective="mle", num_epochs=3, progress=False)
    assert float(model.log_marginal_likelihood(batch.x).detach().sum()) > before
    rnn = RNN("gru", emission=StudentT(2), hidden_dim=3).double()
    assert rnn.log_prob(batch.x).isfinite().all()


def test_a_saved_model_comes_back_and_is_described_by_its_natural_names(tmp_path: Path) -> None:
    truth, batch = regimes()
    save_model(truth, tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert isinstance(again, HMM)
    assert again.family == StudentT(2)
    assert torch.equal(again.log_prob(batch.x), truth.log_prob(batch.x))
    found = describe(truth)
    assert torch.tensor(found.table("df").values).allclose(torch.full((2, 2), 2.5))
    assert [table.name for table in found.tables][-3:] == ["loc", "scale", "df"]
    titles = ["locations", "scales", "degrees of freedom"]
    assert [table.title for table in found.tables][-3:] == titles
    normal = describe(HMM.random(2, emission=Gaussian(2), seed=0))
    assert [table.title for table in normal.tables][-2:] == ["means", "standard deviations"]
