"""Mixtures: densities by a written-out sum, draws, EM steps, components without data, errors, and models."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from pgm_rnn import forecast
from pgm_rnn.distributions.entry_laws import of_entries
from pgm_rnn.emissions import (
    Bernoulli,
    Categorical,
    Emission,
    EmissionTable,
    FullGaussian,
    Gaussian,
    Joint,
    Mixture,
    NadeBits,
    Poisson,
    StudentT,
)
from pgm_rnn.inference import em, forward_backward, svi
from pgm_rnn.inference.em.weighted_estimates import estimate
from pgm_rnn.models import HMM, HSMM, RNN
from pgm_rnn.report.comparison.base_measures import measures_of
from pgm_rnn.report.description import describe
from pgm_rnn.report.parameter_axes import axes_of
from pgm_rnn.storage import load_model, save_model
from tests.emissions.climbing import climbed

WEIGHTS = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], dtype=torch.float64)
LOC = torch.tensor([[-4.0, 0.0, 5.0], [2.0, 3.0, 9.0]], dtype=torch.float64)
SCALE = torch.tensor([[1.0, 0.5, 2.0], [0.1, 1.0, 3.0]], dtype=torch.float64)
STAY = torch.tensor([[0.95, 0.05], [0.05, 0.95]], dtype=torch.float64)


def scalars() -> EmissionTable:
    components = [Gaussian().table(LOC[:, m], SCALE[:, m]) for m in range(3)]
    return Mixture(Gaussian(), 3).table(WEIGHTS, *components)


def natural(table: EmissionTable, name: str) -> Tensor:
    return table.natural_parameters[name].read(table.params.detach())


def test_densities_are_the_log_space_sum_and_not_that_of_other_weights() -> None:
    x = torch.linspace(-60, 60, 41)  # far out every density is below the smallest number of float32
    found = scalars().log_probs(x).detach()
    each = stats.norm(LOC.numpy(), SCALE.numpy()).logpdf(x.numpy()[:, None, None])
    expected = special.logsumexp(each + np.log(WEIGHTS.numpy()), axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(scalars()(torch.arange(2)).log_prob(x[:, None]).detach(), expected, rtol=1e-12)
    assert np.abs(found.numpy() - special.logsumexp(each + np.log(1 / 3), axis=-1)).max() > 0.3


def test_draws_moments_and_distribution_functions_are_those_of_the_components() -> None:
    num, law = 20_000, scalars()(torch.arange(2))
    mean = (WEIGHTS * LOC).sum(-1)
    torch.testing.assert_close(law.mean.detach(), mean)
    square = (WEIGHTS * (SCALE**2 + LOC**2)).sum(-1)
    torch.testing.assert_close(law.variance.detach(), square - mean**2)
    x, error = law.sample((num,)), 5 / (2 * num**0.5)  # five standard errors of a frequency
    for value in (-3.0, 0.2, 2.1, 6.0):
        upto = (WEIGHTS * torch.as_tensor(stats.norm(LOC, SCALE).cdf(value))).sum(-1)
        torch.testing.assert_close(of_entries(law, torch.full((2,), value)).upto.detach(), upto)
        assert float(((x <= value).double().mean(0) - upto).abs().max()) < error
    first = torch.as_tensor(stats.norm(LOC[:, 0], SCALE[:, 0]).cdf(0.2))
    assert float(((x <= 0.2).double().mean(0) - first).abs().max()) > error


def test_a_table_has_the_given_parameters_and_gaps_are_those_of_the_components() -> None:
    table = scalars()
    for name, values in (("weights", WEIGHTS), ("loc", LOC), ("scale", SCALE)):
        torch.testing.assert_close(natural(table, name), values)
    cov = torch.tensor([[2.0, 1.2], [1.2, 1.0]])
    parts = [FullGaussian(2).table(torch.full((1, 2), loc), cov[None]) for loc in (-1.0, 4.0)]
    wide = Mixture(FullGaussian(2), 2).table(torch.tensor([[0.3, 0.7]]), *parts)
    found = wide.log_probs(torch.tensor([[0.5, 99.0]]), torch.tensor([[True, False]]))
    expected = np.log(0.3 * stats.norm(-1, 2**0.5).pdf(0.5) + 0.7 * stats.norm(4, 2**0.5).pdf(0.5))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("family", "error", "message"),
    [
        (Categorical(3), TypeError, r"mixtures are more than its own laws, got Categorical"),
        (Bernoulli(), TypeError, r"mixtures are more than its own laws, got Bernoulli\(size=None\)"),
        (Mixture(Gaussian(), 2), TypeError, "expected a family that is no mixture itself"),
        (NadeBits(4, 3), TypeError, "expected a family whose laws share no weights"),
        (3, TypeError, r"expected a family such as Gaussian\(2\) for the components, got 3"),
    ],
)
def test_families_that_have_no_mixtures_are_an_error(family: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Mixture(family, 2)


PART = Gaussian().table(LOC[:, 0], SCALE[:, 0])


@pytest.mark.parametrize(
    ("weights", "tables", "message"),
    [
        (WEIGHTS, [PART, PART], "expected one table for each of 3 components, got 2"),
        (WEIGHTS[:, :2], [PART] * 3, r"expected weights of shape \(any, 3\), got \(2, 2\)"),
        (WEIGHTS[:1], [PART] * 3, "with 1 states, as weights has, got one of Gaussian.* with 2"),
        (WEIGHTS, [PART, PART, Poisson().table(SCALE[:, 0])], "as tables of Gaussian.* got one of Poisson"),
        (WEIGHTS * 0.5, [PART] * 3, "expected each row of weights to sum to one"),
        (torch.eye(3)[:2], [PART] * 3, "expected positive weights, got zero"),
    ],
)
def test_parameters_of_no_law_are_an_error(weights: Tensor, tables: list[EmissionTable], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(Gaussian(), 3).table(weights, *tables)


def test_the_number_of_components_is_at_least_one_and_errors_are_those_of_the_family() -> None:
    with pytest.raises(ValueError, match="num_components"):
        Mixture(Gaussian(), 0)
    model = HMM.random(2, emission=Mixture(Poisson(), 2), seed=0).double()
    with pytest.raises(ValueError, match=r"expected counts 0, 1, 2, \.\.\."):
        model.log_prob(torch.tensor([[0.0, 0.5]]))
    mixed = Joint([Mixture(Poisson(), 2), Gaussian()])
    assert measures_of(mixed) == ("probability", "density")


# The M-step.


def test_a_step_is_the_textbook_step_of_em_for_a_mixture_of_normal_laws() -> None:
    x, w = torch.randn(300, 2) * 2, torch.rand(300, 1)
    old = Mixture(FullGaussian(2), 2).random_table(1)
    new = estimate(old.family, x, w, 0.0, before=old)
    logits = natural(old, "weights").log()[0]
    laws = [stats.multivariate_normal(natural(old, "loc")[0, m], natural(old, "cov")[0, m]) for m in range(2)]
    each = np.stack([law.logpdf(x) for law in laws], -1) + logits.numpy()
    r = w.numpy() * special.softmax(each, axis=-1)
    np.testing.assert_allclose(natural(new, "weights")[0], r.sum(0) / r.sum(), rtol=1e-10)
    for m in range(2):
        mean = r[:, m] @ x.numpy() / r[:, m].sum()
        cov = (r[:, m, None] * (x.numpy() - mean)).T @ (x.numpy() - mean) / r[:, m].sum()
        np.testing.assert_allclose(natural(new, "loc")[0, m], mean, rtol=1e-8)
        np.testing.assert_allclose(natural(new, "cov")[0, m], cov, rtol=1e-6)
        assert not np.allclose(natural(old, "loc")[0, m], mean, rtol=1e-3)


@pytest.mark.parametrize(
    "inner",
    [Gaussian(2), FullGaussian(2), Poisson(2), Bernoulli(2), StudentT(2), Joint([Gaussian(), Poisson()])],
    ids=["normal", "full", "counts", "bits", "student", "joint"],
)
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_steps_never_lower_the_weighted_likelihood_with_pseudo_counts_too(inner: Emission, gaps: bool) -> None:
    pseudo = 0.5 if isinstance(inner, Bernoulli) else 0.0
    x = torch.randn(150, 2) + 4 * (torch.rand(150, 2) > 0.5)
    x = x if inner.continuous and not isinstance(inner, Joint) else x.abs().floor()
    x = (x > 2).double() if isinstance(inner, Bernoulli) else x
    weights, observed = torch.rand(150, 2), torch.rand(150, 2) > 0.3 if gaps else None
    table, values = Mixture(inner, 2).random_table(2), []
    for _ in range(25):
        value = (weights * table.log_probs(x, observed)).sum().detach()
        logits, own = table.family.parts(table.params.detach())  # type: ignore[attr-defined]
        if pseudo:
            added = logits.log_softmax(-1).sum() + own.sigmoid().log().sum() + (-own).sigmoid().log().sum()
            value = value + pseudo * added
        values.append(value)
        table = estimate(table.family, x, weights, pseudo, observed=observed, before=table)
    assert bool((torch.stack(values).diff() > -1e-9).all())
    assert float(values[-1] - values[0]) > 1


def test_a_component_without_data_keeps_its_law() -> None:
    parts = [Gaussian().table(torch.tensor([loc]), torch.tensor([1.0])) for loc in (0.0, 1e4)]
    table = Mixture(Gaussian(), 2).table(torch.tensor([[0.5, 0.5]]), *parts)
    new = estimate(table.family, torch.randn(50), torch.ones(50, 1), 0.0, before=table)
    torch.testing.assert_close(natural(new, "loc")[0, 1], torch.tensor(1e4))
    assert float(natural(new, "weights")[0, 1]) < 1e-300
    assert new.log_probs(torch.randn(50)).isfinite().all()
    assert float(natural(new, "loc")[0, 0]) != 0.0


@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_constants_and_states_without_observations_keep_laws_finite(constant: float) -> None:
    x, weights = torch.full((10,), constant), torch.ones(10, 2)
    weights[:, 1] = 0
    for family in (Mixture(Gaussian(), 2), Mixture(Poisson(), 3)):
        for before in (None, family.random_table(2)):
            assert bool(estimate(family, x, weights, 0.0, before=before).log_probs(x).isfinite().all())


# Models.


def regimes(dtype: torch.dtype = torch.float64) -> tuple[HMM, Any]:
    weights = torch.tensor([[0.5, 0.5], [0.3, 0.7]])
    first = Gaussian(2).table(torch.tensor([[-4.0, 0.0], [0.0, 4.0]]), torch.ones(2, 2))
    second = Gaussian(2).table(torch.tensor([[4.0, 0.0], [0.0, -4.0]]), torch.full((2, 2), 0.5))
    table = Mixture(Gaussian(2), 2).table(weights, first, second)
    truth = HMM(torch.tensor([0.5, 0.5]), STAY, table).double()
    batch = truth.sample(8, 60, seed=0)
    return truth, batch._replace(x=batch.x.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_em_finds_regimes_that_no_single_normal_law_finds(dtype: torch.dtype) -> None:
    truth, batch = regimes(dtype)
    model = HMM.random(2, emission=Mixture(Gaussian(2), 2), seed=0).to(dtype)
    found = em.fit(model, batch, num_iterations=60, num_restarts=4, start="data", progress=False)
    assert float(found.log_likelihoods.diff().min()) > -64 * torch.finfo(dtype).eps * float(
        found.log_likelihoods[0].abs()
    )
    best = float(truth.log_marginal_likelihood(batch.x.double()).detach().sum())
    assert float(found.log_likelihoods[-1]) > best
    plain = HMM.random(2, emission=Gaussian(2), seed=0).to(dtype)
    em.fit(plain, batch, num_iterations=60, num_restarts=4, start="data", progress=False)
    assert float(plain.log_marginal_likelihood(batch.x).detach().sum()) < best - 100
    states = forward_backward.most_likely_states(model, batch.x).states
    agreement = float((states == batch.z).double().mean())
    assert max(agreement, 1 - agreement) > 0.95


@pytest.mark.parametrize("inner", [Gaussian(2), FullGaussian(2), StudentT(2)], ids=["normal", "full", "student"])
def test_the_likelihood_never_falls_with_gaps_and_restarts(inner: Emission) -> None:
    _, batch = regimes()
    mask = torch.rand(batch.x.shape) > 0.2
    model = HMM.random(2, emission=Mixture(inner, 2), seed=3).double()
    found = em.fit(model, batch.x, mask=mask, num_iterations=8, tolerance=0.0, num_restarts=2, progress=False)
    assert found.stopped_by == "num_iterations"
    assert float(found.log_likelihoods.diff().min()) > -1e-8
    again = model.log_marginal_likelihood(batch.x, mask=mask).sum().detach()
    torch.testing.assert_close(found.log_likelihoods[-1], again, rtol=1e-9, atol=0)


def test_one_component_is_the_family_itself() -> None:
    _, batch = regimes()
    fits = []
    for family in (Gaussian(2), Mixture(Gaussian(2), 1)):
        model = HMM.random(2, emission=family, seed=0).double()
        fits.append(em.fit(model, batch, num_iterations=6, tolerance=0.0, start="data", progress=False))
    torch.testing.assert_close(fits[0].log_likelihoods, fits[1].log_likelihoods, rtol=1e-10, atol=0)


def test_a_component_without_data_is_named_in_a_warning() -> None:
    _, batch = regimes()
    parts = [Gaussian(2).table(torch.tensor([[0.0, at], [1.0, 0.0]]), torch.ones(2, 2)) for at in (0.0, 1e4)]
    table = Mixture(Gaussian(2), 2).table(torch.full((2, 2), 0.5), *parts)
    model = HMM(torch.tensor([0.5, 0.5]), STAY, table).double()
    with pytest.warns(
        em.EmWarning, match=r"belongs to component 1 of state 0 \(counted from 0\): use fewer components"
    ):
        em.fit(model, batch, num_iterations=5, progress=False)
    assert float(natural(model.emission_table, "loc")[0, 1, 1]) == pytest.approx(1e4)
    chain = HSMM.random(2, max_duration=3, emission=Mixture(Gaussian(2), 2), seed=0).double()
    chain.set_probs(emission_params=table.params.detach().double())
    with pytest.warns(em.EmWarning, match=r"to component 1 of state 0 \(counted from 0\)"):
        em.fit(chain, batch, num_iterations=2, progress=False)
    joint = Joint([Gaussian(), Mixture(Gaussian(), 2)])
    own = Mixture(Gaussian(), 2).table(
        torch.tensor([[0.5, 0.5]]), *(Gaussian().table(torch.tensor([at]), torch.ones(1)) for at in (0.0, 1e4))
    )
    single = HMM(
        torch.ones(1), torch.ones(1, 1), joint.table(Gaussian().table(torch.zeros(1), torch.ones(1)), own)
    ).double()
    with pytest.warns(em.EmWarning, match=r"belongs to component 1 of state 0 in column 1 \(counted"):
        em.fit(single, batch.x, num_iterations=3, progress=False)


def test_columns_of_other_kinds_gradients_networks_and_forecasts_take_it() -> None:
    truth, batch = regimes()
    counts = batch.x[..., :1].abs().floor()
    wide = torch.cat([batch.x, counts], -1)
    families = [Joint([Mixture(Gaussian(2), 2), Poisson()]), Mixture(Joint([Gaussian(2), Poisson()]), 2)]
    families.append(Joint([Mixture(Joint([Gaussian(), Gaussian()]), 2), Mixture(Poisson(), 2)]))
    for family in families:
        model = HMM.random(2, emission=family, seed=0).double()
        climb = em.fit(model, wide, num_iterations=8, tolerance=0.0, start="data", progress=False)
        assert float(climb.log_likelihoods.diff().min()) > -1e-8
        again = model.log_marginal_likelihood(wide).sum().detach()
        torch.testing.assert_close(climb.log_likelihoods[-1], again, rtol=1e-9, atol=0)
    alone = HMM.random(2, emission=Mixture(Gaussian(2), 2), seed=0).double()
    before = float(alone.log_marginal_likelihood(batch.x).detach().sum())
    svi.fit(alone, batch, objective="mle", num_epochs=3, progress=False)
    assert float(alone.log_marginal_likelihood(batch.x).detach().sum()) > before
    rnn = RNN("gru", emission=Mixture(Gaussian(2), 3), hidden_dim=3).double()
    assert rnn.log_prob(batch.x).isfinite().all()
    ahead = forecast(truth, batch.x[:1], num_steps=2)
    assert np.isfinite(ahead.to_frame()["mean"]).all()


def test_a_saved_model_comes_back_and_is_described_by_its_natural_names(tmp_path: Path) -> None:
    truth, batch = regimes()
    save_model(truth, tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert isinstance(again, HMM)
    assert again.family == Mixture(Gaussian(2), 2)
    assert torch.equal(again.log_prob(batch.x), truth.log_prob(batch.x))
    found = describe(truth)
    tables = {table.name: table for table in found.tables}
    assert torch.tensor(tables["weights"].values).allclose(torch.tensor([[0.5, 0.5], [0.3, 0.7]]))
    assert (tables["weights"].title, tables["loc"].title) == ("weights of the components", "means")
    assert np.shape(tables["loc"].values) == (4, 2)
    assert tables["loc"].rows == ("0 component 0", "0 component 1", "1 component 0", "1 component 1")
    assert tables["weights"].columns == ("component 0", "component 1")
    assert axes_of("loc", (2, 2, 2), truth) == ("state", "component", "observable")
    assert axes_of("weights", (2, 2), truth) == ("state", "component")


def test_em_from_the_data_climbs_without_a_warning() -> None:
    _, batch = regimes()
    with warnings.catch_warnings():
        warnings.simplefilter("error", em.EmWarning)
        climbed(HMM.random(2, emission=Mixture(FullGaussian(2), 2), seed=1).double(), batch, 20)
