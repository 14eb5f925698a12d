"""All that the package has lists of: models, families, data sets, engines and claims.

What is in a registry has a command line, can be saved and loaded, and is run by the contract tests. A registry of your
own is the package's with entries added to it:

    mine = replace(OWN, models={**OWN.models, INFO.name: INFO})
    pgm_rnn.cli.build_app(mine)()
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pgm_rnn.claims import CLAIMS, Claim
from pgm_rnn.data.catalogue import DATASETS, DatasetInfo
from pgm_rnn.emissions.info import FamilyInfo
from pgm_rnn.emissions.registry import FAMILIES
from pgm_rnn.inference.registry import ENGINES, Engine
from pgm_rnn.models.info import ModelInfo
from pgm_rnn.models.registry import MODELS


@dataclass(frozen=True)
class Registries:
    """Entries by their names, the package's own unless others are given.

    Attributes:
        models: models of sequences.
        families: families of observations.
        datasets: data sets.
        engines: engines.
        claims: statements of the papers.
    """

    models: Mapping[str, ModelInfo] = field(default_factory=lambda: MODELS)
    families: Mapping[str, FamilyInfo] = field(default_factory=lambda: FAMILIES)
    datasets: Mapping[str, DatasetInfo] = field(default_factory=lambda: DATASETS)
    engines: Mapping[str, Engine] = field(default_factory=lambda: ENGINES)
    claims: Mapping[str, Claim] = field(default_factory=lambda: CLAIMS)


OWN = Registries()
"""Those of the package."""
