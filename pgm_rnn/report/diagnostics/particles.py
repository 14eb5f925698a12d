"""Effective sample sizes and Pareto k of a particle filter, and the step at which it lost its particles.

    ESS_t = 1 / sum_n (W_t^n)^2   of N

One row per sequence. A filter lost its particles where so few carry the weight that its results are those of a few
draws, or where every weight was zero.
"""

import math

import torch

from pgm_rnn.inference.mixture_kalman import RegimeModel
from pgm_rnn.kernels.pareto import RELIABLE
from pgm_rnn.report.diagnostics.particle_laws import Filtering
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.diagnostics.wording import names_of_sequences, place
from pgm_rnn.report.number_tables import Table
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences

LOST = 0.01
"""Share of the particles below which the effective sample size counts as lost."""
FEWEST = 5.0
"""Effective sample size below which it counts as lost, however few particles there are."""
COLUMNS = ("steps", "least ESS", "at step", "mean ESS", "lost", "largest k", "k > 0.7")
OFTEN = 0.1
"""Share of steps with weights of heavy tails above which this is a finding."""
_MOST_NAMED = 3


def particles(data: Sequences, found: Filtering) -> Section:
    """The section of a particle filter.

    Args:
        data: the checked data.
        found: the record of the filter.
    """
    ess = found.ess.where(found.log_normalizers > -torch.inf, 0.0).where(found.ess.isfinite(), torch.nan).cpu()
    k, limit = found.pareto_k.cpu(), least_ess(found.num_particles)
    lost = ess < limit  # False for NaN
    smallest, at = ess.nan_to_num(math.inf).min(1)
    columns = COLUMNS[:5] if isinstance(found.model, RegimeModel) else COLUMNS
    rows = tuple(
        (
            float(data.lengths[i]),
            float(smallest[i]),
            float(at[i]) + 1,
            float(ess[i].nanmean()),
            float(lost[i].sum()),
            float(k[i].nan_to_num(-math.inf).max()),
            float((k[i] > RELIABLE).sum()),
        )[: len(columns)]
        for i in range(len(ess))
    )
    table = Table("particles", "particle filter", "sequence", names_of_sequences(data), columns, rows)
    worst = smallest.argsort().tolist()
    note = (
        f"{found.num_particles:,} particles, {_proposal(found.model)}. ESS is the effective sample size of a step; "
        f"lost is the number of steps below {limit:g}{_tails(found.model)}"
    )
    sentences = [
        f"The filter lost its particles at {place(data, i, int(at[i]))} ({_size(float(smallest[i]))} of "
        f"{found.num_particles:,}{_more(int(lost[i].sum()))}); {_remedy(found.model)}"
        for i in worst[:_MOST_NAMED]
        if bool(lost[i].any())
    ]
    others = int(lost.any(1).sum()) - _MOST_NAMED
    if others > 0:
        sentences.append(f"The filter lost its particles in {others} more sequences; the table has them")
    heavy = float((k > RELIABLE).sum() / k.isfinite().sum().clamp(min=1))
    if heavy > OFTEN:
        often = f"(Pareto k above {RELIABLE}) at {heavy:.0%} of the steps"
        sentences.append(f"Few particles carry the weights {often}; {_remedy(found.model)}")
    return Section(table, note, "effective sample sizes of the particle filter", tuple(sentences), tuple(worst))


def least_ess(num_particles: int) -> float:
    """The effective sample size below which a filter has lost its particles."""
    return max(FEWEST, LOST * num_particles)


def _size(ess: float) -> str:
    return "every weight is zero: 0" if ess == 0 else f"effective sample size {ess:.1f}"


def _more(num_lost: int) -> str:
    return f", and at {num_lost - 1} more steps" if num_lost > 1 else ""


def _proposal(model: SequenceModel) -> str:
    if isinstance(model, RegimeModel):
        return "each a regime with a Kalman filter, proposed after a look at the observation"
    return "proposed by the model's guide" if model.has_proposal else "proposed by the transition"


def _tails(model: SequenceModel) -> str:
    """What the note says of Pareto's k, which is not fitted to regimes: they have few distinct weights."""
    if isinstance(model, RegimeModel):
        return ""
    return f". With k (Pareto) above {RELIABLE} few particles carry the weights"


def _remedy(model: SequenceModel) -> str:
    if isinstance(model, RegimeModel):
        return "use more particles"
    if model.has_proposal:
        return "use more particles, or train the guide longer"
    return "use more particles, or give the model a guide (a proposal)"
