"""Structural time series: scalar recursions of the textbook, generalised least squares, statsmodels, published fits."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import kalman, svi
from pgm_rnn.models import LinearGaussianSSM, StructuralSSM
from pgm_rnn.models.structural_parts import autocorrelations, coefficients_of, partials_of
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.storage import load_model, save_model
from tests.test_cli import call
from tests.test_cli_fit import write_csv
from tools.published.data import NILE
from tools.published.series import BOOK, NILE_VARIANCES, climbed, estimate_of

T = 16
VALUES: dict[str, Any] = {
    "irregular_variance": 0.8,
    "level_variance": 0.1,
    "slope_variance": 0.02,
    "seasonal_variance": 0.05,
    "cycle_variance": 0.3,
    "cycle_frequency": 0.57,
    "cycle_damping": 0.9,
    "ar_variance": 0.4,
    "ar_coefficients": [0.5, -0.3],
    "coefficients": [0.7, -0.4],
}
MODELS: dict[str, dict[str, Any]] = {
    "local level": {},
    "constant": {"level": "fixed"},
    "random walk with drift": {"trend": "fixed"},
    "local linear trend": {"trend": "stochastic"},
    "smooth trend": {"level": "fixed", "trend": "stochastic"},
    "line": {"level": "fixed", "trend": "fixed"},
    "dummy season": {"seasonal": 4},
    "fixed season": {"seasonal": 3, "seasonal_change": "fixed"},
    "season of two": {"seasonal": 2},
    "trigonometric season": {"seasonal": 4, "seasonal_form": "trigonometric"},
    "odd season, two harmonics": {"seasonal": 7, "seasonal_form": "trigonometric", "harmonics": 2},
    "damped cycle": {"cycle": "damped"},
    "cycle": {"cycle": "stochastic"},
    "sine wave": {"level": "fixed", "cycle": "fixed"},
    "autoregression": {"level": "none", "ar": 2},
    "autoregression about a level": {"level": "fixed", "ar": 2},
    "regression": {"regression": 2},
    "regression in the state": {"regression": 2, "coefficients": "states"},
    "everything": {"trend": "stochastic", "seasonal": 3, "cycle": "damped", "ar": 2, "regression": 2},
}
every_model = pytest.mark.parametrize("name", MODELS)


def made(name: str, **values: Any) -> StructuralSSM:
    model = StructuralSSM(**MODELS[name]).double()
    chosen = {key: value for key, value in (VALUES | values).items() if key in model.natural_parameters}
    model.set_parameters(**{key: torch.tensor(value) for key, value in chosen.items()})
    return model


def number(value: Tensor) -> float:
    return float(value.detach())


def data_for(model: StructuralSSM, missing: bool) -> tuple[Tensor, Tensor | None]:
    x = 5 + torch.randn(T).cumsum(0)
    if missing:
        x[[0, 5, 6]] = torch.nan
    return x, torch.randn(T, 2) if model.input_dim else None


# The definition: each component by a scalar recursion, as a linear function of unknown first values and of shocks.


def responses(run: Callable[[Tensor], list[Tensor]], num: int) -> Tensor:
    """The columns (T, num) of a linear recursion, one for each of its arguments."""
    return torch.stack([torch.stack(run(unit)) for unit in torch.eye(num)], dim=1)


def level_of(options: dict[str, Any]) -> Callable[[Tensor], list[Tensor]]:
    def run(e: Tensor) -> list[Tensor]:
        level, slope, found = e[0], e[1] if options.get("trend", "none") != "none" else torch.zeros(()), []
        for t in range(T):
            found.append(level)
            level, slope = level + slope + e[2 + t], slope + e[2 + T + t]
        return found

    return run


def dummies_of(period: int) -> Callable[[Tensor], list[Tensor]]:
    def run(e: Tensor) -> list[Tensor]:
        past = [e[i] for i in range(period - 1)]  # the first value is the first of them, then those before it
        found = []
        for t in range(T):
            found.append(past[0])
            past = [-sum(past) + e[period - 1 + t], *past[:-1]]
        return found

    return run


def turning(frequency: float, damping: float) -> Callable[[Tensor], list[Tensor]]:
    def run(e: Tensor) -> list[Tensor]:
        c, s = math.cos(frequency), math.sin(frequency)
        a, b, found = e[0], e[1], []
        for t in range(T):
            found.append(a)
            a, b = damping * (c * a + s * b) + e[2 + t], damping * (c * b - s * a) + e[2 + T + t]
        return found

    return run


def moving_average_cov(coefficients: list[float], variance: float) -> Tensor:
    """Autocovariances of an autoregression from its response to a shock, which has died out after 300 steps."""
    psi = [1.0]
    for _ in range(300):
        psi.append(sum(c * psi[-1 - i] for i, c in enumerate(coefficients) if i < len(psi)))
    weights = torch.tensor(psi, dtype=torch.float64)
    lags = [variance * float((weights[: len(psi) - k] * weights[k:]).sum()) for k in range(T)]
    return torch.tensor([[lags[abs(s - t)] for t in range(T)] for s in range(T)])


def defined(
    options: dict[str, Any], u: Tensor | None, values: dict[str, Any]
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Each component as its columns of unknown first values (T, q), its covariance (T, T) and its known mean (T,)."""
    found, none = {}, torch.zeros(T)
    if options.get("level", "stochastic") != "none":
        columns = responses(level_of(options), 2 + 2 * T)
        both = options.get("trend", "none") != "none"
        noisy = options.get("level", "stochastic") == "stochastic", options.get("trend") == "stochastic"
        variances = torch.tensor([noisy[0] * values["level_variance"]] * T + [noisy[1] * values["slope_variance"]] * T)
        found["level"] = columns[:, : 1 + both], (columns[:, 2:] * variances) @ columns[:, 2:].mT, none
    period = options.get("seasonal")
    share = values["seasonal_variance"] * (options.get("seasonal_change") != "fixed")
    if period and options.get("seasonal_form") != "trigonometric":
        columns = responses(dummies_of(period), period - 1 + T)
        found["seasonal"] = (
            columns[:, : period - 1],
            share * columns[:, period - 1 :] @ columns[:, period - 1 :].mT,
            none,
        )
    elif period:
        unknown, cov = [], torch.zeros(T, T)
        for j in range(1, options.get("harmonics", period // 2) + 1):
            columns = responses(turning(2 * math.pi * j / period, 1.0), 2 + 2 * T)
            one = 2 * j == period
            unknown.append(columns[:, : 2 - one])
            shocks = columns[:, 2 : 2 + T] if one else columns[:, 2:]
            cov = cov + share * shocks @ shocks.mT
        found["seasonal"] = torch.cat(unknown, 1), cov, none
    kind = options.get("cycle", "none")
    if kind != "none":
        columns = responses(
            turning(values["cycle_frequency"], values["cycle_damping"] if kind == "damped" else 1.0), 2 + 2 * T
        )
        share = values["cycle_variance"] * (kind != "fixed")
        found["cycle"] = columns[:, :2], share * columns[:, 2:] @ columns[:, 2:].mT, none
    if options.get("ar"):
        found["ar"] = none[:, None][:, :0], moving_average_cov(values["ar_coefficients"], values["ar_variance"]), none
    if u is not None:
        in_states = options.get("coefficients") == "states"
        known = none if in_states else u @ torch.tensor(values["coefficients"])
        found["regression"] = u if in_states else u[:, :0], torch.zeros(T, T), known
    return found


def expected(
    name: str, x: Tensor, u: Tensor | None, values: dict[str, Any]
) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    """The limit of log p, with means and standard deviations of the components, by generalised least squares."""
    parts, seen = defined(MODELS[name], u, values), ~x.isnan()
    X = torch.cat([unknown for unknown, _, _ in parts.values()], 1)
    cov = sum(part for _, part, _ in parts.values()) + values["irregular_variance"] * torch.eye(T)
    y = (x - sum(known for _, _, known in parts.values()))[seen]
    V, X_seen = cov[seen][:, seen], X[seen]
    inverse = torch.linalg.inv(V)
    H = X_seen.mT @ inverse @ X_seen
    delta = torch.linalg.solve(H, X_seen.mT @ inverse @ y) if X.shape[1] else X.new_zeros(0)
    left = y - X_seen @ delta
    value = -0.5 * (left @ inverse @ left + torch.logdet(2 * math.pi * V) + (torch.logdet(H) if X.shape[1] else 0.0))
    means, sds, place = {}, {}, 0
    for part, (unknown, own, known) in parts.items():
        whole = X.new_zeros(T, X.shape[1])
        whole[:, place : place + unknown.shape[1]] = unknown
        place += unknown.shape[1]
        gain = own[:, seen] @ inverse
        rest = whole - gain @ X_seen
        means[part] = known + gain @ y + rest @ delta
        spread = own - gain @ own[seen]
        if X.shape[1]:
            spread = spread + rest @ torch.linalg.solve(H, rest.mT)
        sds[part] = spread.diagonal().clamp(min=0).sqrt()
    return float(value), means, sds


@every_model
@pytest.mark.parametrize("missing", [False, True])
def test_value_and_components_are_those_of_generalised_least_squares(name: str, missing: bool) -> None:
    model = made(name)
    x, u = data_for(model, missing)
    inputs = None if u is None else u[None]
    value, means, sds = expected(name, x, u, VALUES)
    # a sum of at most T terms of size up to |value|, in matrices of condition below 1e6
    assert number(model.log_marginal_likelihood(x[None], inputs=inputs)) == pytest.approx(value, rel=1e-9)
    found = kalman.decompose(model, x[None], inputs=inputs)
    assert found.means.keys() - {"slope"} == means.keys()
    for part in means:
        torch.testing.assert_close(found.means[part][0], means[part], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(found.sds[part][0], sds[part], rtol=1e-6, atol=1e-6)  # roots of rounded zeros


@every_model
def test_another_value_of_any_parameter_is_another_law(name: str) -> None:
    x, u = data_for(made(name), False)
    value = expected(name, x, u, VALUES)[0]
    for parameter in made(name).natural_parameters:
        given = VALUES[parameter]
        other = [0.9 * entry for entry in given] if isinstance(given, list) else 0.9 * given
        moved = made(name, **{parameter: other})
        found = float(moved.log_marginal_likelihood(x[None], inputs=None if u is None else u[None]).detach())
        assert abs(found - value) > 1e-6 * abs(value), parameter


@pytest.mark.parametrize("name", ["everything", "autoregression", "trigonometric season", "regression in the state"])
def test_the_laws_are_the_chain_that_is_given(name: str) -> None:
    """The chain that is read from the laws, as for any model, has the likelihood of the model's own."""
    model = made(name)
    x, u = data_for(model, False)
    given = number(model.log_marginal_likelihood(x[None], inputs=None if u is None else u[None]))

    class Plain(SequenceModel):
        initial_memory = None

        def __init__(self) -> None:
            super().__init__(Gaussian())
            self.states, self.input_dim, self.of = model.states, model.input_dim, model

        def initial(self, h: Any) -> Any:
            return self.of.initial(h)

        def transition(self, z: Any, h: Any) -> Any:
            return self.of.transition(z, h)

        def emission(self, z: Any, h: Any) -> Any:
            return self.of.emission(z, h)

    read = Plain().log_marginal_likelihood(x[None], inputs=None if u is None else u[None])
    assert number(read) == pytest.approx(given, rel=1e-10)


@pytest.mark.parametrize("missing", [False, True])
def test_forecasts_go_on_as_the_components_do(missing: bool) -> None:
    """E and Var of what follows, from a series whose last five steps are missing."""
    model = made("everything")
    x, u = data_for(model, missing)
    assert u is not None
    gap = x.clone()
    gap[-5:] = torch.nan
    law = kalman.forecast(model, x[None, :-5], 5, inputs=u[None, :-5], future_inputs=u[None, -5:])
    _, means, _ = expected("everything", gap, u, VALUES)
    total = torch.stack([*means.values()]).sum(0)
    torch.testing.assert_close(law.means[0, :, 0], total[-5:], rtol=1e-8, atol=1e-8)


# Other programs, and published numbers.


UNOBSERVED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "local linear trend": ({"level": "lltrend"}, ["irregular_variance", "level_variance", "slope_variance"]),
    "smooth trend": ({"level": "strend"}, ["irregular_variance", "slope_variance"]),
    "dummy season": ({"level": "llevel", "seasonal": 4}, ["irregular_variance", "level_variance", "seasonal_variance"]),
    "damped cycle": (
        {"level": "llevel", "cycle": True, "stochastic_cycle": True, "damped_cycle": True},
        ["irregular_variance", "level_variance", "cycle_variance", "cycle_frequency", "cycle_damping"],
    ),
    "autoregression about a level": (
        {"level": True, "irregular": True, "autoregressive": 2},
        ["irregular_variance", "ar_variance", "ar_coefficients"],
    ),
    "regression": ({"level": "llevel"}, ["irregular_variance", "level_variance", "coefficients"]),
}


@pytest.mark.parametrize("name", UNOBSERVED)
@pytest.mark.parametrize("missing", [False, True])
def test_they_are_the_unobserved_components_of_statsmodels(name: str, missing: bool) -> None:
    api = pytest.importorskip("statsmodels.api")
    model, (options, names) = made(name), UNOBSERVED[name]
    x, u = data_for(model, missing)
    inputs = None if u is None else u[None]
    params = [v for key in names for v in (VALUES[key] if isinstance(VALUES[key], list) else [VALUES[key]])]
    exog = {} if u is None else {"exog": u.numpy()}
    reference = api.tsa.UnobservedComponents(x.numpy(), use_exact_diffuse=True, **options, **exog)
    reference.ssm.tolerance = 0  # it takes covariances as steady when they are nearly so
    law = reference.smooth(params)
    assert number(model.log_marginal_likelihood(x[None], inputs=inputs)) == pytest.approx(law.llf, rel=1e-10)
    row = model.row().detach()
    ours = kalman.smooth(model, x[None], inputs=inputs)
    theirs = torch.tensor(law.smoothed_state.T.copy())
    torch.testing.assert_close(ours.smoothed_means[0] @ row, theirs @ row, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("order", [1, 3])
def test_an_autoregression_alone_is_that_of_statsmodels(order: int) -> None:
    sarimax = pytest.importorskip("statsmodels.tsa.statespace.sarimax")
    model = StructuralSSM("none", ar=order, irregular=False, emission=Gaussian(1)).double()
    coefficients = [0.5, -0.3, 0.2][:order]
    model.set_parameters(ar_coefficients=torch.tensor(coefficients), ar_variance=1.3)
    x = torch.randn(30)
    x[[4, 9, 10]] = torch.nan
    value = sarimax.SARIMAX(x.numpy(), order=(order, 0, 0)).loglike(np.array([*coefficients, 1.3]))
    assert number(model.log_marginal_likelihood(x[None, :, None])) == pytest.approx(value, rel=1e-10)


def test_the_nile_has_its_published_variances() -> None:
    model = StructuralSSM().double()
    climbed(model, torch.tensor(NILE).double())
    for name, published in NILE_VARIANCES.items():  # Durbin & Koopman (2012), sec. 2.10
        assert estimate_of(model, name) == pytest.approx(published, abs=1)


def drivers() -> Tensor:
    """Logs of drivers killed or seriously injured in Great Britain, monthly, 1969-1984: (192,)."""
    path = Path(os.environ.get("PGM_RNN_DATA", "")) / "small_series.npz"
    if not path.is_file():
        pytest.skip("needs small_series.npz with seatbelts_ksi in PGM_RNN_DATA")
    return torch.tensor(np.log(np.load(path)["seatbelts_ksi"]))


@pytest.mark.parametrize("section", BOOK)
def test_drivers_have_the_likelihoods_of_the_textbook(section: str) -> None:
    _, options, published = BOOK[section]
    model, x = StructuralSSM(**options).double(), drivers()
    assert model.diffuse is not None
    ours = climbed(model, x) + 0.5 * model.diffuse.shape[1] * math.log(2 * math.pi)
    assert ours / len(x) == pytest.approx(published, abs=1e-7)
    if section == "4.2":  # Durbin & Koopman (2012), sec. 8.2; the likelihood is flat, digits of theirs differ by 3e-4
        assert estimate_of(model, "irregular_variance") == pytest.approx(0.00341598, rel=1e-3)
        assert estimate_of(model, "level_variance") == pytest.approx(0.000935852, rel=1e-3)
        assert estimate_of(model, "seasonal_variance") == pytest.approx(5.01096e-7, rel=1e-3)


# Autoregressions, fits, files, and what is refused.


def test_partial_autocorrelations_are_those_of_the_coefficients() -> None:
    partials = torch.tensor([0.7, -0.5, 0.3, 0.2])
    phi = coefficients_of(partials)
    torch.testing.assert_close(partials_of(phi), partials)
    cov = moving_average_cov(phi.tolist(), 1.0)
    torch.testing.assert_close(autocorrelations(partials), cov[0, :5] / cov[0, 0], rtol=1e-9, atol=1e-9)


def test_gradient_steps_raise_the_likelihood_and_files_keep_the_model(tmp_path: Path) -> None:
    model = made("everything")
    x, u = data_for(model, True)
    assert u is not None
    data = Sequences(x[None], torch.tensor([T]), None, u[None], ~x.isnan()[None])
    model.start_from(data)
    before = float(model.log_marginal_likelihood(data).detach())
    svi.fit(model, data, num_epochs=40, learning_rate=0.05, progress=False)
    after = float(model.log_marginal_likelihood(data).detach())
    assert after > before + 0.1
    save_model(model, tmp_path / "kept")
    kept = load_model(tmp_path / "kept")
    assert isinstance(kept, StructuralSSM)
    assert float(kept.log_marginal_likelihood(data).detach()) == after
    assert kept.labels == model.labels


def test_a_start_with_a_scale_can_be_drawn_from_and_tends_to_the_diffuse_one() -> None:
    wide, model = (
        StructuralSSM(trend="stochastic", start_scale=1e4).double(),
        StructuralSSM(trend="stochastic").double(),
    )
    assert float(wide.sample(50, 8, seed=0).x[:, 0].std()) == pytest.approx(1e4, rel=0.5)  # five standard errors
    x = torch.randn(1, 8).cumsum(1)
    limit = number(wide.log_marginal_likelihood(x)) + 2 * math.log(1e4)
    assert limit == pytest.approx(number(model.log_marginal_likelihood(x)), abs=1e-5)  # x^2 / k^2 is below 1e-6


def test_the_linear_gaussian_model_makes_them() -> None:
    made_so = LinearGaussianSSM.structural("fixed", "stochastic", 4, regression=1, seasonal_form="trigonometric")
    assert made_so.recipe == StructuralSSM("fixed", "stochastic", 4, regression=1, seasonal_form="trigonometric").recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "none"}, "expected at least one of level, seasonal, cycle and ar, got none"),
        ({"level": "none", "regression": 2}, "expected at least one of level, seasonal, cycle and ar, got none"),
        ({"level": "none", "trend": "fixed"}, "expected a level with trend='fixed', got level='none'"),
        ({"level": "smooth"}, "level"),
        ({"seasonal": 1}, "expected seasonal, a period in steps, of at least 2, got 1"),
        ({"seasonal": 4, "harmonics": 2}, "expected seasonal_form='trigonometric' with harmonics=2, got 'dummy'"),
        ({"harmonics": 2}, "expected seasonal, a period in steps, with harmonics=2, got None"),
        ({"seasonal": 5, "harmonics": 3, "seasonal_form": "trigonometric"}, "at most seasonal / 2 = 2 harmonics"),
        ({"cycle": "damped", "cycle_periods": (8, 4)}, "expected cycle_periods as two numbers of steps"),
        ({"ar": 0}, "expected ar to be an integer of at least 1, got 0"),
        ({"start_scale": -1.0}, "expected start_scale as a positive number, or None, got -1.0"),
        ({"irregular": False}, r"expected emission=Gaussian\(1\) with irregular=False"),
        ({"emission": Gaussian(2)}, r"expected emission=Gaussian\(\) or Gaussian\(1\), for one variable"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StructuralSSM(**options)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ar_coefficients": [1.2, 0.1]}, "expected coefficients of a stationary autoregression"),
        ({"ar_coefficients": [0.2]}, "expected ar_coefficients as 2 numbers"),
        ({"level_variance": 0.0}, "expected level_variance as one number, positive numbers, got 0.0"),
        ({"cycle_frequency": 4.0}, "expected cycle_frequency as one number, numbers between 0 and 3.142, got 4.0"),
        ({"size": 1.0}, "the parameter"),
    ],
)
def test_values_that_do_not_fit_are_refused_and_change_nothing(values: dict[str, Any], message: str) -> None:
    model = made("everything")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        model.set_parameters(irregular_variance=7.0, **values)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "inputs", "message"),
    [
        ({"seasonal": 12}, None, "expected seasonal, a period in steps, below the 8 steps of the longest sequence"),
        ({"ar": 8}, None, "expected ar, an order in steps, below the 8 steps of the longest sequence, got 8"),
        ({"regression": 2}, "twice", "got input 2 .counted from 1. of 2, which is one; leave it out"),
        ({"regression": 1}, "constant", "got input 1 .counted from 1. of 1, which is one; leave it out"),
    ],
)
def test_data_that_cannot_determine_a_model_are_refused(
    options: dict[str, Any], inputs: str | None, message: str
) -> None:
    u = torch.randn(1, 8, 1)
    given = {"twice": torch.cat([u, 2 * u], -1), "constant": torch.ones(1, 8, 1), None: None}[inputs]
    with pytest.raises(ValueError, match=message):
        StructuralSSM(**options).double().start_from(Sequences(torch.randn(1, 8), torch.tensor([8]), None, given))


@pytest.mark.slow
def test_the_command_line_fits_decomposes_and_forecasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = np.arange(40)
    x = 5 + 0.1 * steps + np.sin(np.pi * steps / 2) + 0.3 * np.random.default_rng(0).normal(size=40)
    write_csv(Path("sales.csv"), x, "sales")
    for words in (
        "fit structural --data sales.csv --trend fixed --seasonal 4 --epochs 2 --test-fraction 0 --output fits/a",
        "infer fits/a --data sales.csv --out states.csv",
        "forecast fits/a --data sales.csv --num-steps 4",
    ):
        assert call(monkeypatch, *words.split()) == 0
    found = pd.read_csv("states.csv")
    assert {"level", "level_sd", "slope", "slope_sd", "seasonal", "seasonal_sd"} <= set(found.columns)
    assert found["slope"].mean() == pytest.approx(0.1, abs=0.02)
    assert abs(found["seasonal"].to_numpy() - np.sin(np.pi * steps / 2)).max() < 0.4
    for options in ("--seasonal 60", "--level none"):
        assert call(monkeypatch, *f"fit structural --data sales.csv {options} --output fits/b".split()) == 2


def test_a_model_without_components_has_no_decomposition() -> None:
    with pytest.raises(TypeError, match="expected a model with named components"):
        kalman.decompose(LinearGaussianSSM.random(2, 1, seed=0), torch.randn(1, 5, 1))
