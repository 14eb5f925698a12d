"""Recursions of a linear-Gaussian chain: Kalman filter, exact gradients, smoother.

    z_1 ~ N(m, P),   z_t = A z_{t-1} + b_t + N(0, Q),   x_t = C z_t + N(0, R)

    v_t = x_t - C m_t,   F_t = C P_t C' + R,   K_t = P_t C' F_t^{-1}      m_t, P_t: moments of p(z_t | x_{1:t-1})
    log p(x_{1:T}) = -1/2 sum_t log det(2 pi F_t) + v_t' F_t^{-1} v_t

Gradients of log p(x_{1:T}) are expected gradients of log p(x_{1:T}, z_{1:T}) given x (Fisher's identity). One backward
recursion computes the score l_t = d log p / d m_t and the information N_t = -d^2 log p / d m_t d m_t' that they need:

    e_t = F_t^{-1} v_t - K_t' A' l_{t+1}                     l_t = A' l_{t+1} + C' e_t
    D_t = F_t^{-1} + K_t' A' N_{t+1} A K_t                   N_t = (I - K_t C)' A' N_{t+1} A (I - K_t C) + C' F_t^{-1} C

No covariance but F_t is inverted, so Q and P may be singular. Covariances do not depend on observations: they are
computed once for all sequences that share their parameters. On the CPU the recursions are compiled by numba; where
matrices are large, and on other devices, they are batched torch.

What is given in single precision is computed in double (`precision`). Cov(z_t | x_{1:t}) is a difference of numbers
that may be 1e7 times as large, after a vague start or where two entries of x_t say nearly the same, so that no digit of
it would be left. Square roots of covariances would save as many digits and take longer.

Sources: the filter is Särkkä (2013), eq. (4.20)-(4.21), with the covariance update in Joseph's form; l_t and N_t are
r_{t-1} and N_{t-1} of Durbin & Koopman (2012), sec. 4.4, e_t and D_t their u_t and D_t of sec. 4.5.
"""

import math
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function
from typing_extensions import override

from pgm_rnn.kernels import doors, kalman_differentiable, second_order, transforms
from pgm_rnn.kernels.gaussian_chain import GaussianChain, detached, per_entry, without_missing
from pgm_rnn.kernels.precision import double, in_double, rounded
from pgm_rnn.kernels.threads import run_compiled
from pgm_rnn.sequences import length_mask

__all__ = [
    "LOG_2_PI",
    "Filtered",
    "GaussianChain",
    "Information",
    "Scores",
    "distinct",
    "filter",
    "gradients",
    "information",
    "log_marginal_likelihood",
    "per_entry",
    "prefers_batched",
    "recursion",
    "scores",
    "too_many",
    "without_missing",
]

LOG_2_PI = math.log(2 * math.pi)
LARGEST_SUMMED = 16
"""Largest number of states or outputs for which the recursion sums products; beyond, matrix products are faster."""

LARGEST_FOLDED = 150
"""Largest number of sequences times entries of a covariance for which `torch.func.vmap` folds its rows into the batch.

Then each sequence has covariances of its own. Beyond, it is faster to share them and to make a call per row; measured.
"""


class Filtered(NamedTuple):
    """Result of the filter; the first axis of covariances is 1 where all sequences share them, else B.

    Attributes:
        log_normalizers: log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding; NaN where F_t is not positive definite.
        predicted_means: m_t, (B, T, D), 0 in the padding.
        predicted_covs: P_t, (1 or B, T, D, D).
        filtered_means: E(z_t | x_{1:t}), (B, T, D), 0 in the padding.
        filtered_covs: Cov(z_t | x_{1:t}), (1 or B, T, D, D).
        gain: K_t, (1 or B, T, D, M).
        precision: F_t^{-1}, (1 or B, T, M, M).
        weighted: F_t^{-1} v_t, (B, T, M), 0 in the padding.
        steady: the first step whose covariances all later steps copy, (1 or B,); T if there is none.
    """

    log_normalizers: Tensor
    predicted_means: Tensor
    predicted_covs: Tensor
    filtered_means: Tensor
    filtered_covs: Tensor
    gain: Tensor
    precision: Tensor
    weighted: Tensor
    steady: Tensor


class Scores(NamedTuple):
    """Result of the backward recursion for l_t, 0 in the padding.

    Attributes:
        score: l_t, (B, T, D).
        residual: e_t, (B, T, M).
        smoothed_means: E(z_t | x_{1:T}), (B, T, D).
    """

    score: Tensor
    residual: Tensor
    smoothed_means: Tensor


class Information(NamedTuple):
    """Minus second derivatives of log p(x_{1:T}), 0 in the padding; a row for each pair of covariances and length.

    Attributes:
        rows: the row of each sequence, (B,).
        groups: the covariances of each row, (S,).
        future: N_t, (S, T, D, D).
        residual: D_t, (S, T, M, M).
    """

    rows: Tensor
    groups: Tensor
    future: Tensor
    residual: Tensor


def log_marginal_likelihood(chain: GaussianChain, x: Tensor, lengths: Tensor, observed: Tensor | None = None) -> Tensor:
    """log p(x_{1:T}) of each sequence, (B,), in nats; NaN if a prediction's covariance is not positive definite.

    It is differentiable in the parameters and in x (B, T, M): once by the compiled recursions, again by torch
    operations (`kalman_differentiable`). `observed` (B, T, M) is False where an entry is missing.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    if observed is None:
        chain = chain.with_all_axes()
        doors.gaussian_chain(chain, x, lengths)
        return _applied(x, lengths, *chain)
    chain, x = without_missing(chain, x, observed)
    doors.gaussian_chain(chain, x, lengths)
    return _applied(x, lengths, *chain) + too_many(observed, lengths, x.dtype).sum(-1)


def _applied(*arguments: Any) -> Tensor:
    """The compiled recursion, or torch operations where torch.func differentiates them."""
    value: Tensor
    if has_torch_function(arguments):  # tensors that record what they depend on, as Pyro's do to draw a program
        value = handle_torch_function(_applied, arguments, *arguments)
    elif transforms.is_differentiated(arguments):
        value = kalman_differentiable.log_marginal_likelihood(*arguments)
    elif transforms.is_transformed(arguments):
        value = transforms.ByRule.apply(_applied, _rows, *arguments)
    else:
        value = _LogMarginalLikelihood.apply(*arguments)
    return value


class _LogMarginalLikelihood(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, lengths: Tensor, *parameters: Tensor) -> Tensor:
        result = _filter(in_double(GaussianChain(*parameters)), double(x), lengths)
        value = result.log_normalizers.sum(-1).to(x.dtype)
        ctx.save_for_backward(x, lengths, value, *parameters, *result)
        return value

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, lengths, value, *saved = ctx.saved_tensors
        parameters, result = saved[:7], Filtered(*saved[7:])
        if torch.is_grad_enabled():

            def again(x: Tensor, *chain: Tensor) -> Tensor:
                return kalman_differentiable.log_marginal_likelihood(x, lengths, *chain)

            found: Any = second_order.gradients(again, (x, *parameters), grad, value)
        else:
            asked = {"x": ctx.needs_input_grad[0], "offset": ctx.needs_input_grad[-1]}
            wide = _gradients(in_double(GaussianChain(*parameters)), lengths, result, double(grad), **asked)
            found = [None if part is None else part.to(x.dtype) for part in wide]
        return found[0], None, *found[1:]


def _rows(num: int, axes: Sequence[int | None], *arguments: Tensor) -> tuple[Tensor, int]:
    """Rows of `torch.func.vmap` folded into the batch, or one after the other; see `LARGEST_FOLDED`."""
    x, lengths, *chain = (t if axis is None else t.movedim(axis, 0) for t, axis in zip(arguments, axes, strict=True))
    has_axis = [axis is not None for axis in axes]
    batch, width = x.shape[has_axis[0]], max(x.shape[-1], chain[0].shape[-1])
    apart = any(part.shape[has] > 1 for part, has in zip(chain, has_axis[2:], strict=True))
    if not apart and batch * width**2 > LARGEST_FOLDED:
        each = (t.unbind(0) if has else [t] * num for t, has in zip((x, lengths, *chain), has_axis, strict=True))
        return torch.stack([_applied(*row) for row in zip(*each, strict=True)]), 0
    x, lengths = (_folded(t, num, batch, has) for t, has in zip((x, lengths), has_axis, strict=False))
    parts = [
        part if not has and len(part) == 1 else _folded(part, num, batch, has)  # shared by all sequences, or not
        for part, has in zip(chain, has_axis[2:], strict=True)
    ]
    return _applied(x, lengths, *parts).unflatten(0, (num, batch)), 0


def _folded(tensor: Tensor, num: int, batch: int, has_axis: bool) -> Tensor:
    """A tensor (num, 1 or batch, ...), or (1 or batch, ...) for all rows, as (num batch, ...)."""
    rows = tensor if has_axis else tensor.expand(num, *tensor.shape)
    return rows.expand(num, batch, *rows.shape[2:]).flatten(0, 1)


def filter(chain: GaussianChain, x: Tensor, lengths: Tensor, observed: Tensor | None = None) -> Filtered:
    """The Kalman filter: Särkkä (2013), eq. (4.20)-(4.21); Vidal (2024), "Extended Kalman Filters for RNNs".

    Joseph's form of the update, (I - K_t C) P_t (I - K_t C)' + K_t R K_t', keeps covariances positive semidefinite.
    Results are computed in double precision and rounded to the dtype of x. `observed` (B, T, M) is False where an entry
    is missing.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    if observed is not None:
        chain, x = without_missing(chain, x, observed)
        doors.gaussian_chain(chain, x, lengths)
        result = _rounded(chain, x, lengths)
        return result._replace(log_normalizers=result.log_normalizers + too_many(observed, lengths, x.dtype))
    chain = chain.with_all_axes()
    doors.gaussian_chain(chain, x, lengths)
    return _rounded(chain, x, lengths)


def _rounded(chain: GaussianChain, x: Tensor, lengths: Tensor) -> Filtered:
    """`_filter` in double precision, rounded to the dtype of x."""
    return rounded(_filter(in_double(chain), double(x), lengths), x.dtype)


def _filter(chain: GaussianChain, x: Tensor, lengths: Tensor) -> Filtered:
    """The filter of a chain with all its axes."""
    chain, x = detached(chain), x.detach().contiguous()
    batch, num_steps, obs_dim = x.shape
    dim, groups = chain.initial_mean.shape[-1], max(len(parameter) for parameter in chain[1:6])
    predicted_covs, filtered_covs = x.new_empty(2, groups, num_steps, dim, dim)
    gain, precision = x.new_empty(groups, num_steps, dim, obs_dim), x.new_empty(groups, num_steps, obs_dim, obs_dim)
    log_det, steady = x.new_empty(groups, num_steps), lengths.new_full((groups,), num_steps)
    predicted_means, filtered_means = x.new_empty(2, batch, num_steps, dim)
    weighted, log_normalizers = torch.empty_like(x), x.new_empty(batch, num_steps)
    steps = recursion(x, dim)
    steps.covariances(*chain[1:6], predicted_covs, filtered_covs, gain, precision, log_det, steady)
    steps.means(
        *(chain.initial_mean, chain.transition_matrix, chain.state_offset, chain.emission_matrix, x, lengths),
        *(gain, precision, log_det, predicted_means, filtered_means, weighted, log_normalizers),
    )
    moments = (predicted_means, predicted_covs, filtered_means, filtered_covs)
    return Filtered(log_normalizers, *moments, gain, precision, weighted, steady)


def too_many(observed: Tensor, lengths: Tensor, dtype: torch.dtype) -> Tensor:
    """1/2 log 2 pi per missing entry, (B, T), which `without_missing` takes off the log likelihood."""
    missing = ~observed & length_mask(lengths, observed.shape[1])[..., None]
    return 0.5 * LOG_2_PI * missing.sum(-1, dtype=dtype)


def scores(chain: GaussianChain, lengths: Tensor, result: Filtered) -> Scores:
    """The backward recursion for l_t and e_t, and the smoothed means, after `filter`.

    Source: Durbin & Koopman (2012), sec. 4.4 (l_t, smoothed means) and 4.5 (e_t).

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    chain = detached(chain.with_all_axes())
    result = doors.gaussian_result(chain, lengths, result)
    score, smoothed = torch.empty_like(result.filtered_means), torch.empty_like(result.filtered_means)
    residual = torch.empty_like(result.weighted)
    unsummed = score.new_empty(0, 0, 0, dtype=torch.float64)
    recursion(score, score.shape[-1]).scores(
        *(chain.transition_matrix, chain.emission_matrix, result.gain, result.filtered_covs),
        *(result.filtered_means, result.weighted, lengths, score, residual, smoothed, unsummed),
    )
    return Scores(score, residual, smoothed)


def information(chain: GaussianChain, lengths: Tensor, result: Filtered) -> Information:
    """The backward recursion for N_t and D_t after `filter`: Durbin & Koopman (2012), sec. 4.4 and 4.5.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    chain = detached(chain.with_all_axes())
    result = doors.gaussian_result(chain, lengths, result)
    rows, groups, ends = distinct(lengths, len(result.gain))
    _, num_steps, dim, obs_dim = result.gain.shape
    future = result.gain.new_empty(len(ends), num_steps, dim, dim)
    residual = result.gain.new_empty(len(ends), num_steps, obs_dim, obs_dim)
    recursion(future, dim).information(
        *(chain.transition_matrix, chain.emission_matrix, result.gain, result.precision),
        *(groups, ends, future, residual),
    )
    return Information(rows, groups, future, residual)


def distinct(lengths: Tensor, num_groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers the distinct pairs of covariances and length, so that each is smoothed once.

    Args:
        lengths: steps of each sequence, (B,).
        num_groups: 1 if all sequences share their covariances, else B.

    Returns:
        The row of each sequence, (B,); the covariances of each row, (S,); and the length of each row, (S,).

    Raises:
        ValueError: another number of covariances.
    """
    if not len(lengths) or num_groups not in (1, len(lengths)):
        raise ValueError(f"expected one group of covariances or one per sequence, got {num_groups} for {len(lengths)}")
    if num_groups > 1:
        index = torch.arange(len(lengths), device=lengths.device)
        return index, index, lengths
    if bool((lengths == lengths[0]).all()):
        ends, rows = lengths[:1], torch.zeros_like(lengths)
    else:
        ends, rows = lengths.unique(return_inverse=True)
    return rows, torch.zeros_like(ends), ends


def gradients(
    chain: GaussianChain, lengths: Tensor, result: Filtered, weights: Tensor, *, x: bool = True, offset: bool = True
) -> tuple[Tensor | None, ...]:
    """d sum_b weights[b] log p(x^{(b)}) / d (x, parameters), each gradient in the shape of its argument.

    The gradients in x and in the offsets are as large as the data; with `x` or `offset` False they are None.

    Source: Koopman & Shephard (1992), the exact score from the smoothed disturbances.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    chain = chain.with_all_axes()
    result = doors.gaussian_result(chain, lengths, result)
    doors.tensor("weights", weights, result.weighted, len(lengths))
    return _gradients(chain, lengths, result, weights, x=x, offset=offset)


def _gradients(
    chain: GaussianChain, lengths: Tensor, result: Filtered, weights: Tensor, *, x: bool, offset: bool
) -> tuple[Tensor | None, ...]:
    """`gradients` of a chain with all its axes and of the filter's own results."""
    chain = detached(chain)
    shared = all(parameter.shape[:2].numel() == 1 for parameter in chain[2:6])
    if shared and max(result.gain.shape[2:]) <= LARGEST_SUMMED and weights.device.type == "cpu":
        parameters, (score, residual) = _gradients_of_shared(chain, lengths, result, weights)
    else:
        parameters, (score, residual) = _gradients_of_any(chain, lengths, result, weights)
    weight = weights[:, None, None]
    return (
        -weight * residual if x else None,
        *parameters,
        _summed(weight * score[:, 1:], _given(chain.state_offset)) if offset else None,
    )


def _gradients_of_shared(
    chain: GaussianChain, lengths: Tensor, result: Filtered, weights: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]:
    """`_gradients_of_any` if all steps and sequences share A, Q, C and R: the recursion itself sums the products."""
    A, C = chain.transition_matrix, chain.emission_matrix
    (batch, _, obs_dim), dim, compiled = result.weighted.shape, A.shape[-1], _compiled()
    rows, _, ends = distinct(lengths, 1)
    shape = (2 * dim + 2 * obs_dim, max(dim, obs_dim))
    scored, informed = (weights.new_zeros(size, *shape, dtype=torch.float64) for size in (batch, len(ends)))
    score, smoothed = torch.empty_like(result.filtered_means), torch.empty_like(result.filtered_means)
    residual, first = torch.empty_like(result.weighted), weights.new_empty(len(ends), dim, dim)
    compiled.scores(
        *(A, C, result.gain, result.filtered_covs, result.filtered_means, result.weighted, lengths),
        *(score, residual, smoothed, scored),
    )
    compiled.information_sums(
        *(A[0, 0], C[0, 0], result.gain, result.precision, result.predicted_covs, result.filtered_covs, result.steady),
        *(ends, informed, first),
    )
    totals = torch.zeros_like(ends, dtype=torch.float64).index_add_(0, rows, weights.double())
    sums = weights.double() @ scored.flatten(1) - totals @ informed.flatten(1)
    transition, Q, emission, R = sums.reshape(1, 1, *shape).to(weights.dtype).split([dim, dim, obs_dim, obs_dim], -2)
    weight, start = weights[:, None], score[:, 0]
    initial_cov = weight[..., None] * (start[:, :, None] * start[:, None, :] - first[rows])
    parameters = (
        _summed(weight * start, chain.initial_mean),
        0.5 * _summed(initial_cov, chain.initial_cov),
        transition[..., :dim],
        0.5 * Q[..., :dim],
        emission[..., :dim],
        0.5 * R[..., :obs_dim],
    )
    return parameters, (score, residual)


def _gradients_of_any(
    chain: GaussianChain, lengths: Tensor, result: Filtered, weights: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]:
    """Gradients in parameters that may vary over steps and sequences, with the scores and residuals."""
    score, residual, smoothed = scores(chain, lengths, result)
    rows, groups, future, inner = information(chain, lengths, result)
    weight, totals = weights[:, None, None], weights.new_zeros(len(future)).index_add_(0, rows, weights)
    weighted_score, weighted_residual = score * weight, residual * weight

    def reduced(left: Tensor, right: Tensor, shared: Tensor, like: Tensor) -> Tensor:
        """Sum over sequences of left right' - shared, over the axes that `like` does not have."""
        kept = ("b" if len(like) > 1 else "") + ("t" if like.shape[1] > 1 else "")
        outer = torch.einsum(f"bti,btj->{kept}ij", left, right)
        axes = kept.replace("b", "s")
        return (outer - torch.einsum(f"s,stij->{axes}ij", totals, shared)).reshape(like.shape)

    predicted, filtered = result.predicted_covs[groups], result.filtered_covs[groups]
    matrix, later = chain.transition_matrix, future[:, 1:]
    cross = inner @ chain.emission_matrix
    cross[:, :-1] -= result.gain[groups][:, :-1].mT @ (matrix.mT @ later @ matrix)
    initial_cov = weighted_score[:, 0, :, None] * score[:, 0, None, :] - weight * future[rows, 0]
    parameters = (
        _summed(weighted_score[:, 0], chain.initial_mean),
        0.5 * _summed(initial_cov, chain.initial_cov),
        reduced(weighted_score[:, 1:], smoothed[:, :-1], later @ matrix @ filtered[:, :-1], matrix),
        0.5 * reduced(weighted_score[:, 1:], score[:, 1:], later, chain.transition_cov),
        reduced(weighted_residual, smoothed, cross @ predicted, chain.emission_matrix),
        0.5 * reduced(weighted_residual, residual, inner, chain.emission_cov),
    )
    return parameters, (score, residual)


def _summed(tensor: Tensor, like: Tensor) -> Tensor:
    """`tensor` summed over the axes that have one entry in `like`."""
    axes = [axis for axis, size in enumerate(like.shape) if size == 1 and tensor.shape[axis] != 1]
    return (tensor.sum(axes, keepdim=True) if axes else tensor).reshape(like.shape)


def _given(tensor: Tensor | None) -> Tensor:
    assert tensor is not None  # `with_all_axes` puts zeros there
    return tensor


class _Compiled:
    """The recursions that numba compiles, run on tensors' memory."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: run_compiled(getattr(self.module, name), *arguments)


@cache
def _compiled() -> _Compiled:
    from pgm_rnn.kernels import kalman_compiled

    return _Compiled(kalman_compiled)


def prefers_batched(x: Tensor, dim: int) -> bool:
    """Whether torch is faster than numba: off the CPU, or where matrices are large. The threshold was measured."""
    return x.device.type != "cpu" or max(dim, x.shape[-1]) >= 80


def recursion(x: Tensor, dim: int) -> Any:
    """The recursions to run for tensors like x: numba's or torch's."""
    from pgm_rnn.kernels import kalman_batched

    return kalman_batched if prefers_batched(x, dim) else _compiled()
