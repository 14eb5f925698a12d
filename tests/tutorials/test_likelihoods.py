"""Scripts whose states or arguments are not the zoo's: their likelihoods, states summed out, are."""

from typing import Any

import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Gaussian
from pgm_rnn.models import HSMM, FactorialHMM, InputHMM, SwitchingMeanAR
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
