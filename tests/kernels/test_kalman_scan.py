"""The scans of a linear-Gaussian chain against the big joint normal law and against the recursions."""

import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels import gaussian_backward, kalman_scan
from pgm_rnn.kernels.gaussian_chain import GaussianChain
from tests.kernels.test_diagonal import Operations
from tests.kernels.test_kalman import AXES, BATCH, DIM, LENGTHS, NUM_STEPS, OBS_DIM, joint, random_chain, random_cov

Axes = tuple[tuple[int, ...], tuple[int, ...]]
every_axes = pytest.mark.parametrize("axes", AXES.values(), ids=AXES)


def within(value: Tensor, lengths: Tensor) -> Tensor:
    """Covariances (1 or B, T, ...) of every sequence, zero in the padding."""
    inside = torch.arange(value.shape[1]) < lengths[:, None]
    return value.expand(len(lengths), *value.shape[1:]) * inside[..., None, None]


def assert_same_moments(
    found: gaussian_backward.Moments, expected: gaussian_backward.Moments, lengths: Tensor, tolerance: float = 1e-11
) -> None:
    for name in ("log_normalizers", "predicted_means", "filtered_means"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=tolerance, atol=tolerance)
    for name in ("predicted_covs", "filtered_covs"):
        one, other = (within(getattr(moments, name), lengths) for moments in (found, expected))
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@every_axes
@pytest.mark.parametrize("gaps", [False, True])
def test_ragged_sequences_have_the_moments_of_the_recursions(axes: Axes, gaps: bool) -> None:
    torch.manual_seed(0)
    chain, x = random_chain(axes), torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    observed = torch.rand(x.shape) < 0.6 if gaps else None
    expected = gaussian_backward.filtered(chain, x, LENGTHS, observed)
    found = kalman_scan.filtered(chain, x, LENGTHS, observed)
    assert_same_moments(found, expected, LENGTHS)
    smoothed, right = kalman_scan.smooth(found, LENGTHS), gaussian_backward.smooth(expected, LENGTHS)
    torch.testing.assert_close(smoothed.means, right.means, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(smoothed.covs[smoothed.rows], right.covs[right.rows], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(smoothed.pairwise[smoothed.rows], right.pairwise[right.rows], rtol=1e-11, atol=1e-11)


@every_axes
def test_they_are_the_moments_of_the_big_joint_normal(axes: Axes) -> None:
    torch.manual_seed(1)
    chain, x = random_chain(axes), torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    found = kalman_scan.filtered(chain, x, LENGTHS)
    smoothed = kalman_scan.smooth(found, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        law, seen, own = joint(chain, b, length), torch.ones(OBS_DIM * length) > 0, x[b, :length].flatten()
        torch.testing.assert_close(found.log_normalizers[b].sum(), law.log_prob(own, seen))
        mean, cov = law.states_given(own, seen)
        blocks = cov.reshape(length, DIM, length, DIM)
        torch.testing.assert_close(smoothed.means[b, :length], mean.reshape(length, DIM))
        for t in range(length):
            torch.testing.assert_close(smoothed.covs[b, t], blocks[t, :, t])
        for t in range(length - 1):
            torch.testing.assert_close(smoothed.pairwise[b, t], blocks[t, :, t + 1])


@pytest.mark.parametrize("num_steps", [1, 2, 3, 1000])
def test_short_and_long_sequences(num_steps: int) -> None:
    torch.manual_seed(num_steps)
    chain, x = random_chain(), torch.randn(2, num_steps, OBS_DIM)
    lengths = torch.tensor([num_steps, max(1, num_steps // 3)])
    expected, found = gaussian_backward.filtered(chain, x, lengths), kalman_scan.filtered(chain, x, lengths)
    assert_same_moments(found, expected, lengths, 1e-10)
    smoothed, right = kalman_scan.smooth(found, lengths), gaussian_backward.smooth(expected, lengths)
    torch.testing.assert_close(smoothed.means, right.means, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(smoothed.covs, right.covs[right.rows], rtol=1e-9, atol=1e-9)


def test_single_precision_is_enough_for_a_thousand_steps() -> None:
    torch.manual_seed(8)
    exact, x, lengths = random_chain(), torch.randn(2, 1000, OBS_DIM), torch.tensor([1000, 600])
    single = GaussianChain(*(part.float() for part in exact if part is not None))
    rounded = GaussianChain(*(part.double() for part in single if part is not None))
    found = kalman_scan.filtered(single, x.float(), lengths)
    expected = gaussian_backward.filtered(rounded, x.float().double(), lengths)
    tolerance = 512 * torch.finfo(torch.float32).eps  # a few hundred roundings of numbers of order one
    for name in ("filtered_means", "predicted_means", "log_normalizers"):
        value = getattr(found, name).double()
        torch.testing.assert_close(value, getattr(expected, name), rtol=tolerance, atol=tolerance)


def test_noise_may_be_singular() -> None:
    torch.manual_seed(3)
    singular = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.5]])
    chain = random_chain()._replace(transition_cov=singular, initial_cov=singular)
    x = torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    expected, found = gaussian_backward.filtered(chain, x, LENGTHS), kalman_scan.filtered(chain, x, LENGTHS)
    assert_same_moments(found, expected, LENGTHS)
    smoothed, right = kalman_scan.smooth(found, LENGTHS), gaussian_backward.smooth(expected, LENGTHS)
    torch.testing.assert_close(smoothed.means, right.means, rtol=1e-9, atol=1e-9)


def test_gradients_are_those_of_the_recursions() -> None:
    from pgm_rnn.kernels import kalman

    torch.manual_seed(4)
    parts = [part.requires_grad_() for part in random_chain() if part is not None]
    x = torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    value = kalman_scan.filtered(GaussianChain(*parts), x, LENGTHS).log_normalizers.sum()
    expected = kalman.log_marginal_likelihood(GaussianChain(*parts), x, LENGTHS).sum()
    torch.testing.assert_close(value, expected)
    found = torch.autograd.grad(value, parts)
    for slope, right in zip(found, torch.autograd.grad(expected, parts), strict=True):
        if slope.dim() == 2 and slope.shape[0] == slope.shape[1]:  # a covariance counts through its symmetric part
            slope, right = slope + slope.mT, right + right.mT
        torch.testing.assert_close(slope, right, rtol=1e-9, atol=1e-9)


def test_padding_is_never_read() -> None:
    torch.manual_seed(5)
    chain, x = random_chain(), torch.randn(BATCH, NUM_STEPS, OBS_DIM)
    spoiled = x.clone()
    spoiled[1, 1:], spoiled[2, 3:] = torch.nan, torch.inf
    found, expected = kalman_scan.filtered(chain, spoiled, LENGTHS), kalman_scan.filtered(chain, x, LENGTHS)
    torch.testing.assert_close(found.filtered_means, expected.filtered_means)
    torch.testing.assert_close(found.log_normalizers, expected.log_normalizers)


def elements(num: int) -> tuple[Tensor, ...]:
    """Random elements of the filter, (num, ...)."""
    return (
        torch.randn(num, 3, 3) / 2,
        torch.randn(num, 3),
        random_cov(num, size=3),
        torch.randn(num, 3),
        random_cov(num, size=3),
    )


def test_the_products_are_associative() -> None:
    torch.manual_seed(6)
    for product, parts in (
        (kalman_scan.filtering_product, [elements(5) for _ in range(3)]),
        (kalman_scan.smoothing_product, [elements(5)[:3] for _ in range(3)]),
    ):
        one = product(product(parts[0], parts[1]), parts[2])
        other = product(parts[0], product(parts[1], parts[2]))
        swapped = product(product(parts[1], parts[0]), parts[2])
        for left, right in zip(one, other, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)
        assert not torch.allclose(one[1], swapped[1], atol=1e-3)  # the control: they do not commute


def test_operations_grow_with_log_t() -> None:
    def number(num_steps: int) -> int:
        x, lengths = torch.zeros(1, num_steps, OBS_DIM), torch.tensor([num_steps])
        with Operations() as counted:
            kalman_scan.smooth(kalman_scan.filtered(chain, x, lengths), lengths)
        return counted.number

    torch.manual_seed(7)
    chain = random_chain()
    once, twice, often = number(64), number(128), number(64 * 8)
    assert often - once == 3 * (twice - once)
