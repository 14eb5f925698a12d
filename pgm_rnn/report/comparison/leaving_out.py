"""Held-out scores of Bayesian fits without fitting them anew, by importance weights over their draws.

    PSIS-LOO over sequences     log p(x^(i) | x^(-i)),            w_s ~ 1 / p(x^(i) | theta_s)
    PSIS-LFO of one series      log p(x_{i+1:i+h} | x_{1:i}),     w_s ~ 1 / p(x_{i+1:j} | x_{1:i}, theta_s)

j is the step to which the draws were fitted: T, or the last refit. Pareto k above 0.7 means that the weights cannot
carry the draws so far; then the fit is repeated without the sequence, or up to step i, by the user's `fit=`, or the
value is kept and counted as unreliable. Vehtari, Gelman & Gabry (2017); Bürkner, Gabry & Vehtari (2020).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.inference.pointwise import MAX_ROWS, log_likelihoods, one_step_log_likelihoods
from pgm_rnn.inference.svi.evaluation import modelled_steps
from pgm_rnn.report.comparison.entries import Entry
from pgm_rnn.report.comparison.psis import relative_efficiency, smoothed_weights
from pgm_rnn.report.comparison.ranking import GOOD_K
from pgm_rnn.report.comparison.scores import Scores, in_blocks
from pgm_rnn.report.one_step_terms import one_step_terms, seen_steps
from pgm_rnn.report.tables import steps_of
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.parameter_draws import draws_of
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.sequences import Sequences

AVERAGED = "averaged over the posterior"
"""Label of log mean_s p(x_i | theta_s) on the data that the draws were fitted to."""


UPDATES = 50
"""Number of times that a progress bar moves, about."""


class Weighted(NamedTuple):
    """Draws with what importance sampling needs of them.

    Attributes:
        terms: log likelihoods of each draw, (num_draws, n).
        efficiency: effective sample size over the number of draws.
    """

    terms: Tensor
    efficiency: float


Values = Callable[[SequenceModel, Sequences, Mapping[str, Tensor]], Tensor]
"""Log likelihoods of checked data under draws of a model's parameters, (num_draws, n)."""


@torch.no_grad()
def of_draws(entry: Entry, posterior: Posterior, data: Sequences, values: Values, *, progress: bool) -> Weighted:
    """Log likelihoods of the data under every draw, some side by side.

    Args:
        entry: a Bayesian fit.
        posterior: its draws, or those of a refit.
        data: sequences that the model takes.
        values: log likelihoods of the data under some draws.
        progress: whether a terminal shows a progress bar.
    """
    dtype = next(entry.model.parameters()).dtype
    draws = {name: samples.flatten(0, 1).to(dtype) for name, samples in posterior.samples.items()}
    number, rows = posterior.num_chains * posterior.num_samples, []
    size = max(1, min(-(-number // UPDATES), MAX_ROWS // data.x.shape[:2].numel()))
    with tqdm(total=number, unit="draw", desc=entry.name, disable=None if progress else True, leave=False) as bar:
        for start in range(0, number, size):
            some = {name: samples[start : start + size] for name, samples in draws.items()}
            rows.append(values(entry.model, data, some).double())
            bar.update(len(rows[-1]))
    samples = {name: samples.detach().double().cpu().numpy() for name, samples in posterior.samples.items()}
    return Weighted(torch.cat(rows), relative_efficiency(samples))


def sequence_values(model: SequenceModel, data: Sequences, samples: Mapping[str, Tensor]) -> Tensor:
    """log p(x^(i) | theta_s) of each sequence of checked data, (num_draws, batch)."""
    return log_likelihoods(model, data, samples)


def step_values(model: SequenceModel, data: Sequences, samples: Mapping[str, Tensor]) -> Tensor:
    """log p(x_t | x_{1:t-1}, theta_s) of a single series, (num_draws, T), estimated if it has no closed form."""
    if model.exact:
        return one_step_log_likelihoods(model, data, samples)[:, 0]
    raw = draws_of(model, samples).parameters
    each = [{name: values[draw] for name, values in raw.items()} for draw in range(len(next(iter(raw.values()))))]
    return torch.stack([call_with(model, one, one_step_terms, model, data)[0] for one in each])


def averaged(entry: Entry, weighted: Weighted) -> Scores:
    """-log mean_s p(x_i | theta_s) of each sequence, or of the blocks of a series, on the data of the fit."""
    nats = -_log_mean(weighted.terms)
    if entry.num_series == 1:
        return in_blocks(nats, seen_steps(entry.model, entry.data), AVERAGED)
    return Scores(AVERAGED, nats, modelled_steps(entry.model, entry.data), "sequences")


def leave_one_out(entry: Entry, weighted: Weighted) -> Scores:
    """PSIS-LOO over sequences; exact for those whose k is too large, where the entry has a `refit`."""
    log_weights, k = _smoothed(-weighted.terms.T, weighted.efficiency)
    elpd = (log_weights + weighted.terms.T).logsumexp(1)  # (n,)
    refits = (k > GOOD_K).nonzero()[:, 0].tolist() if entry.refit is not None else []
    everything = torch.arange(entry.num_series)
    for place in refits:
        posterior = _posterior_of(entry, entry.data.select(everything[everything != place]))
        held = entry.data.select(everything[place : place + 1])
        elpd[place] = _log_mean(of_draws(entry, posterior, held, sequence_values, progress=False).terms)[0]
        k[place] = torch.nan
    return Scores("PSIS-LOO", -elpd, modelled_steps(entry.model, entry.data), "sequences", k, len(refits))


def leave_future_out(entry: Entry, weighted: Weighted, first: int, horizon: int | None = None) -> Scores:
    """PSIS-LFO of a single series: log p(x_{i+1:i+h} | x_{1:i}) for i = first, first + h, ..., from the last i down.

    Args:
        entry: a Bayesian fit to one series.
        weighted: one-step terms of its draws, (num_draws, T).
        first: the smallest i.
        horizon: h, 1 by default.
    """
    num_steps, ahead = weighted.terms.shape[1], horizon or 1
    seen = seen_steps(entry.model, entry.data)
    found, fitted_to = [], num_steps
    for i in range(first + (num_steps - ahead - first) // ahead * ahead, first - 1, -ahead):
        log_weights, k = _smoothed(-weighted.terms[:, i:fitted_to].sum(1)[None], weighted.efficiency)
        if float(k) > GOOD_K and entry.refit is not None:
            posterior = _posterior_of(entry, steps_of(entry.data, slice(0, i)))
            weighted = of_draws(entry, posterior, entry.data, step_values, progress=False)
            fitted_to, k = i, torch.tensor([torch.nan])
            log_weights = torch.full_like(weighted.terms[:, 0], -np.log(len(weighted.terms)))[None]
        value = (log_weights[0] + weighted.terms[:, i : i + ahead].sum(1)).logsumexp(0)
        found.append((-value, seen[i : i + ahead].sum(), k[0]))
    nats, steps, shapes = (torch.stack([part.double() for part in parts[::-1]]) for parts in zip(*found, strict=True))
    return in_blocks(nats, steps, "PSIS-LFO", shapes, int(shapes.isnan().sum()), width=ahead)


def _posterior_of(entry: Entry, train: Sequences) -> Posterior:
    """The result of the user's `fit=`.

    Raises:
        TypeError: it is no result of mcmc.run.
    """
    assert entry.refit is not None  # callers have checked
    found: Any = entry.refit(entry.program, train)
    if not isinstance(found, Posterior):
        raise TypeError(
            f"expected fit= to return a result of mcmc.run for the Bayesian fit {entry.name}, got "
            f"{type(found).__name__}"
        )
    return found


def _smoothed(log_ratios: Tensor, efficiency: float) -> tuple[Tensor, Tensor]:
    """Smoothed log weights (n, num_draws) and k (n,); uniform weights where all ratios are equal."""
    log_weights, k = smoothed_weights(log_ratios.cpu().numpy(), efficiency)
    return torch.as_tensor(np.asarray(log_weights)), torch.as_tensor(np.asarray(k)).reshape(len(log_ratios))


def _log_mean(terms: Tensor) -> Tensor:
    """log mean_s exp(l_s), (n,)."""
    return terms.logsumexp(0) - np.log(len(terms))
