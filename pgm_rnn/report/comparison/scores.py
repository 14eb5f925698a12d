"""Scores of one model on many units: whole sequences, or blocks of steps of a single series.

    nats per step = sum_i n_i / sum_i T_i       n_i: -log p of unit i in nats,  T_i: its steps with an observation

Neighbouring steps of one series depend on each other, so that their number overstates what is known. Blocks of about
T^(1/3) steps are nearly independent; standard errors of one series are those over its blocks (Carlstein, 1986).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.inference import svi
from pgm_rnn.inference.svi.evaluation import modelled_steps
from pgm_rnn.report.one_step_terms import one_step_terms, seen_steps
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences


class Bound(NamedTuple):
    """How a model without an exact likelihood is scored.

    Attributes:
        name: "elbo", "iwae", "fivo" or "importance"; a model that is exact ignores it.
        num_particles: particles of the filter, or draws of the guide, for each sequence.
        seed: random seed of the draws.
    """

    name: str = "fivo"
    num_particles: int = 128
    seed: int = 0


class Scores(NamedTuple):
    """Negative log likelihoods of units.

    Attributes:
        label: "exact", or the name of the bound or estimate, such as "FIVO_128".
        nats: n_i, (num_units,).
        steps: T_i, (num_units,).
        unit: what a unit is, in the plural, such as "sequences" or "blocks of 5 steps".
        pareto_k: shape of the tail of the importance weights of each term, NaN where the model was fitted anew; None
            for values without weights.
        num_refits: number of terms for which the model was fitted anew, because their weights were unreliable.
    """

    label: str
    nats: Tensor
    steps: Tensor
    unit: str
    pareto_k: Tensor | None = None
    num_refits: int = 0

    @property
    def units(self) -> str:
        """The number of units, in words: "40 sequences", "1 block of 5 steps"."""
        first, _, rest = self.unit.partition(" ")
        return f"{len(self.nats):,} {first.removesuffix('s') if len(self.nats) == 1 else first} {rest}".rstrip()

    @property
    def nats_per_step(self) -> float:
        """Nats of all units over steps of all units."""
        return float(self.nats.sum()) / float(self.steps.sum())

    @property
    def standard_error(self) -> float:
        """Standard error of `nats_per_step` over the units; NaN for one unit."""
        return svi.ratio_error(self.nats, self.steps)


def scored(model: SequenceModel, data: Sequences, bound: Bound) -> Scores:
    """Scores of a model on data as they are: by sequence, or by blocks of a single series.

    Raises:
        ValueError: a bound that has no one-step-ahead terms, for a single series.
        FloatingPointError: a log likelihood is NaN.
    """
    if len(data.lengths) == 1:
        terms, label = series_terms(model, data, bound)
        return in_blocks(-terms, seen_steps(model, data), label)
    return sequence_scores(model, data, bound)


def sequence_scores(model: SequenceModel, data: Sequences, bound: Bound) -> Scores:
    """Scores of a model by sequence.

    Raises:
        FloatingPointError: a log likelihood is NaN.
    """
    name = "exact" if model.exact else bound.name
    found = svi.evaluate(model, data, bound=name, num_particles=bound.num_particles, seed=bound.seed)
    return Scores(found.bound, -found.log_likelihoods.double(), modelled_steps(model, data), "sequences")


def series_terms(model: SequenceModel, data: Sequences, bound: Bound) -> tuple[Tensor, str]:
    """log p(x_t | x_{1:t-1}) of a single series, (T,), and "exact" or the name of the bound.

    Raises:
        ValueError: a bound without such terms.
        FloatingPointError: a term is NaN.
    """
    if not model.exact and bound.name != "fivo":
        raise ValueError(
            f"expected bound='fivo' for a single series, whose steps are scored one by one, got {bound.name!r}; the "
            "other bounds score whole sequences"
        )
    terms = one_step_terms(model, data, num_particles=bound.num_particles, seed=bound.seed)[0]
    if bool(terms.isnan().any()):
        step = int(terms.isnan().nonzero()[0]) + 1
        raise FloatingPointError(
            f"expected a number of nats at each step, got NaN at step {step} from {type(model).__name__}; fit it again"
        )
    return terms, "exact" if model.exact else f"FIVO_{bound.num_particles}"


def in_blocks(
    nats: Tensor, steps: Tensor, label: str, pareto_k: Tensor | None = None, num_refits: int = 0, *, width: int = 1
) -> Scores:
    """Scores of consecutive terms of one series, (num_terms,), in blocks; blocks without an observation are left out.

    Args:
        nats: nats of each term.
        steps: number of steps of each term, often 0 or 1.
        label: the kind of likelihood.
        pareto_k: of each term, or None.
        num_refits: as for `Scores`.
        width: number of steps that a term spans.
    """
    size = max(1, round(len(nats) ** (1 / 3)))
    blocks = [torch.stack([part.sum() for part in values.double().split(size)]) for values in (nats, steps)]
    kept = blocks[1] > 0
    unit = f"blocks of {size * width} steps" if size * width > 1 else "steps"
    return Scores(label, blocks[0][kept], blocks[1][kept], unit, pareto_k, num_refits)
