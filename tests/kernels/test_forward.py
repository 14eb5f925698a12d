import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pgm_rnn.kernels.forward import forward
from tests.definitions import filtered_probs, marginal_prob

TRANSITION = torch.tensor([[0.7, 0.3, 0.0], [0.1, 0.5, 0.4], [0.0, 0.2, 0.8]], dtype=torch.float64)
INITIAL = torch.tensor([0.6, 0.4, 0.0], dtype=torch.float64)


def full(num_sequences: int, num_steps: int) -> Tensor:
    return torch.ones(num_sequences, num_steps, dtype=torch.bool)


def random_chain(num_states: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(num_states + 1, num_states, generator=generator, dtype=torch.float64)
    rows = rows / rows.sum(-1, keepdim=True)
    return rows[0], rows[1:]


@given(num_states=st.integers(1, 3), num_steps=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_the_recursion_is_the_sum_over_all_paths(num_states: int, num_steps: int, seed: int) -> None:
    initial, transition = random_chain(num_states, seed)
    emission = torch.rand(2, num_steps, num_states)
    result = forward(initial, transition, emission.log(), full(2, num_steps))
    for i in range(2):
        expected = marginal_prob(initial, transition, emission[i]).log()
        torch.testing.assert_close(result.log_normalizers[i].sum(), expected)
        torch.testing.assert_close(result.filtered_probs[i], filtered_probs(initial, transition, emission[i]))


def test_normalizers_are_the_conditional_log_probabilities_of_each_step() -> None:
    emission = torch.rand(1, 4, 3)
    terms = forward(INITIAL, TRANSITION, emission.log(), full(1, 4)).log_normalizers[0]
    prefixes = torch.stack([marginal_prob(INITIAL, TRANSITION, emission[0, :t]).log() for t in range(1, 5)])
    torch.testing.assert_close(terms.cumsum(0), prefixes)


def test_gradients_are_those_of_the_sum_over_all_paths() -> None:
    initial, transition = random_chain(3, seed=1)
    tensors = [t.requires_grad_() for t in (initial, transition, torch.rand(1, 4, 3))]
    value = forward(tensors[0], tensors[1], tensors[2].log(), full(1, 4)).log_normalizers.sum()
    expected = marginal_prob(tensors[0], tensors[1], tensors[2][0]).log()
    for actual, reference in zip(
        torch.autograd.grad(value, tensors), torch.autograd.grad(expected, tensors), strict=True
    ):
        torch.testing.assert_close(actual, reference)


def test_gradients_at_zero_probabilities_are_those_of_the_sum_over_all_paths() -> None:
    emission = torch.tensor([[0.2, 0.3, 0.9], [0.5, 0.4, 0.1], [0.1, 0.6, 0.8], [0.3, 0.3, 0.7]])
    tensors = [t.clone().requires_grad_() for t in (INITIAL, TRANSITION, emission)]
    value = forward(tensors[0], tensors[1], tensors[2][None].log(), full(1, 4)).log_normalizers.sum()
    expected = marginal_prob(tensors[0], tensors[1], tensors[2]).log()
    for actual, reference in zip(
        torch.autograd.grad(value, tensors), torch.autograd.grad(expected, tensors), strict=True
    ):
        torch.testing.assert_close(actual, reference)


def test_nan_is_not_mistaken_for_an_impossible_observation() -> None:
    emission = torch.rand(2, 4, 3).log()
    emission[0, 2, 1] = torch.nan
    result = forward(INITIAL, TRANSITION, emission, full(2, 4))
    assert result.log_normalizers[0].sum().isnan()
    assert result.log_normalizers[1].isfinite().all()


def test_one_state_multiplies_the_emissions() -> None:
    emission = torch.rand(2, 5, 1)
    result = forward(torch.ones(1), torch.ones(1, 1), emission.log(), full(2, 5))
    torch.testing.assert_close(result.log_normalizers, emission.log()[..., 0])
    assert bool((result.filtered_probs == 1).all())


def test_a_ragged_batch_is_its_sequences_one_by_one() -> None:
    lengths, emission = [4, 1, 2], torch.rand(3, 4, 3)
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    result = forward(INITIAL, TRANSITION, emission.log(), mask)
    for i, length in enumerate(lengths):
        alone = forward(INITIAL, TRANSITION, emission[i : i + 1, :length].log(), full(1, length))
        torch.testing.assert_close(result.log_normalizers[i, :length], alone.log_normalizers[0])
        torch.testing.assert_close(result.filtered_probs[i, :length], alone.filtered_probs[0])
        assert result.log_normalizers[i, length:].tolist() == [0] * (4 - length)
        assert bool((result.filtered_probs[i, length:] == result.filtered_probs[i, length - 1]).all())


def test_each_sequence_may_have_its_own_initial_law() -> None:
    initial, emission = torch.stack([INITIAL, INITIAL.flip(0)]), torch.rand(2, 3, 3)
    result = forward(initial, TRANSITION, emission.log(), full(2, 3))
    for i in range(2):
        alone = forward(initial[i], TRANSITION, emission[i : i + 1].log(), full(1, 3))
        torch.testing.assert_close(result.log_normalizers[i], alone.log_normalizers[0])


def test_an_impossible_sequence_has_log_probability_minus_infinity() -> None:
    emission = torch.rand(2, 4, 3)
    emission[0, 2] = 0
    result = forward(INITIAL, TRANSITION, emission.log(), full(2, 4))
    assert result.log_normalizers[0, :2].isfinite().all()
    assert result.log_normalizers[0, 2:].tolist() == [-torch.inf, -torch.inf]
    assert result.filtered_probs[0, 2:].tolist() == [[0] * 3] * 2
    assert result.log_normalizers[1].isfinite().all()


def test_zero_probabilities_and_impossible_neighbours_leave_the_gradients_finite() -> None:
    emission = torch.rand(2, 4, 3)
    emission[0, 2] = 0
    emission[1, 1:, 0] = 0
    logits = emission.log().requires_grad_()
    initial, transition = INITIAL.clone().requires_grad_(), TRANSITION.clone().requires_grad_()
    forward(initial, transition, logits, full(2, 4)).log_normalizers[1].sum().backward()
    for tensor in (initial, transition, logits):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_an_unlikely_observation_of_the_only_reachable_state_is_not_impossible() -> None:
    initial, emission = torch.tensor([1.0, 0.0]), torch.tensor([[[-1_000.0, 0.0], [-1.0, -2.0]]])
    result = forward(initial, torch.eye(2), emission, full(1, 2))
    torch.testing.assert_close(result.log_normalizers, torch.tensor([[-1_000.0, -1.0]]))
    assert result.filtered_probs.tolist() == [[[1, 0], [1, 0]]]


def test_log_densities_of_any_size_are_handled() -> None:
    emission = torch.rand(1, 5, 3).log()
    reference = forward(INITIAL, TRANSITION, emission, full(1, 5))
    for shift in (-1e5, 1e5):
        shifted = forward(INITIAL, TRANSITION, emission + shift, full(1, 5))
        torch.testing.assert_close(shifted.log_normalizers, reference.log_normalizers + shift)
        torch.testing.assert_close(shifted.filtered_probs, reference.filtered_probs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_steps", [1, 3_000])
def test_long_sequences_keep_single_precision(num_steps: int) -> None:
    # K equal emissions give sum_t log p(x_t), whatever the states: each step adds one rounding error.
    emission = torch.rand(1, num_steps, 1).expand(-1, -1, 3).log()
    single = forward(INITIAL.float(), TRANSITION.float(), emission.float(), full(1, num_steps)).log_normalizers
    bound = 4 * torch.finfo(torch.float32).eps * (num_steps + float(emission[..., 0].abs().sum()))
    assert single.dtype == torch.float32
    assert abs(float(single.double().sum() - emission[..., 0].sum())) < bound
