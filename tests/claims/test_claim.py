import math

import pytest

from pgm_rnn.claims.claim import QUICK, Claim, check, chosen_cases, conclude, largest, rounding, smallest


class Fixed(Claim):
    """A claim whose measurements are given."""

    id, source, statement, hypotheses, routes, control = "fixed", "Nobody (2026), eq. (1)", "", "", "", ""
    tolerance = 1e-3

    def __init__(self, residuals: list[float], controls: list[float]) -> None:
        self.residuals, self.controls = residuals, controls
        self.seeds: list[int] = []

    def cases(self) -> range:
        return range(len(self.residuals))

    def residual(self, case: int, seed: int) -> float:
        self.seeds.append(seed)
        return self.residuals[case]

    def control_residual(self, case: int, seed: int) -> float:
        return self.controls[case]


def test_a_claim_holds_if_every_residual_is_small_and_every_control_large() -> None:
    result = check(Fixed([1e-9, 1e-4], [0.5, 0.1]))
    assert result.verdict == "holds"
    assert (result.residual, result.control_residual, result.instances) == (1e-4, 0.1, 2)


@pytest.mark.parametrize(
    ("residuals", "controls"),
    [
        ([1e-9, 1.0], [0.5, 0.1]),
        ([1e-9, 1e-9], [0.5, 1e-5]),
        ([math.nan, 1e-9], [0.5, 0.1]),
        ([1e-9, math.nan], [0.5, 0.1]),
        ([1e-9, 1e-9], [math.nan, 0.1]),
        ([math.inf, 1e-9], [0.5, 0.1]),
    ],
)
def test_one_bad_instance_makes_it_fail(residuals: list[float], controls: list[float]) -> None:
    assert check(Fixed(residuals, controls)).verdict == "fails"


def test_a_residual_on_the_tolerance_holds_and_a_control_on_it_fails() -> None:
    claim = Fixed([0.0], [0.0])
    assert conclude(claim, 1, 1e-3, 1e-3, 1.0, 0.0).verdict == "holds"
    assert conclude(claim, 1, 0.0, 1e-3, 1e-3, 0.0).verdict == "fails"


def test_instances_of_different_seeds_differ() -> None:
    claim = Fixed([0.0] * 3, [1.0] * 3)
    check(claim, seed=0)
    check(claim, seed=1)
    assert len(set(claim.seeds)) == 6


def test_progress_is_told_once_an_instance() -> None:
    told = []
    check(Fixed([0.0] * 3, [1.0] * 3), advance=lambda: told.append(1))
    assert len(told) == 3


def test_extremes_do_not_hide_nan() -> None:
    assert math.isnan(largest([0.0, math.nan]))
    assert math.isnan(smallest([math.nan, 0.0]))
    assert largest([1.0, 3.0]) == 3.0
    assert smallest([1.0, 3.0]) == 1.0


def test_rounding_grows_linearly_with_steps_and_width() -> None:
    assert rounding(8, 16) == pytest.approx(4 * rounding(4, 8))
    assert rounding(1, 1) < 1e-13


@pytest.mark.parametrize("number", [1, 3, 4, 5, 7, 8, 30])
def test_a_quick_check_measures_few_instances_with_the_seeds_that_they_always_have(number: int) -> None:
    claim, quick = Fixed([0.0] * number, [1.0] * number), Fixed([0.0] * number, [1.0] * number)
    check(claim, seed=2)
    assert check(quick, seed=2, quick=True).instances == len(quick.seeds) == len(chosen_cases(quick, quick=True))
    assert 1 <= len(quick.seeds) <= QUICK
    assert len(quick.seeds) == number or number > QUICK
    assert set(quick.seeds) <= set(claim.seeds)


def test_a_claim_need_not_have_notes() -> None:
    assert list(Fixed([0.0], [1.0]).notes(seed=0)) == []
