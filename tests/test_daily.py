"""The rule by which `make test` chooses cases of a large product."""

from functools import partial
from itertools import combinations, product
from types import SimpleNamespace
from typing import Any

import pytest

from tests.daily import FEW, covering, goals_of, left_to_the_night


def made(number: int = 0) -> None:
    """Makes models of two names."""


def other() -> None:
    """Makes a model of another name."""


MODELS: Any = {
    "one": SimpleNamespace(make=partial(made, 1)),
    "two": SimpleNamespace(make=partial(made, 2)),
    "three": SimpleNamespace(make=other),
}


def by_day(cases: list[dict[str, Any]], seed: str = "") -> list[dict[str, Any]]:
    return covering([(case, goals_of(case, MODELS)) for case in cases], seed)


def grid(**values: Any) -> list[dict[str, Any]]:
    return [dict(zip(values, row, strict=True)) for row in product(*values.values())]


@pytest.mark.parametrize("sizes", [(3, 3, 3), (4, 3, 2), (2, 2, 2, 2), (5, 4, 3, 2)])
@pytest.mark.parametrize("seed", ["a", "b"])
def test_any_two_values_of_a_grid_meet_in_fewer_cases_than_it_has(sizes: tuple[int, ...], seed: str) -> None:
    names = [f"p{number}" for number in range(len(sizes))]
    cases = grid(**{name: range(size) for name, size in zip(names, sizes, strict=True)})
    found = by_day(cases, seed)
    assert found == [case for case in cases if case in found]
    assert max(a * b for a, b in combinations(sizes, 2)) <= len(found) < len(cases)
    for a, b in combinations(names, 2):
        assert {(case[a], case[b]) for case in found} == {(case[a], case[b]) for case in cases}


def test_pairs_that_stand_in_no_case_are_not_asked_for() -> None:
    cases = [case for case in grid(a=range(3), b=range(3), c=range(3)) if case["a"] != case["b"]]
    assert {(case["a"], case["b"]) for case in by_day(cases)} == {(a, b) for a in range(3) for b in range(3) if a != b}


def test_models_are_all_there_and_meet_every_value_by_the_code_that_makes_them() -> None:
    families = [object() for _ in range(6)]
    found = by_day(grid(name=list(MODELS), family=families))
    assert {case["name"] for case in found} == set(MODELS)
    assert len(found) == 12
    for names in ({"one", "two"}, {"three"}):
        assert {id(case["family"]) for case in found if case["name"] in names} == set(map(id, families))


def test_the_seed_decides_among_cases_that_cover_as_much() -> None:
    cases = grid(a=range(4), b=range(4), c=range(4))
    assert by_day(cases, "x") == by_day(cases, "x")
    assert len({str(by_day(cases, str(seed))) for seed in range(5)}) > 1


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
    assert len(night) >= 30
    assert {(each.callspec.params["a"], each.callspec.params["b"]) for each in day} == set(product(range(5), range(4)))
