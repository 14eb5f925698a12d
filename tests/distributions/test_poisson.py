import math

import pyro.distributions as dist
import pytest
import torch

from pgm_rnn.distributions.poisson import Poisson
from pgm_rnn.emissions import Poisson as Counts
from pgm_rnn.inference import forward_backward
from pgm_rnn.models.hmm import HMM

# x log r - r - log x! with r = log(1 + e^raw), by mpmath with 60 digits, for numbers that float32 holds.
LOG_PROBS = [
    (0, 1e5, -100000.0),
    (15, 14.0, -2.313411380217155),
    (16, 14.0, -2.4469427134467956),
    (17, 20.0, -2.577624800028215),
    (100_352, 1e5, -7.2959533789377464),
    (1_001_024, 1e6, -8.3513147680687625),
    (10_000_384, 1e7, -8.9853782722781873),
    (20_000_000, 1e7, -3862952.9357588593),
    (2**40, 2.0**40 + 2.0**24, -142.7805800759713),
    (2**40 + 2**20, 2.0**40, -15.281882462294942),
    (3, -60.0, -181.79175946922806),
    (1_000_000, -300.0, -312815518.38465817),
    (0, -800.0, 0.0),
    (1, -800.0, -800.0),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("x", "raw", "expected"), LOG_PROBS)
def test_a_log_probability_has_the_digits_of_its_precision(
    x: int, raw: float, expected: float, dtype: torch.dtype
) -> None:
    found = Poisson(torch.tensor(raw, dtype=dtype)).log_prob(torch.tensor(x, dtype=dtype))
    assert found.dtype == dtype
    assert float(found) == pytest.approx(expected, rel=16 * torch.finfo(dtype).eps, abs=16 * torch.finfo(dtype).eps)


def test_the_textbook_formula_loses_nats_where_the_law_does_not() -> None:
    x, rate = torch.tensor(10_000_384.0, dtype=torch.float32), torch.tensor(1e7, dtype=torch.float32)
    assert abs(float(x.xlogy(rate) - rate - (x + 1).lgamma()) + 8.9853782722781873) > 0.1


@pytest.mark.parametrize("raw", [-800.0, -60.0, -39.0, -1.0, 13.0, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_slope_is_x_over_r_minus_one_times_that_of_softplus(raw: float, dtype: torch.dtype) -> None:
    largest = 1e7 if raw > -50 else 1.0
    x = torch.tensor([0.0, 1.0, 15.0, 16.0, largest, max(0.0, math.floor(raw + 3 * abs(raw) ** 0.5))], dtype=dtype)
    at = torch.full_like(x, raw, requires_grad=True)
    (found,) = torch.autograd.grad(Poisson(at).log_prob(x).sum(), at)
    slope = 1 / (1 + math.exp(-raw)) if raw > -700 else 0.0
    per_rate = slope / math.log1p(math.exp(raw)) if raw > -700 and raw < 700 else (1.0 if raw < 0 else 1 / raw)
    expected = x.double() * per_rate - slope  # (x / r - 1) slope
    scale = x.double() * per_rate + slope
    assert bool(((found - expected).abs() <= 64 * torch.finfo(dtype).eps * scale).all())


def test_it_is_pyros_law_in_every_other_respect() -> None:
    raw, x = torch.randn(4, 3), torch.randint(40, (5, 4, 3)).double()
    law, theirs = Poisson(raw), dist.Poisson(torch.nn.functional.softplus(raw))
    assert isinstance(law, dist.Poisson)
    torch.testing.assert_close(law.log_prob(x), theirs.log_prob(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(law.mean, theirs.mean)
    torch.testing.assert_close(law.expand([5, 4, 3]).log_prob(x), law.log_prob(x))
    torch.manual_seed(0)
    drawn = law.sample((7,))
    torch.manual_seed(0)
    assert torch.equal(drawn, theirs.sample((7,)))


@pytest.mark.parametrize("rate", [1e3, 1e5, 1e7])
def test_an_hmm_of_large_counts_in_float32_has_the_likelihood_of_float64(rate: float) -> None:
    x = torch.poisson(torch.full((200,), rate))
    rates = torch.tensor([rate, 1.01 * rate], dtype=torch.float32)
    chain = torch.tensor([0.9, 0.1], dtype=torch.float32), torch.tensor([[0.7, 0.3], [0.2, 0.8]], dtype=torch.float32)
    hmm = HMM(*chain, Counts().table(rates))
    found = forward_backward.filter(hmm, x.float()[None]).log_marginal_likelihood
    log_emission = x[:, None] * rates.double().log() - rates.double() - (x[:, None] + 1).lgamma()
    belief = chain[0].double().log()
    for t in range(200):
        joint = belief + log_emission[t]
        belief = torch.logsumexp(joint[:, None] + chain[1].double().log(), 0)
    assert float(found) == pytest.approx(float(joint.logsumexp(0)), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_counts_of_another_dtype_are_taken_in_the_wider_one(dtype: torch.dtype) -> None:
    law = Poisson(torch.tensor([-torch.inf, -200.0, 1e6], dtype=torch.float32))
    found = law.log_prob(torch.tensor([0, 1, 1_001_024], dtype=dtype)).double()
    torch.testing.assert_close(found, torch.tensor([0.0, -200.0, -8.3513147680687625]), rtol=1e-6, atol=0.0)
    assert float(law.log_prob(torch.tensor(1, dtype=dtype))[0]) < -1e38  # rate zero
