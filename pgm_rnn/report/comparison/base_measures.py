"""The base measures of likelihoods: a density and a probability cannot be compared, whatever their numbers.

A density p(x) has the unit 1 / (unit of x), and changes by a factor when x is measured in another unit; a probability
has no unit. So each column of the observations must have the same of the two in all models.
"""

from collections.abc import Mapping

from pgm_rnn.emissions import Emission, Joint, Mixture, Pen

PROBABILITY, DENSITY = "probability", "density"


def measures_of(family: Emission) -> tuple[str, ...]:
    """For each column of an observation, whether the family gives it a probability or a density.

    Example:
        >>> from pgm_rnn.emissions import Gaussian, Poisson
        >>> measures_of(Joint([Gaussian(), Poisson()]))
        ('density', 'probability')
    """
    if isinstance(family, Joint):
        return tuple(measure for part in family.families for measure in measures_of(part))
    if isinstance(family, Mixture):
        return measures_of(family.family)
    if isinstance(family, Pen):
        return DENSITY, DENSITY, PROBABILITY
    return (DENSITY if family.continuous else PROBABILITY,) * max(1, family.event_shape.numel())


def check_one_measure(families: Mapping[str, Emission], columns: Mapping[str, tuple[str, ...]] | None = None) -> None:
    """Raise unless all models give densities to the same columns.

    Args:
        families: the family of each model by its name.
        columns: names of the columns of each model, in the order of its observations; by default numbers from 1.

    Raises:
        ValueError: two of them do not, or they have other columns.
    """
    named = {name: _by_column(family, (columns or {}).get(name)) for name, family in families.items()}
    (first, mine), *others = named.items()
    for name, its in others:
        if mine.keys() != its.keys():
            raise ValueError(
                f"expected models of the same columns, got {_listed(mine)} in {first} and {_listed(its)} in {name}; "
                "fit both to the same ones"
            )
        for column, measure in mine.items():
            if measure != its[column]:
                where = f" of column {column}" if len(mine) > 1 else ""
                raise ValueError(
                    f"expected likelihoods of one kind, got a {measure}{where} from {first} ({families[first]}) and a "
                    f"{its[column]} from {name} ({families[name]}), which have different units; fit both with the same "
                    "kind of observations"
                )


def _by_column(family: Emission, names: tuple[str, ...] | None) -> dict[str, str]:
    measures = measures_of(family)
    known = names is not None and len(names) == len(measures)
    numbers = tuple(str(number) for number in range(1, len(measures) + 1))
    return dict(zip(names if known and names is not None else numbers, measures, strict=True))


def _listed(columns: Mapping[str, str]) -> str:
    """The names of the columns, or their number if they are many."""
    return ", ".join(columns) if len(columns) <= 6 else f"{len(columns)} columns"
