"""Fits that end at the limit of what is searched say so: which parameter, in which state, and what it means."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Beta, EmissionTable, Gamma, Gaussian, Joint, Mixture, NegativeBinomial, StudentT, VonMises
from pgm_rnn.emissions.natural import Natural
from pgm_rnn.inference import at_limits, em, svi
from pgm_rnn.models import HMM, HSMM, AutoregressiveHMM, FactorialHMM, InputHMM

LAWS: dict[str, tuple[Any, dict[str, list[float]], str]] = {
    "gamma": (Gamma(), {"mean": [1.0, 20.0], "concentration": [4.0, 40.0]}, "concentration"),
    "beta": (Beta(), {"mean": [0.2, 0.8], "concentration": [20.0, 40.0]}, "concentration"),
    "von-mises": (VonMises(), {"loc": [-1.0, 2.0], "concentration": [4.0, 40.0]}, "concentration"),
    "student-t": (StudentT(), {"loc": [-60.0, 60.0], "scale": [1.0, 1.0], "df": [3.0, 3.0]}, "df"),
    "negative-binomial": (NegativeBinomial(), {"mean": [2.0, 300.0], "dispersion": [0.2, 0.02]}, "dispersion"),
}
"""Family, two laws that are far apart, and the parameter that has limits."""
every_law = pytest.mark.parametrize("name", LAWS)
MOVES = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)


def table_of(name: str) -> EmissionTable:
    family, values, _ = LAWS[name]
    found: EmissionTable = family.table(**{key: torch.tensor(value).double() for key, value in values.items()})
    return found


def model_of(name: str) -> HMM:
    return HMM(torch.ones(2, dtype=torch.float64) / 2, MOVES, table_of(name))


def drawn(name: str) -> Tensor:
    """Observations of the model."""
    return model_of(name).sample(6, 80, seed=0).x


def degenerate(name: str) -> Tensor:
    """The same, but what state 1 would emit is such that its law reaches a limit."""
    x = drawn(name)
    centre = {"gamma": 20.0, "beta": 0.8, "von-mises": 2.0, "student-t": 60.0, "negative-binomial": 300.0}[name]
    other = {"gamma": 6.0, "beta": 0.5, "von-mises": 0.5, "student-t": 0.0, "negative-binomial": 60.0}[name]
    of_one = x > other
    if name == "student-t":  # no tails at all
        return x.masked_scatter(of_one, centre + torch.linspace(-1, 1, int(of_one.sum()), dtype=x.dtype))
    return x.where(~of_one, torch.as_tensor(centre, dtype=x.dtype))


STEPS = {"student-t": 60}
"""The M-steps of the other families are exact, and reach a limit at once."""
MEANINGS = {
    "gamma": r"concentration ends near 1e\+08, the largest .* state 1 \(counted from 0\): .* all nearly equal",
    "beta": r"concentration ends near 1e\+08, the largest .* state 1 \(counted from 0\): .* all nearly equal",
    "von-mises": r"concentration ends near 1e\+08, the largest .* state 1 \(counted from 0\): .* all nearly equal",
    "student-t": r"df ends near 1000, the largest .* state 1 \(counted from 0\): .* no heavier tails",
    "negative-binomial": r"dispersion ends near 1e-10, the least .* state 1 \(counted from 0\): .* no more there",
}


@every_law
def test_em_names_the_state_whose_law_ends_at_a_limit(name: str) -> None:
    with pytest.warns(em.EmWarning, match=MEANINGS[name]) as raised:
        em.fit(model_of(name), degenerate(name), num_iterations=STEPS.get(name, 2), tolerance=0.0, progress=False)
    assert len(raised) == 1
    assert str(raised[0].message).count(". ") == 0  # one sentence


@every_law
def test_em_says_nothing_of_laws_within(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        em.fit(model_of(name), drawn(name), num_iterations=20, progress=False)


def at_the_limit(name: str) -> HMM:
    """The model with state 1 at the limit that it would reach."""
    model, parameter = model_of(name), LAWS[name][2]
    natural: Natural = model.emission_table.natural_parameters[parameter]
    assert natural.limits is not None
    end = natural.limits.least if name == "negative-binomial" else natural.limits.most
    with torch.no_grad():
        params = model.emission_table.params
        value = natural.read(params)
        value[1] = end
        params.copy_(natural.write(params, value))
    return model


@every_law
def test_gradient_steps_that_end_at_a_limit_say_so(name: str) -> None:
    options: dict[str, Any] = {"objective": "mle", "num_epochs": 2, "learning_rate": 1e-12, "progress": False}
    with pytest.warns(at_limits.LimitWarning, match=MEANINGS[name]) as raised:
        svi.fit(at_the_limit(name), degenerate(name), **options)
    assert len(raised) == 1
    assert raised[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svi.fit(model_of(name), drawn(name), **options)
        fixed = at_the_limit(name)
        fixed.emission_table.params.requires_grad_(False)  # given, not fitted
        svi.fit(fixed, degenerate(name), **options)


def test_a_frozen_law_and_a_state_without_data_are_not_named() -> None:
    x = degenerate("gamma")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        em.fit(at_the_limit("gamma"), x, frozen=["emission"], num_iterations=2, progress=False)
    with pytest.warns(em.EmWarning) as raised:
        em.fit(at_the_limit("gamma"), x.where(x < 6, 1.0), num_iterations=5, progress=False)
    assert [str(each.message).partition(",")[0] for each in raised] == ["Almost none of the data"]


def test_columns_and_components_are_found_inside_other_families() -> None:
    x = degenerate("gamma")
    pair = torch.stack([torch.randn(x.shape, dtype=x.dtype), x], -1)
    joint = Joint([Gaussian(), Gamma()])
    normal = Gaussian().table(torch.zeros(2).double(), torch.ones(2).double())
    model = HMM(torch.ones(2).double() / 2, MOVES, joint.table(normal, table_of("gamma")))
    with pytest.warns(em.EmWarning, match=r"column_1_concentration ends near 1e\+08, .* state 1"):
        em.fit(model, pair, num_iterations=20, progress=False)
    family = Mixture(Gamma(), 2)
    params = torch.cat([torch.zeros(2, 2).double(), table_of("gamma").params.detach().repeat(1, 2)], -1)
    found = at_limits.of_parameters(family.natural_parameters, {"params": params})
    assert found == []
    two = Gamma(2).table(torch.ones(3, 2).double(), torch.tensor([[1.0, 1e8], [1e8, 1.0], [2.0, 1e8]]).double())
    (sentence,) = at_limits.of_parameters(two.natural_parameters, {"params": two.params})
    assert "in states 0, 1, 2 (counted from 0), entries 0, 1:" in sentence
    used = torch.tensor([True, False, True])
    (sentence,) = at_limits.of_parameters(two.natural_parameters, {"params": two.params}, used)
    assert "in states 0, 2 (counted from 0), entry 1:" in sentence


def test_models_with_durations_and_with_inputs_say_it_too() -> None:
    x, u = degenerate("gamma"), torch.zeros(6, 80, 1).double()
    durations = torch.full((2, 60), 1 / 60).double()
    start, other = torch.ones(2).double() / 2, torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    with pytest.warns(em.EmWarning, match=MEANINGS["gamma"]):
        em.fit(HSMM(start, other, durations, table_of("gamma")), x, num_iterations=3, progress=False)
    driven = InputHMM(start, MOVES, at_the_limit("gamma").emission_table, 1, drives="transition").double()
    with pytest.warns(em.EmWarning, match="concentration ends near"):
        em.fit(driven, x, inputs=u, num_iterations=1, progress=False)


def of_two(noise: float = 0.0) -> Tensor:
    """A state of constant observations, up to some noise, and one of normal ones."""
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(0)).double()
    return x.where(torch.arange(40) % 4 > 0, 50.0 + noise * x)


def table_of_two() -> EmissionTable:
    return Gaussian().table(torch.tensor([0.0, 50.0]).double(), torch.ones(2).double())


MOVES_OF_TWO = torch.tensor([[0.7, 0.3], [0.9, 0.1]], dtype=torch.float64)


@pytest.mark.parametrize("drives", ["transition", "emission"])
def test_a_scale_that_ends_at_the_least_of_a_closed_m_step_is_named(drives: Any) -> None:
    u, start = torch.zeros(6, 40, 1).double(), torch.ones(2).double() / 2
    options: dict[str, Any] = {"inputs": u, "num_iterations": 3, "tolerance": 0.0, "progress": False}
    told = r"^scale ends at \S+, (at most 2e-06 of the spread|below the rounding) of the observations, in state 1 \("
    with pytest.warns(em.EmWarning, match=told) as raised:
        em.fit(InputHMM(start, MOVES_OF_TWO, table_of_two(), 1, drives=drives).double(), of_two(), **options)
    assert len(raised) == 1
    assert at_limits.NO_BOUND in str(raised[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        em.fit(InputHMM(start, MOVES_OF_TWO, table_of_two(), 1, drives=drives).double(), of_two(1e-3), **options)


def test_an_autoregression_that_is_exact_in_a_state_is_named() -> None:
    start, lags = torch.ones(2).double() / 2, torch.zeros(2, 1).double()
    model = AutoregressiveHMM(start, MOVES_OF_TWO, table_of_two(), lags)
    with pytest.warns(em.EmWarning, match=r"^scale ends at .* of the observations, in state 1 \(counted from 0\): "):
        em.fit(model, of_two(), num_iterations=3, tolerance=0.0, progress=False)


def test_gradient_steps_that_end_at_a_vanishing_scale_say_so_and_do_not_ask_for_more() -> None:
    model = HMM(torch.ones(2).double() / 2, MOVES_OF_TWO, table_of_two())
    told = r"^scale ends at \S+, below the rounding of the observations, in state 1 \(counted from 0\): "
    options: dict[str, Any] = {"objective": "mle", "num_epochs": 120, "progress": False}
    with pytest.warns(at_limits.LimitWarning, match=told) as raised:
        svi.fit(model, of_two(), learning_rate=0.5, **options)
    assert len(raised) == 1  # no remark that the likelihood still rose
    assert raised[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svi.fit(
            HMM(torch.ones(2).double() / 2, MOVES_OF_TWO, table_of_two()), of_two(0.5), learning_rate=0.1, **options
        )


def test_a_scale_that_states_share_names_no_state_and_frozen_ones_are_left_out() -> None:
    chains = FactorialHMM.random(2, (2, 2), emission=Gaussian(2), seed=0).double()
    fitted, x = [name for name, _ in chains.named_parameters()], torch.randn(3, 4, 2).double()
    assert at_limits.of_scales(chains, x, fitted) == []
    with torch.no_grad():
        dict(chains.named_parameters())["emission_law.common"].fill_(-60.0)
    (sentence,) = at_limits.of_scales(chains, x, fitted)
    assert "below the rounding of the observations: " in sentence
    assert at_limits.of_scales(chains, 1e-12 * x, fitted) == []  # e^-60 = 9e-27 is large beside 2e-16 times their size
    assert at_limits.of_scales(chains, x, []) == []


def test_the_least_values_mean_something_else() -> None:
    for name, (_, _, parameter) in LAWS.items():
        natural = table_of(name).natural_parameters[parameter]
        assert natural.limits is not None
        assert natural.limits.least < natural.limits.most
        assert natural.limits.at_least != natural.limits.at_most
        low = table_of(name)
        with torch.no_grad():
            low.params.copy_(natural.write(low.params, torch.full((2,), natural.limits.least).double()))
        (sentence,) = at_limits.of_parameters(low.natural_parameters, {"params": low.params})
        assert f"{parameter} ends near {natural.limits.least:g}, the least value" in sentence
        assert natural.limits.at_least in sentence
        assert not math.isnan(float(low.log_probs(drawn(name)[:1, :1]).detach().sum()))
