"""The scans of a finite chain against the sum over all paths and against the recursions."""

import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels import hmm, hmm_paths, hmm_scan
from tests.definitions import filtered_probs, marginal_prob, path_probs
from tests.kernels.test_diagonal import Operations

B, T, K = 3, 7, 4
LENGTHS = torch.tensor([7, 1, 4])
TABLES = {"shared": (K, K), "per step": (T - 1, K, K), "per sequence": (B, 1, K, K), "per both": (B, T - 1, K, K)}
every_table = pytest.mark.parametrize("shape", TABLES.values(), ids=TABLES)


def chain(shape: tuple[int, ...], num_steps: int = T, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    initial = torch.rand((B, K) if len(shape) == 4 else (K,)).softmax(-1)
    return initial, torch.rand(shape).softmax(-1), torch.randn(B, num_steps, K), LENGTHS.clamp(max=num_steps)


def sparse() -> tuple[Tensor, Tensor]:
    """A left-right chain, most of whose entries are zero."""
    initial = torch.zeros(K).index_fill(0, torch.tensor([0]), 1.0)
    return initial, 0.7 * torch.eye(K) + 0.3 * torch.eye(K).roll(1, 1).triu() + 0.3 * torch.eye(K)[:, -1:] * torch.eye(
        K
    )


def test_they_are_the_sum_over_all_paths() -> None:
    initial, transition, log_emission, _ = chain((K, K), num_steps=4)
    lengths = torch.full((B,), 4)
    found = hmm_scan.filter(initial, transition, log_emission, lengths)
    smoothed = hmm_scan.smooth(initial, transition, log_emission, lengths)
    for b in range(B):
        emission = log_emission[b].exp()
        torch.testing.assert_close(found.filtered[b], filtered_probs(initial, transition, emission))
        expected = marginal_prob(initial, transition, emission)
        torch.testing.assert_close(found.log_normalizers[b].sum().exp(), expected)
        table = path_probs(initial, transition, emission)
        for t in range(4):
            shares = torch.stack([torch.stack([p for z, p in table.items() if z[t] == k]).sum() for k in range(K)])
            torch.testing.assert_close(smoothed[b, t], shares / expected)


@every_table
def test_ragged_sequences_have_the_numbers_of_the_recursions(shape: tuple[int, ...]) -> None:
    arguments = chain(shape)
    found, expected = hmm_scan.filter(*arguments), hmm.forward(*arguments)
    torch.testing.assert_close(found.log_normalizers, expected.log_normalizers)
    torch.testing.assert_close(found.filtered, expected.filtered)
    torch.testing.assert_close(hmm_scan.smooth(*arguments), hmm.backward(arguments[1], LENGTHS, expected).smoothed)
    torch.testing.assert_close(hmm_scan.log_marginal_likelihood(*arguments), hmm.log_marginal_likelihood(*arguments))


@every_table
def test_gradients_are_those_of_the_recursions(shape: tuple[int, ...]) -> None:
    initial, transition, log_emission, lengths = chain(shape)
    leaves = initial.requires_grad_(), transition.requires_grad_(), log_emission.requires_grad_()
    value = hmm_scan.log_marginal_likelihood(initial, transition, log_emission, lengths)
    slopes = torch.autograd.grad(value.sum(), leaves)
    value = hmm.log_marginal_likelihood(initial, transition, log_emission, lengths)
    expected = torch.autograd.grad(value.sum(), leaves)
    torch.testing.assert_close(slopes, expected)


def test_a_sparse_chain_of_many_steps_loses_nothing_in_single_precision() -> None:
    initial, transition = sparse()
    torch.manual_seed(1)
    log_emission = 30 * torch.randn(2, 2000, K)
    lengths = torch.tensor([2000, 700])
    single = initial.float(), transition.float(), log_emission.float(), lengths
    double = single[0].double(), single[1].double(), single[2].double(), lengths
    exact = hmm.log_marginal_likelihood(*double)
    found = hmm_scan.log_marginal_likelihood(*single)
    torch.testing.assert_close(found.double(), exact, rtol=2e-7, atol=0)  # computed in float64 and rounded once
    steps = hmm_scan.filter(*single).log_normalizers.double().sum(1)
    torch.testing.assert_close(steps, exact, rtol=2e-7, atol=0)
    smoothed = hmm_scan.smooth(*single)
    expected = hmm.backward(double[1], lengths, hmm.forward(*double)).smoothed
    torch.testing.assert_close(smoothed.double(), expected, rtol=0, atol=2e-6)


def test_padding_is_never_read() -> None:
    initial, transition, log_emission, lengths = chain((K, K))
    spoiled = log_emission.clone()
    spoiled[1, 1:], spoiled[2, 4:] = torch.nan, torch.inf
    spoiled.requires_grad_()
    value = hmm_scan.log_marginal_likelihood(initial, transition, spoiled, lengths)
    torch.testing.assert_close(value, hmm.log_marginal_likelihood(initial, transition, log_emission, lengths))
    (slope,) = torch.autograd.grad(value.sum(), spoiled)
    assert bool(slope.isfinite().all())
    found = hmm_scan.smooth(initial, transition, spoiled.detach(), lengths)
    torch.testing.assert_close(found, hmm_scan.smooth(initial, transition, log_emission, lengths))


def test_an_impossible_sequence_has_probability_zero_and_no_beliefs() -> None:
    initial, transition = sparse()
    log_emission = torch.zeros(2, 3, K)
    log_emission[0, 1, :2] = -torch.inf  # after one step the chain is in one of the first two states
    lengths = torch.tensor([3, 3])
    assert hmm_scan.log_marginal_likelihood(initial, transition, log_emission, lengths).tolist()[0] == -torch.inf
    found = hmm_scan.filter(initial, transition, log_emission, lengths)
    expected = hmm.forward(initial, transition, log_emission, lengths)
    torch.testing.assert_close(found.log_normalizers.sum(1), expected.log_normalizers.sum(1))
    assert found.log_normalizers[0, 1] == -torch.inf
    assert float(found.filtered[0, 1:].sum()) == 0
    assert float(hmm_scan.smooth(initial, transition, log_emission, lengths)[0].sum()) == 0
    torch.testing.assert_close(found.filtered[1].sum(-1), torch.ones(3))


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_short_sequences_and_one_state(num_steps: int) -> None:
    arguments = chain((K, K), num_steps)
    torch.testing.assert_close(hmm_scan.filter(*arguments).filtered, hmm.forward(*arguments).filtered)
    single = torch.ones(1), torch.ones(1, 1), torch.randn(2, num_steps, 1), torch.full((2,), num_steps)
    torch.testing.assert_close(hmm_scan.log_marginal_likelihood(*single), single[2].sum((1, 2)))
    assert hmm_scan.smooth(*single).tolist() == [[[1.0]] * num_steps] * 2


def test_large_products_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = chain((K, K))
    whole = hmm_scan.smooth(*arguments)
    monkeypatch.setattr(hmm_scan, "LARGEST_PRODUCT", 1)
    torch.testing.assert_close(hmm_scan.smooth(*arguments), whole)


def test_a_chain_moved_the_other_way_is_told_apart() -> None:
    """The control: a transposed table, which a product of the matrices in the wrong order amounts to."""
    initial, transition, log_emission, lengths = chain((K, K))
    turned = transition.T / transition.T.sum(-1, keepdim=True)
    right = hmm.log_marginal_likelihood(initial, transition, log_emission, lengths)
    wrong = hmm_scan.log_marginal_likelihood(initial, turned, log_emission, lengths)
    assert float((right - wrong)[0].abs()) > 1e-4


def test_operations_grow_with_log_t() -> None:
    def number(num_steps: int) -> int:
        arguments = torch.ones(K) / K, torch.ones(K, K) / K, torch.zeros(1, num_steps, K), torch.tensor([num_steps])
        with Operations() as counted:
            hmm_scan.log_marginal_likelihood(*arguments)
        return counted.number

    once, twice, often = number(64), number(128), number(64 * 8)
    assert often - once == 3 * (twice - once)
    assert once < 400


@every_table
def test_forward_and_backward_have_the_results_of_the_recursions(shape: tuple[int, ...]) -> None:
    arguments = chain(shape)
    _, transition, _, lengths = arguments
    found, expected = hmm_scan.forward(*arguments), hmm.forward(*arguments)
    for name in ("log_normalizers", "filtered", "emission", "scale"):
        one, other = getattr(found, name), getattr(expected, name)
        for b, length in enumerate(lengths):
            torch.testing.assert_close(one[b, :length], other[b, :length])
    assert found.scanned
    backward = hmm.backward(transition, lengths, found)
    for one, other in zip(backward, hmm.backward(transition, lengths, expected), strict=True):
        torch.testing.assert_close(one, other)


@every_table
def test_the_best_path_is_that_of_viterbis_recursion(shape: tuple[int, ...]) -> None:
    initial, transition, log_emission, lengths = chain(shape)
    logs = initial.log(), transition.log(), 3 * log_emission, lengths
    states, log_prob = hmm_scan.most_likely_states(*logs)
    expected, best = hmm_paths.most_likely_states(*logs)
    assert torch.equal(states, expected)
    torch.testing.assert_close(log_prob, best)
    turned = hmm_scan.most_likely_states(initial.log(), transition.mT.log(), 3 * log_emission, lengths)
    assert not torch.allclose(turned[1], best)  # moves the other way


def test_ties_go_to_the_lower_state_and_a_sparse_chain_keeps_to_its_moves() -> None:
    flat = torch.zeros(2, 6, K)
    lengths = torch.tensor([6, 3])
    even = torch.full((K,), 1 / K).log(), torch.full((K, K), 1 / K).log()
    assert hmm_scan.most_likely_states(*even, flat, lengths)[0].eq(0).all()
    initial, transition = sparse()
    logs = initial.log(), transition.log(), torch.randn(2, 6, K), lengths
    states, log_prob = hmm_scan.most_likely_states(*logs)
    expected, best = hmm_paths.most_likely_states(*logs)
    assert torch.equal(states, expected)
    torch.testing.assert_close(log_prob, best)


def test_an_impossible_sequence_has_no_best_path() -> None:
    initial, transition, log_emission, lengths = chain((K, K))
    log_emission[0, 2] = -torch.inf
    log_prob = hmm_scan.most_likely_states(initial.log(), transition.log(), log_emission, lengths)[1]
    assert log_prob[0] == -torch.inf
    assert log_prob[1:].isfinite().all()
