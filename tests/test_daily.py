"""The rule by which `make test` chooses cases of a large product."""

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from tests.daily import FEW, covering, left_to_the_night
from tests.quick import values_of


def by_day(cases: list[dict[str, Any]], seed: str = "") -> list[dict[str, Any]]:
    return covering([(case, values_of(case)) for case in cases], seed)


def grid(**values: Any) -> list[dict[str, Any]]:
    return [dict(zip(values, row, strict=True)) for row in product(*values.values())]


@pytest.mark.parametrize("sizes", [(3, 3, 3), (4, 3, 2), (2, 2, 2, 2), (5, 4, 3, 2)])
@pytest.mark.parametrize("seed", ["a", "b"])
def test_every_value_of_a_grid_is_there_in_as_many_cases_as_the_longest_side(sizes: tuple[int, ...], seed: str) -> None:
    cases = grid(**{f"p{number}": range(size) for number, size in enumerate(sizes)})
    found = by_day(cases, seed)
    assert found == [case for case in cases if case in found]
    assert len(found) == max(sizes)
    for number, size in enumerate(sizes):
        assert {case[f"p{number}"] for case in found} == set(range(size))


def test_a_value_that_stands_with_few_others_is_there_too() -> None:
    cases = [case for case in grid(a=range(3), b=range(3)) if case["a"] < 2 or case["b"] == 0]
    assert {case["a"] for case in by_day(cases)} == {0, 1, 2}


def test_between_the_seeds_of_many_tests_any_two_values_meet() -> None:
    cases = grid(a=range(6), b=range(6))
    met = {(case["a"], case["b"]) for seed in range(60) for case in by_day(cases, str(seed))}
    assert len(met) == 36
    assert by_day(cases, "x") == by_day(cases, "x")


def item(nodeid: str, *marks: str, **parameters: Any) -> Any:
    """As much of an item of pytest's as the rule reads."""
    parts = {"module": SimpleNamespace(), "callspec": SimpleNamespace(params=parameters)}
    return SimpleNamespace(nodeid=nodeid, iter_markers=lambda name: [m for m in marks if m == name], **parts)


def test_small_products_single_parameters_and_tests_of_the_night_are_left_alone() -> None:
    small = [item(f"t.py::small[{a}-{b}]", a=a, b=b) for a, b in product(range(FEW // 2), range(2))]
    single = [item(f"t.py::single[{a}]", a=a) for a in range(100)]
    night = [item(f"t.py::night[{number}]", "nightly", a=number % 2, b=0) for number in range(100)]
    assert left_to_the_night([*small, *single, *night]) == []


def test_what_is_left_to_the_night_is_the_rest_of_a_large_product() -> None:
    items = [item(f"t.py::f[{a}-{b}-{c}]", a=a, b=b, c=c) for a, b, c in product(range(5), range(4), range(3))]
    night = left_to_the_night(items)
    day = [each for each in items if each not in night]
    assert len(day) == 5
    for name, size in (("a", 5), ("b", 4), ("c", 3)):
        assert {each.callspec.params[name] for each in day} == set(range(size))
