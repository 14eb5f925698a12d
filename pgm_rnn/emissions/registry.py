"""The registry of families; storage, the command line and the tests get all families from it."""

from collections.abc import Mapping

from pgm_rnn.emissions import (
    beta,
    entries,
    full_gaussian,
    gamma,
    joint,
    mixture,
    nade,
    negative_binomial,
    pen,
    spherical,
    student_t,
    symbols,
    tied,
    von_mises,
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
        gamma.INFO,
        beta.INFO,
        von_mises.INFO,
        negative_binomial.INFO,
        *zero_inflated.INFOS,
        *mixture.INFOS,
        pen.INFO,
        nade.INFO,
        joint.INFO,
    )
}
"""Every family by its name."""
