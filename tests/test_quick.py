"""The rule by which `make quick` chooses cases."""

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from tests.quick import MOST, covering, quick, spread, values_of


def cases(**values: Any) -> list[dict[str, Any]]:
    return [dict(zip(values, row, strict=True)) for row in product(*values.values())]


def chosen(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return covering((case, values_of(case)) for case in listed)


@pytest.mark.parametrize("sizes", [(5, 3), (3, 5), (4, 4), (1, 6), (4, 4, 4)])
def test_a_grid_has_as_many_cases_as_its_longest_side_and_each_value_once(sizes: tuple[int, ...]) -> None:
    listed = cases(**{f"p{number}": range(size) for number, size in enumerate(sizes)})
    found = chosen(listed)
    assert found[0] == listed[0]
    assert found == [case for case in listed if case in found]
    assert len(found) == max(sizes)
    for number, size in enumerate(sizes):
        assert {case[f"p{number}"] for case in found} == set(range(size))


def test_a_value_that_stands_with_few_others_is_there_too() -> None:
    listed = [{"name": "a", "family": "x"}, {"name": "a", "family": "y"}, {"name": "b", "family": "x"}]
    assert chosen(listed) == listed


def test_numbers_that_are_equal_and_objects_that_are_alike_are_values_of_their_own() -> None:
    assert len(chosen([{"a": True}, {"a": 1}, {"a": 1.0}])) == 3
    assert len(chosen([{"a": [1]}, {"a": [1]}])) == 2
    shared = [1]
    assert len(chosen([{"a": shared}, {"a": shared}])) == 1


def test_many_cases_are_thinned_evenly_and_few_are_not() -> None:
    assert spread(list(range(45)), 5) == [0, 11, 22, 33, 44]
    assert spread([1, 2, 3], 3) == [1, 2, 3]
    assert len(quick(item(f"t.py::f[{a}]", a=a) for a in range(300))) == MOST


def item(nodeid: str, *marks: str, **parameters: Any) -> Any:
    """As much of an item of pytest's as the rule reads."""
    of_case = {"callspec": SimpleNamespace(params=parameters)} if parameters else {}
    return SimpleNamespace(nodeid=nodeid, iter_markers=lambda name: [m for m in marks if m == name], **of_case)


def test_slow_cases_are_left_out_and_do_not_count() -> None:
    items = [item("t.py::f[0]", "slow", a=0), item("t.py::f[1]", a=0), item("t.py::f[2]", a=0), item("t.py::g")]
    left_out = [item("t.py::h", "slow"), item("t.py::i", "nightly")]
    assert [each.nodeid for each in quick([*items, *left_out])] == ["t.py::f[1]", "t.py::g"]
