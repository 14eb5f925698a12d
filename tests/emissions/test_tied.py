"""Spherical and tied scales: densities, steps of EM against written-out sums, ties that stay, and errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from pgm_rnn import forecast
from pgm_rnn.emissions import (
    Emission,
    EmissionTable,
    FullGaussian,
    Gaussian,
    Joint,
    Mixture,
    Poisson,
    SphericalGaussian,
    StudentT,
    Tied,
)
from pgm_rnn.inference import em, svi
from pgm_rnn.inference.em.weighted_estimates import estimate
from pgm_rnn.models import HMM, HSMM, RNN
from pgm_rnn.models.additive import AdditiveEmission
from pgm_rnn.report.description import describe
from pgm_rnn.report.parameter_axes import axes_of
from pgm_rnn.sequence_model.naturals import natural_parameters
from pgm_rnn.sequence_model.parameters import current_parameters
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.storage import load_model, save_model
from tests.test_priors import joint_log_prob

LOC = torch.tensor([[-2.0, 0.0], [2.0, 1.0], [0.0, 5.0]], dtype=torch.float64)
SCALE = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
COV = torch.tensor([[2.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
TIES = [Tied(Gaussian(2)), Tied(FullGaussian(2)), Tied(SphericalGaussian(2))]
every_tie = pytest.mark.parametrize("family", TIES, ids=["diagonal", "full", "spherical"])


def natural(model: Any, name: str) -> Tensor:
    view = natural_parameters(model)[name]
    return view.read(current_parameters(model)[view.raw].detach())


def test_densities_are_scipys() -> None:
    x = torch.randn(20, 2) * 3
    spherical = SphericalGaussian(2).table(LOC, SCALE).log_probs(x).detach()
    full = Tied(FullGaussian(2)).table(LOC, cov=COV).log_probs(x).detach()
    diagonal = Tied(Gaussian(2)).table(LOC, SCALE[1:]).log_probs(x).detach()
    for k, mean in enumerate(LOC.numpy()):
        eye = np.eye(2) * float(SCALE[k]) ** 2
        np.testing.assert_allclose(spherical[:, k], stats.multivariate_normal(mean, eye).logpdf(x), rtol=1e-11)
        np.testing.assert_allclose(full[:, k], stats.multivariate_normal(mean, COV).logpdf(x), rtol=1e-11)
        variances = np.diag(SCALE[1:].numpy() ** 2)
        np.testing.assert_allclose(diagonal[:, k], stats.multivariate_normal(mean, variances).logpdf(x), rtol=1e-11)
    assert not np.allclose(spherical[:, 0], stats.multivariate_normal(LOC[0], np.eye(2)).logpdf(x), rtol=1e-2)


def pooled_parts(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means (K, D), scatters (K, D, D) around them and weights of the states (K,), by a loop over observations."""
    totals, means, scatters = weights.sum(0), [], []
    for k in range(weights.shape[1]):
        mean = sum(w * row for w, row in zip(weights[:, k], x, strict=True)) / totals[k]
        means.append(mean)
        scatters.append(sum(w * torch.outer(row - mean, row - mean) for w, row in zip(weights[:, k], x, strict=True)))
    return torch.stack(means), torch.stack(scatters), totals


def test_steps_are_the_written_out_means_and_scatters() -> None:
    x, weights = torch.randn(60, 2) * 2 + 5, torch.rand(60, 3)
    loc, scatter, totals = pooled_parts(x, weights)
    table = estimate(SphericalGaussian(2), x, weights, 0.0)
    torch.testing.assert_close(table.natural_parameters["loc"].read(table.params.detach()), loc)
    found = table.natural_parameters["scale"].read(table.params.detach())
    torch.testing.assert_close(found.square(), scatter.diagonal(dim1=1, dim2=2).sum(1) / (2 * totals))
    pooled = scatter.sum(0) / totals.sum()
    expected = {"diagonal": pooled.diagonal().sqrt(), "full": pooled, "spherical": (pooled.trace() / 2).sqrt()}
    for family, (kind, value) in zip(TIES, expected.items(), strict=True):
        rows = estimate(family, x, weights, 0.0).params.detach()
        views = family.natural_parameters
        torch.testing.assert_close(views["loc"].read(rows), loc)
        torch.testing.assert_close(views["cov" if kind == "full" else "scale"].read(rows), value)
        assert bool((rows[:, 2:] == rows[:1, 2:]).all())
        assert not torch.allclose(estimate(family.family, x, weights, 0.0).params[0, 2:], rows[0, 2:])


@every_tie
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_a_step_is_the_maximum_and_groups_are_steps_of_their_own(family: Tied, gaps: bool) -> None:
    x, weights = torch.randn(80, 2) @ COV, torch.rand(80, 4)
    observed = torch.rand(80, 2) > 0.3 if gaps else None
    before = EmissionTable(family, torch.cat([family.random_table(2).params for _ in range(2)]).detach())
    both = before
    for _ in range(1 if not gaps or not isinstance(family.family, FullGaussian) else 400):
        both = estimate(family, x, weights, 0.0, observed=observed, before=both, num_groups=2)
    for group in range(2):
        part = slice(2 * group, 2 * group + 2)
        rows = both.params.detach()[part]
        table = family.random_table(2)
        table.set_params(rows)
        value = (weights[:, part] * table.log_probs(x, observed)).sum()
        slopes = torch.autograd.grad(value, list(table.parameters()))
        assert max(float(slope.abs().max()) for slope in slopes) < 1e-4
        with torch.no_grad():
            table.shared.add_(0.1)
        value = (weights[:, part] * table.log_probs(x, observed)).sum()
        assert float(torch.autograd.grad(value, table.shared)[0].abs().max()) > 1e-2
    assert not torch.allclose(both.params[0, 2:], both.params[2, 2:])


def regimes() -> tuple[HMM, Any]:
    stay = torch.full((3, 3), 0.05) + 0.85 * torch.eye(3)
    truth = HMM(torch.full((3,), 1 / 3), stay, Tied(FullGaussian(2)).table(LOC, cov=COV)).double()
    return truth, truth.sample(6, 50, seed=0)


@pytest.mark.parametrize("family", [SphericalGaussian(2), *TIES], ids=["free", "diagonal", "full", "spherical"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_the_likelihood_never_falls_and_ties_stay(family: Emission, gaps: bool) -> None:
    _, batch = regimes()
    mask = torch.rand(batch.x.shape) > 0.2 if gaps else None
    model = HMM.random(3, emission=family, seed=3).double()
    given: dict[str, Any] = {"num_iterations": 8, "tolerance": 0.0, "num_restarts": 2, "progress": False}
    found = em.fit(model, batch.x, mask=mask, start="data", **given)
    assert found.stopped_by == "num_iterations"
    assert float(found.log_likelihoods.diff().min()) > -1e-8
    again = model.log_marginal_likelihood(batch.x, mask=mask).sum().detach()
    torch.testing.assert_close(found.log_likelihoods[-1], again, rtol=1e-9, atol=0)
    if isinstance(family, Tied):
        assert {name for name, _ in model.emission_table.named_parameters()} == {"own", "shared"}


@every_tie
def test_constants_and_states_without_observations_keep_laws_finite(family: Tied) -> None:
    x, weights = torch.full((10, 2), 7.0), torch.ones(10, 2)
    weights[:, 1] = 0
    for inner in (family, SphericalGaussian(2)):
        for w in (weights, 0 * weights):
            assert bool(estimate(inner, x, w, 0.0).log_probs(x).isfinite().all())


def test_columns_of_very_different_size_share_a_scale() -> None:
    x = torch.randn(200, 2) * torch.tensor([1e-3, 1e3]) + torch.tensor([1.0, -1e5])
    model = HMM.random(1, emission=SphericalGaussian(2), seed=0).double()
    em.fit(model, x[None], num_iterations=2, start="data", progress=False)
    wanted = ((x - x.mean(0)).square().mean() ** 0.5)[None]
    torch.testing.assert_close(natural(model, "scale"), wanted, rtol=1e-6, atol=0)


def test_semi_markov_chains_gradients_networks_and_forecasts_take_ties() -> None:
    truth, batch = regimes()
    chain = HSMM.random(3, max_duration=4, emission=Tied(Gaussian(2)), seed=0).double()
    found = em.fit(chain, batch, num_iterations=5, tolerance=0.0, start="data", progress=False)
    assert float(found.log_likelihoods.diff().min()) > -1e-8
    model = HMM.random(3, emission=Tied(FullGaussian(2)), seed=0).double()
    before = float(model.log_marginal_likelihood(batch.x).detach().sum())
    svi.fit(model, batch, objective="mle", num_epochs=3, progress=False)
    assert float(model.log_marginal_likelihood(batch.x).detach().sum()) > before
    rnn = RNN("gru", emission=Tied(Gaussian(2)), hidden_dim=3).double()
    scales = rnn.emission(None, torch.randn(5, 3)).stddev
    assert bool((scales == scales[:1]).all())
    svi.fit(rnn, batch, objective="mle", num_epochs=1, progress=False)
    assert np.isfinite(forecast(truth, batch.x[:1], num_steps=2).to_frame()["mean"]).all()


def test_the_scale_of_all_states_has_one_prior() -> None:
    model = HMM.random(3, emission=Tied(Gaussian(2)), seed=0).double()
    x, scale = model.sample(2, 5, seed=1).x, torch.tensor([0.5, 2.0])
    program = WithPriors(model, {"scale": dist.Gamma(torch.ones(2), 1.0)})
    other = HMM(model.initial_probs, model.transition_probs, Tied(Gaussian(2)).table(natural(model, "loc"), scale))
    expected = dist.Gamma(torch.ones(2), 1.0).log_prob(scale).sum() + other.double().log_prob(x).sum()
    torch.testing.assert_close(joint_log_prob(program, x, scale=scale), expected)


def test_a_saved_model_comes_back_and_is_described(tmp_path: Path) -> None:
    truth, batch = regimes()
    save_model(truth, tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert isinstance(again, HMM)
    assert again.family == Tied(FullGaussian(2))
    assert torch.equal(again.log_prob(batch.x), truth.log_prob(batch.x))
    tables = {table.name: table for table in describe(truth).tables}
    assert np.shape(tables["loc"].values) == (3, 2)
    np.testing.assert_allclose(np.reshape(tables["scale"].values, -1), COV.diagonal().sqrt(), rtol=1e-6)


def test_what_as_many_states_as_columns_share_is_named_by_the_columns() -> None:
    model = HMM.random(2, emission=Tied(Gaussian(2)), seed=0).double()
    [table] = [table for table in describe(model).tables if table.name == "scale"]
    assert (table.rows, table.columns) == (("",), ("x1", "x2"))
    assert axes_of("scale", (2,), model) == ("observable",)
    assert axes_of("loc", (2, 2), model) == ("state", "observable")
    free = HMM.random(2, emission=SphericalGaussian(2), seed=0).double()
    assert axes_of("scale", (2,), free) == ("state",)


ONE = torch.tensor(1.0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Tied(StudentT(2)), TypeError, "expected a normal family"),
        (lambda: Joint([Tied(Gaussian()), Poisson()]), TypeError, "families whose states share no parameters"),
        (lambda: Mixture(Tied(Gaussian()), 2), TypeError, "a family whose states share no parameters"),
        (lambda: Tied(FullGaussian(2)).table(LOC, SCALE[:2]), ValueError, "expected cov, and nothing else beside loc"),
        (lambda: Tied(Gaussian(2)).table(LOC, cov=COV), ValueError, "expected scale, and nothing else beside loc"),
        (lambda: Tied(Gaussian(2)).table(LOC, -SCALE[:2]), ValueError, "expected scale to be positive"),
        (lambda: SphericalGaussian(2).table(LOC, SCALE[:2]), ValueError, r"expected scale of shape \(3,\)"),
        (lambda: SphericalGaussian(2).table(LOC[:, 0], SCALE), ValueError, r"expected loc of shape \(num_states, 2\)"),
        (lambda: SphericalGaussian(2).table(LOC, SCALE - 1), ValueError, "expected scale to be positive"),
        (lambda: AdditiveEmission.random(TIES[0], (2, 2)), TypeError, "a family without ties for sums of effects"),
    ],
)
def test_what_is_no_law_is_an_error(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_parameters_that_would_untie_are_an_error() -> None:
    model = HMM.random(2, emission=Tied(Gaussian()), seed=0).double()
    with pytest.raises(ValueError, match="expected the same scale in all rows"):
        model.set_probs(emission_params=torch.tensor([[0.0, 1.0], [0.0, 2.0]]))
    with pytest.raises(ValueError, match="expected finite real numbers"):
        model.log_prob(torch.tensor([[0.0, torch.inf]]))
