import math

import pytest
import torch

from pgm_rnn.claims.choe_2017.textbook_filter import (
    filtered_estimates,
    log_likelihood_given,
    printed_weights,
    right_weights,
)
from pgm_rnn.claims.finite_chain import FiniteChain
from pgm_rnn.particles.noise import SeededNoise


def test_the_printed_weight_lacks_one_factor() -> None:
    chain, q = FiniteChain.random(3, 2, seed=0), torch.full((3, 3), 1 / 3)
    factor = chain.transition @ chain.emission[:, 1]  # p(x_t = 1 | z_{t-1})
    torch.testing.assert_close(printed_weights(chain, q, 1) * factor[:, None], right_weights(chain, q, 1))


def test_one_step_is_importance_sampling_of_the_first_state() -> None:
    chain = FiniteChain.random(2, 2, seed=0)
    found = filtered_estimates(chain, chain.transition, [1], 50, 300, right_weights, seed=0)
    posterior = chain.initial * chain.emission[:, 1]
    torch.testing.assert_close(found.sum(1), torch.ones(300))
    assert float((found.mean(0) - posterior / posterior.sum()).abs().max()) < 0.05


@pytest.mark.parametrize("scheme", ["multinomial", "stratified", "systematic"])
def test_a_chain_of_one_state_is_filtered_without_error(scheme: str) -> None:
    chain = FiniteChain(torch.ones(1), torch.ones(1, 1), torch.tensor([[0.25, 0.75]]))
    noise = SeededNoise(0, 3, 1, scheme)
    found = log_likelihood_given(chain, [0, 1, 1], 3, noise, scheme, 1.0)
    assert found == pytest.approx(math.log(0.25 * 0.75**2))
