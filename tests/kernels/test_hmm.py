import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pgm_rnn.kernels import hmm, hmm_batched
from tests.definitions import filtered_probs, marginal_prob

TRANSITION = torch.tensor([[0.7, 0.3, 0.0], [0.1, 0.5, 0.4], [0.0, 0.2, 0.8]], dtype=torch.float64)
INITIAL = torch.tensor([0.6, 0.4, 0.0], dtype=torch.float64)


@pytest.fixture(params=["compiled", "batched"], autouse=True)
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs on numba's and on torch's recursions."""
    monkeypatch.setattr(hmm, "prefers_batched", lambda emission: request.param == "batched")


def full(num_sequences: int, num_steps: int) -> Tensor:
    return torch.full((num_sequences,), num_steps)


def random_chain(num_states: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(num_states + 1, num_states, generator=generator, dtype=torch.float64)
    rows = rows / rows.sum(-1, keepdim=True)
    return rows[0], rows[1:]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(num_states=st.integers(1, 3), num_steps=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_the_recursion_is_the_sum_over_all_paths(num_states: int, num_steps: int, seed: int) -> None:
    initial, transition = random_chain(num_states, seed)
    emission = torch.rand(2, num_steps, num_states)
    result = hmm.forward(initial, transition, emission.log(), full(2, num_steps))
    for i in range(2):
        expected = marginal_prob(initial, transition, emission[i]).log()
        torch.testing.assert_close(result.log_normalizers[i].sum(), expected)
        torch.testing.assert_close(result.filtered[i], filtered_probs(initial, transition, emission[i]))


def test_normalizers_are_the_conditional_log_probabilities_of_each_step() -> None:
    emission = torch.rand(1, 4, 3)
    terms = hmm.forward(INITIAL, TRANSITION, emission.log(), full(1, 4)).log_normalizers[0]
    prefixes = torch.stack([marginal_prob(INITIAL, TRANSITION, emission[0, :t]).log() for t in range(1, 5)])
    torch.testing.assert_close(terms.cumsum(0), prefixes)


def test_gradients_are_those_of_the_sum_over_all_paths() -> None:
    initial, transition = random_chain(3, seed=1)
    tensors = [t.requires_grad_() for t in (initial, transition, torch.rand(1, 4, 3))]
    value = hmm.log_marginal_likelihood(tensors[0], tensors[1], tensors[2].log(), full(1, 4)).sum()
    expected = marginal_prob(tensors[0], tensors[1], tensors[2][0]).log()
    for actual, reference in zip(
        torch.autograd.grad(value, tensors), torch.autograd.grad(expected, tensors), strict=True
    ):
        torch.testing.assert_close(actual, reference)


def test_gradients_at_zero_probabilities_are_those_of_the_sum_over_all_paths() -> None:
    emission = torch.tensor([[0.2, 0.3, 0.9], [0.5, 0.4, 0.1], [0.1, 0.6, 0.8], [0.3, 0.3, 0.7]])
    tensors = [t.clone().requires_grad_() for t in (INITIAL, TRANSITION, emission)]
    value = hmm.log_marginal_likelihood(tensors[0], tensors[1], tensors[2][None].log(), full(1, 4)).sum()
    expected = marginal_prob(tensors[0], tensors[1], tensors[2]).log()
    for actual, reference in zip(
        torch.autograd.grad(value, tensors), torch.autograd.grad(expected, tensors), strict=True
    ):
        torch.testing.assert_close(actual, reference)


def test_nan_is_not_mistaken_for_an_impossible_observation() -> None:
    emission = torch.rand(2, 4, 3).log()
    emission[0, 2, 1] = torch.nan
    result = hmm.forward(INITIAL, TRANSITION, emission, full(2, 4))
    assert result.log_normalizers[0].sum().isnan()
    assert result.log_normalizers[1].isfinite().all()


def test_one_state_multiplies_the_emissions() -> None:
    emission = torch.rand(2, 5, 1)
    result = hmm.forward(torch.ones(1), torch.ones(1, 1), emission.log(), full(2, 5))
    torch.testing.assert_close(result.log_normalizers, emission.log()[..., 0])
    assert bool((result.filtered == 1).all())


def test_a_ragged_batch_is_its_sequences_one_by_one() -> None:
    lengths, emission = [4, 1, 2], torch.rand(3, 4, 3)
    result = hmm.forward(INITIAL, TRANSITION, emission.log(), torch.tensor(lengths))
    for i, length in enumerate(lengths):
        alone = hmm.forward(INITIAL, TRANSITION, emission[i : i + 1, :length].log(), full(1, length))
        torch.testing.assert_close(result.log_normalizers[i, :length], alone.log_normalizers[0])
        torch.testing.assert_close(result.filtered[i, :length], alone.filtered[0])
        assert result.log_normalizers[i, length:].tolist() == [0] * (4 - length)
        assert not result.filtered[i, length:].any()


def test_nan_in_the_padding_is_not_read() -> None:
    lengths, clean = torch.tensor([4, 1, 2]), torch.rand(3, 4, 3).log()
    spoiled = clean.where((torch.arange(4) < lengths[:, None])[..., None], torch.nan)
    found = []
    for log_emission in (clean, spoiled):
        tensors = [tensor.clone().requires_grad_() for tensor in (INITIAL, TRANSITION, log_emission)]
        initial, transition, emission = tensors
        value = hmm.log_marginal_likelihood(initial, transition, emission, lengths)
        found.append((value, *torch.autograd.grad(value.sum(), tensors)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_each_sequence_may_have_its_own_initial_law() -> None:
    initial, emission = torch.stack([INITIAL, INITIAL.flip(0)]), torch.rand(2, 3, 3)
    result = hmm.forward(initial, TRANSITION, emission.log(), full(2, 3))
    for i in range(2):
        alone = hmm.forward(initial[i], TRANSITION, emission[i : i + 1].log(), full(1, 3))
        torch.testing.assert_close(result.log_normalizers[i], alone.log_normalizers[0])


def test_an_impossible_sequence_has_log_probability_minus_infinity() -> None:
    emission = torch.rand(2, 4, 3)
    emission[0, 2] = 0
    result = hmm.forward(INITIAL, TRANSITION, emission.log(), full(2, 4))
    assert result.log_normalizers[0, :2].isfinite().all()
    assert result.log_normalizers[0, 2:].tolist() == [-torch.inf, -torch.inf]
    assert result.filtered[0, 2:].tolist() == [[0] * 3] * 2
    assert result.log_normalizers[1].isfinite().all()


def test_zero_probabilities_and_impossible_neighbours_leave_the_gradients_finite() -> None:
    emission = torch.rand(2, 4, 3)
    emission[0, 2] = 0
    emission[1, 1:, 0] = 0
    logits = emission.log().requires_grad_()
    initial, transition = INITIAL.clone().requires_grad_(), TRANSITION.clone().requires_grad_()
    hmm.log_marginal_likelihood(initial, transition, logits, full(2, 4)).sum().backward()
    for tensor in (initial, transition, logits):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_an_unlikely_observation_of_the_only_reachable_state_is_not_impossible() -> None:
    initial, emission = torch.tensor([1.0, 0.0]), torch.tensor([[[-1_000.0, 0.0], [-1.0, -2.0]]])
    result = hmm.forward(initial, torch.eye(2), emission, full(1, 2))
    torch.testing.assert_close(result.log_normalizers, torch.tensor([[-1_000.0, -1.0]]))
    assert result.filtered.tolist() == [[[1, 0], [1, 0]]]


def test_log_densities_of_any_size_are_handled() -> None:
    emission = torch.rand(1, 5, 3).log()
    reference = hmm.forward(INITIAL, TRANSITION, emission, full(1, 5))
    for shift in (-1e5, 1e5):
        shifted = hmm.forward(INITIAL, TRANSITION, emission + shift, full(1, 5))
        torch.testing.assert_close(shifted.log_normalizers, reference.log_normalizers + shift)
        torch.testing.assert_close(shifted.filtered, reference.filtered, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_steps", [1, 3_000])
def test_long_sequences_keep_single_precision(num_steps: int) -> None:
    # K equal emissions give sum_t log p(x_t), whatever the states: each step adds one rounding error.
    emission = torch.rand(1, num_steps, 1).expand(-1, -1, 3).log()
    single = hmm.forward(INITIAL.float(), TRANSITION.float(), emission.float(), full(1, num_steps)).log_normalizers
    bound = 4 * torch.finfo(torch.float32).eps * (num_steps + float(emission[..., 0].abs().sum()))
    assert single.dtype == torch.float32
    assert abs(float(single.double().sum() - emission[..., 0].sum())) < bound


SHARED = {"transition": (2, 1), "transition per step": (2, 3)}


def side_by_side(axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two chains on three sequences, sequence n under chain r at n * 2 + r."""
    initial, transition = torch.rand(2, 3).softmax(-1), torch.randn(*axes, 3, 3).softmax(-1)
    return initial, transition, torch.randn(6, 4, 3), torch.tensor([4, 1, 3]).repeat_interleave(2)


@pytest.mark.parametrize("axes", SHARED.values(), ids=SHARED)
def test_chains_side_by_side_are_the_chains_one_by_one(axes: tuple[int, ...]) -> None:
    initial, transition, log_emission, lengths = side_by_side(axes)
    together = hmm.forward(initial, transition, log_emission, lengths)
    future = hmm.backward(transition, lengths, together).future
    counts = hmm.expected_transitions(together.filtered, future, transition)
    ahead = hmm.propagate(together.filtered[:, :-1], transition)
    pairs, uniforms = hmm.pairwise_probs(transition, together, future), torch.rand(5, 6, 4)
    states = hmm.sample_states(transition, lengths, together, uniforms)
    for r in range(2):
        alone = hmm.forward(initial[r], transition[r], log_emission[r::2], lengths[r::2])
        own_future = hmm.backward(transition[r], lengths[r::2], alone).future
        torch.testing.assert_close(together.log_normalizers[r::2], alone.log_normalizers)
        torch.testing.assert_close(future[r::2], own_future)
        torch.testing.assert_close(counts[r], hmm.expected_transitions(alone.filtered, own_future, transition[r]))
        torch.testing.assert_close(ahead[r::2], hmm.propagate(alone.filtered[:, :-1], transition[r]))
        torch.testing.assert_close(pairs[r::2], hmm.pairwise_probs(transition[r], alone, own_future))
        own_states = hmm.sample_states(transition[r], lengths[r::2], alone, uniforms[:, r::2])
        assert torch.equal(states[:, r::2], own_states)


@pytest.mark.parametrize("axes", SHARED.values(), ids=SHARED)
def test_gradients_of_chains_side_by_side_are_those_of_the_chains_one_by_one(axes: tuple[int, ...]) -> None:
    *tensors, lengths = side_by_side(axes)
    initial, transition, log_emission = [tensor.requires_grad_() for tensor in tensors]
    together = hmm.log_marginal_likelihood(initial, transition, log_emission, lengths)
    alone = [
        hmm.log_marginal_likelihood(initial[r], transition[r], log_emission[r::2], lengths[r::2]) for r in range(2)
    ]
    found = torch.autograd.grad(together.sum(), tensors)
    expected = torch.autograd.grad(torch.cat(alone).sum(), tensors)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("axes", SHARED.values(), ids=SHARED)
def test_best_paths_of_chains_side_by_side_are_those_of_the_chains_one_by_one(axes: tuple[int, ...]) -> None:
    initial, transition, log_emission, lengths = side_by_side(axes)
    batched = hmm_batched.most_likely_states(initial.log(), transition.repeat(3, 1, 1, 1).log(), log_emission, lengths)
    compiled = hmm.most_likely_states(initial.log(), transition.log(), log_emission, lengths)
    for r in range(2):
        alone = hmm.most_likely_states(initial[r].log(), transition[r].log(), log_emission[r::2], lengths[r::2])
        for together in (batched, compiled):
            assert torch.equal(together[0][r::2], alone[0])
            torch.testing.assert_close(together[1][r::2], alone[1])


VARYING = {"shared": (), "per step": (3,), "per sequence": (2, 1), "per step and sequence": (2, 3)}


@pytest.mark.parametrize("axes", VARYING.values(), ids=VARYING)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_are_those_of_autograd_through_a_loop(axes: tuple[int, ...], dtype: torch.dtype) -> None:
    initial = torch.rand(2, 3, dtype=dtype).softmax(-1)
    tensors = [
        tensor.requires_grad_()
        for tensor in (initial, torch.randn(*axes, 3, 3, dtype=dtype).softmax(-1), torch.randn(2, 4, 3, dtype=dtype))
    ]
    start, matrix, log_emission = tensors
    lengths, weights = torch.tensor([4, 2]), torch.tensor([2.0, -3.0], dtype=dtype)
    actual, expected = (f(start, matrix, log_emission, lengths) for f in (hmm.log_marginal_likelihood, looped))
    tolerance = 64 * torch.finfo(dtype).eps
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    pairs = zip(
        torch.autograd.grad((actual * weights).sum(), tensors),
        torch.autograd.grad((expected * weights).sum(), tensors),
        strict=True,
    )
    for found, reference in pairs:
        torch.testing.assert_close(found, reference, rtol=tolerance, atol=8 * tolerance)


def looped(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """The unscaled recursion, a sequence at a time."""
    batch, num_steps, num_states = log_emission.shape
    transition = transition.reshape((1,) * (4 - transition.dim()) + transition.shape)
    transition = transition.expand(batch, num_steps - 1, num_states, num_states)
    initial = initial.expand(batch, num_states)
    totals = []
    for b, length in enumerate(lengths.tolist()):
        alpha = initial[b] * log_emission[b, 0].exp()
        for t in range(1, length):
            alpha = (alpha @ transition[b, t - 1]) * log_emission[b, t].exp()
        totals.append(alpha.sum().log())
    return torch.stack(totals)


@pytest.mark.parametrize("num_states", [2, 13, 65])
@pytest.mark.parametrize("num_sequences", [1, 4, 5])
def test_many_states_and_sequences_of_any_length_have_the_gradients_of_a_loop(
    num_states: int, num_sequences: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((num_states,), (num_states, num_states), (num_sequences, 9, num_states))
    logits = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    lengths = torch.tensor([9, 1, 4, 5, 8][:num_sequences])
    for i, length in enumerate(lengths.tolist()):
        logits[2][i, length:] = 1e3
    start, matrix, log_emission = logits[0].softmax(-1), logits[1].softmax(-1), logits[2]
    tensors = [tensor.requires_grad_() for tensor in (start, matrix, log_emission)]
    weights = torch.arange(1.0, num_sequences + 1.0, dtype=torch.float64)
    values = [f(start, matrix, log_emission, lengths) for f in (hmm.log_marginal_likelihood, looped)]
    torch.testing.assert_close(*values)
    with torch.no_grad():
        torch.testing.assert_close(hmm.log_marginal_likelihood(start, matrix, log_emission, lengths), values[0])
    gradients = [torch.autograd.grad((value * weights).sum(), tensors) for value in values]
    for found, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(found, reference)


@pytest.mark.slow
def test_expected_transitions_of_a_long_sequence_keep_single_precision() -> None:
    # Rows of filtered and future sum to one in expectation: the counts sum to T - 1.
    initial, transition = random_chain(3, seed=0)
    tensors = [initial.float(), transition.float().requires_grad_(), torch.randn(1, 20_000, 3).float()]
    value = hmm.log_marginal_likelihood(tensors[0], tensors[1], tensors[2], full(1, 20_000)).sum()
    (gradient,) = torch.autograd.grad(value, tensors[1])
    total = float((gradient * tensors[1].detach()).double().sum())
    assert abs(total / 19_999 - 1) < 100 * torch.finfo(torch.float32).eps


def test_gradients_are_finite_differences() -> None:
    initial, transition = random_chain(3, seed=2)
    tensors = [t.requires_grad_() for t in (initial, transition, torch.randn(2, 4, 3))]
    lengths = torch.tensor([4, 3])
    assert torch.autograd.gradcheck(lambda a, b, c: hmm.log_marginal_likelihood(a, b, c, lengths), tensors)


def test_an_impossible_sequence_has_gradients_of_zero_and_leaves_its_neighbours() -> None:
    log_emission = torch.randn(2, 4, 3)
    log_emission[0, 2] = -torch.inf
    log_emission.requires_grad_()
    hmm.log_marginal_likelihood(INITIAL, TRANSITION, log_emission, full(2, 4)).sum().backward()
    assert log_emission.grad is not None
    assert not log_emission.grad[0].any()
    torch.testing.assert_close(log_emission.grad[1].sum(-1), torch.ones(4))


def test_arguments_are_left_as_they_were() -> None:
    log_emission = torch.tensor([[[-1_000.0, 0.0], [-1.0, -2.0]]])
    before = log_emission.clone()
    hmm.forward(torch.tensor([1.0, 0.0]), torch.eye(2), log_emission, full(1, 2))
    assert torch.equal(log_emission, before)


def test_memory_of_any_layout_is_taken() -> None:
    log_emission = torch.randn(4, 3, 2).permute(2, 0, 1)
    log_emission[0, 0] = torch.tensor([0.0, -900.0, -900.0])
    initial = torch.tensor([0.0, 0.5, 0.5])
    expected = hmm.forward(initial, TRANSITION, log_emission.contiguous(), full(2, 4))
    actual = hmm.forward(initial, TRANSITION.T.contiguous().T, log_emission, full(2, 4))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b)
