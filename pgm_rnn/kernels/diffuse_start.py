"""Exact diffuse starts: directions of z_1 about which nothing is known before the first observation.

    z_1 = m + B delta + N(0, P),   delta (q,) with a flat prior

    log p(x_{1:T}) = lim [log p(x_{1:T}; delta ~ N(0, kappa I)) + d/2 log kappa],   kappa -> infinity

d <= q directions of delta are determined by the observations. Given delta the Kalman filter is the ordinary one, and
its means and innovations are linear in delta:

    E(z_t | x, delta) = a_t + W_t delta,   v_t(delta) = v_t - V_t delta
    H = sum_t V_t' F_t^{-1} V_t,   s = sum_t V_t' F_t^{-1} v_t,   delta | x ~ N(H^{-1} s, H^{-1})
    log p(x) = log p(x | delta = 0) + 1/2 s' H^{-1} s - 1/2 log det H

where a singular H has its Moore-Penrose inverse and the product of its d positive eigenvalues. A flat prior stays flat
if delta gets noise N(0, diag(c)) besides: P is replaced by P + B diag(c) B' with c of the size of the model's own
noise, so that F_t is regular unless an observation is determined by those before it.

Sources: de Jong (1991); Durbin & Koopman (2012), sec. 5.7, with the constant of their eq. (7.4), sec. 7.2.2.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels import doors, gaussian_backward, kalman
from pgm_rnn.kernels.gaussian_backward import Moments, Smoothed
from pgm_rnn.kernels.gaussian_chain import GaussianChain, detached, without_missing
from pgm_rnn.kernels.singular import THRESHOLD
from pgm_rnn.sequences import length_mask


class Estimate(NamedTuple):
    """delta given x_{1:t}, t = 1..T; where some direction is not determined yet, the finite parts of its moments.

    Attributes:
        mean: (B, T, q).
        root: a square root of its covariance, (1 or B, T, q, q).
        unknown: columns that span the directions that are not determined, the others zero, (1 or B, T, q, q).
        log_scale: 1/2 s' H^{-1} s - 1/2 log det H, (B, T), nats.
    """

    mean: Tensor
    root: Tensor
    unknown: Tensor
    log_scale: Tensor


class Diffuse(NamedTuple):
    """Result of the filter of a diffuse start.

    Attributes:
        moments: those of the states; infinite where a variance has no bound yet.
        given: the moments given delta = 0.
        predicted: how predicted means respond to delta, (1 or B, T, D, q).
        filtered: how filtered means respond to delta, (1 or B, T, D, q).
        delta: delta given x_{1:t}.
    """

    moments: Moments
    given: Moments
    predicted: Tensor
    filtered: Tensor
    delta: Estimate


def scales(chain: GaussianChain, directions: Tensor, num_steps: int) -> Tensor:
    """c, (q,): the variance that the first D + 1 steps leave of each entry of delta, if it were the only unknown.

    So neither the start nor the model's own noise is lost in rounding beside the other.

    Args:
        chain: the parameters with all their axes, without a diffuse part.
        directions: B, (D, q).
        num_steps: T.
    """

    def at(parameter: Tensor, t: int) -> Tensor:
        return parameter[:, t % parameter.shape[1]]

    response, cov, information = directions[None], chain.initial_cov, directions.new_zeros(directions.shape[1])
    for t in range(min(num_steps, len(directions) + 1)):
        if t > 0:
            A = at(chain.transition_matrix, t - 1)
            response, cov = A @ response, A @ cov @ A.mT + at(chain.transition_cov, t - 1)
        C = at(chain.emission_matrix, t)
        variance = (C @ cov @ C.mT + at(chain.emission_cov, t)).diagonal(dim1=-2, dim2=-1)  # (G, M)
        positive = variance[variance > 0]
        variance = variance.where(variance > 0, positive.mean() if len(positive) else 1.0)
        information = information + ((C @ response).square() / variance[..., None]).sum(-2).mean(0)
    found = (information > 0) & information.isfinite()
    return information.where(found, 1.0).reciprocal()


def with_noise(chain: GaussianChain, directions: Tensor, scale: Tensor) -> GaussianChain:
    """The chain given delta = 0, with P + B diag(c) B' in place of P, for c = `scale` (q,)."""
    return chain._replace(initial_cov=chain.initial_cov + (directions * scale) @ directions.mT)


def filtered(
    chain: GaussianChain, directions: Tensor, x: Tensor, lengths: Tensor, observed: Tensor | None = None
) -> Diffuse:
    """The filter's moments, of all steps.

    Args:
        chain: the parameters, without a diffuse part.
        directions: B, (D, q).
        x: (B, T, M).
        lengths: steps of each sequence, (B,).
        observed: False where an entry is missing, (B, T, M); None for nowhere.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    chain = detached(chain.with_all_axes())
    doors.gaussian_chain(chain, x, lengths)
    doors.tensor("directions", directions, x, chain.initial_mean.shape[-1], tuple(range(1, len(directions) + 1)))
    scale = scales(chain, directions, x.shape[1])
    proper = with_noise(chain, directions, scale)
    given = gaussian_backward.filtered(proper, x, lengths, observed)
    seen, clean = (proper, x) if observed is None else without_missing(proper, x, observed)
    predicted, updated, weighted = _responses(seen, directions, x.shape[1], len(given.filtered_covs))
    C, inside = seen.emission_matrix, length_mask(lengths, x.shape[1])
    innovation = clean - (C @ given.predicted_means[..., None])[..., 0]  # (B, T, M)
    scores = (weighted.mT @ innovation[..., None])[..., 0].where(inside[..., None], 0.0)
    information = (C @ predicted).mT @ weighted
    delta = _estimated(information.cumsum(1), scores.cumsum(1), scale.sqrt())
    before = Estimate(*(torch.cat([torch.zeros_like(part[:, :1]), part[:, :-1]], dim=1) for part in delta))
    before.unknown[:, 0] = torch.eye(directions.shape[1], dtype=x.dtype, device=x.device)
    moments = given._replace(
        log_normalizers=given.log_normalizers + (delta.log_scale - before.log_scale).where(inside, 0.0),
        predicted_means=_means(given.predicted_means, predicted, before.mean).where(inside[..., None], 0.0),
        predicted_covs=_covs(given.predicted_covs, predicted, predicted, before.root, before.unknown),
        filtered_means=_means(given.filtered_means, updated, delta.mean).where(inside[..., None], 0.0),
        filtered_covs=_covs(given.filtered_covs, updated, updated, delta.root, delta.unknown),
    )
    return Diffuse(moments, given, predicted, updated, delta)


def _responses(
    chain: GaussianChain, directions: Tensor, num_steps: int, num_groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Responses of predicted and filtered means to delta, (G, T, D, q), and F_t^{-1} V_t, (G, T, M, q).

    They are the results of the filter for x = 0 that starts at -B e_j, without offsets.
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for starts in -directions.mT[None] if num_groups == 1 else -directions.mT[:, None]:  # all at once, or one by one
        rows = max(num_groups, len(starts))
        x = directions.new_zeros(rows, num_steps, chain.emission_matrix.shape[-2])
        steps = torch.full((rows,), num_steps, device=directions.device)
        found = kalman.filter(chain._replace(initial_mean=starts, state_offset=None), x, steps)
        parts.append((-found.predicted_means, -found.filtered_means, found.weighted))
    if num_groups == 1:
        predicted, updated, weighted = (part.movedim(0, -1)[None] for part in parts[0])
    else:
        predicted, updated, weighted = (torch.stack(part, dim=-1) for part in zip(*parts, strict=True))
    return predicted, updated, weighted


def _estimated(information: Tensor, scores: Tensor, unit: Tensor) -> Estimate:
    """delta from H (G, T, q, q) and s (B, T, q); `unit` (q,) makes the entries of H comparable.

    With H = F F', F of full column rank: H^+ = F (F' F)^{-2} F', and det F' F is the product of positive eigenvalues.
    """
    values, vectors = torch.linalg.eigh(unit[:, None] * information * unit)
    kept = values > THRESHOLD * len(unit) * torch.finfo(values.dtype).eps
    factor = vectors / unit[:, None] * (values.where(kept, 0.0).sqrt())[..., None, :]  # (G, T, q, q)
    inner = factor.mT @ factor + (~kept).to(values.dtype).diag_embed()
    root = torch.linalg.solve(inner, factor.mT).mT
    mean = (root @ (root.mT @ scores[..., None]))[..., 0]
    log_det = torch.linalg.slogdet(inner).logabsdet
    unknown = vectors * unit[:, None] * (~kept)[..., None, :]
    return Estimate(mean, root, unknown, 0.5 * (torch.linalg.vecdot(scores, mean) - log_det))


def _means(means: Tensor, response: Tensor, delta: Tensor) -> Tensor:
    """Means (B, T, D) from those given delta = 0 and the mean of delta, (B, T or 1, q)."""
    return means + (response @ delta[..., None])[..., 0]


def _covs(covs: Tensor, left: Tensor, right: Tensor, root: Tensor, unknown: Tensor) -> Tensor:
    """Covariances of states with these responses to delta (..., D, q), infinite where delta is not determined."""
    finite = covs + (left @ root) @ (right @ root).mT
    unbounded = _clean(left, unknown) @ _clean(right, unknown).mT
    return finite.where(unbounded == 0, torch.inf * unbounded.sign().where(unbounded != 0, 1.0))


def _clean(response: Tensor, unknown: Tensor) -> Tensor:
    """The response to directions that are not determined, zero where it is rounding."""
    free = response @ unknown
    return free.where(free.abs() > torch.finfo(free.dtype).eps ** 0.5 * (response.abs() @ unknown.abs()), 0.0)


def last_estimate(result: Diffuse, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (B, q), root and unknown directions (B, q, q) of delta given each whole sequence."""
    index, last = torch.arange(len(lengths), device=lengths.device), lengths - 1
    delta = result.delta
    groups = index % len(delta.root)
    return delta.mean[index, last], delta.root[groups, last], delta.unknown[groups, last]


def smooth(result: Diffuse, lengths: Tensor) -> Smoothed:
    """Moments given all observations; infinite where a variance has no bound.

    Raises:
        TypeError: moments of different dtypes.
        ValueError: moments and lengths that do not fit each other.
    """
    given = gaussian_backward.smooth(result.given, lengths)
    response, groups, ends = smoothed_responses(result, lengths)
    root, unknown = (part[groups, ends - 1][:, None] for part in (result.delta.root, result.delta.unknown))
    mean = last_estimate(result, lengths)[0]
    return Smoothed(
        _means(given.means, response[given.rows], mean[:, None]),
        _covs(given.covs, response, response, root, unknown),
        given.rows,
        _covs(given.pairwise, response[:, :-1], response[:, 1:], root, unknown),
    )


def smoothed_responses(result: Diffuse, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Responses of smoothed means to delta, for each pair of covariances and length, (S, T, D, q), 0 in the padding.

    Returns:
        The responses, the covariances of each row, (S,), and the length of each row, (S,).
    """
    _, groups, ends = kalman.distinct(lengths, len(result.given.filtered_covs))
    law, num = gaussian_backward.backward(result.given), result.predicted.shape[-1]
    predicted, updated = (part[groups].movedim(-1, 0) for part in (result.predicted, result.filtered))  # (q, S, T, D)
    if len(law.gain) == 1:
        before, after = (part.reshape(-1, *part.shape[2:]) for part in (predicted, updated))
        found = gaussian_backward.smoothed_means(law, before, after, ends.repeat(num)).reshape(predicted.shape)
    else:
        pairs = zip(predicted, updated, strict=True)
        found = torch.stack([gaussian_backward.smoothed_means(law, *pair, ends) for pair in pairs])
    inside = length_mask(ends, result.predicted.shape[1])[..., None, None]
    return found.movedim(0, -1).where(inside, 0.0), groups, ends


def sample_paths(result: Diffuse, lengths: Tensor, noise: Tensor, start_noise: Tensor) -> Tensor:
    """Paths from p(z_{1:T} | x_{1:T}): delta is drawn first, then the path given delta.

    Args:
        result: the result of `filtered`, with delta determined by each whole sequence.
        lengths: steps of each sequence, (B,).
        noise: standard normal, (num_samples, B, T, D).
        start_noise: standard normal, (num_samples, B, q).

    Returns:
        (num_samples, B, T, D), 0 in the padding.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    mean, root, _ = last_estimate(result, lengths)
    delta = mean + (root @ start_noise[..., None])[..., 0]  # (num_samples, B, q)
    rows = kalman.distinct(lengths, len(result.given.filtered_covs))[0]
    response = smoothed_responses(result, lengths)[0][rows]  # (B, T, D, q)
    return (
        gaussian_backward.sample_paths(result.given, lengths, noise) + (response @ delta[:, :, None, :, None])[..., 0]
    )


def undetermined(result: Diffuse, lengths: Tensor) -> Tensor:
    """Whether a whole sequence leaves some direction of delta without a bound, (B,)."""
    return (last_estimate(result, lengths)[2] != 0).any(-1).any(-1)
