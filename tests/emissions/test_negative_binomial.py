"""The negative binomial law: probabilities against scipy, draws, its M-step, errors, and models fitted and saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor

from pgm_rnn.distributions.negative_binomial import NegativeBinomial as Law
from pgm_rnn.emissions import EmissionTable, NegativeBinomial, Poisson
from pgm_rnn.inference import em, svi
from pgm_rnn.inference.em.weighted_estimates import estimate
from pgm_rnn.kernels import positive
from pgm_rnn.models import HMM, RNN
from pgm_rnn.report.description import describe
from pgm_rnn.storage import load_model, save_model
from tests.emissions.climbing import climbed

MEAN, DISPERSION = torch.tensor([[0.3, 4.0, 50.0], [2.0, 0.5, 1e-3]], dtype=torch.float64)


def scipys(mean: float, dispersion: float) -> Any:
    return stats.nbinom(1 / dispersion, 1 / (1 + dispersion * mean))


def law_of(mean: float, dispersion: float, dtype: torch.dtype = torch.float64) -> Law:
    raw_mean = positive.inverse_softplus(torch.tensor(mean, dtype=torch.float64))
    return Law(raw_mean.to(dtype), torch.tensor(dispersion, dtype=dtype))


def natural(table: EmissionTable, name: str) -> Tensor:
    return table.natural_parameters[name].read(table.params.detach())


@pytest.mark.parametrize("dispersion", [50.0, 1.0, 0.0626, 0.0624, 1e-3])
@pytest.mark.parametrize("mean", [0.2, 6.0, 900.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probabilities_are_scipys(mean: float, dispersion: float, dtype: torch.dtype) -> None:
    x = torch.tensor([0, 1, 15, 16, 40, 1000])
    found = law_of(mean, dispersion, dtype).log_prob(x.to(dtype))
    assert found.dtype == dtype
    rtol = 1e-8 if dtype == torch.float64 else 1e-4  # the parameters are rounded to single precision
    np.testing.assert_allclose(found, scipys(mean, dispersion).logpmf(x), rtol=rtol, atol=rtol)
    others = law_of(mean, 1.1 * dispersion, dtype).log_prob(x.to(dtype))
    assert not np.allclose(others, scipys(mean, dispersion).logpmf(x), rtol=rtol, atol=rtol)


def test_probabilities_of_a_geometric_law_are_its_formula_and_sum_to_one() -> None:
    x = torch.arange(200)
    found = law_of(4.0, 1.0).log_prob(x.double()).exp()
    torch.testing.assert_close(found, 0.2 * 0.8 ** x.double())
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("dispersion", [1e-12, 1e-30, 1e-200])
@pytest.mark.parametrize("mean", [0.5, 1e5])
def test_without_dispersion_it_is_poissons_law(mean: float, dispersion: float) -> None:
    x = torch.tensor([0.0, 1.0, 1e5, 100_500.0])
    found = law_of(mean, dispersion).log_prob(x)
    torch.testing.assert_close(found, torch.as_tensor(stats.poisson(mean).logpmf(x)), rtol=1e-7, atol=1e-7)
    assert not torch.allclose(law_of(mean, 0.1).log_prob(x), found, rtol=1e-7, atol=1e-7)


def test_the_gradient_is_that_of_finite_differences_on_both_sides_of_the_series() -> None:
    x = torch.tensor([0.0, 3.0, 20.0, 70.0])
    raw_mean, dispersion = torch.tensor([0.5, 3.0, -2.0, 60.0]), torch.tensor([0.2, 2.0, 0.0626, 0.01])
    given = [raw_mean.requires_grad_(), dispersion.requires_grad_()]
    assert torch.autograd.gradcheck(lambda *parameters: Law(*parameters).log_prob(x), given)


@pytest.mark.parametrize(("mean", "dispersion"), [(4.0, 0.5), (0.3, 5.0), (50.0, 1e-3)])
def test_draws_have_the_frequencies_of_their_law_and_not_of_poissons(mean: float, dispersion: float) -> None:
    num = 20_000
    x = law_of(mean, dispersion).sample((num,)).numpy()
    points = scipys(mean, dispersion).ppf([0.1, 0.3, 0.5, 0.8, 0.99])
    error = 5 / (2 * num**0.5)  # five standard errors of a frequency
    frequencies = (x[:, None] <= points).mean(0)
    assert float(np.abs(frequencies - scipys(mean, dispersion).cdf(points)).max()) < error
    if dispersion > 0.1:
        assert float(np.abs(frequencies - stats.poisson(mean).cdf(points)).max()) > error


def test_a_table_has_the_given_parameters_and_moments() -> None:
    table = NegativeBinomial().table(MEAN, DISPERSION)
    torch.testing.assert_close(natural(table, "mean"), MEAN)
    torch.testing.assert_close(natural(table, "dispersion"), DISPERSION)
    law = table(torch.arange(3))
    torch.testing.assert_close(law.mean, MEAN)
    torch.testing.assert_close(law.variance, MEAN + DISPERSION * MEAN**2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dispersion": DISPERSION[:2]}, "expected as many dispersions as means, 3, got 2"),
        ({"dispersion": 0 * DISPERSION}, "expected dispersion to be positive, got 0.0"),
        ({"mean": -MEAN}, "expected mean to be positive, got -50.0"),
        ({"mean": MEAN * torch.nan}, "expected mean as finite floating-point numbers"),
    ],
)
def test_parameters_of_no_law_are_an_error(change: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NegativeBinomial().table(**{"mean": MEAN, "dispersion": DISPERSION, **change})


@pytest.mark.parametrize("value", [-1.0, 0.5, torch.inf])
def test_numbers_that_are_no_counts_are_no_observations(value: float) -> None:
    model = HMM.random(2, emission=NegativeBinomial(), seed=0).double()
    with pytest.raises(ValueError, match=r"expected counts 0, 1, 2, \.\.\."):
        model.log_prob(torch.tensor([[0.0, value]]))


# The M-step.


def test_the_maximum_is_scipys() -> None:
    x = torch.as_tensor(scipys(5.0, 0.7).rvs(500, random_state=0)).double()
    table = estimate(NegativeBinomial(), x, torch.ones(500, 1), 0.0)

    def loss(at: Any) -> float:
        return -float(scipys(*np.exp(at)).logpmf(x).sum())

    best = np.exp(optimize.minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8}).x)
    assert [float(natural(table, name)) for name in ("mean", "dispersion")] == pytest.approx(best, rel=1e-5)
    assert float(natural(table, "mean")) == pytest.approx(float(x.mean()))


def test_counts_that_vary_less_than_poissons_law_have_next_to_no_dispersion() -> None:
    x = torch.tensor([2.0, 3.0] * 10)
    table = estimate(NegativeBinomial(), x, torch.ones(20, 1), 0.0)
    assert float(natural(table, "dispersion")) < 1e-6
    expected = Poisson().table(torch.tensor([2.5])).log_probs(x)
    torch.testing.assert_close(table.log_probs(x), expected, rtol=1e-6, atol=0)


def test_a_step_from_other_laws_gives_the_maximum_and_one_from_it_stays() -> None:
    x, weights = torch.as_tensor(scipys(5.0, 0.7).rvs(100, random_state=0)).double(), torch.rand(100, 2)
    alone = estimate(NegativeBinomial(), x, weights, 0.0)
    again = estimate(NegativeBinomial(), x, weights, 0.0, before=NegativeBinomial().random_table(2))
    torch.testing.assert_close(again.params, alone.params)
    kept = estimate(NegativeBinomial(), x, weights, 0.0, before=again)
    torch.testing.assert_close(kept.params, alone.params)


# Models.


def regimes(dtype: torch.dtype = torch.float64) -> tuple[HMM, Any]:
    mean, dispersion = torch.tensor([[2.0, 30.0], [20.0, 3.0]]), torch.full((2, 2), 0.5)
    stay = torch.tensor([[0.95, 0.05], [0.05, 0.95]])
    truth = HMM(torch.tensor([0.5, 0.5]), stay, NegativeBinomial(2).table(mean, dispersion)).double()
    batch = truth.sample(8, 60, seed=0)
    return truth, batch._replace(x=batch.x.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_em_finds_regimes_from_the_data_and_beats_poissons_law(dtype: torch.dtype) -> None:
    truth, batch = regimes(dtype)
    model = HMM.random(2, emission=NegativeBinomial(2), seed=0).to(dtype)
    found = climbed(model, batch, 30)
    best = float(truth.log_marginal_likelihood(batch.x.double()).detach().sum())
    assert float(found.log_likelihoods[-1]) > best
    plain = HMM.random(2, emission=Poisson(2), seed=0).to(dtype)
    assert float(em.fit(plain, batch, num_iterations=30, progress=False).log_likelihoods[-1]) < best - 100
    mean = natural(model.emission_table, "mean").double()
    torch.testing.assert_close(mean[mean[:, 0].argsort()], torch.tensor([[2.0, 30.0], [20.0, 3.0]]), rtol=0.25, atol=0)


def test_gradients_and_networks_take_it() -> None:
    _, batch = regimes()
    model = HMM.random(2, emission=NegativeBinomial(2), seed=0).double()
    before = float(model.log_marginal_likelihood(batch.x).detach().sum())
    svi.fit(model, batch, objective="mle", num_epochs=3, progress=False)
    assert float(model.log_marginal_likelihood(batch.x).detach().sum()) > before
    rnn = RNN("gru", emission=NegativeBinomial(2), hidden_dim=3).double()
    assert rnn.log_prob(batch.x).isfinite().all()


def test_a_saved_model_comes_back_and_is_described_by_its_natural_names(tmp_path: Path) -> None:
    truth, batch = regimes()
    save_model(truth, tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert isinstance(again, HMM)
    assert again.family == NegativeBinomial(2)
    assert torch.equal(again.log_prob(batch.x), truth.log_prob(batch.x))
    found = describe(truth)
    assert torch.tensor(found.table("dispersion").values).allclose(torch.full((2, 2), 0.5))
    assert [(table.name, table.title) for table in found.tables][-2:] == [
        ("mean", "means"),
        ("dispersion", "dispersions"),
    ]
