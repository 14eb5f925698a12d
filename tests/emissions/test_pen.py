import math

import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from pgm_rnn.emissions import EmissionTable, Pen
from pgm_rnn.inference import em
from pgm_rnn.models.hmm import HMM
from tests.instances import draw

PROBS = torch.tensor([[0.3, 0.7]], dtype=torch.float64)
LOC = torch.tensor([[[0.0, 1.0], [-2.0, 0.5]]], dtype=torch.float64)
SCALE = torch.tensor([[[1.0, 0.5], [0.3, 2.0]]], dtype=torch.float64)
CORRELATION = torch.tensor([[0.8, 0.5]], dtype=torch.float64)
UP = torch.tensor([0.2], dtype=torch.float64)


def table() -> EmissionTable:
    return Pen(2).table(PROBS, LOC, SCALE, CORRELATION, UP)


def covariances() -> Tensor:
    """Of the two components, (2, 2, 2)."""
    product = CORRELATION[0] * SCALE[0, :, 0] * SCALE[0, :, 1]
    return torch.diag_embed(SCALE[0] ** 2) + product[:, None, None] * torch.tensor([[0.0, 1.0], [1.0, 0.0]])


def test_the_density_is_a_mixture_of_correlated_normal_laws_times_a_bit() -> None:
    x = draw(Pen(), 20)
    parts = [
        weight * torch.as_tensor(stats.multivariate_normal(m, c).pdf(x[:, :2]))
        for weight, m, c in zip(PROBS[0], LOC[0].numpy(), covariances().numpy(), strict=True)
    ]
    expected = (parts[0] + parts[1]) * torch.where(x[:, 2] == 1, UP, 1 - UP)
    torch.testing.assert_close(table().log_probs(x)[:, 0], expected.log())


def test_the_density_integrates_to_one() -> None:
    grid = torch.linspace(-15, 15, 601)
    offsets = torch.cartesian_prod(grid, grid)
    total = 0.0
    for up in (0.0, 1.0):
        x = torch.cat([offsets, torch.full((len(offsets), 1), up)], dim=-1)
        density = table().log_probs(x).exp().detach().reshape(601, 601)
        mass = float(torch.trapezoid(torch.trapezoid(density, grid), grid))
        assert mass == pytest.approx(0.2 if up else 0.8, abs=1e-8)
        total += mass
    assert total == pytest.approx(1, abs=1e-8)


def test_draws_have_the_moments_of_their_law() -> None:
    num = 40_000
    x = table()(torch.zeros(num, dtype=torch.long)).sample()
    mean = (PROBS[0, :, None] * LOC[0]).sum(0)
    second = (PROBS[0, :, None, None] * (covariances() + LOC[0, :, :, None] * LOC[0, :, None, :])).sum(0)
    products = torch.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1], x[:, 2]], dim=-1)
    expected = torch.stack([*mean, second[0, 0], second[1, 1], second[0, 1], UP[0]])
    scores = (products.mean(0) - expected) / (products.std(0) / num**0.5)
    assert float(scores.abs().max()) < 5
    uncorrelated = expected[4] - (PROBS[0] * CORRELATION[0] * SCALE[0].prod(-1)).sum()
    assert abs(float(products[:, 4].mean() - uncorrelated)) > 5 * float(products[:, 4].std()) / num**0.5


@pytest.mark.parametrize("num_components", [1, 20])
def test_draws_in_front_have_the_shape_asked_for(num_components: int) -> None:
    family = Pen(num_components)
    law = family.distribution(torch.randn(4, 5, family.num_params))
    assert law.sample((7,)).shape == (7, 4, 5, 3)
    assert law.expand([6, 4, 5]).log_prob(draw(family, 5)).shape == (6, 4, 5)


@pytest.mark.parametrize("r", [0.0, 3.0, 12.0, 30.0])
def test_single_precision_is_enough_however_close_the_correlation_is_to_one(r: float) -> None:
    a, rest = 0.75, [0.0] * 5  # on the long axis of one standard component, with rho = tanh(r)
    expected = -0.5 * a**2 * (1 + math.exp(-2 * r)) + math.log(math.cosh(r)) - math.log(2 * math.pi) - math.log(2)
    params = torch.tensor([*rest, r, 0.0], dtype=torch.float32, requires_grad=True)
    value = Pen(1).distribution(params).log_prob(torch.tensor([a, a, 1.0], dtype=torch.float32))
    assert float(value.detach()) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert torch.autograd.grad(value, params)[0].isfinite().all()
    rho = torch.tanh(params[5]).detach()
    direct = -0.5 * (2 * a**2 - 2 * rho * a**2) / (1 - rho**2) - 0.5 * torch.log(1 - rho**2)
    assert bool(direct.isfinite()) == (r < 9)  # from there on 1 - rho is nothing in single precision


def test_offsets_far_from_every_component_have_a_finite_log_density_and_gradient() -> None:
    params = torch.randn(Pen().num_params, dtype=torch.float32, requires_grad=True)
    law = Pen().distribution(params)
    value = law.log_prob(torch.tensor([1e4, -1e4, 1.0], dtype=torch.float32))
    (gradient,) = torch.autograd.grad(value, params)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_a_lifted_pen_is_a_bit() -> None:
    x = torch.tensor([[0.5, 0.5, 0.5], [torch.nan, 1.0, 1.0], [1.0, torch.inf, 0.0]])
    assert Pen().invalid(x).tolist() == [[False, False, True], [True, False, False], [False, True, False]]


def test_em_has_no_closed_form_and_says_what_to_do() -> None:
    model = HMM.random(num_states=2, emission=Pen(2), seed=0)
    with pytest.raises(TypeError, match=r"closed form, got Pen\(num_components=2\); fit it by svi\.fit"):
        em.fit(model, draw(Pen(2), 3, 4), progress=False)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("probs", PROBS / 2, "each row of probs to sum to one"),
        ("loc", LOC[0], r"expected loc of shape \(1, 2, 2\) and finite, got \(2, 2\)"),
        ("scale", -SCALE, "expected scale > 0"),
        ("correlation", torch.ones(1, 2), "correlation strictly between -1 and 1"),
        ("up", torch.ones(1), "up strictly between 0 and 1, got"),
    ],
)
def test_parameters_of_no_law_are_an_error(name: str, value: Tensor, message: str) -> None:
    named = {"probs": PROBS, "loc": LOC, "scale": SCALE, "correlation": CORRELATION, "up": UP} | {name: value}
    with pytest.raises(ValueError, match=message):
        Pen(2).table(**named)


def test_a_mixture_of_the_laws_of_the_states_is_a_mixture() -> None:
    family, probs, x = Pen(2), torch.tensor([0.25, 0.75]), draw(Pen(2), 5)
    states = family.random_table(2)
    mixture = states.mixture(probs)
    assert isinstance(mixture, dist.MixtureSameFamily)
    expected = (states.log_probs(x).exp() @ probs).log()
    torch.testing.assert_close(mixture.log_prob(x), expected)
