"""What parametrised tests run on: every model, family and engine of the registries, by what they say of themselves.

A test asks by a mark, `every("exact law")`, and conftest answers with the cases of the package's registries, or with
those that a test file's own `REGISTRIES` have beside them.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from pgm_rnn.emissions import Categorical, Emission, Gaussian
from pgm_rnn.models.info import ModelInfo
from pgm_rnn.registries import OWN, Registries

every = pytest.mark.every
"""every(KIND): one of `KINDS`."""


@cache
def is_exact(make: Callable[..., Any], family: Emission, sizes: tuple[tuple[str, int], ...]) -> bool:
    """Whether what a maker makes has a likelihood in closed form."""
    return bool(make(emission=family, **dict(sizes)).exact)


@cache
def needs_inputs(make: Callable[..., Any], family: Emission, sizes: tuple[tuple[str, int], ...]) -> bool:
    """Whether what a maker makes has laws given inputs."""
    return make(emission=family, **dict(sizes)).input_dim is not None


class Cases:
    """The cases of some registries.

    Attributes:
        models: models without inputs, which tests can run on observations alone.
        driven: models of inputs.
        families: members by their labels.
        alone: those with a law for each state on its own.
        estimated: those with weighted estimates in closed form.
    """

    def __init__(self, registries: Registries) -> None:
        self.engines = registries.engines
        infos = registries.families.values()
        self.families: dict[str, Emission] = {label: each for info in infos for label, each in info.examples.items()}
        self.alone = {label: family for label, family in self.families.items() if not family.needs_head}
        self.driven = {name: info for name, info in registries.models.items() if self._takes_inputs(info)}
        self.models = {name: info for name, info in registries.models.items() if name not in self.driven}
        found = [info.examples if info.estimated is None else info.estimated for info in infos]
        self.estimated = {label: family for members in found for label, family in members.items()}

    def _takes_inputs(self, info: ModelInfo) -> bool:
        family = next(family for family in self.families.values() if info.takes(family))
        return needs_inputs(info.make, family, tuple(info.small.items()))

    def taking(self, *families: Emission) -> list[ModelInfo]:
        """Models that take all of these families."""
        return [info for info in self.models.values() if all(info.takes(family) for family in families)]

    def exact(self, info: ModelInfo) -> bool:
        """Whether a model has a likelihood in closed form."""
        family = next(family for family in self.families.values() if info.takes(family))
        return is_exact(info.make, family, tuple(info.small.items()))

    def laws(self) -> Iterator[tuple[ModelInfo, str, Emission]]:
        """Models with each of the families that they take."""
        for info in self.models.values():
            for label, family in self.families.items():
                if info.takes(family):
                    yield info, label, family


SYMBOLS, REALS, REAL = Categorical(3), Gaussian(2), Gaussian()


def by_name(infos: list[ModelInfo]) -> list[Any]:
    return [pytest.param(info.name, id=info.name) for info in infos]


def by_label(families: dict[str, Emission]) -> list[Any]:
    return [pytest.param(family, id=label) for label, family in families.items()]


def laws(cases: Cases, exact: bool | None = None) -> list[Any]:
    return [
        pytest.param(info.name, family, id=f"{info.name}-{label}")
        for info, label, family in cases.laws()
        if exact is None or cases.exact(info) == exact
    ]


KINDS: dict[str, tuple[str, Callable[[Cases], list[Any]]]] = {
    "model": ("name", lambda cases: by_name(list(cases.models.values()))),
    "exact model": ("name", lambda cases: by_name([i for i in cases.taking(SYMBOLS, REALS) if cases.exact(i)])),
    "exact bounded model": (
        "name",
        lambda cases: by_name([i for i in cases.taking(SYMBOLS, REAL) if cases.exact(i) and not i.unbounded_memory]),
    ),
    "exact model of symbols": ("name", lambda cases: by_name([i for i in cases.taking(SYMBOLS) if cases.exact(i)])),
    "model of vectors": ("name", lambda cases: by_name(cases.taking(REALS))),
    "exact model of vectors": ("name", lambda cases: by_name([i for i in cases.taking(REALS) if cases.exact(i)])),
    "law": ("name, family", laws),
    "exact law": ("name, family", lambda cases: laws(cases, True)),
    "inexact law": ("name, family", lambda cases: laws(cases, False)),
    "driven law": (
        "name, family",
        lambda cases: [
            pytest.param(info.name, family, id=f"{info.name}-{label}")
            for info in cases.driven.values()
            for label, family in cases.families.items()
            if info.takes(family)
        ],
    ),
    "engine on an exact model of vectors": (
        "engine, name",
        lambda cases: [
            pytest.param(engine, info.name, id=f"{engine}-{info.name}")
            for engine in cases.engines
            for info in cases.taking(REALS)
            if cases.exact(info)
        ],
    ),
    "family": ("family", lambda cases: by_label(cases.alone)),
    "family of heads": ("family", lambda cases: by_label(cases.families)),
    "estimated family": ("family", lambda cases: by_label(cases.estimated)),
}
"""Names of arguments, and their values, for each kind of test. A model is exact if it has a likelihood in closed form;
"exact model" and "exact bounded model" are those that take symbols as well as real numbers."""


def cases_of(kind: str, registries: Registries) -> tuple[str, list[Any]]:
    """Names of arguments and cases: all of the package's registries, or what others have beside them."""
    names, of = KINDS[kind]
    found = of(Cases(registries))
    if registries is OWN:
        return names, found
    known = {case.id for case in of(Cases(OWN))}
    return names, [case for case in found if case.id not in known]
