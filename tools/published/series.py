"""State-space models of single series: the textbooks' numbers, statsmodels, dynamax and particles."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.data import load
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import smc
from pgm_rnn.models import LinearGaussianSSM, StochasticVolatility, StructuralSSM
from pgm_rnn.sequences import Sequences
from tools.published.chains import in_double, value_of
from tools.published.data import GNP_WORDS, NILE_WORDS, column, growth, nile, pound
from tools.published.problem import ESTIMATE, FIT, SAME, Number, Peer, Problem, Published

NILE_VARIANCES = {"irregular_variance": 15099.0, "level_variance": 1469.1}
NILE_PLACE = "Durbin & Koopman (2012), sec. 2.10"
BOOK: dict[str, tuple[str, dict[str, Any], float]] = {
    "2.2": ("level", {}, 0.6451960),
    "3.2": ("level and slope", {"trend": "stochastic"}, 0.6247935),
    "4.2": ("level and season", {"seasonal": 12, "seasonal_form": "trigonometric"}, 0.9369063),
    "4.3": (
        "level and fixed season",
        {"seasonal": 12, "seasonal_form": "trigonometric", "seasonal_change": "fixed"},
        0.9363361,
    ),
}
"""Commandeur & Koopman (2007): log likelihoods per observation of drivers killed or seriously injured, by the section.
They leave log 2 pi out of the terms that the diffuse start uses up, so that theirs is ours plus q/2 log 2 pi for q
diffuse entries."""
VARIANCES: dict[str, Any] = {"irregular_variance": 0.8, "level_variance": 0.1, "slope_variance": 0.02}
CYCLE = {"irregular_variance": 0.8, "level_variance": 0.1, "cycle_variance": 0.3}
CYCLE |= {"cycle_frequency": 0.57, "cycle_damping": 0.9}
POUND: dict[str, Any] = {"mean": 2 * math.log(0.6338), "persistence": 0.9731, "scale": 0.1726}
"""Durbin & Koopman (2001), ch. 14."""
NUM_RUNS, NUM_PARTICLES = 16, 1000


def climbed(model: StructuralSSM, x: Tensor) -> float:
    """The largest log likelihood of one series (T,) that L-BFGS finds; the model keeps the parameters."""
    model.start_from(Sequences(x[None], torch.tensor([len(x)])))
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=300, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -model.log_marginal_likelihood(x[None]).sum() / len(x)
        value.backward()
        return value

    optimizer.step(loss)
    return value_of(model, x[None]).value


def estimate_of(model: StructuralSSM, name: str) -> float:
    """The value of a natural parameter."""
    natural = model.natural_parameters[name]
    return float(natural.read(dict(model.named_parameters())[natural.raw].detach()))


@cache
def level_of_the_nile() -> tuple[StructuralSSM, float]:
    """A random walk with noise at its maximum, and the log likelihood there."""
    model = StructuralSSM().double()
    return model, climbed(model, nile()[0, :, 0])


def of_the_book(section: str) -> Number:
    """The log likelihood per observation of the drivers, as the textbook counts it."""
    _, options, _ = BOOK[section]
    model, x = StructuralSSM(**options).double(), load("uk-drivers").train.x[0].double().flatten()
    assert model.diffuse is not None
    return Number((climbed(model, x) + 0.5 * model.diffuse.shape[1] * math.log(2 * math.pi)) / len(x))


def made(options: dict[str, Any], values: dict[str, Any]) -> StructuralSSM:
    """A structural model with given parameters."""
    model = StructuralSSM(**options, emission=Gaussian(1)).double()
    model.set_parameters(**{name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()})
    return model


def level() -> LinearGaussianSSM:
    """The textbook's model of the Nile at the printed variances, with a diffuse first level."""
    one = torch.eye(1, dtype=torch.float64)
    noise, moves = NILE_VARIANCES["irregular_variance"] * one, NILE_VARIANCES["level_variance"] * one
    return LinearGaussianSSM(torch.zeros_like(one[0]), 0 * one, one, moves, one, noise, diffuse=[True])


def decaying() -> LinearGaussianSSM:
    """z_t = 0.9 z_{t-1} + noise, x_t = z_t + noise."""
    one = torch.eye(1, dtype=torch.float64)
    return LinearGaussianSSM(torch.zeros_like(one[0]), one, 0.9 * one, 0.3 * one, one, 0.5 * one)


def volatility() -> Number:
    """The log of the mean of our filters' estimates, and its standard error."""
    model, copies = StochasticVolatility(**POUND).double(), pound().expand(NUM_RUNS, -1)
    with torch.no_grad():
        return _of_runs(smc.log_marginal_likelihood(model, copies, num_particles=NUM_PARTICLES, seed=0).tolist())


def particles_volatility() -> Number:
    """The same from bootstrap filters of `particles`."""
    import particles
    from particles import state_space_models

    theirs = state_space_models.StochVol(mu=POUND["mean"], rho=POUND["persistence"], sigma=POUND["scale"])
    np.random.seed(0)  # noqa: NPY002  (that package's own generator)
    found = []
    for _ in range(NUM_RUNS):
        run = particles.SMC(fk=state_space_models.Bootstrap(ssm=theirs, data=pound()[0].numpy()), N=NUM_PARTICLES)
        run.run()
        found.append(float(run.logLt))
    return _of_runs(found)


def _of_runs(log_z: list[float]) -> Number:
    z = np.exp(np.array(log_z) - max(log_z))
    return Number(max(log_z) + math.log(z.mean()), float(z.std(ddof=1) / z.mean() / math.sqrt(len(z))))


def unobserved(x: Tensor, params: list[float] | None = None, **options: Any) -> Number:
    """statsmodels' log likelihood at given parameters, or at its own maximum."""
    from statsmodels.api import tsa

    peer = tsa.UnobservedComponents(column(x)[:, 0], use_exact_diffuse=True, **options)
    peer.ssm.tolerance = 0  # it takes covariances as steady when they are nearly so
    return Number(float(peer.loglike(params) if params else peer.fit(disp=0).llf))


def sarimax() -> Number:
    """statsmodels' autoregression of order 2."""
    from statsmodels.api import tsa

    return Number(float(tsa.SARIMAX(column(growth())[:, 0], order=(2, 0, 0)).loglike(np.array([0.5, -0.3, 1.3]))))


def dynamax_decaying() -> Number:
    """`decaying` in dynamax."""

    def run(jax: Any) -> float:
        from dynamax.linear_gaussian_ssm import LinearGaussianSSM as Theirs

        peer, eye = Theirs(1, 1, has_dynamics_bias=False, has_emissions_bias=False), jax.numpy.eye(1)
        params, _ = peer.initialize(
            initial_mean=jax.numpy.zeros(1),
            initial_covariance=eye,
            dynamics_weights=0.9 * eye,
            dynamics_covariance=0.3 * eye,
            emission_weights=eye,
            emission_covariance=0.5 * eye,
        )
        return float(peer.marginal_log_prob(params, jax.numpy.asarray(column(growth()))))

    return in_double(run)


def _same(name: str, model: str, data: str, peer: Peer, ours: Callable[[], Number], test: str) -> Problem:
    return Problem(name, model, data, "log likelihood", SAME, peer, ours, 1e-7, f"tests/{test}")


def _nile(name: str, words: str) -> Problem:
    printed = Published(NILE_VARIANCES[name], NILE_PLACE)
    test = "tests/models/test_structural.py::test_the_nile_has_its_published_variances"
    return Problem(
        f"nile-{name.replace('_', '-')}",
        "structural",
        NILE_WORDS,
        words,
        ESTIMATE,
        printed,
        lambda: Number(estimate_of(level_of_the_nile()[0], name)),
        1.0,
        test,
    )


def _book(section: str) -> Problem:
    parts, _, value = BOOK[section]
    printed = Published(value, f"Commandeur & Koopman (2007), sec. {section}")
    test = "tests/models/test_structural.py::test_drivers_have_the_likelihoods_of_the_textbook"
    return Problem(
        f"drivers-{section}",
        "structural",
        "UK drivers",
        f"log likelihood per month without the diffuse terms' log 2 pi; {parts}",
        FIT,
        printed,
        lambda: of_the_book(section),
        1e-7,
        test,
    )


_UNOBSERVED = "models/test_structural.py::test_they_are_the_unobserved_components_of_statsmodels"
SERIES = (
    _same(
        "lgssm-statsmodels",
        "lgssm",
        NILE_WORDS,
        Peer(
            "statsmodels",
            'UnobservedComponents("llevel", use_exact_diffuse=True).loglike',
            lambda: unobserved(nile(), list(NILE_VARIANCES.values()), level="llevel"),
        ),
        lambda: value_of(level(), nile()),
        "inference/test_diffuse_start.py::test_structural_models_are_those_of_statsmodels",
    ),
    _same(
        "lgssm-dynamax",
        "lgssm",
        GNP_WORDS,
        Peer("dynamax", "LinearGaussianSSM.marginal_log_prob", dynamax_decaying),
        lambda: value_of(decaying(), growth()),
        "test_guides.py::test_their_side_of_each_pair_prints_the_same",
    ),
    _same(
        "structural-trend-statsmodels",
        "structural",
        GNP_WORDS,
        Peer(
            "statsmodels",
            'UnobservedComponents("lltrend", use_exact_diffuse=True).loglike',
            lambda: unobserved(growth(), list(VARIANCES.values()), level="lltrend"),
        ),
        lambda: value_of(made({"trend": "stochastic"}, VARIANCES), growth()),
        _UNOBSERVED,
    ),
    _same(
        "structural-cycle-statsmodels",
        "structural",
        GNP_WORDS,
        Peer(
            "statsmodels",
            'UnobservedComponents("llevel", cycle=True, damped_cycle=True).loglike',
            lambda: unobserved(
                growth(), list(CYCLE.values()), level="llevel", cycle=True, stochastic_cycle=True, damped_cycle=True
            ),
        ),
        lambda: value_of(made({"cycle": "damped"}, CYCLE), growth()),
        _UNOBSERVED,
    ),
    _same(
        "structural-autoregression-statsmodels",
        "structural",
        GNP_WORDS,
        Peer("statsmodels", "SARIMAX(order=(2, 0, 0)).loglike", sarimax),
        lambda: value_of(
            made({"level": "none", "ar": 2, "irregular": False}, {"ar_coefficients": [0.5, -0.3], "ar_variance": 1.3}),
            growth(),
        ),
        "models/test_structural.py::test_an_autoregression_alone_is_that_of_statsmodels",
    ),
    Problem(
        "structural-nile-statsmodels",
        "structural",
        NILE_WORDS,
        "log likelihood",
        FIT,
        Peer(
            "statsmodels",
            'UnobservedComponents("llevel", use_exact_diffuse=True).fit',
            lambda: unobserved(nile(), level="llevel"),
        ),
        lambda: Number(level_of_the_nile()[1]),
        1e-6,
        "tests/models/test_structural.py::test_the_nile_has_its_published_variances",
    ),
    _nile("irregular_variance", "variance of the irregular"),
    _nile("level_variance", "variance of the level"),
    *(_book(section) for section in BOOK),
    _same(
        "stochastic-volatility-particles",
        "stochastic-volatility",
        "Pound in US dollars, the first 200 returns",
        Peer("particles", "SMC(fk=Bootstrap(ssm=StochVol(...)), N=1000), 16 runs", particles_volatility),
        volatility,
        "models/test_stochastic_volatility.py::test_a_package_of_particle_filters_has_the_same_likelihood_of_the_pound",
    ),
)
"""Comparisons of state-space models."""
