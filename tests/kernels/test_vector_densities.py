"""Densities of many vectors against long doubles, finite differences and torch's operations."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.distributions.bits import Bernoulli
from pgm_rnn.distributions.normal import Normal
from pgm_rnn.kernels import vector_densities

DTYPES = [torch.float32, torch.float64]
SIZES = [1, 7, 8, 88, 131]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_densities, "LEAST", 1)


def vectors(size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, loc, raw = torch.randn(3, 5, 41, size, generator=generator, dtype=dtype)
    return x, loc, (4 * raw).exp()


def long(part: Tensor) -> Any:
    return part.detach().double().numpy().astype(np.longdouble)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_normal_densities_are_exact_to_rounding(size: int, dtype: torch.dtype) -> None:
    x, loc, scale = vectors(size, dtype)
    found = vector_densities.normal(x, loc, scale)
    assert found.dtype == dtype
    entries = -(((long(x) - long(loc)) / long(scale)) ** 2) / 2 - np.log(long(scale)) - math.log(2 * math.pi) / 2
    error = np.abs(long(found) - entries.sum(-1)) / np.abs(entries).sum(-1)
    assert float(error.max()) < 20 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_densities_of_drawn_vectors_are_exact_to_rounding_whatever_the_scale(size: int, dtype: torch.dtype) -> None:
    noise, _, scale = vectors(size, dtype)
    scale[0, 0], scale[0, 1] = torch.finfo(dtype).tiny / 4, torch.finfo(dtype).max
    found = vector_densities.drawn(noise, scale)
    entries = -(long(noise) ** 2) / 2 - np.log(long(scale)) - math.log(2 * math.pi) / 2
    error = np.abs(long(found) - entries.sum(-1)) / np.abs(entries).sum(-1)
    assert float(error.max()) < 20 * torch.finfo(dtype).eps
    scale[0, 0, 0] = math.nan
    assert bool(vector_densities.drawn(noise, scale).isnan()[0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_densities_of_bits_are_exact_to_rounding(size: int, dtype: torch.dtype) -> None:
    logits = 10 * vectors(size, dtype)[0]
    x = (vectors(size, dtype)[1] > 0).to(dtype)
    found = vector_densities.bits(x, logits)
    signed = np.where(long(x) > 0, long(logits), -long(logits))
    expected = -np.log1p(np.exp(-signed))
    error = np.abs(long(found) - expected) / np.maximum(np.abs(expected), 1)
    assert float(error.max()) < 4 * torch.finfo(dtype).eps


def bits_by_torch(x: Tensor, logits: Tensor) -> Tensor:
    found: Tensor = dist.Bernoulli(logits=logits).log_prob(x)
    return found


def drawn_by_torch(noise: Tensor, scale: Tensor) -> Tensor:
    return (-noise.square() / 2 - scale.log() - math.log(2 * math.pi) / 2).sum(-1)


def arguments(kind: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor], list[Tensor], list[Tensor]]:
    """The compiled density, torch's, the observations, and the leaves."""
    x, loc, scale = vectors(11, torch.float64)
    if kind == "normal":
        return vector_densities.normal, vector_densities._normal_by_torch, [], [x, loc, scale.clamp(0.1, 10)]
    if kind == "drawn":
        return vector_densities.drawn, drawn_by_torch, [], [x, scale.clamp(0.1, 10)]
    bits = (x > 0).double()
    return vector_densities.bits, bits_by_torch, [bits], [loc]


@pytest.mark.parametrize("kind", ["normal", "drawn", "bits"])
def test_gradients_are_those_of_torch_once_and_twice(kind: str) -> None:
    compiled, by_torch, given, leaves = arguments(kind)
    leaves = [leaf.requires_grad_() for leaf in leaves]
    weights = torch.randn(compiled(*given, *leaves).shape, dtype=torch.float64)
    once, twice = [], []
    for function in (compiled, by_torch):
        value = (weights * function(*given, *leaves)).sum()
        once.append(torch.autograd.grad(value, leaves, create_graph=False))
        value = (weights * function(*given, *leaves)).sum()
        first = torch.autograd.grad(value, leaves, create_graph=True)
        twice.append(torch.autograd.grad(sum((part.square().sum() for part in first), torch.zeros(())), leaves))
    for found, expected in zip((*once[0], *twice[0]), (*once[1], *twice[1]), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 1e-310])
def test_scales_that_are_no_normal_numbers_give_what_torch_gives(scale: float) -> None:
    x, loc, scales = vectors(9, torch.float64)
    scales[2, 3, 4] = scales[4, 0, 8] = scale
    found = vector_densities.normal(x, loc, scales)
    torch.testing.assert_close(found, vector_densities._normal_by_torch(x, loc, scales), equal_nan=True)


@pytest.mark.parametrize("logit", [-math.inf, math.inf, math.nan, 1e308])
def test_logits_that_are_not_finite_give_what_their_limits_give(logit: float) -> None:
    x, logits = torch.zeros(4, 16, dtype=torch.float64), torch.zeros(4, 16, dtype=torch.float64)
    x[1] = 1
    logits[:, 3] = logits[:, 15] = logit
    found = vector_densities.bits(x, logits)
    torch.testing.assert_close(found, dist.Bernoulli(logits=logits, validate_args=False).log_prob(x), equal_nan=True)


def test_the_laws_take_the_compiled_pass_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, loc, scale = vectors(6, torch.float64)
    laws: list[Any] = [Normal(loc, scale, event_dim=1), Bernoulli(logits=loc, validate_args=False)]
    values = x, (x > 0).double()
    compiled = [law.log_prob(value) for law, value in zip(laws, values, strict=True)]
    called: list[str] = []
    monkeypatch.setattr(vector_densities, "_run", lambda name, *_: called.append(name))
    for law, value in zip(laws, values, strict=True):
        law.log_prob(value)
    assert called == ["normal", "bits"]
    monkeypatch.setattr(vector_densities, "suits", lambda *_: False)
    for law, value, found in zip(laws, values, compiled, strict=True):
        torch.testing.assert_close(found, law.log_prob(value))
    assert called == ["normal", "bits"]


def test_mapped_vectors_and_those_of_other_shapes_take_torchs_operations() -> None:
    x, loc, scale = vectors(6, torch.float64)
    assert vector_densities.suits(x, loc, scale)
    assert not vector_densities.suits(x, loc, scale[0])
    assert not vector_densities.suits(x, loc.float(), scale)
    mapped = torch.func.vmap(lambda m: Normal(m, scale[0], event_dim=1).log_prob(x[0]))(loc)
    torch.testing.assert_close(mapped[0], Normal(loc[0], scale[0], event_dim=1).log_prob(x[0]))
    inside = torch.func.vmap(lambda m: m.sum() + Normal(loc, scale, event_dim=1).log_prob(x).sum())(loc)
    assert inside.shape == (5,)

    def value(m: Tensor) -> Tensor:
        return Normal(m, scale[0, :1], event_dim=1).log_prob(x[0, :1]).sum()

    second = torch.func.jacrev(torch.func.grad(value))(loc[0, :1])
    torch.testing.assert_close(second[0, :, 0].diagonal(), -1 / scale[0, 0].square())
