"""Log densities at large concentrations, counts and degrees of freedom have the digits of their precision."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.distributions.beta import Beta
from pgm_rnn.distributions.gamma import Gamma
from pgm_rnn.distributions.negative_binomial import NegativeBinomial
from pgm_rnn.distributions.student_t import StudentT
from pgm_rnn.distributions.von_mises import VonMises, lacking_length

# Values of the textbook densities by mpmath with 60 digits, for numbers that float32 holds.
LOG_DENSITIES: dict[str, list[tuple[float, float, float, float]]] = {
    "gamma": [  # x, mean, concentration
        (20.0078125, 20.0, 1e8, -2.332129275993988),
        (20.0, 20.0, 2.0**30, 6.482536901562906),
        (0.5 + 2.0**-20, 0.5, 2.0**40, 11.637152894335161),
        (3e9, 1e9, 2.5, -24.569303444731776),
    ],
    "beta": [  # x, log odds of the mean, concentration
        (0.5 + 2.0**-13, 0.0, 1e8, 6.0043167488487255),
        (0.5, 0.0, 2.0**40, 13.637152258553952),
        (0.5 - 2.0**-20, 0.0, 2.0**40, 11.637152258553952),
        (0.25, 0.0, 1e6, -143834.06658014166),
        (1 - 2.0**-20, 14.0, 1e6, 12.74707271826255),
    ],
    "negative-binomial": [  # x, raw mean, dispersion
        (2e9, 1e9, 3.0, -23.2036553671924),
        (1e9, 1e9, 0.5, -21.33697147682652),
        (2.0**40, 2.0**40, 100.0, -32.38141880229972),
        (2.0**41, 2.0**40, 0.0625, -32.86653134194845),
        (0.0, 1e9, 3.0, -7.273959375315951),
        (5.0, -60.0, 2.0, -297.9363068152883),
        (7.0, 1e3, 100.0, -6.641853864705406),
    ],
    "student-t": [  # x, degrees of freedom, scale
        (0.0, 49.0, 1.0, -0.9240402200369596),
        (0.5, 49.75, 2.0, -1.6489686346733532),
        (3.0, 51.0, 1.0, -5.149332346968437),
        (100.0, 2.0, 1.0, -13.815810527968274),
    ],
    "von-mises": [  # x, loc, concentration
        (0.5, 0.5, 1e8, 8.29140183752151),
        (0.5 + 2.0**-13, 0.5, 1e8, 7.546343778754313),
        (0.5, 0.25, 100.0, -1.7263675852874507),
    ],
}
LAWS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "gamma": Gamma,
    "beta": Beta,
    "negative-binomial": NegativeBinomial,
    "student-t": lambda df, scale: StudentT(df, torch.zeros_like(df), scale),
    "von-mises": VonMises,
}
ROUNDINGS = 4.0
"""Errors, in units of 1 + |log p|: one in each of the few terms, and that of the result."""
LOG_GAMMAS = 60.0
"""Log gammas of up to this size are subtracted in float64."""
CASES = [(name, *case) for name, cases in LOG_DENSITIES.items() for case in cases]
DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "x", "first", "second", "expected"), CASES)
def test_a_log_density_has_the_digits_of_its_precision(
    name: str, x: float, first: float, second: float, expected: float, dtype: torch.dtype
) -> None:
    at, one, two = (torch.tensor(value, dtype=dtype) for value in (x, first, second))
    found, eps = LAWS[name](one, two).log_prob(at), torch.finfo(dtype).eps
    assert found.dtype == dtype
    allowed = ROUNDINGS * eps * (1 + abs(expected)) + LOG_GAMMAS * torch.finfo(torch.float64).eps
    assert float(found) == pytest.approx(expected, rel=0, abs=allowed)


def test_textbook_formulas_lose_nats_where_the_laws_do_not() -> None:
    x, m, r = (torch.tensor(value, dtype=torch.float64) for value in (2.0**46, 2.0**40, 0.01))
    gammas = (x + r).lgamma() - r.lgamma() - (x + 1).lgamma()
    textbook = gammas + r * (r / (r + m)).log() + x * (m / (r + m)).log()
    assert abs(float(textbook - NegativeBinomial(m, 1 / r).log_prob(x))) > 1e-2
    df = torch.tensor(49.75, dtype=torch.float32)
    halves = ((df + 1) / 2).lgamma() - (df / 2).lgamma() - 0.5 * (math.pi * df).log()
    at, scale = torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    exact = StudentT(df.double(), at, scale).log_prob(at)
    assert abs(float(halves - exact)) > 2 * ROUNDINGS * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("dispersion", [1e-12, 1e-3, 0.5, 30.0])
def test_ratios_of_neighbouring_counts_are_those_of_the_formula(dispersion: float) -> None:
    """p(x + 1) / p(x) = (x + r) / (x + 1) m / (r + m), and p(0) = (r / (r + m))^r."""
    m, r = torch.tensor(40.0, dtype=torch.float64), 1 / dispersion
    x = torch.tensor([0, 1, 14, 15, 16, 17, 1000], dtype=torch.float64)
    law = NegativeBinomial(m, torch.tensor(dispersion, dtype=torch.float64))
    ratios = ((x + r) / (x + 1)).log() - (m / r).log1p() + m.log() - math.log(r)
    torch.testing.assert_close(law.log_prob(x + 1) - law.log_prob(x), ratios, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(law.log_prob(x[0]), -r * (m / r).log1p(), rtol=1e-14, atol=0)


def test_a_quotient_that_overflows_makes_a_density_of_zero() -> None:
    law = Gamma(torch.tensor(1e-200, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64))
    assert float(law.log_prob(torch.tensor(1e200, dtype=torch.float64))) == -math.inf


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1e-6, 1.0, 100.0, 1001.0, 1e4, 1e8])
def test_the_circular_variance_is_that_of_the_series(k: float, dtype: torch.dtype) -> None:
    """1 - I_1(k) / I_0(k) by the integral of 1 - cos over a fine grid of the density's width."""
    concentration = float(torch.tensor(k, dtype=dtype))
    reach = min(math.pi, 12 / math.sqrt(concentration))
    angle = torch.linspace(-reach, reach, 200_001, dtype=torch.float64)[:-1]
    bent = 2 * (angle / 2).sin().square()
    density = (-concentration * bent).exp()
    expected = float((bent * density).sum() / density.sum())
    found = lacking_length(torch.tensor(k, dtype=dtype))
    assert float(found) == pytest.approx(expected, rel=max(2 * torch.finfo(dtype).eps, 1e-12), abs=0)
    if k == 1e8:  # the difference from one is lost to rounding
        bessel = torch.special
        lost = 1 - bessel.i1e(torch.tensor(k, dtype=dtype)) / bessel.i0e(torch.tensor(k, dtype=dtype))
        assert float(lost) != pytest.approx(expected, rel=1e-9, abs=0)
