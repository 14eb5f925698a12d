"""Lower bounds on log p(x_{1:T}) from K draws of a guide: importance weights of whole sequences, by Pyro's programs.

    z^k ~ q(z | x),   w^k = p(x, z^k) / q(z^k | x),   E w^k = p(x),   k = 1..K

    ELBO = (1/K) sum_k log w^k     <=     IWAE_K = log (1/K) sum_k w^k     <=     log p(x)     (in expectation)

IWAE_K, Burda, Grosse & Salakhutdinov (2016), eq. (8), grows with K (their Theorem 1). FIVO_N, Maddison et al. (2017),
sec. 3, is `smc.log_marginal_likelihood`: the same average with resampling between steps.

The average is taken for each sequence. The average of the whole batch's weights, log (1/K) sum_k prod_i w_i^k, is a
bound too, but falls towards the ELBO as the batch grows. Pyro's RenyiELBO agrees with ours: it sums over the plates
that some site is outside of, and every site of our programs is inside the plate "sequences".

A model that is `exact` sums its states out in the fused rendering; then every weight is p(x), and all bounds are equal.
"""

import math
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_counts
from pgm_rnn.distributions.observed import observed_log_prob
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequences import Data, Sequences


@by_keyword
def log_weights(
    model: SequenceModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_particles: int = 1,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int | None = None,
) -> Tensor:
    """log w^k = log p(x, z^k) - log q(z^k | x) in nats, (K, B), differentiable through draws and densities.

    The batch is repeated K times, so that one run of the fused programs serves all draws.

    Args:
        model: any model; its guide is q.
        x: observations (B, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (B,) steps of each sequence, None for T.
        num_particles: K.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: True where x was observed, (B, T) or the shape of x; None for wherever it is not NaN. Missing entries are
            integrated out of p(x, z), and the guide reads zeros in their place, so the bounds stay bounds.
        seed: makes the draws reproducible; None uses torch's global generator.

    Raises:
        TypeError, ValueError: values that do not fit the model, or a guide whose states have another support.
    """
    return _weighed(model, checked(model, x, lengths, inputs=inputs, mask=mask), num_particles, seed)[0]


@by_keyword
def log_weights_after_first(
    model: SequenceModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_particles: int = 1,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`log_weights`, and the log weights of the first step, log p(x_1, z_1^k) - log q(z_1^k | x), each (K, B).

    E w_1^k = p(x_1), so the logarithms of the two means differ by an estimate of log p(x_{2:T} | x_1). It becomes exact
    as K grows, but it is no bound; for K = 1 it is the ELBO without its terms of t = 1. Under first="condition" x_1 is
    given, and w_1^k = 1. Arguments are those of `log_weights`.

    Raises:
        TypeError, ValueError: as `log_weights`.
    """
    data = checked(model, x, lengths, inputs=inputs, mask=mask)
    log_w, z = _weighed(model, data, num_particles, seed)
    if model.first == "condition":
        return log_w, torch.zeros_like(log_w)
    u = None if data.inputs is None else data.inputs[:, 0]
    if z is None:
        head = None if u is None else u[:, None]
        there = None if data.observed is None else data.observed[:, :1]
        return log_w, model.log_marginal_likelihood(data.x[:, :1], inputs=head, mask=there).expand(log_w.shape)
    h = memory_of(model).start(len(data.x), u)
    features = model.encode(data.x, data.lengths)
    start = z[:, :, 0]  # (K, B, *latent)
    there = None if data.observed is None else data.observed[:, 0]
    seen = observed_log_prob(model.emission(start, _over(h, num_particles)), data.x[:, 0], there)
    first = model.initial(h).log_prob(start) + seen
    return log_w, first - model.proposal(None, h, None if features is None else features[:, 0]).log_prob(start)


def elbo(log_w: Tensor) -> Tensor:
    """ELBO: (1/K) sum_k log w^k of log weights (K, B), (B,), in nats; Kingma & Welling (2014), eq. (2)."""
    return log_w.mean(0)


def iwae(log_w: Tensor) -> Tensor:
    """IWAE: log (1/K) sum_k w^k of log weights (K, B), per sequence, (B,), in nats; Burda et al. (2016), eq. (8)."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def variance_of_iwae(log_w: Tensor, first: Tensor) -> Tensor:
    """Estimated variance of log (1/K) sum_k w^k - log (1/K) sum_k w_1^k, (B,), by the delta method; NaN for K = 1.

    It is (1 / (K (K - 1))) sum_k (w^k / m - w_1^k / m_1)^2 with the means m and m_1; for w_1 = 1 it is the variance of
    the first logarithm alone.
    """
    num = len(log_w)
    if num == 1:
        return torch.full_like(log_w[0], math.nan)
    difference = (log_w - iwae(log_w)).exp() - (first - iwae(first)).exp()
    return difference.square().sum(0) / (num * (num - 1))


def effective_particles(log_w: Tensor) -> Tensor:
    """(sum_k w^k)^2 / sum_k (w^k)^2, (B,), from 1 (one draw has all the weight) to K (equal weights).

    Source: Kong, Liu & Wong (1994).
    """
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()


def check_guide(model: SequenceModel, x: Data, lengths: Tensor | None = None) -> bool:
    """Whether draws of the guide follow its parameters (are reparametrised); True where it draws no states.

    Raises:
        ValueError: a guide whose states have another support than the model's, so that weights miss a part of p(x).
    """
    if model.exact:
        return True
    with torch.no_grad():
        guide, _ = _traces(model, checked(model, x, lengths))
    return bool(guide.nodes["z"]["fn"].has_rsample)


def _weighed(
    model: SequenceModel, data: Sequences, num_particles: int, seed: int | None
) -> tuple[Tensor, Tensor | None]:
    """Log weights (K, B) and the states that were drawn, (K, B, T, *latent), where there were any."""
    check_counts(num_particles=num_particles)
    with seeded(seed, stream=11):
        guide, model_trace = _traces(model, data.repeated(num_particles))
    log_w = _log_prob(model_trace) - _log_prob(guide)
    z = guide.nodes["z"]["value"] if "z" in guide.nodes else None
    shape = (num_particles, len(data.x))
    return log_w.reshape(shape), None if z is None else z.reshape(*shape, *z.shape[1:])


def _traces(model: SequenceModel, data: Sequences) -> tuple[Any, Any]:
    """A trace of the guide, and one of the model with the guide's states."""
    guide: Any
    traced: Any
    with pyro.settings.context(module_local_params=True), poutine.block():
        guide = poutine.trace(model.guide).get_trace(data)
        replayed = poutine.replay(model.model, trace=guide)
        traced = poutine.trace(replayed).get_trace(data)
    if "z" in guide.nodes:
        support, wanted = (trace.nodes["z"]["fn"].support for trace in (guide, traced))
        if str(support) != str(wanted):
            raise ValueError(f"expected a guide over {wanted}, the support of the model's states, got {support}")
    return guide, traced


def _log_prob(trace: Any) -> Tensor:
    """Sum of the sites' log densities, (B,)."""
    trace.compute_log_prob()
    sites = [site["log_prob"] for site in trace.nodes.values() if site["type"] == "sample" and site["name"] != PLATE]
    return sum(sites, torch.zeros(()))


PLATE = "sequences"
"""The plate's own site, which has no density."""


def _over(h: Tensor | None, num: int) -> Tensor | None:
    return None if h is None else h.expand(num, *h.shape)
