"""Whole bootstrap filters of chains whose laws are known as numbers: systematic resampling, nothing kept but the end.

    linear_gaussian    z_t = A_t z_{t-1} + b_t + N(0, Q_t),   x_t = C_t z_t + N(0, R_t)
    finite             p(z_t = j | z_{t-1} = i) and log p(x_t | z_t = k) as tables

They are the filters of `pgm_rnn.inference.smc`, without a law made at every step. Normal draws and uniforms come from
torch's global generator, a block of steps at a time; results do not depend on the number of threads.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels import doors, triangles
from pgm_rnn.kernels.gaussian_chain import GaussianChain, without_missing
from pgm_rnn.kernels.hmm_lanes import LANES
from pgm_rnn.kernels.hmm_tables import four_axes, two_axes
from pgm_rnn.kernels.threads import run_alone, run_compiled
from pgm_rnn.kernels.weights import least_exponent

BLOCK = 2**17
"""Numbers of noise that are drawn at a time, if a single step has no more: they are still in the cache when read."""
NAN, INFINITE = 2, 1
"""What `Run.lost` says of the weights, if not that all were zero."""


class Run(NamedTuple):
    """A filter that has run.

    Attributes:
        z: states at each sequence's end, (B, N, D), or (B, N) int32 of a finite chain.
        log_weights: log W_T, (B, N), nats, normalised.
        log_normalizers: estimates of log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding; -inf where all weights
            were zero, from where the filter went on with equal ones.
        ess: effective sample size after each step, (B, T).
        resampled: whether a step began with resampling, (B, T).
        lost: the first step, from 1, that had no weights to go on with, and `NAN`, `INFINITE` or 0 for zeros, (B, 2).
    """

    z: Tensor
    log_weights: Tensor
    log_normalizers: Tensor
    ess: Tensor
    resampled: Tensor
    lost: Tensor


def linear_gaussian(
    chain: GaussianChain,
    x: Tensor,
    lengths: Tensor,
    num_particles: int,
    threshold: float,
    observed: Tensor | None = None,
) -> Run | None:
    """The filter of a linear-Gaussian chain; None where some R_t, without missing entries, is singular.

    Args:
        chain: its parameters.
        x: observations, (B, T, M).
        lengths: steps of each sequence, (B,).
        num_particles: N.
        threshold: resample where the effective sample size is at most this number.
        observed: True where an entry was observed, (B, T, M); None for everywhere.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    chain = chain.with_all_axes()
    doors.gaussian_chain(chain, x, lengths)
    missing = x.new_zeros(1, 1)
    if observed is not None:
        chain, x = without_missing(chain, x, observed)
        missing = (~observed).sum(-1).to(x.dtype)
    noise_root, failed = torch.linalg.cholesky_ex(chain.emission_cov)
    if bool(failed.any()):
        return None
    axes = torch.broadcast_shapes(noise_root.shape[:2], chain.emission_matrix.shape[:2])
    size = x.shape[-1]
    weighing = torch.linalg.solve_triangular(
        noise_root.expand(*axes, size, size), chain.emission_matrix.expand(*axes, -1, -1), upper=False
    )
    whitened = torch.linalg.solve_triangular(noise_root, x[..., None], upper=False)[..., 0]
    peak = -noise_root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - (size - missing) * math.log(2 * math.pi) / 2
    assert chain.state_offset is not None  # it has all axes
    laws = (
        *(chain.initial_mean, _root(chain.initial_cov)),
        *(chain.transition_matrix, _root(chain.transition_cov), chain.state_offset),
        *(weighing, whitened, peak, lengths),
    )
    dim = chain.initial_mean.shape[-1]
    state = x.new_zeros(2, len(x), num_particles, dim)
    return _run("linear_gaussian", (dim,), laws, state, x.shape[1], threshold)


def finite(
    initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, num_particles: int, threshold: float
) -> Run:
    """The filter of a chain with K states; arguments as in `pgm_rnn.kernels.hmm` and in `linear_gaussian`.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    doors.finite_chain(initial, transition, log_emission, lengths)
    laws = _sums(two_axes(initial)), _sums(four_axes(transition)), log_emission, lengths
    state = torch.empty(2, len(log_emission), num_particles, dtype=torch.int32)
    return _run("finite", (), laws, state, log_emission.shape[1], threshold)


def _run(
    name: str, event: tuple[int, ...], laws: tuple[Tensor, ...], state: Tensor, num_steps: int, threshold: float
) -> Run:
    """A compiled run, block by block."""
    from pgm_rnn.kernels import particle_runs_compiled

    function: Any = getattr(particle_runs_compiled, name)
    _, batch, num = state.shape[:3]
    dtype = laws[0].dtype
    padded = -(-num // LANES) * LANES
    joint = torch.full((batch, padded), -torch.inf, dtype=dtype)
    weights, ancestors = torch.zeros_like(joint), torch.zeros(batch, padded, dtype=torch.int32)
    offset, lost = torch.zeros(batch, 2, dtype=torch.float64), torch.zeros(batch, 2, dtype=torch.int64)
    log_normalizers, ess = torch.zeros(2, batch, num_steps, dtype=dtype)
    resampled = torch.zeros(batch, num_steps, dtype=torch.bool)
    uniforms = torch.rand(batch, num_steps, dtype=torch.float64)
    results = log_normalizers, ess, resampled, lost
    arrays = *state, joint.view(-1), weights.view(-1), ancestors.view(-1), offset, *results
    # a weight of exp(least) and less counts as zero
    options = threshold, math.exp(least_exponent(dtype))
    some = max(1, min(num_steps, BLOCK // max(1, batch * num * math.prod(event))))
    draw = torch.randn if event else torch.rand
    laws = tuple(law.detach().contiguous() for law in laws)
    for first in range(0, num_steps, some):
        noise = draw(batch, min(some, num_steps - first), num, *event, dtype=dtype)
        (run_alone if batch == 1 else run_compiled)(function, first, noise, uniforms, *options, *laws, *arrays)
    log_weights = joint[:, :num] - offset[:, :1].to(dtype)
    return Run(state[0], log_weights, *results)


def _root(cov: Tensor) -> Tensor:
    """Lower triangular L with L L' = cov, for positive semidefinite matrices (..., D, D)."""
    found, failed = torch.linalg.cholesky_ex(cov)
    if not bool(failed.any()):
        return found
    values, vectors = torch.linalg.eigh(cov)
    return triangles.of_rows((vectors * values.clamp(min=0).sqrt()[..., None, :]).mT).mT


def _sums(probs: Tensor) -> Tensor:
    """Running sums of probabilities (..., K) over their total; infinite from the last positive one on."""
    sums = probs.detach().double().cumsum(-1)
    positive = probs.detach().flip(-1).cumsum(-1).flip(-1) > 0  # some from here on
    after = torch.cat([positive[..., 1:], torch.zeros_like(positive[..., :1])], dim=-1)
    return (sums / sums[..., -1:]).where(after, torch.inf).to(probs.dtype)
