"""Compiled bootstrap filters against a loop over steps and particles, in double precision, on the same noise."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.kernels import particle_runs
from pgm_rnn.kernels.gaussian_chain import GaussianChain
from pgm_rnn.kernels.particle_runs import INFINITE, NAN
from tests.filters import LENGTHS, B, Move, T, Weigh, assert_agrees, by_steps, drawn


def chain(dim: int, size: int, *, per_step: bool = False) -> GaussianChain:
    lead = (B, T - 1) if per_step else ()
    roots = [torch.randn(*lead, dim, dim) for _ in range(2)]
    noise = torch.randn(*((B, T) if per_step else ()), size, size)
    return GaussianChain(
        torch.randn(dim),
        torch.eye(dim),
        0.7 * torch.randn(*lead, dim, dim),
        roots[0] @ roots[0].mT + 0.1 * torch.eye(dim),
        torch.randn(size, dim),
        noise @ noise.mT + 0.1 * torch.eye(size),
        torch.randn(*lead, dim),
    )


def normal_log_prob(value: NDArray[np.float64], cov: NDArray[np.float64]) -> NDArray[np.float64]:
    """log N(value; 0, cov) of each row."""
    squares = (value * np.linalg.solve(cov, value.T).T).sum(1)
    return -0.5 * (squares + np.linalg.slogdet(2 * np.pi * cov)[1])


def laws_of(parts: GaussianChain, x: Tensor, observed: Tensor) -> tuple[Move, Weigh]:
    full = [part.expand(B, -1, *part.shape[2:]).numpy() for part in parts.with_all_axes()[2:]]  # type: ignore[union-attr]
    mean, cov = parts.initial_mean.numpy(), parts.initial_cov.numpy()

    def at(part: NDArray[np.float64], b: int, t: int) -> NDArray[np.float64]:
        return part[b, t % part.shape[1]]

    def move(b: int, t: int, z: NDArray[np.float64], e: NDArray[np.float64]) -> NDArray[np.float64]:
        if t == 0:
            return mean + e @ np.linalg.cholesky(cov).T
        A, Q, _, _, offset = (at(part, b, t - 1) for part in full)
        return z @ A.T + offset + e @ np.linalg.cholesky(Q).T

    def weigh(b: int, t: int, z: NDArray[np.float64]) -> NDArray[np.float64]:
        there = observed[b, t].numpy()
        C, R = at(full[2], b, t)[there], at(full[3], b, t)[np.ix_(there, there)]
        return normal_log_prob(x[b, t].numpy()[there] - z @ C.T, R) if there.any() else np.zeros(len(z))

    return move, weigh


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize(("dim", "size", "num"), [(1, 1, 64), (1, 1, 13), (2, 3, 50), (3, 1, 21)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_linear_gaussian_run_is_the_loop_over_its_steps(
    dim: int, size: int, num: int, per_step: bool, gaps: bool, share: float
) -> None:
    parts, x = chain(dim, size, per_step=per_step), 2 * torch.randn(B, T, size)
    observed = torch.rand(B, T, size) < 0.6 if gaps else torch.ones(B, T, size, dtype=torch.bool)
    threshold = {0.0: -1.0, 1.0: math.inf}.get(share, share * num)
    uniforms, noise = drawn(num, dim, 3)
    run = particle_runs.gaussian(parts, x, LENGTHS, num, threshold, observed if gaps else None)
    assert run is not None
    assert_agrees(run, by_steps(*laws_of(parts, x, observed), noise, uniforms, threshold))
    assert bool(run.resampled.any()) or share < 1


def test_other_noise_is_another_run_so_that_the_test_above_can_fail() -> None:
    parts, x = chain(2, 1), torch.randn(B, T, 1)
    uniforms, noise = drawn(30, 2, 3)
    run = particle_runs.gaussian(parts, x, LENGTHS, 30, 15.0)
    assert run is not None
    everywhere = torch.ones(B, T, 1, dtype=torch.bool)
    for other in ((noise, 1 - uniforms), (noise.flip(2), uniforms)):
        with pytest.raises(AssertionError):
            assert_agrees(run, by_steps(*laws_of(parts, x, everywhere), *other, 15.0))


def test_states_of_singular_noise_stay_in_its_range_and_singular_observations_are_left_to_others() -> None:
    parts = chain(2, 1)._replace(transition_cov=torch.ones(2, 2), transition_matrix=torch.eye(2))
    parts = parts._replace(initial_cov=torch.ones(2, 2), initial_mean=torch.zeros(2), state_offset=torch.zeros(2))
    run = particle_runs.gaussian(parts, torch.randn(B, T, 1), LENGTHS, 40, 20.0)
    assert run is not None
    torch.testing.assert_close(run.z[..., 0], run.z[..., 1], rtol=0, atol=1e-6)
    assert run.z.std() > 0.1
    singular = parts._replace(emission_cov=torch.zeros(1, 1))
    assert particle_runs.gaussian(singular, torch.randn(B, T, 1), LENGTHS, 40, 20.0) is None


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize(("num_states", "num"), [(2, 40), (5, 19), (30, 64)])
def test_a_finite_run_is_the_loop_over_its_steps(num_states: int, num: int, per_step: bool) -> None:
    initial = torch.rand(B, num_states).softmax(-1)
    moves = torch.rand(*((B, T - 1) if per_step else (1, 1)), num_states, num_states) ** 4
    moves[..., 0, 0] = 0  # such a move is never made
    moves = moves / moves.sum(-1, keepdim=True)
    log_emission = torch.randn(B, T, num_states)
    uniforms, noise = drawn(num, None, 4)
    run = particle_runs.finite(initial, moves if per_step else moves[0, 0], log_emission, LENGTHS, num, num / 2)

    def move(b: int, t: int, z: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
        if t == 0:
            return np.searchsorted(initial[b].numpy().cumsum(), u, side="right").astype(np.float64)
        rows = moves.expand(B, T - 1, num_states, num_states)[b, t - 1].numpy().cumsum(-1)
        found = (rows[z.astype(int)] <= u[:, None]).sum(-1)
        assert not ((z == 0) & (found == 0)).any()
        return found.astype(np.float64)

    def weigh(b: int, t: int, z: NDArray[np.float64]) -> NDArray[np.float64]:
        return log_emission[b, t].numpy()[z.astype(int)]

    assert_agrees(run, by_steps(move, weigh, noise, uniforms, num / 2))


def test_states_of_probability_zero_are_not_drawn_where_sums_end_below_one() -> None:
    initial = torch.full((11,), 0.0999999, dtype=torch.float32)
    initial[-1] = 0
    assert float(initial.sum()) < 1
    log_emission = torch.zeros(1, 1, 11, dtype=torch.float32)
    torch.manual_seed(0)
    run = particle_runs.finite(
        initial, torch.eye(11, dtype=torch.float32), log_emission, torch.tensor([1]), 200_000, 1.0
    )
    counts = run.z.long().flatten().bincount(minlength=11).double()
    assert counts[-1] == 0
    assert bool(((counts[:-1] / 200_000 - 0.1).abs() < 5 * (0.09 / 200_000) ** 0.5).all())


@pytest.mark.parametrize(
    ("value", "kind"), [(-math.inf, 0), (math.inf, INFINITE), (math.nan, NAN)], ids=["zero", "infinite", "nan"]
)
def test_a_step_without_weights_is_noted_and_the_run_goes_on(value: float, kind: int) -> None:
    log_emission = torch.zeros(2, 4, 3)
    log_emission[1, 2] = value
    arguments = torch.ones(3) / 3, torch.ones(3, 3) / 3, log_emission, torch.tensor([4, 4]), 10, 5.0
    run = particle_runs.finite(*arguments)
    assert run.lost.tolist() == [[0, 0], [3, kind]]
    assert run.log_normalizers[1].tolist() == [pytest.approx(0.0, abs=1e-12)] * 2 + [-math.inf] + [
        pytest.approx(0.0, abs=1e-12)
    ]
    assert run.ess[1, 2] == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_do_not_depend_on_the_number_of_threads(dtype: torch.dtype) -> None:
    parts = GaussianChain(*(None if part is None else part.to(dtype) for part in chain(2, 2)))  # type: ignore[arg-type]
    x, found = torch.randn(9, T, 2, dtype=dtype), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(5)
        found.append(particle_runs.gaussian(parts, x, torch.full((9,), T), 500, 250.0))
    torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_single_precision_has_the_estimates_of_double_precision() -> None:
    parts, x = chain(1, 1), torch.randn(1, 40, 1)
    estimates = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(6)
        given = GaussianChain(*(None if part is None else part.to(dtype) for part in parts))  # type: ignore[arg-type]
        run = particle_runs.gaussian(given, x.to(dtype), torch.tensor([40]), 20_000, 10_000.0)
        assert run is not None
        estimates.append(float(run.log_normalizers.sum()))
    assert estimates[0] == pytest.approx(estimates[1], abs=0.2)  # other draws: the noise of torch differs by dtype


@pytest.mark.parametrize("num", [1, 2, 7, 100])
def test_points_beyond_the_last_sum_go_to_the_last_weight_and_no_index_leaves_the_array(num: int) -> None:
    """Rounding may leave the running sums above or below their total: here the total is given as another number."""
    from pgm_rnn.kernels.particle_runs_compiled import choose

    for share in (0.5, 1.0 - 1e-12, 1.0, 1.0 + 1e-12, 2.0):
        for u in (0.0, 0.5, math.nextafter(1.0, 0.0)):
            weights, ancestors = np.append(np.ones(num), 0.0), np.full(num + 3, -7, dtype=np.int32)
            choose(weights, 0, num + 1, share * num, np.array([u]), ancestors)
            assert ((ancestors[: num + 1] >= 0) & (ancestors[: num + 1] < num)).all()  # the last weight is zero
            assert (np.diff(ancestors[: num + 1]) >= 0).all()
            assert ancestors[-1] == -7


@pytest.mark.parametrize("shares", ["systematic", "stratified"])
def test_ancestors_are_those_of_the_inverse_distribution_function(shares: str) -> None:
    from pgm_rnn.kernels.particle_runs_compiled import choose

    generator = np.random.default_rng(0)
    for num in (1, 5, 64, 333):
        weights = np.exp(3 * generator.normal(size=num)) * (generator.uniform(size=num) < 0.7)
        weights[0] += 1e-3
        u, ancestors = generator.uniform(size=num if shares == "stratified" else 1), np.zeros(num + 1, dtype=np.int32)
        choose(weights, 0, num, weights.sum(), u, ancestors)
        points = (np.arange(num) + u) / num
        expected = np.searchsorted(weights.cumsum() / weights.sum(), points, side="right")
        np.testing.assert_array_equal(ancestors[:num], expected)
