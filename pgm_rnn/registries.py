"""The package's registries: models, laws of labels, families, data sets, engines and claims.

The command line, storage and the contract tests cover every entry of a registry. Add entries to make a registry of your
own:

    mine = replace(OWN, models={**OWN.models, INFO.name: INFO})
    pgm_rnn.cli.build_app(mine)()
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from pgm_rnn.data.catalogue import DATASETS, DatasetInfo
from pgm_rnn.emissions.info import FamilyInfo
from pgm_rnn.emissions.registry import FAMILIES
from pgm_rnn.models.info import LabelInfo, ModelInfo
from pgm_rnn.models.label_registry import LABEL_MODELS
from pgm_rnn.models.registry import MODELS

if TYPE_CHECKING:
    from pgm_rnn.claims import Claim
    from pgm_rnn.inference.registry import Engine

Entry = TypeVar("Entry")


class Later(Mapping[str, Entry]):
    """A registry that is imported at its first use, because the registry of claims takes a second to import.

    Args:
        imported: function that imports and returns the registry.
    """

    def __init__(self, imported: Callable[[], Mapping[str, Entry]]) -> None:
        self._imported = imported

    @cached_property
    def _entries(self) -> Mapping[str, Entry]:
        return self._imported()

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _engines() -> "Mapping[str, Engine]":
    from pgm_rnn.inference.registry import ENGINES

    return ENGINES


def _claims() -> "Mapping[str, Claim]":
    from pgm_rnn.claims import CLAIMS

    return CLAIMS


@dataclass(frozen=True)
class Registries:
    """Entries by name; the defaults are the package's own.

    Attributes:
        models: models of sequences.
        label_models: laws of labels given sequences.
        families: families of observations.
        datasets: data sets.
        engines: engines.
        claims: statements of the papers.
    """

    models: Mapping[str, ModelInfo] = field(default_factory=lambda: MODELS)
    label_models: Mapping[str, LabelInfo] = field(default_factory=lambda: LABEL_MODELS)
    families: Mapping[str, FamilyInfo] = field(default_factory=lambda: FAMILIES)
    datasets: Mapping[str, DatasetInfo] = field(default_factory=lambda: DATASETS)
    engines: "Mapping[str, Engine]" = field(default_factory=lambda: Later(_engines))
    claims: "Mapping[str, Claim]" = field(default_factory=lambda: Later(_claims))


OWN = Registries()
"""The package's own registries."""
