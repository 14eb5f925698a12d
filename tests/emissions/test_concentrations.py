"""Gamma, beta and von Mises laws: densities and maxima against scipy, draws, steps of EM, errors, and models."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor

from pgm_rnn import forecast
from pgm_rnn.distributions.entry_laws import of_entries
from pgm_rnn.emissions import Beta, Emission, EmissionTable, Gamma, Gaussian, Joint, Mixture, VonMises
from pgm_rnn.inference import em, forward_backward, svi
from pgm_rnn.inference.em.weighted_estimates import estimate
from pgm_rnn.models import HMM, RNN
from pgm_rnn.report.description import describe
from pgm_rnn.sequences import Sequences
from pgm_rnn.storage import load_model, save_model

FAMILIES = [Gamma, Beta, VonMises]
every_law = pytest.mark.parametrize("kind", FAMILIES, ids=["gamma", "beta", "von-mises"])
CENTRE = {Gamma: (0.3, 4.0), Beta: (0.1, 0.7), VonMises: (-1.0, 3.0)}
SIZES = (0.5, 30.0)
SLIM = torch.tensor([20.0, 40.0], dtype=torch.float64)


def scipys(kind: Any, centre: float, size: float) -> Any:
    if kind is Gamma:
        return stats.gamma(size, scale=centre / size)
    if kind is Beta:
        return stats.beta(centre * size, (1 - centre) * size)
    return stats.vonmises(size, loc=centre)


def table_of(kind: Any, centres: Any = None, sizes: Any = SIZES) -> EmissionTable:
    centres = CENTRE[kind] if centres is None else centres
    return kind().table(torch.tensor(centres, dtype=torch.float64), torch.tensor(sizes, dtype=torch.float64))


def draws(kind: Any, *shape: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    found = np.where(
        rng.random(shape) < 0.5, *(scipys(kind, c, 8.0).rvs(shape, random_state=rng) for c in CENTRE[kind])
    )
    return torch.as_tensor(np.mod(found + np.pi, 2 * np.pi) - np.pi if kind is VonMises else found)


def natural(table: EmissionTable, name: str) -> Tensor:
    return table.natural_parameters[name].read(table.params.detach())


def grid(kind: Any) -> Tensor:
    if kind is Gamma:
        return torch.tensor([1e-12, 0.01, 0.3, 1.0, 7.0, 40.0])
    if kind is Beta:
        return torch.tensor([1e-9, 0.01, 0.3, 0.7, 0.999])
    return torch.tensor([-math.pi, -1.0, 0.0, 2.9, math.pi])


@every_law
@pytest.mark.parametrize("size", [1e-3, 0.5, 3.0, 15.9, 16.1, 1e4])
def test_densities_are_scipys(kind: Any, size: float) -> None:
    found = table_of(kind, sizes=(size, size)).log_probs(grid(kind)).detach().numpy()
    for k, centre in enumerate(CENTRE[kind]):
        expected = scipys(kind, centre, size).logpdf(grid(kind).numpy())
        if kind is VonMises:  # scipy's takes the cosine less one, whose digits are lost to rounding near 0
            expected = size * (np.cos(grid(kind).numpy() - centre) - 1) - np.log(2 * np.pi * special_i0e(size))
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-9, atol=1e-9)
        assert not np.allclose(found[:, k], scipys(kind, centre, 1.1 * size).logpdf(grid(kind).numpy()), rtol=1e-6)


def special_i0e(size: float) -> float:
    """e^-k I_0(k) by the trapezoidal rule, which is exact to rounding for a smooth periodic function."""
    angles = np.linspace(-np.pi, np.pi, 20_001)[:-1]
    return float(np.exp(size * (np.cos(angles) - 1)).mean())


@every_law
@pytest.mark.parametrize("size", [1e6, 1e8])
def test_large_concentrations_keep_their_digits_in_single_precision(kind: Any, size: float) -> None:
    """Near their mean such laws are normal, up to terms of the order 1 / sqrt(size)."""
    centre = torch.tensor([0.5], dtype=torch.float32)
    law = kind().table(centre, torch.tensor([size], dtype=torch.float32))(torch.tensor(0))
    deviation = {Gamma: 0.5 / size**0.5, Beta: 0.5 / (1 + size) ** 0.5, VonMises: 1 / size**0.5}[kind]
    x = (centre + deviation).double()
    wide = kind().table(centre.double(), torch.tensor([size], dtype=torch.float64))(torch.tensor(0))
    assert float(wide.log_prob(x).detach()) == pytest.approx(stats.norm(0.5, deviation).logpdf(float(x)), abs=5e-3)
    rounding = 40 * torch.finfo(torch.float32).eps * size**0.5 + 1e-5  # of x, in units of the deviation
    assert float(law.log_prob(x.float()).detach()) == pytest.approx(
        float(wide.log_prob(x.float().double()).detach()), abs=rounding
    )


@every_law
def test_draws_moments_and_distribution_functions_are_scipys(kind: Any) -> None:
    num, law = 20_000, table_of(kind)(torch.arange(2))
    x, error = law.sample((num,)), 5 / (2 * num**0.5)  # five standard errors of a frequency
    assert not bool(kind().invalid(x).any())
    for value in grid(kind)[1:-1]:
        theirs = [scipys(kind, c, s) for c, s in zip(CENTRE[kind], SIZES, strict=True)]
        low = 0.0 if kind is not VonMises else np.array([each.cdf(-math.pi) for each in theirs])
        upto = torch.as_tensor(np.array([float(each.cdf(float(value))) for each in theirs]) - low)
        found = of_entries(law, value.expand(2))
        torch.testing.assert_close(found.upto.detach(), upto, rtol=0, atol=1e-6)
        assert float(((x <= value).double().mean(0) - upto).abs().max()) < error
    if kind is not VonMises:
        for k, (c, s) in enumerate(zip(CENTRE[kind], SIZES, strict=True)):
            assert float(law.mean.detach()[k]) == pytest.approx(scipys(kind, c, s).mean())
            assert float(law.variance.detach()[k]) == pytest.approx(scipys(kind, c, s).var())
    else:
        angles = torch.linspace(-math.pi, math.pi, 2001)[:-1, None]
        probs = law.log_prob(angles).exp().detach() * (2 * math.pi / 2000)
        mean = torch.complex((probs * angles.cos()).sum(0), (probs * angles.sin()).sum(0))
        torch.testing.assert_close(law.mean.detach(), mean.angle())
        torch.testing.assert_close(law.variance.detach(), 1 - mean.abs())


@every_law
def test_the_gradient_is_that_of_finite_differences(kind: Any) -> None:
    x, params = grid(kind)[1:-1, None], table_of(kind).params.detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda raw: kind().distribution(raw).log_prob(x), [params])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gamma().table(torch.zeros(1), torch.ones(1)), "expected mean to be positive, got 0"),
        (lambda: Gamma().table(torch.ones(1), -torch.ones(1)), "expected concentration to be positive"),
        (lambda: Gamma().table(torch.ones(2), torch.ones(1)), "expected as many concentrations as means, 2, got 1"),
        (lambda: Beta().table(torch.ones(1), torch.ones(1)), "expected mean strictly between 0 and 1, got 1 to 1"),
        (lambda: Beta().table(torch.ones(2) / 2, torch.ones(1)), "expected as many concentrations as means, 2"),
        (lambda: Beta(2).table(torch.ones(1) / 2, torch.ones(1)), r"expected mean of shape \(num_states, 2\)"),
        (lambda: VonMises().table(torch.zeros(1), torch.zeros(1)), "expected concentration to be positive"),
        (lambda: VonMises().table(torch.zeros(2), torch.ones(1)), "expected as many concentrations as directions, 2"),
    ],
)
def test_parameters_of_no_law_are_an_error(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("family", "value", "message"),
    [
        (Gamma(), 0.0, "expected finite positive numbers, got 0.0 in sequence 0 at step 2"),
        (Gamma(), -1.0, "expected finite positive numbers"),
        (Beta(), 1.0, "expected numbers strictly between 0 and 1, got 1.0"),
        (VonMises(), 4.0, "expected angles in radians from -pi to pi, got 4.0"),
    ],
)
def test_numbers_outside_are_no_observations_but_stand_in_paddings_and_gaps(
    family: Emission, value: float, message: str
) -> None:
    model, x = HMM.random(2, emission=family, seed=0).double(), torch.tensor([[0.5, value, 0.7]])
    with pytest.raises(ValueError, match=message):
        model.log_prob(x)
    mask = torch.tensor([[True, False, True]])
    part = model.log_marginal_likelihood(x, mask=mask)
    torch.testing.assert_close(part, model.log_marginal_likelihood(x.clamp(0.1, 0.9), mask=mask))
    padded = Sequences(x[:, [0, 2, 1]], torch.tensor([2]))
    torch.testing.assert_close(model.log_marginal_likelihood(padded), model.log_marginal_likelihood(x[:, [0, 2]]))
    slopes = torch.autograd.grad(part.sum(), list(model.parameters()))
    assert all(bool(slope.isfinite().all()) for slope in slopes)


# The M-step.


def maximum_of_scipy(kind: Any, x: np.ndarray, w: np.ndarray) -> tuple[float, float]:
    """Centre and concentration at which a search without slopes finds the largest weighted likelihood."""

    def loss(at: Any) -> float:
        centre = {Gamma: np.exp(at[0]), Beta: 1 / (1 + np.exp(-at[0])), VonMises: at[0]}[kind]
        return -float((w * scipys(kind, centre, np.exp(at[1])).logpdf(x)).sum())

    search: Any = optimize.minimize
    options = {"xatol": 1e-9, "fatol": 1e-12}
    runs = [search(loss, [start, 0.0], method="Nelder-Mead", options=options) for start in (-2.5, 0.1)]
    at = min(runs, key=lambda run: run.fun).x
    return {Gamma: np.exp(at[0]), Beta: 1 / (1 + np.exp(-at[0])), VonMises: at[0]}[kind], np.exp(at[1])


@every_law
def test_the_maximum_is_scipys(kind: Any) -> None:
    x, w = draws(kind, 300), torch.rand(300, 1)
    table = estimate(kind(), x, w, 0.0)
    names = list(kind().natural_parameters)
    found = [float(natural(table, name)) for name in names]
    assert found == pytest.approx(maximum_of_scipy(kind, x.numpy(), w[:, 0].numpy()), rel=1e-4, abs=1e-5)
    unweighted = estimate(kind(), x, torch.ones(300, 1), 0.0)
    assert float(natural(unweighted, names[1])) != pytest.approx(found[1], rel=1e-4)


@every_law
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_one_step_is_stationary_and_no_worse_than_what_was_before(kind: Any, gaps: bool) -> None:
    x, weights = draws(kind, 200, 2), torch.rand(200, 2)
    observed = torch.rand(200, 2) > 0.3 if gaps else None
    for seed in range(5):
        torch.manual_seed(seed)
        before = EmissionTable(kind(2), 3 * torch.randn(2, 4))
        table = estimate(kind(2), x, weights, 0.0, observed=observed, before=before)
        value, old = ((weights * each.log_probs(x, observed)).sum() for each in (table, before))
        assert float((value - old).detach()) > 0
        slope, steep = (torch.autograd.grad(part, each.params)[0] for part, each in ((value, table), (old, before)))
        assert float(slope.abs().max()) < 1e-4
        assert float(steep.abs().max()) > 1e-1


@every_law
def test_a_law_outside_what_is_searched_is_kept_where_it_fits_better(kind: Any) -> None:
    x = torch.full((10,), 0.5) * (1 + 1e-9 * torch.randn(10))
    before = kind().table(x.mean()[None], torch.tensor([1e12]))
    table = estimate(kind(), x, torch.ones(10, 1), 0.0, before=before)
    assert float((table.log_probs(x) - before.log_probs(x)).sum().detach()) > -1e-6
    assert float(natural(table, "concentration")) > 1e11
    fresh = estimate(kind(), x, torch.ones(10, 1), 0.0)
    assert 1e7 < float(natural(fresh, "concentration")) < 1.1e9


@every_law
@pytest.mark.parametrize("spread", [1e-2, 3e-4])
def test_nearly_equal_observations_give_the_law_of_their_moments(kind: Any, spread: float) -> None:
    """Such laws are normal up to terms of the order spread^2."""
    centre = {Gamma: 2.0, Beta: 0.3, VonMises: 1.5}[kind]
    z = torch.linspace(-1, 1, 400)
    x = centre + spread * (z - z.mean()) / z.std(correction=0)
    table = estimate(kind(), x, torch.ones(400, 1), 0.0)
    expected = {Gamma: centre**2, Beta: centre * (1 - centre), VonMises: 1.0}[kind] / spread**2
    assert float(natural(table, "concentration")) == pytest.approx(expected, rel=10 * spread**2)
    at = float(natural(table, "loc" if kind is VonMises else "mean"))
    assert at == pytest.approx(centre, abs=spread**2)
    wider = estimate(kind(), centre + (1 + 20 * spread**2) * (x - centre), torch.ones(400, 1), 0.0)
    assert float(natural(wider, "concentration")) != pytest.approx(expected, rel=10 * spread**2)


@every_law
@pytest.mark.filterwarnings("ignore:concentration ends near")
@pytest.mark.parametrize("seed", range(4))
def test_the_likelihood_does_not_fall_where_a_state_is_nearly_constant(kind: Any, seed: int) -> None:
    """Sums of logarithms or cosines without their deviations from the mean let it fall by some 1e-6 nats."""
    torch.manual_seed(seed)
    table = kind().table(torch.tensor({Gamma: [1.0, 20.0], Beta: [0.2, 0.8], VonMises: [-1.0, 2.0]}[kind]), SLIM)
    model = HMM(torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.1, 0.9]]), table).double()
    drawn = model.sample(6, 80, seed=seed)
    x, z = drawn.x, torch.as_tensor(drawn.z)
    nearly = {Gamma: 20.0, Beta: 0.8, VonMises: 2.0}[kind] * (1 + 10.0 ** -(3 + 2 * seed) * torch.randn(x.shape))
    found = em.fit(model, x.where(z == 0, nearly), num_iterations=12, tolerance=0.0, progress=False)
    assert found.stopped_by != "decrease"
    assert float(found.log_likelihoods.diff().min()) > -1e-10


@every_law
@pytest.mark.parametrize("constant", [1e-3, 0.5])
def test_constants_and_states_without_observations_keep_laws_finite(kind: Any, constant: float) -> None:
    x, weights = torch.full((10,), constant), torch.ones(10, 2)
    weights[:, 1] = 0
    for dtype in (torch.float32, torch.float64):
        for before in (None, kind().random_table(2).to(dtype)):
            table = estimate(kind(), x.to(dtype), weights.to(dtype), 0.0, before=before)
            assert bool(table.log_probs(x.to(dtype)).isfinite().all())
            if before is not None:
                torch.testing.assert_close(table.params[1], before.params[1])


# Models.


def regimes(kind: Any, dtype: torch.dtype = torch.float64) -> tuple[HMM, Any]:
    stay = torch.tensor([[0.95, 0.05], [0.05, 0.95]])
    centres = torch.tensor(CENTRE[kind], dtype=torch.float64)
    table = kind(2).table(torch.stack([centres, centres.flip(0)], 1), torch.tensor([[8.0, 20.0], [15.0, 4.0]]))
    truth = HMM(torch.tensor([0.5, 0.5]), stay, table).double()
    batch = truth.sample(8, 60, seed=0)
    return truth, batch._replace(x=batch.x.to(dtype))


@every_law
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_em_finds_regimes_from_the_data(kind: Any, dtype: torch.dtype) -> None:
    truth, batch = regimes(kind, dtype)
    model = HMM.random(2, emission=kind(2), seed=0).to(dtype)
    found = em.fit(model, batch, num_iterations=40, tolerance=0.0, start="data", progress=False)
    assert found.stopped_by != "decrease"
    rounding = 64 * torch.finfo(dtype).eps * float(found.log_likelihoods.abs().max())
    assert float(found.log_likelihoods.diff().min()) > -rounding
    assert float(found.log_likelihoods[-1]) > float(truth.log_marginal_likelihood(batch.x.double()).detach().sum())
    states = forward_backward.most_likely_states(model, batch.x).states
    agreement = float((states == batch.z).double().mean())
    assert max(agreement, 1 - agreement) > 0.95
    plain = HMM.random(1, emission=kind(2), seed=0).to(dtype)
    alone = em.fit(plain, batch, num_iterations=5, start="data", progress=False)
    assert float(alone.log_likelihoods[-1]) < float(found.log_likelihoods[-1]) - 100


@every_law
def test_the_likelihood_never_falls_with_gaps_and_restarts(kind: Any) -> None:
    _, batch = regimes(kind)
    mask = torch.rand(batch.x.shape) > 0.2
    model = HMM.random(2, emission=kind(2), seed=3).double()
    given: dict[str, Any] = {"num_iterations": 8, "tolerance": 0.0, "num_restarts": 2, "progress": False}
    found = em.fit(model, batch.x, mask=mask, start="data", **given)
    assert found.stopped_by == "num_iterations"
    assert float(found.log_likelihoods.diff().min()) > -1e-8
    again = model.log_marginal_likelihood(batch.x, mask=mask).sum().detach()
    torch.testing.assert_close(found.log_likelihoods[-1], again, rtol=1e-9, atol=0)


@every_law
def test_columns_of_other_kinds_mixtures_gradients_networks_and_forecasts_take_it(kind: Any) -> None:
    truth, batch = regimes(kind)
    wide = torch.cat([batch.x, torch.randn(8, 60, 1)], -1)
    for family, x in ((Joint([kind(2), Gaussian()]), wide), (Mixture(kind(2), 2), batch.x)):
        model = HMM.random(2, emission=family, seed=0).double()
        found = em.fit(model, x, num_iterations=6, tolerance=0.0, start="data", progress=False)
        assert float(found.log_likelihoods.diff().min()) > -1e-8
    alone = HMM.random(2, emission=kind(2), seed=0).double()
    before = float(alone.log_marginal_likelihood(batch.x).detach().sum())
    svi.fit(alone, batch, objective="mle", num_epochs=3, progress=False)
    assert float(alone.log_marginal_likelihood(batch.x).detach().sum()) > before
    rnn = RNN("gru", emission=kind(2), hidden_dim=3).double()
    assert rnn.log_prob(batch.x).isfinite().all()
    ahead = forecast(truth, batch.x[:1], num_steps=2).to_frame()
    assert np.isfinite(ahead["mean"]).all()


@every_law
def test_a_saved_model_comes_back_and_is_described_by_its_natural_names(kind: Any, tmp_path: Path) -> None:
    truth, batch = regimes(kind)
    save_model(truth, tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert isinstance(again, HMM)
    assert again.family == kind(2)
    assert torch.equal(again.log_prob(batch.x), truth.log_prob(batch.x))
    tables = {table.name: table for table in describe(truth).tables}
    assert torch.tensor(tables["concentration"].values).allclose(torch.tensor([[8.0, 20.0], [15.0, 4.0]]))
    centre = tables["loc" if kind is VonMises else "mean"]
    assert centre.title == ("directions" if kind is VonMises else "means")
    assert tables["concentration"].title == "concentrations"
