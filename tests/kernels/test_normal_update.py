"""Small matrices against the library, and one update of a Kalman filter against the joint normal law."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pgm_rnn.kernels import normal_update, small_matrices


def positive(size: int, *batch: int, seed: int = 0) -> Tensor:
    root = torch.randn(*batch, size, size + 2, generator=torch.Generator().manual_seed(seed))
    return root @ root.mT


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_small_matrices_are_those_of_the_library(size: int) -> None:
    S = positive(size, 5, 1)
    L = small_matrices.cholesky(S)
    torch.testing.assert_close(L, torch.linalg.cholesky(S))
    B = torch.randn(1, 3, size, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(L @ small_matrices.solve(L, B), B.expand(5, 3, size, 2))
    torch.testing.assert_close(L.mT @ small_matrices.solve_transposed(L, B), B.expand(5, 3, size, 2))
    torch.testing.assert_close(small_matrices.product(S, B), S @ B)


@pytest.mark.parametrize("size", [1, 3, 6])
def test_a_matrix_that_is_not_positive_definite_has_no_factor(size: int) -> None:
    S = positive(size, 2)
    S[1, -1, -1] = -1.0
    L = small_matrices.cholesky(S)
    assert L[0].isfinite().all()
    assert L[1].isnan().any()


@pytest.mark.parametrize("missing", [(), (1,), (0, 1)])
def test_an_update_is_conditioning_of_the_joint_normal_law(missing: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)
    m, C, d, x = (torch.randn(*shape, generator=generator) for shape in ((3,), (2, 3), (2,), (2,)))
    P, R = positive(3), positive(2, seed=1)
    x[list(missing)] = torch.nan
    log_p, mean, cov = normal_update.updated(m, P, C, d, R, x)
    there = ~x.isnan()
    C, seen, S = C[there], (C @ m + d)[there], (C @ P @ C.mT + R)[there][:, there]
    gain = P @ C.mT @ torch.linalg.inv(S)
    torch.testing.assert_close(mean, m + gain @ (x[there] - seen))
    torch.testing.assert_close(cov, P - gain @ C @ P)
    expected = MultivariateNormal(seen, S).log_prob(x[there]) if there.any() else torch.zeros(())
    torch.testing.assert_close(log_p, expected)
    whole = (normal_update.log_density((C @ m + d[there]), S, x[there])) if there.any() else expected
    torch.testing.assert_close(whole, expected)


def test_a_move_has_the_moments_of_a_linear_map() -> None:
    m, A, b, P, Q = (
        torch.ones(2),
        torch.tensor([[1.0, 2.0], [0.0, 1.0]]),
        torch.ones(2),
        positive(2),
        positive(2, seed=1),
    )
    mean, cov = normal_update.predicted(m, P, A, b, Q)
    torch.testing.assert_close(mean, torch.tensor([4.0, 2.0]))
    torch.testing.assert_close(cov, A @ P @ A.mT + Q)
