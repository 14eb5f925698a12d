"""The groups of ArviZ data that need the model and the data besides a result.

log_likelihood, one_step_log_likelihood    of the data, at each draw of the parameters
posterior_predictive                       new data, at draws of the parameters
prior, prior_predictive                    draws from the priors, and data drawn with them
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.inference.pmmh import ParticlePosterior
from pgm_rnn.inference.pointwise import log_likelihoods, one_step_log_likelihoods
from pgm_rnn.report.labelled import DRAWN, PLACES, Group, Variable, array, by_step, observations
from pgm_rnn.report.result_groups import ONE_STEP, Groups, parameter_group
from pgm_rnn.report.simulating import of_priors, prior_draws, simulate, together
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.sequences import Sequences

FOUND = (log_likelihoods, one_step_log_likelihoods)
"""Functions of model, data and draws of the parameters, for both units."""


def bare(model: Any) -> Any:
    """The model of a program with priors, or the model itself."""
    return model.model if isinstance(model, WithPriors) else model


def chains_of(result: object) -> Posterior | None:
    """The draws of parameters that a result has, or None."""
    found = result.posterior if isinstance(result, ParticlePosterior) else result
    return found if isinstance(found, Posterior) else None


def likelihood_groups(result: object, model: SequenceModel | WithPriors, data: Sequences) -> Groups:
    """log p(x | theta) by sequence, and its one-step terms by step: (chain, draw, ...), one draw for a fit."""
    chains, drawn = chains_of(result), torch.Size([1, 1])
    if chains is None:
        totals, terms = (find(bare(model), data) for find in FOUND)
    else:
        drawn = torch.Size([chains.num_chains, chains.num_samples])
        kept = of_priors(model, chains.samples) if isinstance(model, WithPriors) else chains.samples
        samples = {name: values.flatten(0, 1) for name, values in kept.items()}
        totals, terms = (_under_draws(find, model, data, samples) for find in FOUND)
    terms = by_step(terms.reshape(-1, *data.x.shape[:2]), data.lengths, "draw", *PLACES)
    return {
        "log_likelihood": {"x": Variable((*DRAWN, "sequence"), array(totals.reshape(*drawn, -1)))},
        ONE_STEP: {"x": Variable((*DRAWN, *PLACES), array(terms.reshape(*drawn, *data.x.shape[:2])))},
    }


def _under_draws(find: Callable[..., Tensor], model: Any, data: Sequences, samples: dict[str, Tensor]) -> Tensor:
    """Log likelihoods (num, batch), or terms of steps (num, batch, T), under draws of the parameters."""
    if not isinstance(model, WithPriors):
        return find(model, data, samples)
    return together([(place, find(model.model, part, own)) for place, own, part in model.parts(samples, data)])


def posterior_predictive(result: object, model: Any, data: Sequences, num_draws: int, seed: int | None) -> Group:
    """New data like `data`: in each chain, at `num_draws` of its draws, evenly spread; for a fit, at its estimate."""
    chains = chains_of(result)
    if chains is None:
        return {"x": _replicates(simulate(bare(model), data, num_draws=num_draws, **_options(seed)), data, 1)}
    num = min(num_draws, chains.num_samples)
    index = ((torch.arange(num) + 0.5) * (chains.num_samples / num)).long()
    kept = chains._replace(samples={name: values[:, index] for name, values in chains.samples.items()})
    total = num * chains.num_chains
    drawn = simulate(model, data, posterior=kept, num_draws=total, **_options(seed))
    return {"x": _replicates(drawn, data, chains.num_chains), "draw": Variable(("draw",), array(index))}


def prior_groups(program: WithPriors, data: Sequences | None, num_draws: int, seed: int | None) -> Groups:
    """Draws from the priors, and, if there are data to be like, data drawn with each."""
    samples = {name: values[None] for name, values in prior_draws(program, num_draws, seed).items()}
    groups = {"prior": parameter_group(samples, program)}
    if data is not None:
        chains = Posterior(samples, torch.zeros(1, dtype=torch.int64), 0.0)
        drawn = simulate(program, data, posterior=chains, num_draws=num_draws, **_options(seed))
        groups["prior_predictive"] = {"x": _replicates(drawn, data, 1)}
    return groups


def _options(seed: int | None) -> dict[str, Any]:
    """Draws have gaps where the data have some, so that both are compared on the same entries."""
    return {"keep_missing": True, "seed": seed}


def _replicates(drawn: Sequences, data: Sequences, num_chains: int) -> Variable:
    """Draws (chains * draws * sequences, time, ...) as (chain, draw, sequence, time, variable)."""
    found = observations(drawn)
    shape = (num_chains, -1, len(data.x), *found.values.shape[1:])
    return Variable((*DRAWN, *found.axes), found.values.reshape(shape), found.attributes)
