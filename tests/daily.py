"""The cases of `make test`: a part of each large product of parameters, in which every value stands.

A test of 21 models with 13 families and 4 verbs has up to 1000 cases. About 25 of them have every model, every family
and every verb once. Which of them meet is drawn with a seed of the test's own name, so that between a hundred tests
nearly every two of them do. The other cases are marked `nightly`. The rule reads the parameters alone, so a new test or
model needs no entry in a list. A test function with one parameter, or with few cases, runs whole.
"""

import random
from collections.abc import Collection, Hashable, Iterable
from typing import Any, TypeVar

from tests.quick import by_function, values_of

Case = TypeVar("Case")
FEW = 12
"""A function with so many cases runs them all."""


def covering(cases: Collection[tuple[Case, frozenset[Hashable]]], seed: str) -> list[Case]:
    """Cases that have all goals between them, in their order: one that reaches most new goals after the other.

    Among equals the seed decides, so that no value is tried with the first values of the others alone.
    """
    shuffled = random.Random(seed).sample(list(enumerate(cases)), len(cases))
    missing: set[Hashable] = set().union(*(goals for _, goals in cases))
    chosen = {}
    while missing:
        number, (case, goals) = max(shuffled, key=lambda entry: len(entry[1][1] & missing))
        chosen[number] = case
        missing -= goals
    return [chosen[number] for number in sorted(chosen)]


def left_to_the_night(items: Iterable[Any]) -> list[Any]:
    """Of pytest's items, the cases that `make test` leaves out."""
    found = []
    for function in by_function(item for item in items if not any(item.iter_markers("nightly"))):
        if len(function) > FEW and len(function[0].callspec.params) > 1:
            cases = [(item, values_of(item.callspec.params)) for item in function]
            kept = set(map(id, covering(cases, seed=function[0].nodeid.partition("[")[0])))
            found += [item for item in function if id(item) not in kept]
    return found
