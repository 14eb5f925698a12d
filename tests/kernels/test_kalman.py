from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels import gaussian_backward, kalman
from pgm_rnn.kernels.kalman import GaussianChain
from tests.definitions import JointNormal, joint_normal

BATCH, NUM_STEPS, DIM, OBS_DIM = 3, 4, 3, 2
LENGTHS = torch.tensor([4, 1, 3])
AXES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "shared": ((), ()),
    "per step": ((3,), (4,)),
    "per sequence": ((3, 1), (3, 1)),
    "per step and sequence": ((3, 3), (3, 4)),
}
"""Leading axes of what belongs to transitions and to emissions."""
every_axes = pytest.mark.parametrize("axes", AXES.values(), ids=AXES)


@pytest.fixture(params=["compiled", "batched"], autouse=True)
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs on numba's and on torch's recursions."""
    monkeypatch.setattr(kalman, "prefers_batched", lambda x, dim: request.param == "batched")


def random_cov(*batch: int, size: int) -> Tensor:
    root = torch.randn(*batch, size, size)
    return root @ root.mT / size + 0.3 * torch.eye(size)


def random_chain(
    axes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ()), dim: int = DIM, obs_dim: int = OBS_DIM
) -> GaussianChain:
    moves, sees = axes
    initial = (BATCH,) if len(moves) == 2 else ()
    return GaussianChain(
        torch.randn(*initial, dim),
        random_cov(*initial, size=dim),
        torch.randn(*moves, dim, dim) / 2,
        random_cov(*moves, size=dim),
        torch.randn(*sees, obs_dim, dim),
        random_cov(*sees, size=obs_dim),
        torch.randn(*moves, dim),
    )


def joint(chain: GaussianChain, b: int, length: int) -> JointNormal:
    """The big joint normal law of one sequence."""
    full = chain.with_all_axes()
    assert full.state_offset is not None

    def at(parameter: Tensor, t: int) -> Tensor:
        row = parameter[b % len(parameter)]
        return row[t % len(row)]

    moves = [[at(p, t) for p in (full.transition_matrix, full.state_offset, full.transition_cov)] for t in range(3)]
    sees = [(at(full.emission_matrix, t), at(full.emission_cov, t)) for t in range(length)]
    initial = (full.initial_mean[b % len(full.initial_mean)], full.initial_cov[b % len(full.initial_cov)])
    return joint_normal(initial, [(A, o, Q) for A, o, Q in moves[: length - 1]], sees)


def expected_log_prob(chain: GaussianChain, x: Tensor, lengths: Tensor, observed: Tensor | None = None) -> Tensor:
    seen = torch.ones_like(x, dtype=torch.bool) if observed is None else observed
    rows = zip(x, seen, lengths.tolist(), strict=True)
    return torch.stack(
        [joint(chain, b, n).log_prob(row[:n].flatten(), s[:n].flatten()) for b, (row, s, n) in enumerate(rows)]
    )


@every_axes
def test_the_filter_is_the_big_joint_normal_law(axes: Any) -> None:
    chain, x = random_chain(axes), torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    result = kalman.filter(chain, x, LENGTHS)
    torch.testing.assert_close(result.log_normalizers.sum(-1), expected_log_prob(chain, x, LENGTHS))
    for b, length in enumerate(LENGTHS.tolist()):
        for t in range(length):
            mean, cov = joint(chain, b, t + 1).states_given(x[b, : t + 1].flatten(), torch.ones(2 * t + 2) > 0)
            torch.testing.assert_close(result.filtered_means[b, t], mean[-DIM:])
            torch.testing.assert_close(result.filtered_covs[b % len(result.gain), t], cov[-DIM:, -DIM:])
            seen = torch.arange(2 * t + 2) < 2 * t
            mean, cov = joint(chain, b, t + 1).states_given(x[b, : t + 1].flatten(), seen)
            torch.testing.assert_close(result.predicted_means[b, t], mean[-DIM:])
            torch.testing.assert_close(result.predicted_covs[b % len(result.gain), t], cov[-DIM:, -DIM:])
        assert not result.filtered_means[b, length:].any()
        assert not result.log_normalizers[b, length:].any()


def test_covariances_are_computed_once_for_sequences_that_share_them() -> None:
    x = torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    assert len(kalman.filter(random_chain(), x, LENGTHS).gain) == 1
    assert len(kalman.filter(random_chain(AXES["per sequence"]), x, LENGTHS).gain) == BATCH


def with_gradients(chain: GaussianChain) -> tuple[GaussianChain, list[Tensor]]:
    tensors = [parameter.requires_grad_() for parameter in chain if parameter is not None]
    return GaussianChain(*tensors), tensors


def symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2


@every_axes
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_are_those_of_the_big_joint_normal_law(axes: Any, dtype: torch.dtype) -> None:
    exact, weights = random_chain(axes), torch.tensor([2.0, -3.0, 1.0])
    x = torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    chain, tensors = with_gradients(GaussianChain(*(p.to(dtype) for p in exact if p is not None)))
    reference, expected_tensors = with_gradients(exact)
    inputs = [x.to(dtype).requires_grad_(), x.requires_grad_()]
    value = kalman.log_marginal_likelihood(chain, inputs[0], LENGTHS)
    expected = expected_log_prob(reference, inputs[1], LENGTHS)
    tolerance = 512 * torch.finfo(dtype).eps  # a few hundred roundings of numbers of order one
    torch.testing.assert_close(value.double(), expected, rtol=tolerance, atol=tolerance)
    found = torch.autograd.grad((value * weights.to(dtype)).sum(), [inputs[0], *tensors])
    wanted = torch.autograd.grad((expected * weights).sum(), [inputs[1], *expected_tensors])
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        if i in (2, 4, 6):  # covariances: only the symmetric part of a gradient means something
            a, b = symmetric(a), symmetric(b)
        scale = max(1.0, float(b.abs().max()))
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=8 * tolerance * scale)


def test_gradients_are_finite_differences() -> None:
    chain, tensors = with_gradients(random_chain())
    x = torch.randn(BATCH, NUM_STEPS, OBS_DIM, requires_grad=True)

    def value(x: Tensor, *parameters: Tensor) -> Tensor:
        m, P, A, Q, C, R, b = parameters
        symmetrised = GaussianChain(m, symmetric(P), A, symmetric(Q), C, symmetric(R), b)
        return kalman.log_marginal_likelihood(symmetrised, x, LENGTHS)

    assert torch.autograd.gradcheck(value, [x, *tensors])
    assert chain.state_offset is not None


def test_a_wrong_gradient_would_be_found_out() -> None:
    chain, tensors = with_gradients(random_chain())
    x = torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    full = torch.full_like(LENGTHS, NUM_STEPS)
    value = kalman.log_marginal_likelihood(chain, x, LENGTHS).sum()
    other = expected_log_prob(chain, x, full).sum()  # as if there were no padding
    pairs = zip(torch.autograd.grad(value, tensors), torch.autograd.grad(other, tensors), strict=True)
    assert all(float((a - b).abs().max()) > 1e-2 for a, b in pairs)


def test_singular_noise_is_allowed_where_predictions_are_regular() -> None:
    # an autoregression of order two in companion form: its second state is a copy
    A, C = torch.tensor([[0.5, -0.3], [1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    chain, tensors = with_gradients(
        GaussianChain(torch.zeros(2), torch.eye(2), A, torch.diag(torch.tensor([1.0, 0.0])), C, torch.zeros(1, 1))
    )
    x = torch.randn(1, NUM_STEPS, 1)
    value = kalman.log_marginal_likelihood(chain, x, torch.tensor([4]))[0]
    residuals = [x[0, 0, 0], x[0, 1, 0] - 0.5 * x[0, 0, 0]]
    residuals += [x[0, t, 0] - 0.5 * x[0, t - 1, 0] + 0.3 * x[0, t - 2, 0] for t in (2, 3)]
    variances = torch.tensor([1.0, 1.09, 1.0, 1.0])  # the state before the first is unknown, with variance one
    law = torch.distributions.Normal(0.0, variances.sqrt())
    torch.testing.assert_close(value, law.log_prob(torch.stack(residuals)).sum())
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value, tensors))


def patterns() -> dict[str, Tensor]:
    one = torch.rand(BATCH, NUM_STEPS, OBS_DIM) > 0.4
    return {
        "entries": one,
        "whole steps": (torch.rand(BATCH, NUM_STEPS, 1) > 0.4).expand(-1, -1, OBS_DIM),
        "the same for all": one[:1].expand(BATCH, -1, -1),
        "nothing observed": torch.zeros_like(one),
    }


@every_axes
def test_missing_entries_are_left_out_of_the_joint_law(axes: Any) -> None:
    for name, observed in patterns().items():
        chain, tensors = with_gradients(random_chain(axes))
        x = torch.randn(BATCH, NUM_STEPS, OBS_DIM).where(observed, torch.nan)
        value = kalman.log_marginal_likelihood(chain, x, LENGTHS, observed)
        clean = x.nan_to_num(7.0)
        expected = expected_log_prob(chain, clean, LENGTHS, observed)
        torch.testing.assert_close(value, expected, msg=name)
        torch.testing.assert_close(kalman.filter(chain, x, LENGTHS, observed).log_normalizers.sum(-1), expected)
        if name != "nothing observed":
            found = torch.autograd.grad(value.sum(), tensors, retain_graph=True)
            wanted = torch.autograd.grad(expected.sum(), tensors)
            for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
                both = (symmetric(a), symmetric(b)) if i in (1, 3, 5) else (a, b)
                torch.testing.assert_close(*both, rtol=1e-9, atol=1e-9)


@every_axes
def test_the_smoother_is_the_big_joint_normal_law_given_all_observations(axes: Any) -> None:
    chain, x = random_chain(axes), torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    result = gaussian_backward.smooth(gaussian_backward.filtered(chain, x, LENGTHS), LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        mean, cov = joint(chain, b, length).states_given(x[b, :length].flatten(), torch.ones(2 * length) > 0)
        blocks, row = cov.reshape(length, DIM, length, DIM), int(result.rows[b])
        torch.testing.assert_close(result.means[b, :length], mean.reshape(length, DIM))
        for t in range(length):
            torch.testing.assert_close(result.covs[row, t], blocks[t, :, t])
            if t + 1 < length:
                torch.testing.assert_close(result.pairwise[row, t], blocks[t, :, t + 1])
        assert not result.means[b, length:].any()
        assert not result.covs[row, length:].any()


def test_scores_give_the_same_smoothed_means() -> None:
    chain, x = random_chain(), torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    expected = gaussian_backward.smooth(gaussian_backward.filtered(chain, x, LENGTHS), LENGTHS).means
    result = kalman.scores(chain, LENGTHS, kalman.filter(chain, x, LENGTHS))
    torch.testing.assert_close(result.smoothed_means, expected)


def test_paths_are_drawn_from_the_posterior_and_not_from_the_filter() -> None:
    limit, num_samples = 5.0, 20_000  # standard errors, draws
    chain, x = random_chain(), torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    result = gaussian_backward.filtered(chain, x, LENGTHS)
    noise = torch.randn(num_samples, BATCH, NUM_STEPS, DIM)
    paths = gaussian_backward.sample_paths(result, LENGTHS, noise)
    assert not paths[:, 1, 1:].any()
    for b, length in enumerate(LENGTHS.tolist()):
        mean, cov = joint(chain, b, length).states_given(x[b, :length].flatten(), torch.ones(2 * length) > 0)
        draws = paths[:, b, :length].flatten(1)
        scores = (draws.mean(0) - mean) / (cov.diagonal() / num_samples).sqrt()
        assert float(scores.abs().max()) < limit
        spread = torch.outer(cov.diagonal(), cov.diagonal()) + cov.square()  # variance of a product of two normals
        assert float(((draws.T.cov() - cov).abs() / (spread / num_samples).sqrt()).max()) < limit
        if length > 1:
            error = draws.mean(0)[:DIM] - result.filtered_means[b, 0]
            assert float((error / (cov.diagonal()[:DIM] / num_samples).sqrt()).abs().max()) > limit


def test_a_prediction_without_a_covariance_is_nan_in_its_sequence_only() -> None:
    chain = random_chain(AXES["per sequence"])
    chain.emission_cov[1] = -100 * torch.eye(OBS_DIM)
    result = kalman.filter(chain, torch.randn(BATCH, NUM_STEPS, OBS_DIM), torch.tensor([4, 4, 4]))
    assert result.log_normalizers[1].isnan().all()
    assert result.log_normalizers[[0, 2]].isfinite().all()


def test_a_diffuse_start_keeps_single_precision() -> None:
    # a local level: after the first observation its variance is a million times smaller
    one = torch.eye(1)
    chain = GaussianChain(torch.zeros(1), 1e7 * one, one, 1469.1 * one, one, 15099.0 * one)
    x, lengths = 1000 + 100 * torch.randn(2, 300, 1), torch.tensor([300, 300])
    double = kalman.log_marginal_likelihood(chain, x, lengths)
    single = kalman.log_marginal_likelihood(GaussianChain(*(p.float() for p in chain[:6])), x.float(), lengths)
    torch.testing.assert_close(single.double(), double, rtol=64 * torch.finfo(torch.float32).eps, atol=0)


def _trend(noise: float) -> GaussianChain:
    """A smooth trend after a vague start, seen with little noise."""
    A, C = torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    return GaussianChain(torch.zeros(2), 1e6 * torch.eye(2), A, noise * torch.eye(2), C, 0.01 * torch.eye(1))


def _alike() -> GaussianChain:
    """Two entries that say nearly the same of a vague start."""
    A, C = torch.tensor([[0.99, 0.0], [0.0, 0.5]]), torch.tensor([[1.0, 0.0], [1.0, 1e-3]])
    return GaussianChain(torch.zeros(2), 1e6 * torch.eye(2), A, torch.eye(2), C, 1e-4 * torch.eye(2))


@pytest.mark.parametrize("make", [lambda: _trend(1e-2), lambda: _trend(1e-10), _alike])
@pytest.mark.parametrize("num_steps", [1000, 100_000])
def test_single_precision_keeps_its_digits_where_covariances_are_nearly_singular(
    make: Callable[[], GaussianChain], num_steps: int
) -> None:
    if num_steps > 1000 and kalman.prefers_batched(torch.ones(1, 1, 1), 2):
        pytest.skip("torch's own steps take a minute for so many")
    given = [part.float() for part in make() if part is not None]
    x = _drawn(GaussianChain(*(part.double() for part in given)), num_steps).float()
    lengths, found = torch.tensor([num_steps]), []
    for dtype in (torch.float64, torch.float32):
        chain = [part.to(dtype).requires_grad_() for part in given]
        value = kalman.log_marginal_likelihood(GaussianChain(*chain), x.to(dtype), lengths)
        found.append([part.detach().double() for part in (value, *torch.autograd.grad(value.sum(), chain))])
    exact, single = found
    for mine, its in zip(single, exact, strict=True):
        assert float((mine - its).norm()) <= 1e-6 * float(its.norm())
    plain = kalman._filter(GaussianChain(*given).with_all_axes(), x, lengths)  # the control, without `in_double`
    error = (plain.log_normalizers.sum(-1).double() - exact[0]).abs() / exact[0].abs()
    assert not bool((error < 1e-4).all())


def _drawn(chain: GaussianChain, num_steps: int) -> Tensor:
    """x_{1:T} of a chain whose noises are independent, started near its mean, (1, T, M)."""
    A, C = chain.transition_matrix.numpy(), chain.emission_matrix.numpy()
    Q, R = (
        torch.randn(num_steps, len(cov)) * cov.diagonal().sqrt() for cov in (chain.transition_cov, chain.emission_cov)
    )
    z = [chain.initial_mean.numpy()]
    for noise in Q[1:].numpy():
        z.append(A @ z[-1] + noise)
    return torch.from_numpy(np.stack(z) @ C.T)[None] + R


@pytest.mark.parametrize("sizes", [(1, 1), (1, 3), (5, 1), (9, 8)])
def test_any_numbers_of_states_and_outputs_are_taken(sizes: tuple[int, int]) -> None:
    chain = random_chain(dim=sizes[0], obs_dim=sizes[1])
    x = torch.randn(BATCH, NUM_STEPS, sizes[1])
    value = kalman.log_marginal_likelihood(chain, x, LENGTHS)
    torch.testing.assert_close(value, expected_log_prob(chain, x, LENGTHS))


def test_covariances_stay_symmetric_and_positive_over_a_long_time() -> None:
    chain = GaussianChain(*(p.float() for p in random_chain() if p is not None))
    precise = chain._replace(emission_cov=1e-4 * torch.eye(2, dtype=torch.float32))
    result = kalman.filter(precise, torch.randn(1, 500, 2, dtype=torch.float32), torch.tensor([500]))
    for covs in (result.predicted_covs, result.filtered_covs):
        assert torch.equal(covs, covs.mT)
        assert float(torch.linalg.eigvalsh(covs).min()) > 0
