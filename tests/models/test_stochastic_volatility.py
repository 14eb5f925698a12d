"""Stochastic volatility: a grid over the log variance, the bivariate normal law of both errors, and the engines."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

import pgm_rnn
from pgm_rnn.distributions.normal_score import normal_score
from pgm_rnn.emissions import Gaussian, Poisson, StudentT
from pgm_rnn.inference import kalman, mcmc, pmmh, smc, svi
from pgm_rnn.models import StochasticVolatility
from pgm_rnn.sequences import Sequences
from pgm_rnn.storage import load_model, save_model
from tests.test_cli import call
from tests.test_cli_fit import write_csv

MODELS: dict[str, dict[str, float]] = {
    "plain": {},
    "leverage": {"leverage": -0.7},
    "heavy": {"df": 5.0},
    "heavy leverage": {"leverage": -0.7, "df": 5.0},
}
every_model = pytest.mark.parametrize("name", MODELS)


def made(name: str, **values: float) -> StochasticVolatility:
    options: dict[str, Any] = {"mean": -0.5, "persistence": 0.9, "scale": 0.4, **MODELS[name], **values}
    return StochasticVolatility(**options).double()


def values_of(name: str, **values: float) -> dict[str, Any]:
    return {"mean": -0.5, "persistence": 0.9, "scale": 0.4, "leverage": 0.0, "df": math.inf, **MODELS[name], **values}


# The definition: numpy and scipy on a grid of log variances.


def scores(error: np.ndarray, df: float) -> np.ndarray:
    if df == math.inf:
        return error
    found: np.ndarray = -np.sign(error) * stats.norm.ppf(stats.t.cdf(-np.abs(error), df))
    return found


def laws(x: np.ndarray, z: np.ndarray, p: dict[str, float]) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """p(z_1), p(z_t | z_{t-1}, x_{t-1}) for t = 2..T, and p(x_t | z_t), on a grid."""
    m, f, s, r = p["mean"], p["persistence"], p["scale"], p["leverage"]
    moves = []
    for last in x[:-1]:
        w = scores(last * np.exp(-z / 2), p["df"])
        centre = m + f * (z - m) + s * r * w
        moves.append(stats.norm.pdf(z[None, :], centre[:, None], s * math.sqrt(1 - r**2)))
    noise = stats.norm if p["df"] == math.inf else stats.t(p["df"])
    sees = [noise.pdf(now * np.exp(-z / 2)) * np.exp(-z / 2) for now in x]
    return stats.norm.pdf(z, m, s / math.sqrt(1 - f**2)), moves, sees


def on_grid(x: Tensor, p: dict[str, float], num: int = 400, width: float = 8.0) -> tuple[float, np.ndarray]:
    """log p(x_{1:T}) and E(z_t | x_{1:T}) by trapezoidal sums, T numbers of one series.

    The densities are smooth and vanish at the ends, eight standard deviations out, so that sums converge faster than
    any power of the spacing.
    """
    spread = p["scale"] / math.sqrt(1 - p["persistence"] ** 2)
    z = np.linspace(p["mean"] - width * spread, p["mean"] + width * spread, num)
    start, moves, sees = laws(x.numpy(), z, p)
    weight, forward, total = z[1] - z[0], [start * sees[0]], 0.0
    for move, see in zip(moves, sees[1:], strict=True):
        scale = forward[-1].sum() * weight
        total += math.log(scale)
        forward[-1] = forward[-1] / scale
        forward.append(forward[-1] @ move * weight * see)
    backward, means = np.ones_like(z), []
    for t in range(len(x) - 1, -1, -1):
        law = forward[t] * backward
        means.append(float((law * z).sum() / law.sum()))
        if t:
            backward = moves[t - 1] @ (sees[t] * backward) * weight
            backward = backward / backward.max()
    return total + math.log(forward[-1].sum() * weight), np.array(means[::-1])


@every_model
def test_the_grid_has_converged(name: str) -> None:
    x = made(name).sample(1, 40, seed=0).x[0]
    coarse, fine = (on_grid(x, values_of(name), num, width)[0] for num, width in ((400, 8.0), (900, 10.0)))
    assert coarse == pytest.approx(fine, abs=1e-6)


def estimated(model: StochasticVolatility, x: Tensor, **options: Any) -> tuple[float, float]:
    """log of the mean of 64 estimates of p(x), and its standard error by the delta method."""
    copies = x.expand(64, *x.shape)
    log_z = smc.log_marginal_likelihood(model, copies, num_particles=500, seed=1, **options).detach()
    z = (log_z - log_z.max()).exp()
    return float(log_z.max() + z.mean().log()), float(z.std() / z.mean() / 8)


@every_model
def test_the_particle_filter_estimates_the_sum_over_the_grid(name: str) -> None:
    model = made(name)
    x = model.sample(1, 60, seed=0).x[0]
    exact = on_grid(x, values_of(name))[0]
    for options in ({}, {"proposal": "bootstrap"}):
        value, error = estimated(model, x, **options)
        assert error < 0.1
        assert abs(value - exact) < 4 * error
    if model.leverage is not None:
        value, error = estimated(made(name, leverage=0.7), x)
        assert abs(value - exact) > 10 * max(error, 0.05)  # the wrong sign is another law


@every_model
def test_the_joint_density_is_that_of_correlated_errors(name: str) -> None:
    """p(x_t, z_{t+1} | z_t) is the bivariate normal density of both scores, for normal errors without any copula."""
    p, model = values_of(name), made(name)
    data = model.sample(3, 6, seed=0)
    assert data.z is not None
    x, z = data.x.numpy(), data.z[..., 0].numpy()
    m, f, s, r = p["mean"], p["persistence"], p["scale"], p["leverage"]
    expected = stats.norm.logpdf(z[:, 0], m, s / math.sqrt(1 - f**2))
    error = x * np.exp(-z / 2)
    own = stats.norm.logpdf(error) if p["df"] == math.inf else stats.t.logpdf(error, p["df"])
    expected = expected + (own - z / 2).sum(1)
    both = stats.multivariate_normal([0, 0], [[1, r], [r, 1]])
    for t in range(5):
        w, n = scores(error[:, t], p["df"]), (z[:, t + 1] - m - f * (z[:, t] - m)) / s
        expected = expected + both.logpdf(np.stack([w, n], -1)) - stats.norm.logpdf(w) - math.log(s)
    found = model.log_prob(data.x, data.z).detach()
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-9, atol=1e-9)
    other = made(name, scale=0.5).log_prob(data.x, data.z).detach()
    assert float((other - found).abs().min()) > 1e-3


@pytest.mark.parametrize("name", ["leverage", "heavy leverage"])
def test_draws_have_the_correlation_and_the_margins(name: str) -> None:
    p, data = values_of(name), made(name).sample(2000, 4, seed=0)
    assert data.z is not None
    z = data.z[..., 0]
    error = (data.x * (-z / 2).exp()).numpy()
    w, n = scores(error[:, :-1], p["df"]), ((z[:, 1:] - p["mean"] - 0.9 * (z[:, :-1] - p["mean"])) / 0.4).numpy()
    count = w.size
    found = float((w * n).mean())
    assert abs(found + 0.7) < 4 * math.sqrt((1 + 0.7**2) / count) < abs(found - 0.7)
    for sample in (w, n):
        assert stats.kstest(sample.ravel(), "norm").pvalue > 1e-4
    assert stats.kstest(error.ravel(), "cauchy").pvalue < 1e-4


# The normal score.


def test_scores_are_normal_quantiles_far_into_both_tails() -> None:
    values, df = torch.tensor([-1e12, -30.0, -1.0, 0.0, 0.3, 5.0, 1e6]), torch.tensor(4.0)
    expected = torch.tensor(scores(values.numpy(), 4.0))
    torch.testing.assert_close(normal_score(values, df), expected, rtol=1e-12, atol=1e-12)
    many = normal_score(torch.tensor([-3.0, 2.0]), torch.tensor(1e9))
    torch.testing.assert_close(many, torch.tensor([-3.0, 2.0]), rtol=1e-7, atol=1e-7)
    assert normal_score(torch.tensor([1e300]), torch.tensor(30.0)).isfinite().all()


def test_gradients_of_scores_are_slopes() -> None:
    values = torch.tensor([-20.0, -1.0, 0.4, 3.0], requires_grad=True)
    df = torch.tensor([1.5, 3.0, 8.0, 30.0], requires_grad=True)
    assert torch.autograd.gradcheck(normal_score, (values, df), eps=1e-5, atol=1e-6, rtol=1e-5)


# Engines.


def test_missing_returns_are_integrated_out_and_a_memory_of_them_is_refused() -> None:
    x = made("plain").sample(1, 30, seed=0).x[0]
    gap = x.clone()
    gap[[3, 10, 11]] = torch.nan
    value, error = estimated(made("plain"), gap)
    p = values_of("plain")
    spread = p["scale"] / math.sqrt(1 - p["persistence"] ** 2)
    z = np.linspace(p["mean"] - 8 * spread, p["mean"] + 8 * spread, 400)
    start, moves, sees = laws(x.numpy(), z, p)
    weight, law = z[1] - z[0], start * sees[0]
    for t in range(1, 30):
        law = law @ moves[t - 1] * weight * (1.0 if t in (3, 10, 11) else sees[t])
    assert abs(value - math.log(law.sum() * weight)) < 4 * error
    with pytest.raises(ValueError, match="expected finite real numbers, got nan in sequence 0 at step 4"):
        smc.log_marginal_likelihood(made("leverage"), gap[None])


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["plain", "heavy leverage"])
def test_the_fitted_guide_tightens_the_bound_below_the_grid(name: str) -> None:
    model = made(name)
    x = model.sample(1, 25, seed=0).x
    exact = on_grid(x[0], values_of(name))[0] / 25
    for parameter in (model.raw_mean, model.raw_persistence, model.raw_scale, model.raw_leverage, model.raw_df):
        if parameter is not None:
            parameter.requires_grad_(False)

    def bound() -> float:
        found = [svi.evaluate(model, x, bound="elbo", num_particles=500, seed=seed).nats_per_step for seed in range(4)]
        return -sum(found) / 4

    before = bound()
    svi.fit(model, x, objective="elbo", num_particles=8, num_epochs=150, learning_rate=0.02, progress=False)
    after = bound()
    assert before < after < exact + 1e-2
    assert exact - after < 0.5 * (exact - before)


@pytest.mark.nightly
def test_pmmh_draws_from_the_posterior_of_the_grid() -> None:
    model, x = made("leverage"), made("leverage").sample(1, 20, seed=0).x
    program = pgm_rnn.WithPriors(model, {"mean": dist.Normal(0.0, 1.0)})
    run = pmmh.run(program, x, num_samples=400, num_warmup=150, num_particles=60, seed=0, progress=False)
    drawn = run.posterior.samples["mean"].flatten()
    means = np.linspace(-4, 3, 57)
    logs = np.array([on_grid(x[0], values_of("leverage", mean=m), 200)[0] - m**2 / 2 for m in means])
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    centre = float((weights * means).sum())
    spread = math.sqrt(float((weights * (means - centre) ** 2).sum()))
    assert abs(float(drawn.mean()) - centre) < 5 * spread / math.sqrt(400 / 20)  # one draw in 20 counts
    assert 0.5 * spread < float(drawn.std()) < 1.7 * spread


@pytest.mark.nightly
def test_nuts_draws_the_states_of_the_program() -> None:
    model, x = made("leverage"), made("leverage").sample(1, 6, seed=0).x
    model.requires_grad_(False)
    run = mcmc.run(model.model, x, num_samples=300, num_warmup=150, seed=0, progress=False)
    drawn = run.samples["z"].reshape(-1, 6)
    expected = torch.tensor(on_grid(x[0], values_of("leverage"))[1])
    error = drawn.std(0) / math.sqrt(len(drawn) / 10)  # one draw in ten counts
    assert bool(((drawn.mean(0) - expected).abs() < 4 * error).all())
    assert bool(((drawn.mean(0) + 0.5).abs() > 4 * error).any())  # the prior's mean is another number


def test_a_package_of_particle_filters_has_the_same_likelihood_of_the_pound() -> None:
    """The model, data and parameters of Pitt & Shephard (1999), as the book of `particles` runs them: 201 returns."""
    particles = pytest.importorskip("particles")
    from particles import datasets, state_space_models

    x: Any = datasets.GBP_vs_USD_9798().data[:201]
    p: dict[str, Any] = {"mean": 2 * math.log(0.5992), "persistence": 0.9702, "scale": 0.178}
    theirs = state_space_models.StochVol(mu=p["mean"], rho=p["persistence"], sigma=p["scale"])
    np.random.seed(0)  # noqa: NPY002  (that package's own generator)
    found = []
    for _ in range(16):
        run = particles.SMC(fk=state_space_models.Bootstrap(ssm=theirs, data=x), N=2000)
        run.run()
        found.append(run.logLt)
    z = np.exp(np.array(found) - max(found))
    value, error = max(found) + math.log(z.mean()), z.std(ddof=1) / z.mean() / 4
    exact = on_grid(torch.tensor(x), {**p, "leverage": 0.0, "df": math.inf})[0]
    assert abs(value - exact) < 4 * error
    ours, its_error = estimated(StochasticVolatility(**p).double(), torch.tensor(x))
    assert abs(ours - exact) < 4 * its_error


def test_files_keep_the_model_and_forecasts_go_on(tmp_path: Path) -> None:
    model = made("heavy leverage")
    data = model.sample(2, 8, seed=0)
    save_model(model, tmp_path / "kept")
    kept = load_model(tmp_path / "kept")
    assert isinstance(kept, StochasticVolatility)
    assert data.z is not None
    assert torch.equal(kept.log_prob(data.x, data.z), model.log_prob(data.x, data.z))
    ahead = smc.forecast(model, data.x, 3, num_particles=50, seed=0)
    assert ahead.x.shape[-2:] == (2, 3)


@pytest.mark.slow
def test_the_command_line_fits_infers_and_forecasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(Path("fx.csv"), made("leverage").sample(1, 60, seed=0).x[0].numpy(), "fx")
    for words in (
        "fit stochastic-volatility --data fx.csv --leverage estimated --epochs 2 --test-fraction 0 --output fits/a",
        "fit stochastic-volatility --data fx.csv --emission student-t --epochs 2 --output fits/b",
        "infer fits/a --data fx.csv --num-particles 100 --num-paths 4 --out states.csv",
        "forecast fits/a --data fx.csv --num-steps 4",
    ):
        assert call(monkeypatch, *words.split()) == 0
    kept = load_model("fits/b")
    assert isinstance(kept, StochasticVolatility)
    assert kept.df is not None
    assert kept.leverage is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"persistence": 1.0}, "expected persistence between -1 and 1, got 1.0"),
        ({"leverage": -1.5}, "expected leverage between -1 and 1, got -1.5"),
        ({"scale": 0.0}, "expected scale as a positive number, got 0.0"),
        ({"mean": math.nan}, "expected mean as a finite number, got nan"),
        ({"df": -1.0}, "expected df as a positive number, or None for normal errors, got -1.0"),
        ({"df": 3.0, "emission": Gaussian()}, r"expected emission=StudentT\(\) with df=3.0"),
        ({"emission": StudentT(2)}, r"expected emission=Gaussian\(\) or StudentT\(\), for one variable"),
        ({"emission": Poisson()}, r"expected emission=Gaussian\(\) or StudentT\(\), for one variable"),
        ({"guide_dim": 0}, "expected guide_dim to be an integer of at least 1, got 0"),
    ],
)
def test_values_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StochasticVolatility(**options)


def test_exact_engines_say_why_they_cannot() -> None:
    data = Sequences(torch.randn(1, 5), torch.tensor([5]))
    with pytest.raises(ValueError, match="expected method="):
        kalman.filter(made("plain"), data)
    with pytest.raises(ValueError, match="StochasticVolatility"):
        made("plain").log_marginal_likelihood(data)
