"""The registry of families; storage, the command line and the tests get all families from it."""

from collections.abc import Mapping

from pgm_rnn.emissions import (
    entries,
    full_gaussian,
    joint,
    mixture,
    nade,
    negative_binomial,
    pen,
    spherical,
    student_t,
    symbols,
    tied,
    zero_inflated,
)
from pgm_rnn.emissions.info import FamilyInfo

FAMILIES: Mapping[str, FamilyInfo] = {
    info.name: info
    for info in (
        symbols.INFO,
        *entries.INFOS,
        full_gaussian.INFO,
        spherical.INFO,
        *tied.INFOS,
        student_t.INFO,
        negative_binomial.INFO,
        *zero_inflated.INFOS,
        *mixture.INFOS,
        pen.INFO,
        nade.INFO,
        joint.INFO,
    )
}
"""Every family by its name."""
