import pytest
import torch
from torch import Tensor

from pgm_rnn.inference.resampling import SCHEMES, ancestors, soft, uniforms_shape
from pgm_rnn.kernels.resampling import draw_ancestors

LIMIT = 4.5  # standard errors
WEIGHTS = {
    "uneven": [0.1, 0.3, 0.05, 0.25, 0.3],
    "zeros": [0.0, 0.6, 0.0, 0.4, 0.0],
    "one dominates": [1e-6, 1e-6, 1.0, 1e-6, 1e-6],
    "one only": [0.0, 0.0, 0.0, 1.0, 0.0],
    "equal": [0.2] * 5,
}
every_scheme = pytest.mark.parametrize("scheme", list(SCHEMES))
every_weights = pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)


def offspring(drawn: Tensor, num_particles: int) -> Tensor:
    """How many descendants each particle has, (N, B)."""
    ones = torch.ones_like(drawn, dtype=torch.float64)
    return torch.zeros(num_particles, drawn.shape[1]).scatter_add_(0, drawn, ones)


def largest_score(counts: Tensor, weights: Tensor, variance: Tensor | None = None) -> float:
    """Largest |mean offspring - N W| in standard errors, the variance being that of independent draws, the largest."""
    n, num, probs = len(weights), counts.shape[1], weights / weights.sum()
    variance = n * probs * (1 - probs) if variance is None else variance
    return float(((counts.mean(1) - n * probs).abs() / ((variance + 1e-12) / num).sqrt()).max())


@every_weights
@every_scheme
def test_offspring_are_unbiased_and_those_of_other_weights_are_not(scheme: str, weights: list[float]) -> None:
    w, num = torch.tensor(weights), 20_000
    drawn = ancestors(w.log()[:, None].expand(-1, num), scheme)
    counts = offspring(drawn, len(w))
    assert bool((counts.sum(0) == len(w)).all())
    assert largest_score(counts, w) < LIMIT
    other = torch.tensor([0.15, 0.25, 0.1, 0.2, 0.3])
    assert largest_score(counts, other) > LIMIT
    assert not counts[w == 0].any()


@every_scheme
def test_a_particle_of_weight_zero_has_no_descendant_at_any_uniform(scheme: str) -> None:
    w, edge = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0]), float(torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)))
    for u in (0.0, 0.5, edge):
        drawn = ancestors(w.log()[:, None], scheme, torch.full(uniforms_shape(scheme, 5, 1), u))
        assert set(drawn[:, 0].tolist()) <= {1, 3}


@pytest.mark.parametrize("scheme", ["stratified", "systematic", "residual"])
def test_low_variance_schemes_vary_less_than_independent_draws(scheme: str) -> None:
    log_weights = torch.tensor(WEIGHTS["uneven"]).log()[:, None].expand(-1, 5_000)
    independent = offspring(ancestors(log_weights, "multinomial"), 5).var(1)
    assert bool((offspring(ancestors(log_weights, scheme), 5).var(1) < independent).all())


def test_systematic_offspring_are_within_one_of_their_expectation() -> None:
    weights = torch.rand(50, 200)
    counts = offspring(ancestors(weights.log(), "systematic"), 50)
    assert float((counts - 50 * weights / weights.sum(0)).abs().max()) < 1


def test_residual_offspring_are_at_least_the_whole_part() -> None:
    weights = torch.rand(50, 200)
    counts = offspring(ancestors(weights.log(), "residual"), 50)
    assert bool((counts >= (50 * weights / weights.sum(0)).floor()).all())


@every_scheme
def test_given_uniforms_make_the_ancestors_a_function(scheme: str) -> None:
    log_weights = torch.randn(7, 3)
    uniforms = torch.rand(uniforms_shape(scheme, 7, 3))
    assert torch.equal(ancestors(log_weights, scheme, uniforms), ancestors(log_weights + 5, scheme, uniforms))
    torch.manual_seed(0)
    first = ancestors(log_weights, scheme)
    torch.manual_seed(0)
    assert torch.equal(first, ancestors(log_weights, scheme))


def test_multinomial_ancestors_invert_the_distribution_function() -> None:
    weights, uniforms = torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.1, 0.2, 0.6])
    drawn = ancestors(weights.log()[:, None], "multinomial", uniforms[:, None])
    assert drawn[:, 0].tolist() == [0, 1, 2]


@every_scheme
def test_one_particle_is_its_own_ancestor(scheme: str) -> None:
    assert ancestors(torch.zeros(1, 4), scheme).tolist() == [[0] * 4]


@every_scheme
def test_many_particles_in_single_precision_stay_in_range(scheme: str) -> None:
    log_weights = torch.randn(100_000, 1, dtype=torch.float32)
    drawn = ancestors(log_weights, scheme)
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < 100_000


def broken(value: float, every: bool) -> Tensor:
    """Log weights of two sequences, the second with one or only such values."""
    log_weights = torch.zeros(6, 2)
    log_weights[slice(None) if every else 2, 1] = value
    return log_weights


@every_scheme
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("log_weights", "message"),
    [
        (broken(torch.nan, False), "got nan for sequence 1"),
        (broken(torch.nan, True), "got nan for sequence 1"),
        (broken(torch.inf, False), "got inf for sequence 1"),
        (broken(-torch.inf, True), "got nothing but -inf for sequence 1"),
    ],
)
def test_log_weights_that_no_particle_can_be_drawn_by_are_errors(
    log_weights: Tensor, message: str, dtype: torch.dtype, scheme: str
) -> None:
    for draw in (ancestors, lambda weights, scheme: soft(weights, 0.5, scheme)):
        with pytest.raises(ValueError, match=f"expected a finite largest log weight for every sequence, {message}"):
            draw(log_weights.to(dtype), scheme)
    assert set(ancestors(broken(-torch.inf, False).to(dtype), scheme)[:, 1].tolist()) <= {0, 1, 3, 4, 5}


@every_scheme
@pytest.mark.parametrize("num", [6, 6000])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -0.5, 0.0])
def test_weights_that_no_particle_can_be_drawn_by_are_errors_where_they_are_used(
    value: float, num: int, scheme: str
) -> None:
    weights, uniforms = torch.ones(num, 3), torch.rand(uniforms_shape(scheme, num, 3))
    weights[slice(None) if value == 0 else 2, 1] = value
    with pytest.raises(ValueError, match=r"expected finite, non-negative weights .* in sequence 1; look for"):
        draw_ancestors(weights, scheme, uniforms)
    spared = draw_ancestors(weights, scheme, uniforms, torch.tensor([True, False, True]))
    assert torch.equal(spared[:, 1], torch.arange(num))
    assert int(spared.min()) >= 0
    assert int(spared.max()) < num


@pytest.mark.parametrize(
    ("log_weights", "error", "message"),
    [
        (torch.zeros(3), ValueError, r"expected log_weights of shape \(N, B\) and not empty, got \(3,\)"),
        (torch.zeros(0, 2), ValueError, r"and not empty, got \(0, 2\)"),
        (torch.zeros(3, 2).long(), TypeError, "expected log_weights as a floating-point tensor, got torch.int64"),
    ],
)
def test_log_weights_of_another_kind_are_errors(log_weights: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ancestors(log_weights)


@every_weights
def test_soft_resampling_is_unbiased_with_its_weights(weights: list[float]) -> None:
    w, num, share = torch.tensor(weights), 20_000, 0.5
    result = soft(w.log()[:, None].expand(-1, num), share)
    weighed = torch.zeros(5, num).scatter_add_(0, result.ancestors, result.log_weights.exp())
    mixture = share * w / w.sum() + (1 - share) / 5
    assert largest_score(weighed, w, 5 * (w / w.sum()).square() / mixture) < LIMIT
    assert largest_score(offspring(result.ancestors, 5), mixture) < LIMIT
    if weights != WEIGHTS["equal"]:
        assert largest_score(offspring(result.ancestors, 5), w) > LIMIT


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_soft_weights_have_the_gradient_of_the_log_weights_they_came_from(share: float) -> None:
    log_weights = torch.randn(6, 2, requires_grad=True)
    result = soft(log_weights, share)
    if share == 1:
        torch.testing.assert_close(result.log_weights, torch.zeros(6, 2))
    (found,) = torch.autograd.grad(result.log_weights.sum(), log_weights)
    (expected,) = torch.autograd.grad(log_weights.log_softmax(0).gather(0, result.ancestors).sum(), log_weights)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_outside_its_range_is_an_error(share: float) -> None:
    with pytest.raises(ValueError, match=r"expected share in \(0, 1\]"):
        soft(torch.zeros(3, 1), share)


def test_bad_schemes_and_uniforms_are_errors() -> None:
    with pytest.raises(ValueError, match=r"expected resampling to be one of multinomial, .*did you mean 'systematic'"):
        ancestors(torch.zeros(3, 1), "systmatic")
    for uniforms in (torch.zeros(2, 1), torch.ones(3, 1), -torch.ones(3, 1)):
        with pytest.raises(ValueError, match=r"expected uniforms of shape \(3, 1\) in \[0, 1\)"):
            ancestors(torch.zeros(3, 1), "multinomial", uniforms)
