"""The law of a regime and a vector against a mixture written out, and its draws against its density."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pgm_rnn.distributions import RegimeNormal
from pgm_rnn.particles.noise import invert

LIMIT = 4.5  # standard errors


def law() -> RegimeNormal:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(4, 3, 2, 2, generator=generator).tril()
    factors = factors.tril(-1) + torch.diag_embed(factors.diagonal(dim1=-2, dim2=-1).exp())
    logits, loc = torch.randn(3, generator=generator), torch.randn(5, 1, 3, 2, generator=generator)
    return RegimeNormal(logits, loc, factors)  # batch (5, 4)


def test_the_density_is_the_probability_of_the_regime_times_that_of_the_vector() -> None:
    made = law()
    z = made.sample((7,))
    assert z.shape == (7, 5, 4, 3)
    for index in [(0, 0, 0), (3, 4, 2), (6, 2, 3)]:
        k, y = int(z[index][0]), z[index][1:]
        row = (index[1], index[2])
        normal = MultivariateNormal(made.loc[row[0], 0, k], scale_tril=made.scale_tril[row[1], k])
        expected = made.log_probs[k] + normal.log_prob(y)
        torch.testing.assert_close(made.log_prob(z)[index], expected)
        torch.testing.assert_close(made.covs[row[1], k], normal.covariance_matrix)


@pytest.mark.parametrize("number", [-1.0, 3.0, 0.5, float("nan")])
def test_what_is_no_regime_has_no_density(number: float) -> None:
    z = torch.tensor([number, 0.0, 0.0])
    assert bool((law().log_prob(z) == -torch.inf).all())


def moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Indicators of the regimes, and y times the indicators."""
    seen = torch.nn.functional.one_hot(z[..., 0].long(), 3).to(z.dtype)
    return seen, seen[..., None] * z[..., None, 1:]


def test_draws_have_the_probabilities_and_means_of_the_law() -> None:
    made, num = law(), 4_000
    seen, y = moments(made.sample((num,)))
    probs = made.probs
    for values, expected in ((seen, probs), (y, probs[..., None] * made.loc)):
        errors = values.std(0) / num**0.5
        assert float(((values.mean(0) - expected).abs() / errors).max()) < LIMIT
        assert (
            float(((values.mean(0) - expected.flip(0 if expected is not probs else -1)).abs() / errors).max()) > LIMIT
        )


def test_a_probability_of_zero_is_never_drawn() -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf])
    made = RegimeNormal(logits, torch.zeros(3, 1), torch.ones(3, 1, 1))
    assert bool((made.sample((1000,))[..., 0] == 1).all())
    ends = made.at(torch.tensor([0.0, 1.0]), torch.zeros(2, 1))
    assert ends[:, 0].tolist() == [1.0, 1.0]


def test_draws_are_functions_of_their_uniforms() -> None:
    made = law().expand((5, 4))
    u = torch.tensor([0.999, 0.5, 0.5]).double().expand(5, 4, 3)
    z = invert(made, u)
    assert z.shape == (5, 4, 3)
    assert bool((z[..., 0] == 2).all())
    torch.testing.assert_close(z[..., 1:], made.loc[..., 2, :].expand(5, 4, 2))  # the median of the normal


def test_parameters_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected logits .* got \(2,\), \(3, 1\) and \(3, 1, 1\)"):
        RegimeNormal(torch.zeros(2), torch.zeros(3, 1), torch.ones(3, 1, 1))
