"""Whether EM from several starts ends at the same likelihood.

Starts are the model itself, parameters estimated from the data (`em.data_starts`), and random parameters near the data
(`em.random_starts`). Each is fitted to the data anew, on a copy; or the record of an earlier fit is read.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.inference import em
from pgm_rnn.inference.at_limits import NO_BOUND
from pgm_rnn.inference.em import StartFrom
from pgm_rnn.inference.em.baum_welch import has_parts
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.fitted import counted
from pgm_rnn.report.notes import noted_em
from pgm_rnn.report.number_tables import Table
from pgm_rnn.sequences import Sequences

AGREE = 1.0
"""Difference in nats within which two starts count as having ended at the same maximum."""
LARGEST = 200_000_000
"""Largest starts x steps x states of the fits that run side by side."""
COLUMNS = ("log likelihood", "below the best", "per step")


@torch.no_grad()
def refitted(model: Any, data: Sequences, num_restarts: int, num_iterations: int, seed: int) -> Section:
    """The section of new fits.

    Where steps x states are many, there are fewer random starts (`LARGEST`).

    Args:
        model: a model that `has_tables`, which stays as it is.
        data: checked data.
        num_restarts: number of random starts besides the others.
        num_iterations: largest number of iterations of EM.
        seed: random seed for the starts.
    """
    before = float(model.log_marginal_likelihood(data).sum())
    values, names, unbounded = _ends(model, data, num_restarts, {"num_iterations": num_iterations, "seed": seed})
    note = (
        f"EM on these data, up to {num_iterations} iterations: from the model itself, which gains "
        f"{float(values[0]) - before:,.1f} nats, and from {counted(len(names) - 1, 'other start')}. Starts that agree "
        f"end within {AGREE:g} nat of each other"
    )
    return _section(values, names, 0, data.num_steps, note, unbounded)


def _ends(
    model: Any, data: Sequences, num_restarts: int, options: dict[str, Any]
) -> tuple[Tensor, tuple[str, ...], bool]:
    """Log likelihoods (R,) at the ends of the starts, the first of which is the model itself, and their names.

    The last part says whether EM has warned that the likelihood has no bound at the best of them.
    """
    sentences: list[str] = []

    def fitted(num: int, start: StartFrom) -> Tensor:
        copy = deepcopy(model).requires_grad_(True)
        found, said = noted_em(copy, data, start=start, num_restarts=num, progress=False, **options)
        sentences.extend(said)
        return found.restarts.log_likelihoods.double()

    num_restarts = min(num_restarts, max(1, LARGEST // (data.num_steps * model.states.num_states)))
    random = [f"random {r}" for r in range(1, num_restarts + 1)]
    conditioned = model.first == "condition"
    if conditioned or not has_parts(model):  # it has no start from the data
        values, names = fitted(num_restarts + 1, "model"), ("the model", *random)
    else:
        values = torch.cat([fitted(1, "model"), fitted(num_restarts + 1, "data")])
        names = ("the model", "from the data", *random)
    return values, names, any(NO_BOUND in sentence for sentence in sentences)


def of_fit(fit: em.EmFit, num_steps: int) -> Section:
    """The section of a fit that was made before, with the starts that it compared."""
    values = fit.restarts.log_likelihoods.double()
    names = tuple(f"start {r}{' (chosen)' * (r == fit.restarts.chosen)}" for r in range(len(values)))
    note = f"from the record of the fit. Starts that agree end within {AGREE:g} nat of each other"
    return _section(values, names, fit.restarts.chosen, num_steps, note)


def _section(
    values: Tensor, names: tuple[str, ...], own: int, num_steps: int, note: str, unbounded: bool = False
) -> Section:
    best = float(values.max())
    rows = tuple((value, best - value, (best - value) / num_steps) for value in values.tolist())
    table = Table("restarts", "restarts of EM, log likelihoods in nats", "start", names, COLUMNS, rows)
    order = tuple((-values).argsort().tolist())
    return Section(table, note, "agreement of restarts", _findings(values, names, own, unbounded), order)


def _findings(values: Tensor, names: tuple[str, ...], own: int, unbounded: bool) -> tuple[str, ...]:
    best, gap = int(values.argmax()), float(values.max() - values[own])
    if gap > AGREE and unbounded:
        return (
            f"{names[best]} ends {gap:,.1f} nats above {names[own]} on these data, with a state that predicts some of "
            f"them exactly, where {NO_BOUND}: that is no better fit",
        )
    if gap > AGREE:
        return (
            f"The fit ended in a local maximum: {names[best]} ends {gap:,.1f} nats above {names[own]} on these data; "
            "fit again with more restarts",
        )
    if len(values) > 1 and int((values > values.max() - AGREE).sum()) == 1:
        second = float(values.max() - values.topk(2).values[1])
        return (
            f"No two of {len(values)} starts agree (the second best ends {second:,.1f} nats lower): the likelihood has "
            "many maxima; fit with more restarts or fewer states, and do not interpret single states",
        )
    return ()
