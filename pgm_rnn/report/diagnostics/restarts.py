"""Whether EM from several starts ends at the same likelihood.

Start 0 is the model itself, the others are random parameters near the data (`em.random_starts`). Each is fitted to the
data anew, on a copy; or the record of an earlier fit is read.
"""

from copy import deepcopy
from typing import Any

from torch import Tensor

from pgm_rnn.inference import em
from pgm_rnn.inference.em.remarks import EmWarning
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.fitted import counted
from pgm_rnn.report.notes import noted
from pgm_rnn.report.number_tables import Table
from pgm_rnn.sequences import Sequences

AGREE = 1.0
"""Difference in nats within which two starts count as having ended at the same maximum."""
COLUMNS = ("log likelihood", "below the best", "per step")


def refitted(model: Any, data: Sequences, num_restarts: int, num_iterations: int, seed: int) -> Section:
    """The section of new fits.

    Args:
        model: a model that `has_tables`, which stays as it is.
        data: checked data.
        num_restarts: number of random starts besides the model's own parameters.
        num_iterations: largest number of iterations of EM.
        seed: random seed for the starts.
    """
    options: dict[str, Any] = {"num_restarts": num_restarts + 1, "num_iterations": num_iterations, "seed": seed}
    with noted(EmWarning):
        copy = deepcopy(model).requires_grad_(True)
        found = em.fit(copy, data, start="model", progress=False, **options)
    before = float(model.log_marginal_likelihood(data).sum())
    values, names = found.restarts.log_likelihoods.double(), [f"random {r}" for r in range(1, num_restarts + 1)]
    gain = float(values[0]) - before
    note = (
        f"EM on these data, {found.num_iterations} iterations: from the model itself, which gains {gain:,.1f} nats, "
        f"and from {counted(num_restarts, 'random start')}. Starts that agree end within {AGREE:g} nat of each other"
    )
    return _section(values, ("the model", *names), 0, data.num_steps, note)


def of_fit(fit: em.EmFit, num_steps: int) -> Section:
    """The section of a fit that was made before, with the starts that it compared."""
    values = fit.restarts.log_likelihoods.double()
    names = tuple(f"start {r}{' (chosen)' * (r == fit.restarts.chosen)}" for r in range(len(values)))
    note = f"from the record of the fit. Starts that agree end within {AGREE:g} nat of each other"
    return _section(values, names, fit.restarts.chosen, num_steps, note)


def _section(values: Tensor, names: tuple[str, ...], own: int, num_steps: int, note: str) -> Section:
    best = float(values.max())
    rows = tuple((value, best - value, (best - value) / num_steps) for value in values.tolist())
    table = Table("restarts", "restarts of EM, log likelihoods in nats", "start", names, COLUMNS, rows)
    order = tuple((-values).argsort().tolist())
    return Section(table, note, "agreement of restarts", _findings(values, names, own), order)


def _findings(values: Tensor, names: tuple[str, ...], own: int) -> tuple[str, ...]:
    best, gap = int(values.argmax()), float(values.max() - values[own])
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
