import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from pgm_rnn.distributions.normal import Normal


@pytest.mark.parametrize("event_dim", [0, 1])
@pytest.mark.parametrize("scale", [torch.tensor(0.7), torch.rand(4, 3) + 0.5], ids=["one scale", "scales"])
def test_it_is_pyros_normal_law(scale: torch.Tensor, event_dim: int) -> None:
    loc, x = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    law, theirs = Normal(loc, scale, event_dim), dist.Normal(loc, scale).to_event(event_dim)
    assert (law.batch_shape, law.event_shape) == (theirs.batch_shape, theirs.event_shape)
    torch.testing.assert_close(law.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(law.entropy(), theirs.entropy())
    torch.testing.assert_close(law.mean, theirs.mean)
    torch.testing.assert_close(law.variance, theirs.variance)
    assert str(law.support) == str(theirs.support)
    other = Normal(torch.zeros(4, 3), torch.tensor(2.0), event_dim)
    theirs_other = dist.Normal(torch.zeros(4, 3), 2.0).to_event(event_dim)
    torch.testing.assert_close(kl_divergence(law, other), kl_divergence(theirs, theirs_other))
    (found,) = torch.autograd.grad(law.log_prob(x).sum(), loc)
    (expected,) = torch.autograd.grad(theirs.log_prob(x).sum(), loc)
    torch.testing.assert_close(found, expected)


def test_draws_follow_it_and_quantiles_are_its_inverse() -> None:
    law = Normal(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]), event_dim=1)
    draws = law.sample((40_000,))
    assert draws.shape == (40_000, 2)
    scores = (draws.mean(0) - law.loc).abs() / (law.stddev / 200)
    assert float(scores.max()) < 4.5
    assert float((draws.std(0) / law.stddev - 1).abs().max()) < 4.5 / (2 * 40_000) ** 0.5
    u = torch.tensor([0.2, 0.9])
    torch.testing.assert_close(dist.Normal(law.loc, law.scale).cdf(law.icdf(u)), u)
    assert law.expand([5]).rsample().shape == (5, 2)
