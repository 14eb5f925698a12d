"""What the result of each engine holds for ArviZ, by groups.

posterior       draws of parameters (mcmc, pmmh, and the estimate of a fit as one draw) or of states (all others)
sample_stats    the sampler's numbers, effective sample sizes of a filter, the course of a fit
state_laws      exact laws of the states given the observations (forward_backward, kalman)
log_likelihood, one_step_log_likelihood    as far as the engine has computed them
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.inference import forward_backward, kalman, smc
from pgm_rnn.inference.em import EmFit
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.inference.pmmh import ParticlePosterior
from pgm_rnn.inference.svi import Fit
from pgm_rnn.randomness import seeded
from pgm_rnn.report.labelled import DRAWN, PLACES, Group, Variable, array, by_step, drawn
from pgm_rnn.report.parameter_axes import axes_of, parameters_of

ONE_STEP = "one_step_log_likelihood"
"""The group of the terms log p(x_t | x_{1:t-1}, theta)."""


class Request(NamedTuple):
    """How a result is to be read.

    Attributes:
        model: the model or program that the result belongs to, if it is known; it names the axes of parameters.
        lengths: steps of each sequence, if they are known; the padding is NaN then.
        num_draws: number of draws from laws that the result holds.
        seed: random seed of those draws.
    """

    model: Any
    lengths: Tensor | None
    num_draws: int
    seed: int | None


Groups = dict[str, Group]


def groups_of(result: object, request: Request) -> Groups:
    """The groups of a result.

    Raises:
        TypeError: no result of an engine.
    """
    for kind, read in _READERS:
        if isinstance(result, kind):
            return read(result, request)
    raise TypeError(
        "expected a result of mcmc.run, pmmh.run or smc.smooth, or of filter, smooth, most_likely_states, "
        f"sample_states or fit of an engine, got {type(result).__name__}; run an engine, then convert what it returns"
    )


def parameter_group(samples: dict[str, Tensor], model: Any) -> Group:
    """Draws of parameters (chain, draw, *shape)."""
    return {
        name: Variable((*DRAWN, *axes_of(name, values.shape[2:], model)), array(values))
        for name, values in samples.items()
    }


def _of_chains(result: Posterior, request: Request) -> Groups:
    found = {"posterior": parameter_group(result.samples, request.model)}
    if result.statistics:
        found["sample_stats"] = {name: Variable(DRAWN, array(part)) for name, part in result.statistics.items()}
    return found


def _of_particle_chains(result: ParticlePosterior, request: Request) -> Groups:
    found = _of_chains(result.posterior, request)
    found["sample_stats"] = {
        "log_likelihood_estimate": drawn(result.log_likelihoods),
        "acceptance_rate": Variable((), array(torch.tensor(result.acceptance))),
    }
    if result.by_sequence is not None:
        found["log_likelihood"] = {"x": drawn(result.by_sequence, "sequence")}
    return found


def _of_particles(result: smc.Filtered, request: Request) -> Groups:
    stats = {"ess": result.ess, "resampled": result.resampled}
    with seeded(request.seed, stream=17):
        posterior = _particles(result, request)
    return {
        "posterior": posterior,
        "sample_stats": {name: _steps(values, request) for name, values in stats.items()},
        **_likelihoods(result.log_normalizers, request),
    }


def _particles(result: smc.Filtered, request: Request) -> Group:
    """Draws of z_t given x_{1:t} at every step where the history was kept, otherwise at each sequence's end."""
    if result.history is None:
        index = _chosen(result.log_weights, request.num_draws)  # (num_draws, B)
        z = result.particles[index, torch.arange(index.shape[1], device=index.device)]
        return {"last_states": _states(z, "sequence")}
    index = _chosen(result.history.log_weights.transpose(0, 1), request.num_draws)  # (num_draws, T, B)
    steps, sequences = (torch.arange(size, device=index.device) for size in index.shape[1:])
    z = result.history.z[steps[:, None], index, sequences].transpose(1, 2)  # (num_draws, B, T, *latent)
    return {"filtered_states": _paths(z, request)}


def _chosen(log_weights: Tensor, num_draws: int) -> Tensor:
    """Particles drawn by their weights (N, ...): (num_draws, ...)."""
    law = torch.distributions.Categorical(logits=log_weights.movedim(0, -1))
    return law.sample(torch.Size([num_draws]))


def _of_particle_paths(result: smc.Smoothed, request: Request) -> Groups:
    totals = {"x": Variable((*DRAWN, "sequence"), array(result.log_marginal_likelihood)[None, None])}
    return {"posterior": {"z": _paths(result.paths, request)}, "log_likelihood": totals}


def _of_kalman_filter(result: kalman.Filtered, request: Request) -> Groups:
    request = request._replace(lengths=result.lengths)
    with seeded(request.seed, stream=17):
        noise = torch.randn(request.num_draws, *result.filtered_means.shape, dtype=result.filtered_means.dtype)
    root = _square_root(result.filtered_covs)
    z = result.filtered_means + (root @ noise.to(root.device)[..., None])[..., 0]
    laws = {"filtered_means": result.filtered_means, "filtered_covs": result.filtered_covs}
    return {"posterior": {"filtered_states": _paths(z, request)}, **_exact(result, laws, request)}


def _of_kalman_smoother(result: kalman.Smoothed, request: Request) -> Groups:
    request = request._replace(lengths=result.lengths)
    z = result.sample_states(request.num_draws, seed=request.seed)
    laws = {name: getattr(result, name) for name in ("filtered_means", "filtered_covs")}
    laws |= {name: getattr(result, name) for name in ("smoothed_means", "smoothed_covs")}
    return {"posterior": {"z": _paths(z, request)}, **_exact(result, laws, request)}


def _square_root(covs: Tensor) -> Tensor:
    """Symmetric square roots of covariances, which may be singular."""
    values, vectors = torch.linalg.eigh(covs)
    return vectors * values.clamp(min=0.0).sqrt()[..., None, :] @ vectors.mT


def _of_finite_filter(result: forward_backward.Filtered, request: Request) -> Groups:
    request, probs = request._replace(lengths=result.lengths), result.filtered_probs
    inside = probs.sum(-1, keepdim=True) > 0
    with seeded(request.seed, stream=17):
        law = torch.distributions.Categorical(probs.where(inside, 1.0))
        z = law.sample(torch.Size([request.num_draws]))
    laws = {"filtered_probs": probs, "predicted_probs": result.predicted_probs}
    return {"posterior": {"filtered_states": _paths(z, request)}, **_exact(result, laws, request)}


def _of_finite_smoother(result: forward_backward.Smoothed, request: Request) -> Groups:
    request = request._replace(lengths=result.lengths)
    z = result.sample_states(request.num_draws, seed=request.seed)
    names = ("filtered_probs", "predicted_probs", "smoothed_probs")
    laws = {name: getattr(result, name) for name in names}
    return {"posterior": {"z": _paths(z, request)}, **_exact(result, laws, request)}


def _of_most_likely(result: forward_backward.MostLikelyStates, request: Request) -> Groups:
    log_prob = Variable((*DRAWN, "sequence"), array(result.log_prob)[None, None])
    return {"posterior": {"z": _paths(result.states[None], request)}, "sample_stats": {"log_prob": log_prob}}


def _of_states(result: Tensor, request: Request) -> Groups:
    """Paths (num_samples, B, T, *latent) of `sample_states`.

    Raises:
        ValueError: another shape.
    """
    if result.dim() < 3:
        raise ValueError(
            f"expected paths of sample_states of shape (num_samples, batch, T, *latent), got {tuple(result.shape)}; "
            "give the result of an engine"
        )
    return {"posterior": {"z": _paths(result, request)}}


def _of_em(result: EmFit, request: Request) -> Groups:
    course = {
        "log_likelihood_by_iteration": Variable(("iteration",), array(result.log_likelihoods)),
        "log_likelihood_by_restart": Variable(("restart",), array(result.restarts.log_likelihoods)),
    }
    return {"posterior": _point(result.model), "sample_stats": course}


def _of_fit(result: Fit, request: Request) -> Groups:
    course = {
        f"{part}_nats_per_step": torch.tensor([getattr(epoch, f"{part}_nats_per_step") for epoch in result.history])
        for part in ("train", "valid")
        if result.history and getattr(result.history[0], f"{part}_nats_per_step") is not None
    }
    epochs = Variable(("epoch",), array(torch.tensor([epoch.epoch for epoch in result.history])))
    stats = {name: Variable(("epoch",), array(values)) for name, values in course.items()} | {"epoch": epochs}
    return {"posterior": _point(result.model), "sample_stats": stats}


def _point(model: Any) -> Group:
    """The parameters of a fitted model as a single draw."""
    return parameter_group({name: value[None, None] for name, value in parameters_of(model).items()}, model)


def _exact(result: Any, laws: dict[str, Tensor], request: Request) -> Groups:
    """The laws of the states, and the likelihoods that the filter has computed."""
    square = ("state", "other_state")
    found = {
        name: _steps(values, request, *(square if name.endswith("_covs") else square[:1]))
        for name, values in laws.items()
    }
    return {"state_laws": found, **_likelihoods(result.log_normalizers, request)}


def _likelihoods(terms: Tensor, request: Request) -> Groups:
    """log p(x_{1:T}) of each sequence, and its one-step terms (B, T), as a single draw."""
    steps = by_step(terms, request.lengths, *PLACES)
    return {
        "log_likelihood": {"x": Variable((*DRAWN, "sequence"), array(terms.sum(-1))[None, None])},
        ONE_STEP: {"x": Variable((*DRAWN, *PLACES), array(steps)[None, None])},
    }


def _steps(values: Tensor, request: Request, *axes: str) -> Variable:
    """Values of every step, (B, T, ...)."""
    return Variable((*PLACES, *axes), array(by_step(values, request.lengths, *PLACES, *axes)))


def _paths(z: Tensor, request: Request) -> Variable:
    """State paths (num_draws, B, T, *latent)."""
    return _states(by_step(z, request.lengths, "draw", *PLACES), *PLACES)


def _states(z: Tensor, *axes: str) -> Variable:
    """Draws of states (num_draws, *axes, *latent)."""
    latent = z.dim() - 1 - len(axes)
    names = ("state",) if latent == 1 else tuple(f"z_dim_{number}" for number in range(latent))
    return drawn(z, *axes, *names)


_READERS: tuple[tuple[Any, Callable[[Any, Request], Groups]], ...] = (
    (Posterior, _of_chains),
    (ParticlePosterior, _of_particle_chains),
    (smc.Filtered, _of_particles),
    (smc.Smoothed, _of_particle_paths),
    (kalman.Smoothed, _of_kalman_smoother),
    (kalman.Filtered, _of_kalman_filter),
    (forward_backward.Smoothed, _of_finite_smoother),
    (forward_backward.Filtered, _of_finite_filter),
    (forward_backward.MostLikelyStates, _of_most_likely),
    (EmFit, _of_em),
    (Fit, _of_fit),
    (Tensor, _of_states),
)
"""Readers of results, those of subclasses first."""
