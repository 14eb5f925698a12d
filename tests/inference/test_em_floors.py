"""The smallest scales that EM allows: constants, outliers, other units, and falls that are no convergence."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Emission, EmissionTable, FullGaussian, Gaussian, Pen
from pgm_rnn.inference import em, forward_backward
from pgm_rnn.inference.em.baum_welch import BaumWelch
from pgm_rnn.inference.em.units import Units, in_units, table_in_units, table_out_of_units, units_of
from pgm_rnn.models.hmm import HMM
from tests.inference.test_em import batch, start
from tests.instances import ESTIMATED

STAY = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
REAL = pytest.mark.parametrize("full", [False, True], ids=["independent", "full"])


def table(full: bool, loc: Tensor, scale: Tensor) -> EmissionTable:
    size = loc.shape[1]
    if full:
        return FullGaussian(size).table(loc, torch.diag_embed(scale.square()))
    return Gaussian(size).table(loc, scale)


def hmm(full: bool, loc: Tensor, scale: Tensor) -> HMM:
    return HMM(torch.full((2,), 0.5).to(loc), STAY.to(loc), table(full, loc, scale))


def close_regimes(num_steps: int = 200) -> Tensor:
    """Two regimes that overlap, (1, num_steps, 2)."""
    generator = torch.Generator().manual_seed(3)
    state = torch.arange(num_steps) // 50 % 2
    noise = torch.randn(1, num_steps, 2, generator=generator, dtype=torch.float64)
    return noise + 1.2 * (state[:, None] - 0.5)


def fitted(full: bool, x: Tensor, loc: Tensor, scale: Tensor, **options: Any) -> tuple[HMM, em.EmFit]:
    model = hmm(full, loc, scale)
    return model, em.fit(model, x, progress=False, **options)


@DTYPES
@REAL
@pytest.mark.parametrize("constant", [7.0, 0.1, 0.0])
def test_a_constant_column_leaves_the_fit_of_the_others(constant: float, full: bool, dtype: torch.dtype) -> None:
    x = close_regimes().to(dtype)
    loc = torch.tensor([[-0.5, -0.5], [0.5, 0.5]], dtype=dtype)
    without, first = fitted(full, x, loc, torch.ones_like(loc))
    more = torch.cat([x, torch.full_like(x[..., :1], constant)], -1)
    wide = torch.cat([loc, torch.full_like(loc[:, :1], constant)], -1)
    with pytest.warns(em.EmWarning, match=r"held at min_scale=1e-06 in states 0, 1, column 2 \(counted from 0\)"):
        within, second = fitted(full, more, wide, torch.ones_like(wide))
    assert float(second.log_likelihoods.diff().min()) >= 0
    apart = within.emission_table(torch.arange(2)).mean[:, :2] - without.emission_table(torch.arange(2)).mean
    tolerance = 1e-3 if dtype == torch.float32 else 1e-6
    assert float(apart.abs().max().detach()) < tolerance
    assert float(first.log_likelihoods[-1]) < float(second.log_likelihoods[-1])


@REAL
@pytest.mark.parametrize("wild", [1e4, 99999.0, 1e6])
def test_one_wild_value_moves_no_other_states_scale(wild: float, full: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    state = torch.arange(400) // 100 % 2
    x = torch.randn(400, 1, generator=generator, dtype=torch.float64) + 5.0 * state[:, None]
    expected = [x[state == k].std(correction=0) for k in range(2)]
    x[40] = wild
    rows, loc = torch.full((3, 3), 1 / 3), torch.tensor([[0.0], [5.0], [wild]])
    model = HMM(rows[0], rows, table(full, loc, torch.tensor([[1.0], [1.0], [10.0]])))
    with pytest.warns(em.EmWarning, match="held at min_scale=1e-06 in state 2, column 0"):
        em.fit(model, x[None], num_iterations=200, progress=False)
    found = model.emission_table(torch.arange(3)).variance.detach().sqrt()[:2, 0]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0.1, atol=0)


def test_states_much_narrower_than_they_are_apart_get_their_own_scales() -> None:
    # the kind of hmmlearn's GaussianHMM fixture: means up to 400 apart, standard deviations of 0.1
    generator = torch.Generator().manual_seed(0)
    state = torch.arange(120) % 3
    means, scales = torch.tensor([-400.0, 0.0, 380.0]), torch.tensor([0.1, 0.15, 0.02])
    x = means[state] + scales[state] * torch.randn(120, generator=generator, dtype=torch.float64)
    rows = torch.full((3, 3), 1 / 3)
    model = HMM(rows[0], rows, Gaussian().table(means, scales))
    result = em.fit(model, x[None], num_iterations=20, progress=False)
    expected = torch.stack([x[state == k].std(correction=0) for k in range(3)])
    torch.testing.assert_close(model.emission_table(torch.arange(3)).stddev.detach(), expected)
    assert float(result.log_likelihoods.diff().min()) >= 0


FACTORS = [(1e-12, 0.0), (1e6, 0.0), (-3.0, 1.0), (1.0, 1e6), (1e-12, 1e-6)]


@DTYPES
@REAL
@pytest.mark.parametrize(("factor", "offset"), FACTORS)
def test_posteriors_are_the_same_in_other_units(factor: float, offset: float, full: bool, dtype: torch.dtype) -> None:
    x = (factor * close_regimes() + offset).to(dtype)
    same = (x.double() - offset) / factor  # what rounding left of them
    loc = torch.tensor([[-0.5, -0.5], [0.5, 0.5]], dtype=torch.float64)
    reference, first = fitted(full, same, loc, torch.ones_like(loc))
    model = hmm(full, loc, torch.ones_like(loc)).to(dtype)
    with torch.no_grad():
        model.emission_table.params.copy_(table(full, factor * loc + offset, abs(factor) * torch.ones_like(loc)).params)
    found = em.fit(model, x, progress=False)
    expected = forward_backward.smooth(reference, same).smoothed_probs
    smoothed = forward_backward.smooth(model, x).smoothed_probs.double()
    rounding = torch.finfo(dtype).eps * (1 + abs(offset / factor))  # of a mean, in standard deviations
    torch.testing.assert_close(smoothed, expected, rtol=0, atol=100 * rounding if rounding < 1e-4 else 2 * rounding)
    shift = x.numel() * math.log(abs(factor))
    gained = float(found.log_likelihoods[-1]) + shift
    bound = 10 * x.numel() * rounding + 10 * abs(shift) * torch.finfo(torch.float64).eps
    assert gained == pytest.approx(float(first.log_likelihoods[-1]), abs=bound)


def test_strokes_may_lie_on_a_line_and_their_likelihood_never_falls() -> None:
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(1, 60, 1, generator=generator, dtype=torch.float64)
    x = torch.cat([along, 2 * along, (along > 0).double()], -1)
    model = HMM.random(2, emission=Pen(1), seed=0).double()
    with pytest.warns(em.EmWarning, match=r"held at min_scale=1e-06 in states 0, 1, columns 0, 1"):
        result = em.fit(model, x, progress=False)
    assert float(result.log_likelihoods.diff().min()) > -1e-6 * float(result.log_likelihoods.abs().max())


def test_the_argument_is_the_smallest_scale_as_a_fraction_of_the_spread() -> None:
    x = torch.tensor([[-3.0, -1.0, 0.0, 1.0, 3.0, 8.0, 8.0]], dtype=torch.float64)
    model = HMM(torch.ones(2) / 2, torch.ones(2, 2) / 2, Gaussian().table(torch.tensor([0.0, 8.0]), torch.ones(2)))
    with pytest.warns(em.EmWarning, match="held at min_scale=0.01 in state 1, column 0"):
        em.fit(model, x, min_scale=0.01, progress=False)
    spread = 2.0  # by hand: the median is 1; distances 4, 2, 1, 2, 7, 7; without a 7, the middle one is 2
    assert float(model.emission_table(torch.tensor(1)).stddev.detach()) == pytest.approx(0.01 * spread)


@pytest.mark.parametrize("value", [0.0, -1.0, 2.0, math.nan])
def test_a_smallest_scale_that_is_no_fraction_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="expected min_scale between 0 and 1, a fraction of a column's spread"):
        em.fit(hmm(False, torch.zeros(2, 1), torch.ones(2, 1)), torch.zeros(1, 4, 1), min_scale=value)


def test_one_value_moves_neither_centre_nor_spread_of_a_column_that_is_constant_but_for_it() -> None:
    column = torch.full((50, 1), 7.0, dtype=torch.float64)
    with_one = column.clone()
    with_one[3] = 99999.0
    plain, moved = Units.of(column), Units.of(with_one)
    assert float(plain.centre) == float(moved.centre) == 7
    assert float(plain.spread) == float(moved.spread) == 7
    with_two = with_one.clone()
    with_two[4] = 8.0
    assert float(Units.of(with_two).spread) == 1


@pytest.mark.parametrize("family", [Gaussian(2), FullGaussian(2), Pen(1)], ids=["reals", "correlated", "strokes"])
def test_units_go_and_come_back_and_change_densities_by_their_volume(family: Emission) -> None:
    x = torch.randn(30, 3)[:, : family.event_shape[0]] * 1000 + 5
    if isinstance(family, Pen):
        x[:, 2] = (x[:, 2] > 0).double()
    laws = family.random_table(2)
    units = units_of(family, x)
    assert units is not None
    inside = table_in_units(laws, units)
    torch.testing.assert_close(table_out_of_units(inside, units).params, laws.params)
    expected = laws.log_probs(x) + units.log_volume
    torch.testing.assert_close(inside.log_probs(in_units(family, x, units)), expected)
    assert units.log_volume > 5


def worse(self: BaumWelch) -> None:
    """An M-step that after two iterations takes the first start's laws for the worse."""
    proper(self)
    calls.append(1)
    if len(calls) >= 3:
        params = self._parameters.emission.params
        params[: self._parameters.initial.shape[1]] *= 0.2


proper = BaumWelch.maximise
calls: list[int] = []


@pytest.mark.parametrize("num_restarts", [1, 3])
def test_a_likelihood_that_falls_is_named_and_no_convergence(
    num_restarts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = ESTIMATED["symbols"]
    calls.clear()
    expected = em.fit(start(family), batch(family), num_iterations=2, progress=False)
    monkeypatch.setattr(BaumWelch, "maximise", worse)
    model = start(family)
    who = "EM" if num_restarts == 1 else "Start 0"
    with pytest.warns(em.EmWarning, match=rf"{who}.* lowered its objective by \d.* nats in iteration 3"):
        result = em.fit(model, batch(family), num_restarts=num_restarts, num_iterations=20, progress=False)
    if num_restarts == 1:
        assert result.stopped_by == "decrease"
        assert float(result.log_likelihoods.diff().min()) >= 0
        final = model.log_marginal_likelihood(batch(family).x, batch(family).lengths).sum().detach()
        torch.testing.assert_close(final, expected.log_likelihoods[-1])
    else:
        assert float(result.restarts.log_likelihoods[0]) == pytest.approx(float(expected.log_likelihoods[-1]))
        assert result.restarts.chosen > 0
        assert result.stopped_by != "decrease"


def test_pseudo_counts_may_lower_the_likelihood_and_are_no_fall() -> None:
    family = ESTIMATED["symbols"]
    model = start(family)
    em.fit(model, batch(family), num_iterations=50, progress=False)
    result = em.fit(model, batch(family), num_iterations=50, pseudo_count=5.0, progress=False)
    assert float(result.log_likelihoods.diff().min()) < -0.1
    assert result.stopped_by != "decrease"


def test_a_fit_that_fails_leaves_the_model_and_what_is_remembered_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    family = ESTIMATED["reals"]
    model = HMM.random(3, emission=family, seed=5).double()
    before = [p.detach().clone() for p in model.parameters()]
    set_probs = HMM.set_probs

    def half(self: HMM, *parts: Tensor | None) -> None:
        set_probs(self, parts[0])
        raise OSError("gone")

    monkeypatch.setattr(HMM, "set_probs", half)
    with pytest.raises(OSError, match="gone"):
        em.fit(model, batch(family), num_iterations=2, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_warning_that_is_an_error_leaves_the_model() -> None:
    model = hmm(False, torch.full((2, 1), 7.0, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(em.EmWarning, match="held at min_scale=1e-06"):  # the suite makes errors of warnings
        em.fit(model, torch.full((1, 20, 1), 7.0), progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_parameters_that_are_no_numbers_are_an_error() -> None:
    model = start(ESTIMATED["reals"])
    with torch.no_grad():
        model.emission_table.params[0, 0] = torch.nan
    with pytest.raises(ValueError, match="expected numbers as the parameters of the HMM, got NaN in emission_table"):
        em.fit(model, batch(ESTIMATED["reals"]), progress=False)
