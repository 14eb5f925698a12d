import pytest
import torch

from pgm_rnn.claims.instances import random_rnn
from pgm_rnn.claims.torch_recursion import log_likelihood
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from pgm_rnn.models.cells import CELLS

EMISSIONS = [Bernoulli(), Bernoulli(3), Categorical(4), Gaussian(), Gaussian(2), Poisson(), Poisson(2)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("emission", EMISSIONS, ids=str)
def test_the_recursion_and_the_model_give_one_likelihood(cell: str, emission: Emission) -> None:
    rnn = random_rnn(cell, emission, num_layers=2, seed=3)
    x = rnn.sample(4, 5, seed=0).x
    lengths = torch.tensor([5, 1, 3, 2])
    for condition, first in ((False, "model"), (True, "condition")):
        exact = log_likelihood(rnn, x, lengths, condition)
        model = rnn.log_prob(x, lengths=lengths, first=first)  # type: ignore[arg-type]
        torch.testing.assert_close(exact, model, rtol=1e-12, atol=1e-12)


def test_gradients_reach_the_models_own_parameters() -> None:
    rnn = random_rnn("lstm", Categorical(3), num_layers=2, seed=4)
    x = rnn.sample(4, 5, seed=0).x
    log_likelihood(rnn, x).sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in rnn.parameters())
