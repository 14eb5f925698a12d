"""Whole bootstrap filters of chains whose laws are known as numbers: systematic resampling, nothing kept but the end.

    gaussian      z_t = g(A_t z_{t-1} + b_t) + N(0, Q_t),   x_t = f(C_t z_t) + N(0, R_t)
    volatility    z_t = m + a (z_{t-1} - m) + s n_t,   x_t = exp(z_t / 2) e_t,   corr(e_t, n_{t+1}) = r
    finite        p(z_t = j | z_{t-1} = i) and log p(x_t | z_t = k) as tables

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
FUNCTIONS = ("identity", "tanh", "sigmoid", "relu")
"""What g and f may be."""
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


class Volatility(NamedTuple):
    """The parameters of a stochastic volatility.

    Attributes:
        mean: m.
        persistence: a, between -1 and 1.
        scale: s, positive.
        start_scale: standard deviation of z_1, whose mean is m.
        leverage: r, between -1 and 1, 0 unless e_t is normal.
        df: degrees of freedom of e_t, positive; None for normal e_t.
    """

    mean: float
    persistence: float
    scale: float
    start_scale: float
    leverage: float = 0.0
    df: float | None = None


def gaussian(
    chain: GaussianChain,
    x: Tensor,
    lengths: Tensor,
    num_particles: int,
    threshold: float,
    observed: Tensor | None = None,
    functions: tuple[str, str] = ("identity", "identity"),
) -> Run | None:
    """The filter of a chain with Gaussian noise; None where some R_t, without missing entries, is singular.

    Args:
        chain: its parameters.
        x: observations, (B, T, M).
        lengths: steps of each sequence, (B,).
        num_particles: N.
        threshold: resample where the effective sample size is at most this number.
        observed: True where an entry was observed, (B, T, M); None for everywhere.
        functions: g and f, of each entry, by their names in `FUNCTIONS`. The result is None, too, for gaps where f is
            not zero at zero.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    chain = chain.with_all_axes()
    doors.gaussian_chain(chain, x, lengths)
    missing, size = x.new_zeros(1, 1), x.shape[-1]
    if observed is not None:
        if functions[1] == "sigmoid":
            return None
        chain, x = without_missing(chain, x, observed)
        missing = (~observed).sum(-1).to(x.dtype)
    noise_root, failed = torch.linalg.cholesky_ex(chain.emission_cov)
    if bool(failed.any()):
        return None
    weighing, whitening = chain.emission_matrix, x.new_zeros(1, 1, 1, 1)
    if functions[1] == "identity":
        weighing = _solved(noise_root, weighing)
    else:
        whitening = _solved(noise_root, torch.eye(size, dtype=x.dtype).expand_as(noise_root))
    whitened = torch.linalg.solve_triangular(noise_root, x[..., None], upper=False)[..., 0]
    peak = -noise_root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - (size - missing) * math.log(2 * math.pi) / 2
    assert chain.state_offset is not None  # it has all axes
    laws = (
        torch.tensor([FUNCTIONS.index(name) for name in functions]),
        *(chain.initial_mean, _root(chain.initial_cov)),
        *(chain.transition_matrix, _root(chain.transition_cov), chain.state_offset),
        *(weighing, whitening, whitened, peak, lengths),
    )
    dim = chain.initial_mean.shape[-1]
    state = x.new_zeros(2, len(x), num_particles, dim)
    return _run("gaussian", (dim,), laws, state, x, threshold)


def volatility(
    parameters: Volatility,
    x: Tensor,
    lengths: Tensor,
    num_particles: int,
    threshold: float,
    observed: Tensor | None = None,
) -> Run:
    """The filter of a stochastic volatility; arguments as in `gaussian`, x and observed (B, T).

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    doors.series(x, lengths, observed)
    mean, persistence, scale, start_scale, leverage, df = parameters
    constant = -math.log(2 * math.pi) / 2
    if df is not None:
        constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
    move = mean * (1 - persistence), persistence, scale * leverage, scale * math.sqrt((1 - leverage) * (1 + leverage))
    numbers = torch.tensor([mean, start_scale, *move, constant, df or 0.0], dtype=torch.float64)
    there = torch.ones_like(x, dtype=torch.bool) if observed is None else observed
    state = x.new_zeros(2, *x.shape[:1], num_particles, 1)
    return _run("volatility", (1,), (numbers, x, there, lengths), state, x, threshold)


def finite(
    initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, num_particles: int, threshold: float
) -> Run:
    """The filter of a chain with K states; arguments as in `pgm_rnn.kernels.hmm` and in `gaussian`.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    doors.finite_chain(initial, transition, log_emission, lengths)
    laws = _sums(two_axes(initial)), _sums(four_axes(transition)), log_emission, lengths
    state = torch.empty(2, len(log_emission), num_particles, dtype=torch.int32)
    return _run("finite", (), laws, state, log_emission, threshold)


def _run(
    name: str, event: tuple[int, ...], laws: tuple[Tensor, ...], state: Tensor, x: Tensor, threshold: float
) -> Run:
    """A compiled run, block by block, with as many steps as x (B, T, ...) and in its dtype."""
    from pgm_rnn.kernels import particle_runs_compiled

    function: Any = getattr(particle_runs_compiled, name)
    _, batch, num = state.shape[:3]
    num_steps, dtype = x.shape[1], x.dtype
    padded = -(-num // LANES) * LANES
    joint = torch.full((batch, padded), -torch.inf, dtype=dtype)
    weights = torch.zeros_like(joint)
    ancestors = torch.zeros(batch, padded + 1, dtype=torch.int32)
    offset, lost = torch.zeros(batch, 2, dtype=torch.float64), torch.zeros(batch, 2, dtype=torch.int64)
    log_normalizers, ess = torch.zeros(2, batch, num_steps, dtype=dtype)
    resampled = torch.zeros(batch, num_steps, dtype=torch.bool)
    uniforms = torch.rand(batch, num_steps, dtype=torch.float64)
    results = log_normalizers, ess, resampled, lost
    arrays = *state, joint.view(-1), weights.view(-1), ancestors, offset, *results
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


def _solved(root: Tensor, matrix: Tensor) -> Tensor:
    """S^-1 C for lower triangular S and matrices C, (B or 1, T or 1, M, ...)."""
    axes = torch.broadcast_shapes(root.shape[:2], matrix.shape[:2])
    size = root.shape[-1]
    return torch.linalg.solve_triangular(root.expand(*axes, size, size), matrix.expand(*axes, -1, -1), upper=False)


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
