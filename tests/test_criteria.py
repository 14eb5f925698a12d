"""The number of free parameters against counts by hand, and the criteria against their formulas."""

import math

import pytest
import torch

from pgm_rnn.emissions import Bernoulli, Emission, FullGaussian, Gaussian, Pen, Poisson
from pgm_rnn.models import HMM, RNN, FactorialHMM, LinearGaussianSSM
from pgm_rnn.models.markov_chain import MarkovChain
from pgm_rnn.sequence_model.criteria import aic, bic, num_free_parameters

K = 3
CHAIN = (K - 1) + K * (K - 1)


@pytest.mark.parametrize(
    ("emission", "per_state"),
    [
        (Gaussian(), 2),
        (Gaussian(4), 8),
        (Poisson(4), 4),
        (Bernoulli(4), 4),
        (FullGaussian(2), 2 + 3),
        (Pen(2), (2 - 1) + 2 * (2 + 2 + 1) + 1),
    ],
)
def test_a_state_has_the_parameters_of_its_law(emission: Emission, per_state: int) -> None:
    assert num_free_parameters(HMM.random(K, emission=emission, seed=0)) == CHAIN + K * per_state


def test_a_row_of_probabilities_counts_one_less_than_its_entries() -> None:
    assert num_free_parameters(HMM.random(K, num_symbols=5, seed=0)) == CHAIN + K * 4
    assert num_free_parameters(MarkovChain.random(4, seed=0)) == 3 + 4 * 3
    assert num_free_parameters(MarkovChain.random(emission=Bernoulli(2), seed=0)) == 3 * 2
    assert num_free_parameters(HMM.random(1, num_symbols=2, seed=0)) == 1


def test_a_probability_of_zero_is_not_free() -> None:
    upwards = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    model = HMM(torch.tensor([1.0, 0.0, 0.0]), upwards, torch.full((3, 2), 0.5))
    assert num_free_parameters(model) == 0 + (1 + 1 + 0) + 3


def test_a_covariance_counts_its_triangle() -> None:
    D, M = 2, 3
    model = LinearGaussianSSM.random(D, M, seed=0)
    assert num_free_parameters(model) == D + D * D + M * D + 2 * D * (D + 1) // 2 + M * (M + 1) // 2
    singular = LinearGaussianSSM.random(D, M, ranks=[1, 1, 2], seed=0)
    assert num_free_parameters(singular) == D + D * D + M * D + 1 + 1 + 3


def test_every_number_of_a_network_counts() -> None:
    model = RNN("gru", num_symbols=3, hidden_dim=4)
    assert num_free_parameters(model) == sum(parameter.numel() for parameter in model.parameters())


def test_the_criteria_are_those_of_their_definitions() -> None:
    log_likelihood, num_free, num_steps = -123.4, 7, 200
    assert aic(-log_likelihood, num_free) == pytest.approx(2 * num_free - 2 * log_likelihood)
    assert bic(-log_likelihood, num_free, num_steps) == pytest.approx(num_free * math.log(200) - 2 * log_likelihood)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 2), (2, 2, 2)])
def test_what_chains_give_and_take_from_each_other_is_counted_once(sizes: tuple[int, ...]) -> None:
    """The likelihood moves in as many directions as there are free parameters: the rank of its sequences' scores."""
    model = FactorialHMM.random(len(sizes), sizes, emission=Gaussian(1), seed=0).double()
    parameters = list(model.parameters())
    scores = [
        torch.autograd.grad(value, parameters, retain_graph=True) for value in model.log_prob(torch.randn(80, 6, 1))
    ]
    table = torch.stack([torch.cat([part.flatten() for part in score]) for score in scores])
    assert num_free_parameters(model) == int(torch.linalg.matrix_rank(table, rtol=1e-9)) < table.shape[1]
