"""The particle filter of sec. 2.3 written out, once from given uniforms and once for many runs side by side.

    z_t^n ~ q(. | z_{t-1}^n),   w_t^n = p(x_t | z_t^n) p(z_t^n | z_{t-1}^n) / q(z_t^n | z_{t-1}^n),   resample by w

It shares no code with the package's filters: tables are indexed, and laws inverted by comparing uniforms with sums.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pgm_rnn.claims.finite_chain import FiniteChain
from pgm_rnn.particles.noise import Noise

Weights = Callable[[FiniteChain, Tensor, int], Tensor]
"""The table of weights w(z_{t-1}, z_t), (K, K), for a proposal q (K, K) and an observation."""


def right_weights(chain: FiniteChain, q: Tensor, x: int) -> Tensor:
    """p(x_t | z_t) p(z_t | z_{t-1}) / q(z_t | z_{t-1})."""
    return chain.emission[:, x] * chain.transition / q


def printed_weights(chain: FiniteChain, q: Tensor, x: int) -> Tensor:
    """P(z_t | x_t, z_{t-1}) / q(z_t | z_{t-1}), as printed: `right_weights` without the factor p(x_t | z_{t-1})."""
    joint = chain.emission[:, x] * chain.transition  # p(z_t, x_t | z_{t-1})
    return joint / joint.sum(-1, keepdim=True) / q


def filtered_estimates(
    chain: FiniteChain, q: Tensor, x: list[int], num_particles: int, num_runs: int, weights: Weights, seed: int
) -> Tensor:
    """Estimates of p(z_T | x_{1:T}) by independent runs of a filter that resamples at every step, (num_runs, K)."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    shape = (num_runs, num_particles)
    z = _draw(chain.initial.expand(num_runs, -1), torch.rand(shape, generator=generator, dtype=torch.float64))
    w = chain.emission[z, x[0]]
    for x_t in x[1:]:
        z = z.gather(1, _draw(w, torch.rand(shape, generator=generator, dtype=torch.float64)))
        u = torch.rand(shape, generator=generator, dtype=torch.float64)
        new = (q.cumsum(-1)[z] < u[..., None]).sum(-1).clamp(max=chain.num_states - 1)
        w, z = weights(chain, q, x_t)[z, new], new
    w = w / w.sum(1, keepdim=True)
    return torch.stack([(w * (z == k)).sum(1) for k in range(chain.num_states)], -1)


def _draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Indices by each row's weights at its uniforms."""
    sums = weights.cumsum(-1)
    return torch.searchsorted(sums / sums[:, -1:], uniforms).clamp(max=weights.shape[1] - 1)


def log_likelihood_given(
    chain: FiniteChain, x: list[int], num_particles: int, noise: Noise, scheme: str, ess_threshold: float
) -> float:
    """The filter's log p(x_{1:T}) with the uniforms that `noise` gives for each step, one particle after the other."""
    log_likelihood, w, z = 0.0, [1.0] * num_particles, [0] * num_particles
    for t, x_t in enumerate(x, start=1):
        uniforms = noise(t)
        if t > 1 and sum(w) ** 2 / sum(value**2 for value in w) <= ess_threshold * num_particles:
            z = [z[n] for n in _ancestors(w, uniforms.resampling.flatten().tolist(), scheme)]
            w = [1.0] * num_particles
        rows = [chain.initial if t == 1 else chain.transition[state] for state in z]
        u = uniforms.states.flatten().tolist()
        z = [_inverted(row.tolist(), value) for row, value in zip(rows, u, strict=True)]
        alpha = [value * float(chain.emission[state, x_t]) for value, state in zip(w, z, strict=True)]
        log_likelihood += math.log(sum(alpha) / sum(w))
        w = alpha
    return log_likelihood


def _ancestors(weights: list[float], uniforms: list[float], scheme: str) -> list[int]:
    num = len(weights)
    points = {
        "multinomial": uniforms,
        "stratified": [(n + u) / num for n, u in enumerate(uniforms)],
        "systematic": [(n + uniforms[0]) / num for n in range(num)],
    }[scheme]
    return [_inverted([w / sum(weights) for w in weights], point) for point in points]


def _inverted(probs: list[float], point: float) -> int:
    """The first index at which the sum of the probabilities exceeds a point."""
    total = 0.0
    for index, prob in enumerate(probs):
        total += prob
        if total > point:
            return index
    return max(index for index, prob in enumerate(probs) if prob > 0)
