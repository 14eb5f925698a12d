"""The error for weights that are all zero, NaN or infinite."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pgm_rnn.particles.options import Options


class DegenerateWeightsError(ValueError):
    """Every particle of a sequence has weight zero, or a weight is NaN or infinite.

    Attributes:
        sequence: index of the sequence in the batch.
        step: t, from 1.
        found: the values found in place of finite log weights, such as "NaN weights"; None if all weights are zero.
        way_out: advice to the caller of the engine.
    """

    def __init__(self, sequence: int, step: int, found: str | None = None, way_out: str | None = None) -> None:
        if way_out is None:
            way_out = "use more particles or another proposal" if found is None else _SOURCES
        if found is None:
            wanted, got = "a particle of positive weight", "none"
        else:
            wanted, got = "finite log weights", found
        super().__init__(f"expected {wanted}, got {got} in sequence {sequence} at step {step}; {way_out}")
        self.sequence, self.step, self.found, self.way_out = sequence, step, found, way_out


@contextmanager
def offering_minus_infinity() -> Iterator[None]:
    """A block in which the error for weights that are all zero names degenerate='-inf' as a way out.

    Raises:
        DegenerateWeightsError: as the block did.
    """
    try:
        yield
    except DegenerateWeightsError as error:
        if error.found is not None:
            raise
        way_out = f"{error.way_out}, or degenerate='-inf'"
        raise DegenerateWeightsError(error.sequence, error.step, way_out=way_out) from None


_SOURCES = "look for a parameter or an observation that is NaN, or a density that overflows"


def check_lost(log_total: Tensor, terms: Tensor, options: Options, number: int, what: str) -> None:
    """Raise if a sequence is lost: a weight is NaN or infinite or, unless degenerate="-inf", all of them are zero.

    Args:
        log_total: log of the sum of the weights, (B,).
        terms: the log weights, or the lookahead added to them, (N, B).
        options: the filter's options.
        number: t, for the error.
        what: name of `terms` in the error, "weights" or "lookahead".

    Raises:
        DegenerateWeightsError: as said; it names sequence and step.
    """
    wrong = ~log_total.isfinite() & (log_total != -torch.inf)
    if bool(wrong.any()):
        sequence = int(wrong.nonzero()[0])
        kind = "NaN" if bool(terms[:, sequence].isnan().any()) else "infinite"
        raise DegenerateWeightsError(sequence, number, f"{kind} {what}")
    if options.degenerate == "raise":
        found = None if what == "weights" else f"a {what} of minus infinity for every particle"
        raise DegenerateWeightsError(int((log_total == -torch.inf).nonzero()[0]), number, found)
