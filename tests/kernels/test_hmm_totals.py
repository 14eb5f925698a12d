"""Values of single sequences against loops in log space, and what is left to the other recursions."""

import math

import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels import hmm, hmm_totals

DTYPES = [torch.float64, torch.float32]


def looped(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """The forward recursion in log space, a sequence at a time, in double precision."""
    totals = []
    for b, length in enumerate(lengths.tolist()):
        row = log_emission[b].double()
        alpha = initial[b % len(initial)].double().log() + row[0]
        for t in range(1, length):
            alpha = (alpha[:, None] + transition.double().log()).logsumexp(0) + row[t]
        totals.append(alpha.logsumexp(0))
    return torch.stack(totals)


def problem(num_states: int, batch: int, dtype: torch.dtype, spread: float = 2.0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    initial = torch.randn(batch, num_states, generator=generator, dtype=dtype).softmax(1)
    transition = torch.randn(num_states, num_states, generator=generator, dtype=dtype).softmax(1)
    log_emission = spread * torch.randn(batch, 300, num_states, generator=generator, dtype=dtype)
    lengths = torch.tensor([300, 1, 2, 129, 130])[:batch]
    return initial, transition, log_emission, lengths


def close(found: Tensor | None, expected: Tensor, dtype: torch.dtype) -> None:
    assert found is not None
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=40 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_states", [1, 2, 5, 8, 9, 16])
def test_values_are_those_of_a_loop(num_states: int, dtype: torch.dtype) -> None:
    given = problem(num_states, 5, dtype)
    assert hmm_totals.suits(*given[:3])
    close(hmm_totals.log_marginal_likelihood(*given), looped(*given), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_beliefs_may_fall_as_fast_as_a_dense_chain_lets_them(dtype: torch.dtype) -> None:
    """The state that the observations point to changes at every step and is entered with the least probability."""
    least = 1e-15 if dtype == torch.float32 else 1e-140
    transition = torch.tensor([[1 - least, least], [least, 1 - least]], dtype=dtype)
    log_emission = torch.full((1, 400, 2), -80.0 if dtype == torch.float32 else -700.0, dtype=dtype)
    log_emission[:, ::2, 0] = log_emission[:, 1::2, 1] = 0.0
    given = torch.full((1, 2), 0.5, dtype=dtype), transition, log_emission, torch.tensor([400])
    assert hmm_totals.suits(*given[:3])
    expected = looped(*given)
    assert float(expected) < -10_000
    close(hmm_totals.log_marginal_likelihood(*given), expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_state_that_cannot_come_first_may_fit_far_better(dtype: torch.dtype) -> None:
    initial, transition, log_emission, lengths = problem(4, 3, dtype)
    initial[:, 1] = 0
    log_emission[:, 0, 1] = 5000
    given = initial / initial.sum(1, keepdim=True), transition, log_emission, lengths
    close(hmm_totals.log_marginal_likelihood(*given), looped(*given), dtype)


def test_large_log_densities_do_not_overflow() -> None:
    initial, transition, log_emission, lengths = problem(3, 3, torch.float32)
    given = initial, transition, log_emission - 1e6, lengths
    close(hmm_totals.log_marginal_likelihood(*given), looped(*given), torch.float32)


@pytest.mark.parametrize("number", [-math.inf, math.nan])
def test_what_is_not_finite_is_left_to_the_other_recursions(number: float) -> None:
    initial, transition, log_emission, lengths = problem(3, 1, torch.float64)
    log_emission[0, 7] = number
    assert hmm_totals.log_marginal_likelihood(initial, transition, log_emission, lengths) is None
    value = hmm.log_marginal_likelihood(initial, transition, log_emission, lengths)
    assert bool(value.isnan()) if math.isnan(number) else float(value) == number


def test_a_chain_that_is_not_dense_is_left_to_the_other_recursions() -> None:
    initial, transition, log_emission, lengths = problem(3, 1, torch.float64)
    transition = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    assert not hmm_totals.suits(initial, transition, log_emission)
    close(
        hmm.log_marginal_likelihood(initial, transition, log_emission, lengths),
        looped(initial, transition, log_emission, lengths),
        torch.float64,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_public_value_of_one_sequence_is_that_of_its_gradient(dtype: torch.dtype) -> None:
    initial, transition, log_emission, lengths = problem(5, 1, dtype)
    alone = hmm.log_marginal_likelihood(initial, transition, log_emission, lengths)
    kept = hmm.log_marginal_likelihood(initial, transition, log_emission.requires_grad_(), lengths)
    torch.testing.assert_close(alone, kept.detach(), rtol=40 * torch.finfo(dtype).eps, atol=1e-6)
