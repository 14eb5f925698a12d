"""Compiled steps of weights against a loop in log space, in double precision, on the same uniforms."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.kernels.particle_runs import INFINITE, NAN
from pgm_rnn.kernels.particle_steps import ParticleWeights

B, T = 3, 6
LENGTHS = torch.tensor([6, 1, 4])
Doubles = NDArray[np.float64]
Steps = tuple[list[Doubles], list[NDArray[np.int64]], dict[str, Doubles]]


def by_definition(log_ratios: Doubles, uniforms: Doubles, threshold: float) -> Steps:
    """Log weights (T, N, B), ancestors (T, N, B) and rows (B, T): each sequence by itself, particle after particle."""
    num = log_ratios.shape[1]
    log_w = np.full((num, B), -math.log(num))
    rows = {name: np.zeros((B, T)) for name in ("log_normalizers", "ess", "resampled")}
    kept, drawn = [], []
    for t in range(T):
        ancestors = np.tile(np.arange(num, dtype=np.int64)[:, None], (1, B))
        for b in range(B):
            if t >= int(LENGTHS[b]):
                rows["ess"][b, t] = rows["ess"][b, t - 1]
                continue
            if t and rows["ess"][b, t - 1] <= threshold:
                rows["resampled"][b, t] = 1
                for n in range(num):
                    point, until = (n + uniforms[t, n % uniforms.shape[1], b]) / num, 0.0
                    for m in range(num):
                        until += math.exp(log_w[m, b])
                        if until > point:
                            ancestors[n, b] = m
                            break
                log_w[:, b] = -math.log(num)
            joint = log_w[:, b] + log_ratios[t, :, b]
            rows["log_normalizers"][b, t] = np.logaddexp.reduce(joint)
            log_w[:, b] = joint - rows["log_normalizers"][b, t]
            rows["ess"][b, t] = 1 / np.exp(2 * log_w[:, b]).sum()
        kept.append(log_w.copy())
        drawn.append(ancestors)
    return kept, drawn, rows


def by_kernel(log_ratios: Tensor, uniforms: Tensor, threshold: float, scheme: str) -> Steps:
    state = ParticleWeights(log_ratios.shape[1], LENGTHS, T, log_ratios.dtype, scheme, threshold)
    kept, drawn = [], []
    for t in range(T):
        itself = (torch.arange(state.num_particles * B)).reshape(-1, B)
        places = state.places(t, uniforms[t]).clone() if t and state.uneven else itself
        assert bool((places % B == torch.arange(B)).all())
        drawn.append((places // B).numpy())
        assert state.weigh(t, log_ratios[t])
        kept.append(state.log_weights.double().numpy())
        most = state.weights.amax(0)
        torch.testing.assert_close(most, torch.ones_like(most))
        torch.testing.assert_close(state.weights / most / state.weights.sum(0), state.log_weights.exp())
    assert not state.lost.any()
    rows = {name: getattr(state, name).double().numpy() for name in ("log_normalizers", "ess", "resampled")}
    return kept, drawn, rows


def given(num: int, scheme: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    log_ratios = 2 * torch.randn(T, num, B)
    log_ratios[torch.rand(T, num, B) < 0.2] = -math.inf
    log_ratios[:, 0] = 0.0
    return log_ratios, torch.rand(T, 1 if scheme == "systematic" else num, B, dtype=torch.float64)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("num", [1, 7, 64, 1500])  # the last one runs sequences beside each other
@pytest.mark.parametrize("scheme", ["systematic", "stratified"])
def test_steps_are_the_loop_over_particles(scheme: str, num: int, share: float) -> None:
    threshold = {0.0: -1.0, 1.0: math.inf}.get(share, share * num)
    log_ratios, uniforms = given(num, scheme)
    found = by_kernel(log_ratios, uniforms, threshold, scheme)
    expected = by_definition(log_ratios.numpy(), uniforms.numpy(), threshold)
    for one, other in zip(found[0], expected[0], strict=True):
        # weights below 1e-152 of the largest count as zero; there are none here but zeros themselves
        np.testing.assert_allclose(np.exp(one), np.exp(other), rtol=1e-10, atol=1e-300)
    for drawn, origins in zip(found[1], expected[1], strict=True):
        np.testing.assert_array_equal(drawn, origins)
    for name, row in expected[2].items():
        np.testing.assert_allclose(found[2][name], row, rtol=1e-10, atol=1e-10)
    assert expected[2]["resampled"].any() or share < 1


@pytest.mark.parametrize("scheme", ["systematic", "stratified"])
def test_other_uniforms_have_other_ancestors_so_that_the_test_above_can_fail(scheme: str) -> None:
    log_ratios, uniforms = given(64, scheme)
    found, expected = (
        by_kernel(log_ratios, uniforms, 32.0, scheme),
        by_definition(log_ratios.numpy(), 1 - uniforms.numpy(), 32.0),
    )
    assert any((one != other).any() for one, other in zip(found[1], expected[1], strict=True))


@pytest.mark.parametrize("scheme", ["multinomial", "residual", "stratified", "systematic"])
def test_every_scheme_draws_each_particle_as_often_as_its_weight_says(scheme: str) -> None:
    """Over many sequences of the same weights: the mean number of copies is N W, within 4.5 standard errors."""
    num, batch = 5, 20_000
    log_ratios = torch.tensor([0.0, 1.0, -1.0, 0.5, -math.inf]).double()[:, None].expand(num, batch).contiguous()
    state = ParticleWeights(num, torch.full((batch,), 2), 2, torch.float64, scheme, math.inf)
    assert state.weigh(0, log_ratios)
    torch.manual_seed(1)
    places = state.places(1, torch.rand(state.uniforms_shape, dtype=torch.float64)) // batch
    copies = torch.nn.functional.one_hot(places, num).sum(0).double()  # (B, N)
    expected = num * log_ratios[:, 0].softmax(0)
    errors = copies.std(0) / batch**0.5
    assert bool(((copies.mean(0) - expected).abs() <= 4.5 * errors + 1e-9).all())
    assert not bool(((copies.mean(0) - expected.roll(1)).abs() <= 4.5 * errors + 1e-9).all())


@pytest.mark.parametrize(
    ("value", "kind"), [(-math.inf, 0), (math.inf, INFINITE), (math.nan, NAN)], ids=["zero", "infinite", "nan"]
)
def test_a_step_without_weights_is_noted_and_the_steps_go_on(value: float, kind: int) -> None:
    state = ParticleWeights(10, torch.tensor([3, 3]), 3, torch.float64, "systematic", 5.0)
    log_ratios = torch.zeros(10, 2)
    assert state.weigh(0, log_ratios)
    log_ratios[slice(None) if kind == 0 else 4, 1] = value
    assert not state.weigh(1, log_ratios)
    assert state.lost.tolist() == [[0, 0], [2, kind]]
    assert state.weigh(2, torch.zeros(10, 2))
    assert state.log_normalizers[1].tolist() == [pytest.approx(0, abs=1e-12), -math.inf, pytest.approx(0, abs=1e-12)]
    assert state.ess[1, 1] == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_do_not_depend_on_the_number_of_threads(dtype: torch.dtype) -> None:
    num, batch, found = 700, 9, []
    torch.manual_seed(2)
    log_ratios, uniforms = torch.randn(2, num, batch, dtype=dtype), torch.rand(1, batch, dtype=torch.float64)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        state = ParticleWeights(num, torch.full((batch,), 2), 2, dtype, "systematic", math.inf)
        assert state.weigh(0, log_ratios[0])
        places = state.places(1, uniforms).clone()
        assert state.weigh(1, log_ratios[1])
        found.append((places, state.log_weights, state.log_normalizers, state.ess))
    torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_what_does_not_fit_is_an_error() -> None:
    state = ParticleWeights(10, torch.tensor([3, 3]), 3, torch.float64, "systematic", 5.0)
    with pytest.raises(ValueError, match=r"expected log_ratios of shape \(10, 2\), got \(10, 1\)"):
        state.weigh(0, torch.zeros(10, 1))
    with pytest.raises(TypeError, match=r"expected log_ratios of dtype torch\.float64, .* got torch\.float32"):
        state.weigh(0, torch.zeros(10, 2, dtype=torch.float32))
    with pytest.raises(ValueError, match=r"expected uniforms of shape \(1, 2\), got \(10, 2\)"):
        state.places(1, torch.zeros(10, 2, dtype=torch.float64))
