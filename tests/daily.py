"""The cases of `make test`: a part of each large product of parameters, in which any two values meet.

A test of 13 models with 11 families and 4 verbs has 484 cases. About 65 of them have every value of every parameter,
and every pair of values of two parameters, where models count by the code that makes them: an LSTM and a GRU are both
an `RNN`, so that together they meet every family, while the HMM meets every family by itself. The others are marked
`nightly`. The rule reads the parameters alone, so a new test or model needs no entry in a list. A test function with
one parameter, or with few cases, runs whole.
"""

import random
from collections.abc import Collection, Hashable, Iterable, Mapping
from itertools import combinations
from typing import Any, TypeVar

from pgm_rnn.models.info import ModelInfo
from pgm_rnn.registries import OWN
from tests.quick import by_function, values_of

Case = TypeVar("Case")
FEW = 12
"""A function with so many cases runs them all."""


def goals_of(parameters: Mapping[str, Any], models: Mapping[str, ModelInfo]) -> frozenset[Hashable]:
    """What a case covers: each of its values, and each pair of them with models as the code that makes them."""
    kinds = values_of({name: code_of(value, models) for name, value in parameters.items()})
    return values_of(parameters) | frozenset(map(frozenset, combinations(kinds, 2)))


def code_of(value: Any, models: Mapping[str, ModelInfo]) -> Any:
    """The class or function behind the name of a model; any other value is itself."""
    if not isinstance(value, str) or value not in models:
        return value
    maker = models[value].make
    return getattr(maker, "func", maker)


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
            models = getattr(function[0].module, "REGISTRIES", OWN).models
            cases = [(item, goals_of(item.callspec.params, models)) for item in function]
            kept = set(map(id, covering(cases, seed=function[0].nodeid.partition("[")[0])))
            found += [item for item in function if id(item) not in kept]
    return found
