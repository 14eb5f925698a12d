"""Scripts whose states or arguments are not the zoo's: their likelihoods, states summed out, are."""

from typing import Any

import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Gaussian
from pgm_rnn.models import (
    HSMM,
    FactorialHMM,
    InputHMM,
    StochasticVolatility,
    StructuralSSM,
    SwitchingLinearSSM,
    SwitchingMeanAR,
)
from pgm_rnn.models.additive import AdditiveEmission
from tests.instances import randomised
from tests.tutorials.pairs import load

LENGTHS = torch.tensor([5, 3, 1])


def of_script(name: str, x: Tensor, *arguments: Any) -> float:
    script = load(name)
    return -float(TraceEnum_ELBO(max_plate_nesting=1).loss(script.model, script.guide, x, LENGTHS, *arguments))


@torch.no_grad()
def test_switching_means_have_the_zoos_likelihood() -> None:
    zoo, x = randomised(SwitchingMeanAR.random(2, order=1, seed=0), scale=0.3), torch.randn(3, 5)
    numbers = zoo.means, zoo.coefficients[0], zoo.log_scales[0].exp()
    expected = float(zoo.log_prob(x, lengths=LENGTHS).sum())
    assert of_script("switching_mean_ar", x, zoo.stationary_probs(), zoo.regime_probs, *numbers) == pytest.approx(
        expected, rel=1e-9
    )
    other = zoo.means + 0.1, *numbers[1:]
    assert abs(of_script("switching_mean_ar", x, zoo.stationary_probs(), zoo.regime_probs, *other) - expected) > 1e-3


@torch.no_grad()
def test_segments_have_the_zoos_likelihood() -> None:
    zoo, x = HSMM.random(3, 4, max_duration=3, seed=0).double(), torch.randint(4, (3, 5))
    tables = zoo.initial_probs, zoo.transition_probs, zoo.duration_probs, zoo.emission_probs
    expected = float(zoo.log_prob(x, lengths=LENGTHS).sum())
    assert of_script("hsmm", x, *tables) == pytest.approx(expected, rel=1e-9)
    other = *tables[:2], tables[2].flip(1), tables[3]
    assert abs(of_script("hsmm", x, *other) - expected) > 1e-3


@torch.no_grad()
def test_a_structural_series_has_the_zoos_likelihood() -> None:
    zoo, x = StructuralSSM(trend="stochastic", seasonal=4, start_scale=3.0).double(), torch.randn(3, 5)
    v = {"irregular": 0.7, "level": 0.2, "slope": 0.05, "seasonal": 0.1}
    zoo.set_parameters(**{f"{name}_variance": value for name, value in v.items()})
    expected = float(zoo.log_prob(x, lengths=LENGTHS).sum())
    script, numbers = load("structural"), torch.tensor([*v.values()])
    found = -Trace_ELBO().loss(script.model, script.guide, x, LENGTHS, 4, 3.0, numbers)
    assert found == pytest.approx(expected, rel=1e-9)
    other = -Trace_ELBO().loss(script.model, script.guide, x, LENGTHS, 4, 3.0, numbers.flip(0))
    assert abs(other - expected) > 1e-3


@torch.no_grad()
def test_returns_and_log_variances_have_the_zoos_density() -> None:
    zoo = StochasticVolatility(-0.5, 0.9, 0.4, leverage=-0.6).double()
    data, script = zoo.sample(3, 5, seed=0), load("stochastic_volatility")
    assert data.z is not None
    states = {f"z_{t}": z for t, z in enumerate(data.z[..., 0].unbind(1), start=1)}
    expected = float(zoo.log_prob(data.x, data.z, LENGTHS).sum())

    def found(*numbers: float) -> float:
        given = poutine.condition(script.model, data=states)
        trace = poutine.trace(given).get_trace(data.x, LENGTHS, *torch.tensor(numbers))
        return float(trace.log_prob_sum())

    assert found(-0.5, 0.9, 0.4, -0.6) == pytest.approx(expected, rel=1e-9)
    assert abs(found(-0.5, 0.9, 0.4, 0.6) - expected) > 1e-2


@torch.no_grad()
def test_regimes_given_vectors_have_the_zoos_density() -> None:
    zoo = SwitchingLinearSSM.random(2, 2, 2, seed=0)
    zoo.transition_offset.zero_()
    zoo.emission_offset.zero_()
    x, y, script = torch.randn(3, 5, 2), torch.randn(3, 5, 2), load("switching_linear")
    laws = [zoo.initial_probs, zoo.transition_probs, zoo.initial_mean, zoo.initial_cov, zoo.transition_matrix]
    laws += [zoo.transition_cov, zoo.emission_matrix, zoo.emission_cov]
    paths = torch.cartesian_prod(*[torch.arange(2.0)] * 5)
    joint = [zoo.log_prob(x, torch.cat([s.expand(3, 5)[..., None], y], -1), LENGTHS) for s in paths]
    shares = 2.0 ** (LENGTHS - 5)  # padding, which does not count, has 2^(5 - T) paths
    expected = float((torch.stack(joint).logsumexp(0) + shares.log()).sum())

    def given(*arguments: Tensor) -> float:
        known = poutine.condition(script.model, data={f"y_{t + 1}": y[:, t] for t in range(5)})
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        return -float(elbo.loss(known, lambda *_: None, x, LENGTHS, *arguments))

    assert given(*laws) == pytest.approx(expected, rel=1e-9)
    assert abs(given(laws[0], laws[1].flip(1), *laws[2:]) - expected) > 1e-3


@torch.no_grad()
def test_two_chains_have_the_zoos_likelihood() -> None:
    zoo, x = FactorialHMM.random(2, (2, 3), emission=Gaussian(), seed=0).double(), torch.randn(3, 5)
    law = zoo.emission_law
    assert isinstance(law, AdditiveEmission)
    assert law.common is not None
    effects, scale = [part[:, 0] for part in law.effects], [law.natural_parameters["scale"].read(law.common)]
    tables = list(zoo.initial_probs), list(zoo.transition_probs)
    expected = float(zoo.log_prob(x, lengths=LENGTHS).sum())
    assert of_script("factorial_hmm", x, *tables, effects, scale) == pytest.approx(expected, rel=1e-9)
    assert abs(of_script("factorial_hmm", x, *tables, [effects[0], 2 * effects[1]], scale) - expected) > 1e-3


@torch.no_grad()
def test_a_chain_with_inputs_has_the_zoos_likelihood() -> None:
    zoo = InputHMM.random(3, input_dim=2, emission=Bernoulli(), seed=0)
    x, u = torch.randint(2, (3, 5)).double(), torch.randn(3, 5, 2)
    a, b, c = zoo.initial_logits, zoo.transition_logits, zoo.emission_laws.params[:, 0]
    A, B, C = zoo.initial_weight, zoo.transition_weight, zoo.emission_weight[:, 0]
    expected = float(zoo.log_prob(x, lengths=LENGTHS, inputs=u).sum())
    assert of_script("input_hmm", x, u, a, A, b, B, c, C) == pytest.approx(expected, rel=1e-9)
    assert abs(of_script("input_hmm", x, u, a, A, b, 2 * B, c, C) - expected) > 1e-3
