"""EM for an HMM: pseudo-observations while the starts compete, and for densities as few as is sound in the end.

The likelihood of densities has no bound where a state shrinks onto equal values. Pseudo-observations prevent that, but
they also widen the law of every state: m of them, at a distance d of the state's mean from the others', among n steps,
add about m d^2 / n to its variance. So the best start is fitted on without them, or with a hundredth of them if EM then
warns or the validation data become less likely, and all of them stay only if that happens again.
"""

import copy
from typing import Any, NamedTuple

from pgm_rnn.inference import em
from pgm_rnn.models import HMM
from pgm_rnn.report.notes import noted_em
from pgm_rnn.sequences import Sequences

PSEUDO_OBSERVATIONS = 2.0
"""Number per state while the starts compete, and in the end for laws of whole numbers and symbols."""
FEWER = (0.0, PSEUDO_OBSERVATIONS / 100)
"""Numbers that are tried in the end for densities, in this order."""


class HmmFit(NamedTuple):
    """A fit with what is to be said of it.

    Attributes:
        found: the fit; its log likelihoods are those of both parts.
        notes: the warnings of EM.
        remark: why pseudo-observations were kept, or empty.
    """

    found: em.EmFit
    notes: list[str]
    remark: str


def fit_by_em(
    model: HMM,
    train: Sequences,
    *,
    valid: Sequences | None = None,
    pseudo_observations: float | None = None,
    **options: Any,
) -> HmmFit:
    """Fit an HMM in place from starts near the data.

    Args:
        model: the model.
        train: the training sequences.
        valid: sequences that choose among the starts, and between the fits with and without pseudo-observations.
        pseudo_observations: their number, to the end; None for `PSEUDO_OBSERVATIONS`, and for densities as few
            in the end as is sound.
        options: further options of em.fit.
    """
    number = PSEUDO_OBSERVATIONS if pseudo_observations is None else pseudo_observations
    first, notes = noted_em(model, train, valid=valid, start="data", pseudo_observations=number, **options)
    if pseudo_observations is not None or not model.family.continuous or first.stopped_by == "interrupt":
        return HmmFit(first, notes, "")
    before, why = copy.deepcopy(model.state_dict()), ""
    for fewer in FEWER:
        more = options | {"num_restarts": 1, "pseudo_observations": fewer}
        last, its_notes = noted_em(model, train, valid=valid, start="model", **more)
        against = _against(first, last, [note for note in its_notes if note not in notes])
        if not against:
            return HmmFit(_joined(first, last), its_notes, _remark(fewer, why))
        model.load_state_dict(before)
        why = why or against
    return HmmFit(first, notes, _remark(number, why))


def _remark(number: float, why: str) -> str:
    return f"{number:g} pseudo-observations are added to each state, because without them {why}" if why else ""


def _joined(first: em.EmFit, last: em.EmFit) -> em.EmFit:
    """The last fit, with the history, the starts and the time of both."""
    values = [*first.log_likelihoods.tolist(), *last.log_likelihoods[1:].tolist()]
    history = first.log_likelihoods.new_tensor(values)
    return last._replace(log_likelihoods=history, restarts=first.restarts, seconds=first.seconds + last.seconds)


def _against(first: em.EmFit, last: em.EmFit, new_notes: list[str]) -> str:
    """What speaks against the last fit, in words that follow 'without them', or nothing."""
    if new_notes:
        return f"EM warns: {'. '.join(note.partition('. ')[0] for note in new_notes)}"
    held_out, before = last.restarts.valid_log_likelihoods, first.restarts.valid_log_likelihoods
    if held_out is None or before is None:
        return ""
    lost = float(before[first.restarts.chosen] - held_out[0])
    return f"the validation data lose {lost:.3g} nats" if lost > 0 else ""
