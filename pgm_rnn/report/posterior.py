"""Results of all engines as ArviZ data.

| group | holds | needs |
|---|---|---|
| `posterior` | draws of parameters or states; a fit's estimate is one draw | nothing |
| `sample_stats` | energy and divergences of NUTS, effective sample sizes of a filter, the course of a fit | nothing |
| `state_laws` | exact laws of the states by forward-backward and the Kalman filter | nothing |
| `log_likelihood` | "x", log p(x_{1:T} of a sequence given theta): one value per draw and sequence | model and data |
| `one_step_log_likelihood` | "x", log p(x_t given x_{1:t-1} and theta), for leave-future-out | model and data |
| `observed_data`, `constant_data` | "x"; lengths, inputs and times | data |
| `posterior_predictive`, `prior`, `prior_predictive` | on request: new data, draws from the priors | model and data |

A result with one value of the parameters has one draw, which `az.loo` has nothing to weigh by: `pgm_rnn.compare`.
An engine that computes likelihoods itself (a filter, `pmmh.run`) needs neither model nor data for them.
"""

import platform
from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.inference.em import EmFit
from pgm_rnn.inference.svi import Fit
from pgm_rnn.report import arviz_data, model_groups
from pgm_rnn.report.labelled import Labels, data_groups, digest_of, labels_of
from pgm_rnn.report.result_groups import ONE_STEP, Groups, Request, groups_of
from pgm_rnn.report.simulating import batch_for, model_of
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import as_batch, marked
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.sequences import Data, Sequences
from pgm_rnn.version import __version__

GROUPS = (
    "posterior",
    "sample_stats",
    "state_laws",
    "log_likelihood",
    ONE_STEP,
    "observed_data",
    "constant_data",
    "posterior_predictive",
    "prior",
    "prior_predictive",
)
"""All groups; the last three are made on request."""
PACKAGES = {"torch": "torch", "pyro": "pyro-ppl", "numpy": "numpy"}


@torch.no_grad()
def to_arviz(
    result: object,
    *,
    model: SequenceModel | WithPriors | None = None,
    data: Data | None = None,
    include: Collection[str] = (),
    num_draws: int = 100,
    seed: int | None = 0,
    attributes: Mapping[str, str | int | float] | None = None,
) -> Any:
    """Convert the result of an engine to ArviZ data, with chains and draws as the first axes of all draws.

    The result is an `arviz.InferenceData`, or a tree of data sets from ArviZ version 1 on; the module's table says
    what each group holds and needs. Axes have the ids, times and names of the data. The padding of sequences, and
    what is missing, is NaN.

    Args:
        result: of `mcmc.run`, `pmmh.run`, `smc.filter`, `smc.smooth`, `svi.fit` or `em.fit`, or of `filter`, `smooth`,
            `most_likely_states` or `sample_states` of `forward_backward` or `kalman`.
        model: the model, or the program with priors, that the result belongs to; a fit knows its own.
        data: the data that the result was made from, as any `Data`.
        include: groups that must be there: those that are made on request, or any other, so that an error says why it
            cannot be made.
        num_draws: number of draws of states from their laws, of priors, and of new data per chain.
        seed: makes these draws reproducible; None uses torch's global generator.
        attributes: further attributes, such as the command that made the result.

    Raises:
        TypeError: no result of an engine, no model, or one string in place of a collection of groups.
        ValueError: data of other sequences than the result, or a group in `include` that cannot be made.

    Example:
        >>> from pgm_rnn.inference.mcmc import Posterior
        >>> posterior = Posterior({"scale": torch.ones(2, 5)}, torch.zeros(2, dtype=torch.int64), 0.0)
        >>> to_arviz(posterior).posterior["scale"].shape
        (2, 5)
    """
    check_counts(num_draws=num_draws)
    if isinstance(include, str):
        raise TypeError(f"expected include as a collection of groups, got {include!r}; use include=[{include!r}]")
    for name in include:
        check_choice("include", name, GROUPS)
    known = model_of(result) if isinstance(result, Fit | EmFit) else None if model is None else model_of(model)
    batch = None if data is None else _batch(known, data)
    lengths = None if batch is None else batch.lengths
    groups = groups_of(result, Request(known, lengths, num_draws, seed))
    if batch is not None:
        _check_sequences(groups, batch)
        groups |= data_groups(batch)
    _add_likelihoods(groups, result, known, batch, include)
    _add_predictive(groups, result, known, batch, include, num_draws, seed)
    for name in include:
        if name not in groups:
            raise ValueError(_why_not(name, result, known, batch))
    ordered = {name: groups[name] for name in GROUPS if name in groups}
    texts = _attributes(result, known, batch) | dict(attributes or {})
    return arviz_data.arviz_data(ordered, _labels(known, batch), texts)


def _labels(model: object, data: Sequences | None) -> Labels:
    """The labels of the data's axes, and of the groups of a program."""
    found = labels_of(data)
    names = model.group_names if isinstance(model, WithPriors) else ()
    return found._replace(values={**found.values, "group": np.asarray(names)}) if names else found


def _batch(model: Any, data: Data) -> Sequences:
    """The data as one batch, with a mask where x is NaN."""
    inner = model_groups.bare(model)
    return as_batch(inner, data) if inner is None else marked(inner, batch_for(inner, data))


def _check_sequences(groups: Groups, data: Sequences) -> None:
    """Raise unless the sequences and steps of a result are as many as those of the data."""
    expected = dict(zip(("sequence", "time"), data.x.shape[:2], strict=True))
    for group in groups.values():
        for part in group.values():
            for axis, size in zip(part.axes, part.values.shape, strict=True):
                if expected.get(axis, size) != size:
                    counted = "sequences" if axis == "sequence" else "steps"
                    raise ValueError(
                        f"expected the data that the result was made from, with {size} {counted}, got "
                        f"{expected[axis]}; give the same data"
                    )


def _add_likelihoods(
    groups: Groups, result: object, model: Any, data: Sequences | None, include: Collection[str]
) -> None:
    """Add the log likelihoods that the result lacks, where the model has exact ones at the result's parameters."""
    wanted = [name for name in ("log_likelihood", ONE_STEP) if name not in groups]
    inner = model_groups.bare(model)
    if not wanted or not isinstance(inner, SequenceModel) or data is None:
        return
    if not inner.exact and not any(name in include for name in wanted):
        return
    found = model_groups.likelihood_groups(result, model, data)
    groups |= {name: found[name] for name in wanted}


def _add_predictive(
    groups: Groups,
    result: object,
    model: Any,
    data: Sequences | None,
    include: Collection[str],
    num_draws: int,
    seed: int | None,
) -> None:
    """Add what is made on request, as far as there are a model, priors and data for it."""
    draws_parameters = model_groups.chains_of(result) is None or isinstance(model, WithPriors)
    if "posterior_predictive" in include and draws_parameters and model is not None and data is not None:
        found = model_groups.posterior_predictive(result, model, data, num_draws, seed)
        groups["posterior_predictive"] = found
    if {"prior", "prior_predictive"} & {*include} and isinstance(model, WithPriors):
        groups |= model_groups.prior_groups(model, data, num_draws, seed)


def _why_not(name: str, result: object, model: Any, data: Sequences | None) -> str:
    """Why a group cannot be made, and what to pass, in one sentence."""
    kind, expected = _kind(result), f"for the group {name}"
    priors = name.startswith("prior") or (name == "posterior_predictive" and model_groups.chains_of(result) is not None)
    if priors and not isinstance(model, WithPriors):
        got = "none" if model is None else type(model).__name__
        return f"expected a program with priors {expected}, got {got}; pass model=WithPriors(model, {{...}})"
    if name in ("log_likelihood", ONE_STEP, "posterior_predictive") and model is None:
        return f"expected a model {expected} of {kind}, got none; pass model=, and data="
    if name in ("sample_stats", "state_laws"):
        return f"expected a result with {name}, got {kind}, which has none; leave it out of include"
    return f"expected data {expected} of {kind}, got none; pass data=, the sequences that the result was made from"


def _kind(result: object) -> str:
    """What a result is, such as "mcmc.Posterior"."""
    if isinstance(result, Tensor):
        return "paths of sample_states"
    engine = type(result).__module__.removeprefix("pgm_rnn.inference.").split(".")[0]
    return f"{engine}.{type(result).__name__}"


def _attributes(result: object, model: Any, data: Sequences | None) -> dict[str, Any]:
    """The call, the seed of the chains, versions, and the digest of the data."""
    inner = model_groups.bare(model)
    given = [type(result).__name__] + ([] if inner is None else [f"model={inner!r}"])
    given += [] if data is None else [f"data={data!r}"]
    found: dict[str, Any] = {
        "call": f"pgm_rnn.to_arviz({', '.join(given)})",
        "inference_library": "pgm_rnn",
        "inference_library_version": __version__,
        "python_version": platform.python_version(),
        "arviz_version": arviz_data.version(),
        **{f"{name}_version": version(package) for name, package in PACKAGES.items()},
    }
    chains = model_groups.chains_of(result)
    if chains is not None and chains.seed is not None:
        found["seed"] = int(chains.seed)
    if data is not None:
        found["data_sha256"] = digest_of(data)
    return found
