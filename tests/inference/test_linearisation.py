from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pgm_rnn.distributions.normal_moments import NormalMoments
from pgm_rnn.inference.kalman.linearisation import StateLaw, extended, unscented
from pgm_rnn.models.noisy_rnn import NoisyRNN

DIM = 3


def noiseless(f: Callable[[Tensor], Tensor]) -> StateLaw:
    """The law of f(z) itself."""
    return lambda z, _: NormalMoments(f(z), torch.zeros(*f(z).shape, f(z).shape[-1]))


def random_normals(num: int, dim: int = DIM) -> tuple[Tensor, Tensor]:
    root = torch.randn(num, dim, dim)
    return torch.randn(num, dim), root @ root.mT + 0.1 * torch.eye(dim)


def test_the_extended_matrix_is_the_derivative_and_not_the_slides() -> None:
    model, size = NoisyRNN.random(DIM, 2, input_dim=2, seed=0).double(), 1e-6
    (mean, cov), u = random_normals(4), torch.randn(4, 2)
    found = extended(lambda z, h: NormalMoments(model.transition_mean(z, h), torch.zeros(1, DIM, DIM)), u, mean, cov)
    steps = size * torch.eye(DIM)
    columns = [(model.transition_mean(mean + s, u) - model.transition_mean(mean - s, u)) / (2 * size) for s in steps]
    torch.testing.assert_close(found.matrix, torch.stack(columns, -1), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.mean, model.transition_mean(mean, u))
    assert not found.cov.any()
    slopes = 1 - found.mean.square()  # of tanh
    A = model.transition_matrix
    torch.testing.assert_close(found.matrix, slopes[..., None] * A)  # diag(g') A
    assert not torch.allclose(found.matrix, slopes[..., None] * A.mT, atol=1e-2)  # Vidal (2024): with A transposed


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_both_are_exact_for_a_linear_function(dim: int) -> None:
    A, (mean, cov) = torch.randn(2, dim), random_normals(4, dim)
    for linearise in (extended, unscented):
        found = linearise(noiseless(lambda z: z @ A.mT), None, mean, cov)
        torch.testing.assert_close(found.mean, mean @ A.mT)
        torch.testing.assert_close(found.matrix, A.expand(4, -1, -1))
        torch.testing.assert_close(found.cov, torch.zeros(4, 2, 2), atol=1e-10, rtol=0)


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_sigma_points_give_the_mean_of_a_square_and_the_expansion_does_not(dim: int) -> None:
    mean, cov = random_normals(4, dim)
    found = unscented(noiseless(lambda z: z.square()), None, mean, cov)
    variances = cov.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(found.mean, mean.square() + variances)
    torch.testing.assert_close(found.matrix, 2 * mean.diag_embed())  # Cov(z^2, z) Cov(z)^{-1}, third moments being zero
    assert not torch.allclose(extended(noiseless(lambda z: z.square()), None, mean, cov).mean, found.mean, atol=1e-2)


def test_what_one_dimension_leaves_of_a_square_is_its_variance() -> None:
    mean, cov = random_normals(4, 1)
    found = unscented(noiseless(lambda z: z.square()), None, mean, cov)
    torch.testing.assert_close(found.cov, 2 * cov.square())  # Var(z^2) = 2 v^2 + 4 m^2 v: fourth moments are matched


@pytest.mark.parametrize("dim", [1, 2, 3, 6, 10])
def test_what_the_linear_function_leaves_is_a_covariance(dim: int) -> None:
    mean, cov = random_normals(20, dim)
    found = unscented(noiseless(lambda z: torch.tanh(3 * z)), None, mean, cov)
    assert float(torch.linalg.eigvalsh(found.cov).min()) > -1e-12


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_noise_that_depends_on_the_state_is_that_at_the_mean_or_the_average_over_the_points(dim: int) -> None:
    mean, cov = random_normals(4, dim)

    def law(z: Tensor, _: Tensor | None) -> NormalMoments:
        return NormalMoments(z, z.square().diag_embed())

    variances = cov.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(extended(law, None, mean, cov).cov, mean.square().diag_embed())
    average = (mean.square() + variances).diag_embed()  # E z^2, which the points have exactly
    torch.testing.assert_close(unscented(law, None, mean, cov).cov, average, atol=1e-10, rtol=1e-9)
