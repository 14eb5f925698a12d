"""Sequences side by side: values and gradients of loops in log space, whichever sequences share a group."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels import hmm, hmm_lanes

Chain = tuple[Tensor, Tensor, Tensor]
DTYPES = [torch.float64, torch.float32]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more threads, chains of many states need more sequences."""
    monkeypatch.setattr(hmm_lanes, "num_threads", lambda: 1)


def looped(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """The forward recursion in log space, a sequence at a time, in double precision."""
    totals, unused = [], 0.0 * transition.double().sum()  # with T = 1
    for row, length in zip(log_emission.double(), lengths.tolist(), strict=True):
        alpha = initial.double().log() + row[0]
        for t in range(1, length):
            alpha = (alpha[:, None] + transition.double().log()).logsumexp(0) + row[t]
        totals.append(alpha.logsumexp(0) + unused)
    return torch.stack(totals)


def problem(num_states: int, batch: int, num_steps: int, dtype: torch.dtype) -> tuple[Chain, Tensor, Tensor]:
    """p(z_1), table and log emissions, lengths of which one is T and one is 1, and weights of both signs."""
    generator = torch.Generator().manual_seed(num_states + batch)
    shapes = (num_states,), (num_states, num_states), (batch, num_steps, num_states)
    logits = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    lengths = torch.randint(1, num_steps + 1, (batch,), generator=generator)
    lengths[0], lengths[-1] = num_steps, 1
    weights = torch.randn(batch, generator=generator, dtype=dtype)
    return (logits[0].softmax(-1), logits[1].softmax(-1), 3 * logits[2]), lengths, weights


def value_and_gradients(
    function: Callable[..., Tensor], tensors: Chain, lengths: Tensor, weights: Tensor
) -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = function(*leaves, lengths)
    return [value.detach(), *torch.autograd.grad((value * weights).sum(), leaves)]


def check(tensors: Chain, lengths: Tensor, weights: Tensor) -> None:
    dtype = tensors[0].dtype
    assert hmm_lanes.suits(*tensors)
    found = value_and_gradients(hmm.log_marginal_likelihood, tensors, lengths, weights)
    expected = value_and_gradients(looped, tensors, lengths, weights)
    for actual, reference in zip(found, expected, strict=True):
        finite = reference.where(reference.isfinite(), 0.0)
        tolerance = 400 * torch.finfo(dtype).eps
        assert actual.dtype == dtype
        torch.testing.assert_close(
            actual, reference.to(dtype), rtol=tolerance, atol=tolerance * max(1.0, float(finite.abs().max()))
        )
    with torch.no_grad():
        torch.testing.assert_close(hmm.log_marginal_likelihood(*tensors, lengths), found[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("num_states", "batch"), [*((k, b) for k in (1, 3, 8) for b in (2, 7, 8, 9, 17)), (13, 8), (13, 9), (17, 17)]
)
def test_values_and_gradients_are_those_of_a_loop_in_log_space(num_states: int, batch: int, dtype: torch.dtype) -> None:
    check(*problem(num_states, batch, 11, dtype))


@pytest.mark.parametrize("num_steps", [1, 2, 4, 7, 8, 9, 257])
def test_sequences_of_any_number_of_steps_are_those_of_a_loop(num_steps: int) -> None:
    check(*problem(2, 5, num_steps, torch.float64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["impossible state", "first state out of reach", "outliers"])
def test_difficult_observations_are_those_of_a_loop(case: str, dtype: torch.dtype) -> None:
    tensors, lengths, weights = problem(3, 9, 10, dtype)
    log_emission = tensors[2]
    if case == "impossible state":
        log_emission[:, 1:9:2, 1] = -torch.inf
    elif case == "first state out of reach":  # the states that fit best at the first step have probability zero
        tensors = torch.tensor([0.0, 1.0, 0.0], dtype=dtype), *tensors[1:]
        log_emission[::2, 0] = torch.tensor([0.0, -700.0, -20.0], dtype=dtype)
    else:
        log_emission[2:5, 4] = torch.tensor([-90.0, -600.0, -5000.0], dtype=dtype)
    if case == "first state out of reach":  # its gradient in p(z_1) would be above the largest number
        found = hmm.log_marginal_likelihood(*tensors, lengths)
        torch.testing.assert_close(found.double(), looped(*tensors, lengths), rtol=1e-5, atol=1e-5)
        return
    check(tensors, lengths, weights)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_at_each_step_leaves_the_gradients_alone(dtype: torch.dtype) -> None:
    tensors, lengths, weights = problem(3, 9, 10, dtype)
    tensors[2].round_()  # so that sums with the constants are exact
    constants = torch.tensor([1000, -1000, 0]).repeat(3).to(dtype)
    moved = *tensors[:2], tensors[2] + constants[:, None, None]
    found = value_and_gradients(hmm.log_marginal_likelihood, moved, lengths, weights)
    expected = value_and_gradients(hmm.log_marginal_likelihood, tensors, lengths, weights)
    torch.testing.assert_close(found[0], expected[0] + constants * lengths)
    for actual, reference in zip(found[1:], expected[1:], strict=True):
        assert torch.equal(actual, reference)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_impossible_sequence_has_gradients_of_zero_and_leaves_its_group(dtype: torch.dtype) -> None:
    tensors, lengths, weights = problem(3, 8, 10, dtype)
    tensors[2][0, 5] = -torch.inf
    found = value_and_gradients(hmm.log_marginal_likelihood, tensors, lengths, weights)
    rest = slice(1, None)
    others = *tensors[:2], tensors[2][rest]
    expected = value_and_gradients(hmm.log_marginal_likelihood, others, lengths[rest], weights[rest])
    assert found[0][0] == -torch.inf
    assert not found[3][0].any()
    torch.testing.assert_close(found[0][rest], expected[0])
    torch.testing.assert_close(found[3][rest], expected[3])


def test_nan_stays_in_its_sequence_and_is_not_read_in_the_padding() -> None:
    tensors, lengths, weights = problem(3, 8, 10, torch.float64)
    clean = value_and_gradients(hmm.log_marginal_likelihood, tensors, lengths, weights)
    outside = torch.arange(10) >= lengths[:, None]
    tensors[2][outside] = torch.nan
    padded = value_and_gradients(hmm.log_marginal_likelihood, tensors, lengths, weights)
    for a, b in zip(padded, clean, strict=True):
        assert torch.equal(a, b)
    assert not padded[3][outside].any()
    tensors[2][0, 3, 1] = torch.nan
    value = hmm.log_marginal_likelihood(*tensors, lengths)
    assert value[0].isnan()
    torch.testing.assert_close(value[1:], clean[0][1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_order_of_sequences_does_not_count(dtype: torch.dtype) -> None:
    """Another order puts sequences into other groups."""
    tensors, lengths, weights = problem(5, 19, 12, dtype)
    order = torch.randperm(19, generator=torch.Generator().manual_seed(0))
    found = value_and_gradients(hmm.log_marginal_likelihood, tensors, lengths, weights)
    moved = *tensors[:2], tensors[2][order]
    again = value_and_gradients(hmm.log_marginal_likelihood, moved, lengths[order], weights[order])
    assert torch.equal(again[0], found[0][order])
    assert torch.equal(again[3], found[3][order])
    torch.testing.assert_close(again[1:3], found[1:3])


def test_the_number_of_threads_does_not_count() -> None:
    (chain, lengths, weights), threads = problem(4, 33, 20, torch.float32), torch.get_num_threads()
    found = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(value_and_gradients(hmm.log_marginal_likelihood, chain, lengths, weights))
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_each_chain_of_several_side_by_side_may_have_its_own_first_law() -> None:
    (initial, transition, log_emission), lengths, _ = problem(3, 12, 6, torch.float64)
    several = torch.stack([initial, initial.flip(0)])
    found = hmm.log_marginal_likelihood(several, transition, log_emission, lengths)
    for r in range(2):
        expected = looped(several[r], transition, log_emission[r::2], lengths[r::2])
        torch.testing.assert_close(found[r::2], expected)


def test_the_values_of_long_sequences_keep_single_precision() -> None:
    """Equal emissions of all states give sum_t log p(x_t), whatever the states: the sum is in double precision."""
    (initial, transition, _), _, _ = problem(3, 4, 1, torch.float32)
    log_emission = -torch.rand(4, 20_000, 1, generator=torch.Generator().manual_seed(0)).float().expand(-1, -1, 3)
    value = hmm.log_marginal_likelihood(initial, transition, log_emission, torch.full((4,), 20_000))
    exact = log_emission[..., 0].double().sum(-1)
    rows = float(((transition.double().sum(-1) - 1).abs().max() + torch.finfo(torch.float32).eps) * 20_000)
    assert float((value - exact).abs().max()) < 4 * rows + 4 * torch.finfo(torch.float32).eps * float(exact.abs().max())


@pytest.mark.parametrize("kind", ["sparse", "few", "wide"])
def test_other_chains_are_left_to_the_other_recursions(kind: str) -> None:
    (initial, transition, log_emission), _, _ = problem(3, 8, 5, torch.float64)
    assert hmm_lanes.suits(initial, transition, log_emission)
    if kind == "sparse":
        transition = torch.eye(3)
    elif kind == "few":
        log_emission = log_emission[:1]
    else:
        size = hmm_lanes.LARGEST + 1
        initial, transition = torch.full((size,), 1 / size), torch.full((size, size), 1 / size)
        log_emission = torch.zeros(8, 5, size)
    assert not hmm_lanes.suits(initial, transition, log_emission)


def test_second_derivatives_are_finite_differences() -> None:
    leaves, lengths, _ = problem(2, 4, 3, torch.float64)
    for tensor in leaves:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b, c: hmm.log_marginal_likelihood(a, b, c, lengths), leaves)
    assert torch.autograd.gradgradcheck(lambda a, b, c: hmm.log_marginal_likelihood(a, b, c, lengths), leaves)


def test_the_exponential_is_exact_to_rounding() -> None:
    """One step and one state with log p(x_1) = x gives x back; two states with 0 and -x give log(1 + exp(-x)) / 2."""
    for dtype in DTYPES:
        x = -torch.linspace(0, 60, 4001, dtype=dtype)
        log_emission = torch.stack([torch.zeros_like(x), x], -1)[:, None]
        half = torch.full((2,), 0.5, dtype=dtype)
        value = hmm.log_marginal_likelihood(half, half.repeat(2, 1), log_emission, torch.ones(4001, dtype=torch.int64))
        expected = x.double().exp().log1p() - math.log(2)
        assert float((value.double() - expected).abs().max()) < 2 * torch.finfo(dtype).eps
