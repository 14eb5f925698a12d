"""EM with full covariances where columns nearly determine each other, and beside wild values."""

import math
import warnings
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Emission, FullGaussian, Gaussian, Pen
from pgm_rnn.inference import em
from pgm_rnn.inference.em.baum_welch import BaumWelch
from pgm_rnn.models.hmm import HMM

WILD = [(torch.float64, 1e3), (torch.float64, 1e9), (torch.float64, 1e10), (torch.float32, 1e6), (torch.float32, 1e8)]


def largest_log_density(x: Tensor) -> float:
    """Of rows (N, 2) under the normal law that makes them most likely: rational numbers, so nothing is rounded."""
    rows = [[Fraction(value) for value in row] for row in x.double().tolist()]
    n = len(rows)
    mean = [sum(row[i] for row in rows) / n for i in range(2)]
    a, b, c = (sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in rows) / n for i, j in ((0, 0), (0, 1), (1, 1)))
    return -n / 2 * (2 * math.log(2 * math.pi) + math.log(a * c - b * b) + 2)


@pytest.mark.parametrize(("dtype", "wild"), WILD)
def test_one_wild_value_leaves_the_covariance_of_a_single_state_most_likely(dtype: torch.dtype, wild: float) -> None:
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[7] = wild
    x = x.to(dtype)
    one = torch.ones(1, dtype=dtype)
    table = FullGaussian(2).table(torch.zeros(1, 2, dtype=dtype), torch.eye(2, dtype=dtype)[None])
    model = HMM(one, one[:, None], table)
    fit = em.fit(model, x[None], num_iterations=5, progress=False)
    expected, rounding = largest_log_density(x), torch.finfo(dtype).eps * 300 * 20
    assert float(fit.log_likelihoods[-1]) == pytest.approx(expected, abs=max(rounding, 1e-6))
    kept = float(model.log_marginal_likelihood(x[None]).detach())
    lost = 2e-4 * 300 if dtype == torch.float32 else 1e-6  # to parameters rounded to the model's own dtype
    assert kept == pytest.approx(expected, abs=lost * (10 if wild == 1e8 else 1))


def nearly_collinear(family: Emission, noise: float, seed: int) -> Tensor:
    """Two regimes, whose second column all but is twice the first one and 1, (1, 300, D)."""
    generator = torch.Generator().manual_seed(seed)
    first, off, third = torch.randn(3, 300, generator=generator, dtype=torch.float64)
    first = first + 3.0 * (torch.arange(300) // 50 % 2)
    last = (third > 1).double() if isinstance(family, Pen) else third
    return torch.stack([first, 2 * first + 1 + noise * off, last], -1)[None].float()


@pytest.mark.parametrize("noise", [0.0, 1e-5])
@pytest.mark.parametrize("family", [FullGaussian(3), Pen(1)], ids=["full", "pen"])
@pytest.mark.parametrize("seed", range(3))
def test_nearly_collinear_columns_in_single_precision_end_as_in_double(
    family: Emission, noise: float, seed: int
) -> None:
    x = nearly_collinear(family, noise, seed)
    values = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* held at min_scale=", em.EmWarning)  # a fall would be an error
        for dtype in (torch.float32, torch.float64):
            model = HMM.random(3, emission=family, seed=seed).to(dtype)
            least = 128 * torch.finfo(torch.float32).eps  # what float32 can tell apart, for both
            fit = em.fit(model, x.to(dtype), num_iterations=60, min_scale=least, progress=False)
            assert fit.stopped_by != "decrease"
            values.append(float(fit.log_likelihoods[-1]))
    assert values[0] == pytest.approx(values[1], abs=0.1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("family", [FullGaussian(3), Pen(1)], ids=["full", "pen"])
def test_rounding_beside_nearly_singular_factors_is_no_fall(family: Emission, seed: int) -> None:
    x = nearly_collinear(family, 0.0, seed).double()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* held at min_scale=", em.EmWarning)  # a fall would be an error
        fit = em.fit(
            HMM.random(2, emission=family, seed=seed).double(), x, num_iterations=60, tolerance=0, progress=False
        )
    assert fit.stopped_by != "decrease"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_real_fall_beside_nearly_singular_factors_is_named(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the two before: an M-step that moves a mean by less than a millionth of the data's spread."""
    proper, calls = BaumWelch.maximise, []

    def worse(self: BaumWelch) -> None:
        proper(self)
        calls.append(1)
        if len(calls) == 4:
            self._parameters.emission.params.data[:, 1] += 1e-6

    monkeypatch.setattr(BaumWelch, "maximise", worse)
    x = nearly_collinear(FullGaussian(3), 1e-5, 0).to(dtype)
    model = HMM.random(2, emission=FullGaussian(3), seed=0).to(dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* held at min_scale=", em.EmWarning)
        remedy = "Check that" if dtype == torch.float64 else "Use float64, or check that"
        with pytest.warns(
            em.EmWarning, match=rf"EM lowered its objective by \d.* nats in iteration 4.*kept\. {remedy}"
        ):
            fit = em.fit(model, x, num_iterations=20, tolerance=0, progress=False)
    assert fit.stopped_by == "decrease"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("family", [Gaussian(2), FullGaussian(2)], ids=["independent", "full"])
def test_a_smallest_scale_that_grows_with_the_mean_lowers_no_likelihood(family: Emission, seed: int) -> None:
    """A wild value draws the mean of its state so far that single precision cannot keep the other values apart."""
    x = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(seed))
    x[0, 2] = 1e10
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* held at min_scale=", em.EmWarning)  # a fall would be an error
        model = HMM.random(1, emission=family, seed=seed)
        fit = em.fit(model, x, start="model", num_restarts=3, seed=seed, tolerance=0, progress=False)
    assert fit.stopped_by != "decrease"


def test_bits_at_rounding_level_are_no_fall() -> None:
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        x = (torch.rand(1, 5, 3, generator=generator, dtype=torch.float64) > 0.5).double()
        model = HMM.random(3, emission=Bernoulli(3), seed=seed).double()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Almost none of the data", em.EmWarning)  # a fall would be an error
            fit = em.fit(model, x, tolerance=0, num_restarts=3, num_iterations=40, seed=seed, progress=False)
        assert fit.stopped_by != "decrease"
