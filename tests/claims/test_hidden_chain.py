import pytest
import torch

from pgm_rnn.claims.hidden_chain import reachable_chain, sequences_of
from pgm_rnn.claims.instances import random_rnn
from pgm_rnn.emissions import Bernoulli, Categorical
from pgm_rnn.models.cells import CELLS


@pytest.mark.parametrize("cell", CELLS)
def test_the_kernels_are_point_masses_on_the_reachable_states(cell: str) -> None:
    chain = reachable_chain(random_rnn(cell, Categorical(3), 1, seed=0), 3, num_steps=4)
    assert len(chain.emissions[0]) == 1
    for kernel in chain.kernels:
        assert set(kernel.unique().tolist()) <= {0.0, 1.0}
        torch.testing.assert_close(kernel.sum(-1), torch.ones(kernel.shape[:2]))
        assert bool((kernel.sum((0, 1)) > 0).all())


def test_a_noisy_chain_is_stochastic_and_normalised() -> None:
    chain = reachable_chain(random_rnn("gru", Bernoulli(), 1, seed=0), 2, num_steps=4).noisy(0.1)
    for kernel in chain.kernels:
        torch.testing.assert_close(kernel.sum(-1), torch.ones(kernel.shape[:2]))
        assert float(kernel.min()) > 0


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_variable_elimination_is_the_sum_over_all_paths_of_states(noise: float) -> None:
    chain = reachable_chain(random_rnn("elman", Bernoulli(), 1, seed=1), 2, num_steps=4).noisy(noise)
    joint = chain.joint(4)
    observed = joint.marginal({name for name in joint.names if name.startswith("x")}).flatten()
    conditional = (observed.reshape(2, -1) / observed.reshape(2, -1).sum(1, keepdim=True)).flatten()
    torch.testing.assert_close(chain.conditional_law(4), conditional, rtol=1e-12, atol=0)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_enumeration_agrees_with_variable_elimination(noise: float) -> None:
    rnn = random_rnn("lstm", Categorical(3), 1, seed=2)
    chain = reachable_chain(rnn, 3, num_steps=3).noisy(noise)
    x = sequences_of(rnn, 3, 3)
    expected = chain.conditional_law(3).log()
    torch.testing.assert_close(chain.enumerated_log_likelihoods(x), expected, rtol=1e-12, atol=0)
