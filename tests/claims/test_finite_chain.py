import torch

from pgm_rnn.claims.finite_chain import FiniteChain
from pgm_rnn.claims.tables import all_sequences
from tests.definitions import marginal_prob


def test_the_law_is_the_sum_over_paths_and_sums_to_one() -> None:
    chain = FiniteChain.random(3, 2, seed=0)
    words = all_sequences(2, 4)
    expected = torch.stack(
        [marginal_prob(chain.initial, chain.transition, chain.emission.T[word]) for word in words.unbind()]
    )
    torch.testing.assert_close(chain.law(4), expected)
    assert abs(float(expected.sum()) - 1) < 1e-12


def test_the_last_state_is_that_of_the_paths() -> None:
    chain, words = FiniteChain.random(3, 2, seed=1), all_sequences(2, 3)
    torch.testing.assert_close(chain.joint_with_last(words).sum(-1), chain.probs(words))
    torch.testing.assert_close(chain.joint_with_last(words[:, :1]), chain.initial * chain.emission.T[words[:, 0]])


def test_random_chains_remember_and_seeds_differ() -> None:
    chain, other = (FiniteChain.random(2, 2, seed, memory=0.2) for seed in (0, 1))
    assert not torch.equal(chain.transition, other.transition)
    pairs = chain.law(2).reshape(2, 2)
    assert float((pairs / pairs.sum(1, keepdim=True) - pairs.sum(0)).abs().max()) > 0.2


def test_the_rows_of_a_sticky_chain_sum_to_one() -> None:
    chain = FiniteChain.sticky(seed=0, num_states=3)
    for rows in chain:
        torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:-1]))
    assert bool((chain.transition.diagonal() > 0.8).all())
