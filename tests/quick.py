"""The tests of `make quick`: a few cases of each test function, which have the values of its parameters between them.

A test of 20 models with 10 families has 200 cases. Twenty of them have every model and every family once; 2 of those
are run here. Tests marked `slow` or `nightly` are left out. The rule reads the parameters alone, so a
new test or model needs no entry in a list.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

Case = TypeVar("Case")
Values = frozenset[tuple[str, Hashable]]
MOST = 2
"""Cases of one test function."""
PLAIN = (bool, int, float, str, type, type(None))


def values_of(parameters: Mapping[str, Any]) -> Values:
    """The parameters of one case as (name, value); an object that is no plain value is itself, whatever it equals."""
    return frozenset(
        (name, (type(value), value) if isinstance(value, PLAIN) else id(value)) for name, value in parameters.items()
    )


def covering(cases: Iterable[tuple[Case, Values]]) -> list[Case]:
    """Cases that together have every value of every parameter, in their order; the first case is always among them.

    Cases whose values are all new are chosen first, for they cover most; then any that still adds a value.
    """
    listed, chosen, covered = list(cases), set[int](), set[tuple[str, Hashable]]()
    for all_new in (True, False):
        for number, (_, values) in enumerate(listed):
            added = values - covered
            if number not in chosen and (added == values if all_new else added):
                chosen.add(number)
                covered |= added
    return [case for number, (case, _) in enumerate(listed) if number in chosen]


def spread(cases: list[Case], most: int = MOST) -> list[Case]:
    """At most so many of the cases, evenly spread, in their order, with the first and the last."""
    if len(cases) <= most:
        return cases
    return [cases[number * (len(cases) - 1) // (most - 1)] for number in range(most)]


def by_function(items: Iterable[Any]) -> list[list[Any]]:
    """pytest's items, those of one test function together."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for item in items:
        found[item.nodeid.partition("[")[0]].append(item)
    return list(found.values())


def quick(items: Iterable[Any]) -> list[Any]:
    """The items of `make quick` among pytest's items."""
    kept = [item for item in items if not any(item.iter_markers("slow")) and not any(item.iter_markers("nightly"))]
    cases = [
        [(item, values_of(item.callspec.params if hasattr(item, "callspec") else {})) for item in function]
        for function in by_function(kept)
    ]
    return [item for function in cases for item in spread(covering(function))]
