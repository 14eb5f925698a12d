"""Gradients that wait: those of the definition, of any order, and no work before they are asked for."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from pgm_rnn.distributions import DiscreteHMM
from pgm_rnn.kernels.deferred import with_gradients


def product_and_sine(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a * b, (a * b).sin() + b


def deferred(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        values = product_and_sine(a, b)
    return with_gradients(values, product_and_sine, (a, b))


def test_values_and_gradients_of_any_order_are_those_of_the_definition() -> None:
    a, b = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for value, expected in zip(deferred(a, b), product_and_sine(a, b), strict=True):
        torch.testing.assert_close(value, expected)
    assert gradcheck(deferred, (a, b))
    assert gradgradcheck(deferred, (a, b))
    assert gradcheck(deferred, (a, b.detach()))
    (found,) = torch.autograd.grad(deferred(a.exp(), b)[1].sum(), a)  # inputs with a history
    (expected,) = torch.autograd.grad(product_and_sine(a.exp(), b)[1].sum(), a)
    torch.testing.assert_close(found, expected)


def test_the_definition_runs_only_in_a_backward_pass() -> None:
    calls: list[None] = []

    def counted(a: Tensor) -> tuple[Tensor]:
        calls.append(None)
        return (a.square(),)

    a = torch.ones(2, requires_grad=True)
    (value,) = with_gradients([a.detach().square()], counted, [a])
    assert not calls
    value.sum().backward()
    assert len(calls) == 1
    torch.testing.assert_close(a.grad, 2 * torch.ones(2))


def test_a_law_that_follows_its_parameters_filters_without_the_recursion_in_torch(monkeypatch: Any) -> None:
    weights = torch.randn(2, 2, requires_grad=True)
    law = DiscreteHMM(torch.zeros(2), weights, torch.distributions.Normal(torch.randn(2), 1.0), duration=6)  # type: ignore[arg-type]
    monkeypatch.setattr(DiscreteHMM, "_last_probs", lambda *_: pytest.fail("the definition ran"))
    assert law.filter(torch.randn(6)).probs.requires_grad


def test_the_last_states_probabilities_have_the_gradients_of_the_sum_over_paths() -> None:
    start, moves, loc, x = torch.randn(2), torch.randn(2, 2), torch.randn(2), torch.randn(3)
    inputs = tuple(t.double().requires_grad_() for t in (start, moves, loc, x))

    def by_law(start: Tensor, moves: Tensor, loc: Tensor, x: Tensor) -> Tensor:
        seen = torch.distributions.Normal(loc, 1.0)
        found: Tensor = DiscreteHMM(start, moves, seen, duration=3).filter(x).probs  # type: ignore[arg-type]
        return found

    def by_paths(start: Tensor, moves: Tensor, loc: Tensor, x: Tensor) -> Tensor:
        a, A = start.softmax(-1), moves.softmax(-1)
        w = torch.distributions.Normal(loc, 1.0).log_prob(x[:, None]).exp()
        joint = torch.einsum("i,i,ij,j,jk,k->k", a, w[0], A, w[1], A, w[2])
        return joint / joint.sum()

    torch.testing.assert_close(by_law(*inputs), by_paths(*inputs))
    for state in range(2):
        found, expected = (torch.autograd.grad(f(*inputs)[state], inputs) for f in (by_law, by_paths))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)
    assert gradgradcheck(by_law, inputs, fast_mode=True)
