import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import EmissionTable, FullGaussian, Gaussian
from pgm_rnn.inference import em
from pgm_rnn.inference.em.weighted_estimates import MIN_SCALE, estimate
from pgm_rnn.models.hmm import HMM

LOC = torch.tensor([[0.0, -3.0], [5.0, 2.0]], dtype=torch.float64)
COV = torch.tensor([[[2.0, 1.2], [1.2, 1.0]], [[1e-4, 0.0], [0.0, 100.0]]], dtype=torch.float64)


def cov_of(table: EmissionTable) -> Tensor:
    law = table(torch.arange(table.num_states))
    assert isinstance(law, dist.MultivariateNormal)
    return law.covariance_matrix.detach()


def weighted_moments(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Means and covariances with each column of weights, from the definition."""
    loc = torch.stack([(w[:, None] * x).sum(0) / w.sum() for w in weights.T])
    cov = [sum(w_n * torch.outer(e, e) for w_n, e in zip(w, x - m, strict=True)) for w, m in zip(weights.T, loc)]  # noqa: B905
    return loc, torch.stack([torch.as_tensor(c) for c in cov]) / weights.sum(0)[:, None, None]


def test_a_table_has_the_given_moments() -> None:
    table = FullGaussian(2).table(LOC, COV)
    torch.testing.assert_close(table(torch.arange(2)).mean, LOC)
    torch.testing.assert_close(cov_of(table), COV)


def test_draws_have_the_correlation_of_their_law_and_not_of_independent_entries() -> None:
    num, law = 20_000, FullGaussian(2).table(LOC, COV)(torch.tensor(0))
    error = law.sample((num,)) - LOC[0]
    products = error[:, 0] * error[:, 1]
    standard_error = float(products.std()) / num**0.5
    assert abs(float(products.mean()) - 1.2) < 5 * standard_error
    assert abs(float(products.mean())) > 5 * standard_error


def test_a_diagonal_covariance_is_the_law_of_independent_entries() -> None:
    x, scale = torch.randn(7, 2), torch.tensor([[0.5, 2.0]])
    full = FullGaussian(2).table(LOC[:1], scale.square().diag_embed())
    torch.testing.assert_close(full.log_probs(x), Gaussian(2).table(LOC[:1], scale).log_probs(x))


@pytest.mark.parametrize("size", [1, 3])
def test_the_factor_is_lower_triangular_with_a_positive_diagonal(size: int) -> None:
    family = FullGaussian(size)
    factor = family.distribution(torch.randn(5, family.num_params)).scale_tril
    assert torch.equal(factor, factor.tril())
    assert bool((factor.diagonal(dim1=-2, dim2=-1) > 0).all())
    assert len(set(factor[0].tril()[factor[0] != 0].tolist())) == size * (size + 1) // 2


def test_the_estimate_is_the_weighted_covariance() -> None:
    x, weights = torch.randn(50, 3) @ torch.randn(3, 3), torch.rand(50, 2)
    table = estimate(FullGaussian(3), x, weights, 0.0)
    loc, cov = weighted_moments(x, weights)
    torch.testing.assert_close(table(torch.arange(2)).mean, loc)
    torch.testing.assert_close(cov_of(table), cov)


def test_the_estimate_keeps_a_smallest_scale_in_every_direction() -> None:
    x = torch.randn(30, 1) @ torch.tensor([[1.0, 2.0]])  # on a line
    cov = cov_of(estimate(FullGaussian(2), x, torch.ones(30, 1), 0.0))[0]
    distances = (x - x.median(0).values).abs().sort(0).values[1:-1]  # neither the zero nor the largest one
    unit = MIN_SCALE * distances.median(0).values
    values = torch.linalg.eigvalsh(cov / torch.outer(unit, unit))
    assert float(values[1]) == pytest.approx(float((x.var(0, correction=0) / unit**2).sum()), rel=1e-6)
    factor = torch.linalg.cholesky(cov / torch.outer(unit, unit))
    smallest = float(torch.linalg.svdvals(factor)[-1])  # the eigenvalue itself is below the rounding of the largest
    assert smallest == pytest.approx(1, rel=1e-3)


def test_em_finds_covariances_that_independent_entries_cannot_have() -> None:
    rows = torch.tensor([[0.95, 0.05], [0.05, 0.95]])
    opposite = torch.tensor([[[1.0, 0.9], [0.9, 1.0]], [[1.0, -0.9], [-0.9, 1.0]]])
    truth = HMM(torch.tensor([0.5, 0.5]), rows, FullGaussian(2).table(torch.zeros(2, 2), opposite))
    batch = truth.sample(20, 50, seed=0)
    fits = {}
    for family in (FullGaussian(2), Gaussian(2)):
        model = HMM.random(num_states=2, emission=family, seed=0)
        result = em.fit(model, batch, num_iterations=40, num_restarts=3, progress=False)
        assert bool((result.log_likelihoods.diff() > -1e-8).all())
        fits[family] = float(result.log_likelihoods[-1])
    truth_value = float(truth.log_marginal_likelihood(batch.x).detach().sum())
    assert fits[FullGaussian(2)] > truth_value  # the best parameters for these data are at least as good
    assert fits[Gaussian(2)] < truth_value - 100


@pytest.mark.parametrize(
    ("loc", "cov", "message"),
    [
        (LOC[0], COV, r"expected loc of shape \(num_states, 2\) and floating point, got \(2,\)"),
        (LOC, COV[:1], r"expected cov of shape \(2, 2, 2\), got \(1, 2, 2\)"),
        (LOC * torch.nan, COV, "expected loc as finite"),
        (LOC, -COV, "expected cov of state 0 to be positive definite"),
        (LOC, COV.tril(), "expected cov of state 0 to be a symmetric matrix"),
    ],
)
def test_moments_of_no_law_are_an_error(loc: Tensor, cov: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FullGaussian(2).table(loc, cov)


def test_the_size_is_a_positive_integer() -> None:
    with pytest.raises(ValueError, match="expected size to be an integer of at least 1, got 0"):
        FullGaussian(0)
