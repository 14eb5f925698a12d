"""The linear-Gaussian chain of a model with linear Gaussian states, which the exact recursions take.

    z_1 ~ N(m, P),   z_t = A_t z_{t-1} + b_t + N(0, Q_t),   x_t = C_t z_t + d_t + N(0, R_t)

A model may give its chain itself (`mixins.GivesChain`); otherwise the parameters are read from its laws, which are
evaluated at z = 0 and at D unit vectors (`affine`). They differ by sequence and step if the laws read a memory or
inputs. What the laws promise is checked whenever no gradient is computed, and in the first run of a model.
"""

from functools import partial
from typing import Any, NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor, nn

from pgm_rnn.distributions.diffuse_normal import DiffuseNormal
from pgm_rnn.kernels import diffuse_likelihood, diffuse_start, gaussian_backward, kalman, kalman_scan, singular
from pgm_rnn.kernels.gaussian_chain import without_missing
from pgm_rnn.kernels.precision import double, in_double, rounded
from pgm_rnn.sequence_model.affine import Affine, Reading, affine, moments_of
from pgm_rnn.sequence_model.conditionals import Conditionals, First, memory_of
from pgm_rnn.sequence_model.mixins import GivesChain
from pgm_rnn.sequences import Sequences, length_mask
from pgm_rnn.states import GaussianStates

_CHECKED: "WeakSet[nn.Module]" = WeakSet()


class CovarianceError(ValueError):
    """The covariance of a prediction is not positive definite."""


class Chained(NamedTuple):
    """Checked data of a model, and the chain that they follow.

    Attributes:
        chain: m, P, A, Q, C, R and b.
        x: observations minus d_t, (batch, T, M); M = 1 where observations are scalars.
        lengths: steps of each sequence, (batch,).
        observed: True where an entry was observed, (batch, T, M); None where every one was.
        diffuse: directions of z_1 with a flat prior besides, (D, q), or None.
        regular: whether R is positive definite by its construction.
    """

    chain: kalman.GaussianChain
    x: Tensor
    lengths: Tensor
    observed: Tensor | None
    diffuse: Tensor | None = None
    regular: bool = False


class Posterior(NamedTuple):
    """Result of the filter.

    Attributes:
        moments: the moments of the states.
        diffuse: the parts from which a diffuse start made them, or None.
        scanned: whether they are from scans over time, by which smoothing then goes, too.
        unrounded: the moments in double precision, or None where only these exist.
    """

    moments: gaussian_backward.Moments
    diffuse: diffuse_start.Diffuse | None = None
    scanned: bool = False
    unrounded: gaussian_backward.Moments | None = None

    @property
    def source(self) -> gaussian_backward.Moments:
        """The moments to go back from: unrounded ones, unless rounding is what says that a covariance is singular."""
        if self.unrounded is None or not singular.is_regular(self.moments.transition_cov):
            return self.moments
        return self.unrounded

    def smooth(self, lengths: Tensor) -> gaussian_backward.Smoothed:
        """Moments given all observations: Särkkä (2013), eq. (8.6)."""
        if self.diffuse is not None:
            return diffuse_start.smooth(self.diffuse, lengths)
        found = (kalman_scan if self.scanned else gaussian_backward).smooth(self.source, lengths)
        return rounded(found, self.moments.filtered_means.dtype)

    def sample_paths(self, lengths: Tensor, num_samples: int) -> Tensor:
        """Paths given all observations, (num_samples, batch, T, D), drawn by torch's global generator.

        Raises:
            ValueError: a sequence that does not determine a diffuse start.
        """
        like = self.moments.filtered_means
        noise = torch.randn(num_samples, *like.shape, dtype=like.dtype).to(like.device)
        if self.diffuse is None:
            backwards, source = (kalman_scan if self.scanned else gaussian_backward), self.source
            return backwards.sample_paths(source, lengths, noise.to(source.filtered_means.dtype)).to(like.dtype)
        self.check_determined(lengths)
        size = self.diffuse.delta.mean.shape[-1]
        start_noise = torch.randn(num_samples, len(like), size, dtype=like.dtype).to(like.device)
        return diffuse_start.sample_paths(self.diffuse, lengths, noise, start_noise)

    def check_determined(self, lengths: Tensor) -> None:
        """Raise unless every sequence determines a diffuse start.

        Raises:
            ValueError: a sequence that does not.
        """
        unknown = None if self.diffuse is None else diffuse_start.undetermined(self.diffuse, lengths)
        if unknown is not None and bool(unknown.any()):
            raise ValueError(
                "expected sequences that determine every diffuse direction of the first state, got sequence "
                f"{int(unknown.nonzero()[0])}, which does not; leave it out, or give initial_cov in place of diffuse"
            )


def has_chain(model: object) -> bool:
    """Whether a model has linear Gaussian states and no memory that reads them, so that a chain exists."""
    states = getattr(model, "states", None)
    return isinstance(states, GaussianStates) and states.linear and not getattr(model, "memory_reads_state", False)


def chain_of(model: Any, data: Sequences) -> Chained:
    """The chain of checked data.

    Raises:
        TypeError: a law that is not normal.
        ValueError: a law of another shape, or one that is not linear in z.
    """
    x = as_vectors(data.x)
    observed = None if data.observed is None else kalman.per_entry(data.mask, x)
    if isinstance(model, GivesChain):
        chain, x = model.chain(data.inputs), model.centred(x, data.inputs)
        return Chained(chain, x, data.lengths, observed, model.diffuse, model.emission_is_regular)
    chain, added, directions = _read(model, data, x)
    return Chained(chain, x - added, data.lengths, observed, directions)


def as_vectors(x: Tensor) -> Tensor:
    """Observations (B, T) or (B, T, M) as vectors, (B, T, M)."""
    return x if x.dim() == 3 else x[..., None]


def summed_out(chained: Chained, first: First) -> Tensor:
    """log p(x_{1:T}) or log p(x_{2:T} | x_1) by the Kalman filter, nats, (batch,): Särkkä (2013), eq. (4.20)-(4.21).

    Raises:
        CovarianceError: an observation that the ones before it determine.
    """
    check_undetermined(chained)
    log_prob = _log_prob(chained)
    return log_prob if first == "model" else log_prob - _log_prob(_first_step(chained))


def _log_prob(chained: Chained) -> Tensor:
    chain, x, lengths, observed, directions, _ = chained
    if directions is None:
        return kalman.log_marginal_likelihood(chain, x, lengths, observed)
    return diffuse_likelihood.log_marginal_likelihood(chain, directions, x, lengths, observed)


def filtered(chained: Chained, parallel: bool | None = None) -> Posterior:
    """The moments that the Kalman filter computes: Särkkä (2013), eq. (4.20)-(4.21).

    Args:
        chained: checked data and their chain.
        parallel: whether to scan over time (`kernels.kalman_scan`); None for on CUDA.

    Raises:
        ValueError: a scan from a diffuse start, which has none.
        CovarianceError: a prediction whose covariance is not positive definite.
    """
    if parallel and chained.diffuse is not None:
        raise ValueError(
            "expected a proper law of the first state for parallel=True, got a diffuse start; leave it out"
        )
    check_undetermined(chained)
    result = posterior(chained, parallel)
    check_finite(result.moments.log_normalizers)
    return result


def posterior(chained: Chained, parallel: bool | None = None) -> Posterior:
    """The result of `filtered` without its checks: NaN where a prediction's covariance is not positive definite."""
    chain, x, lengths, observed, directions, _ = chained
    if directions is None:
        if x.device.type == "cuda" if parallel is None else parallel:
            return Posterior(kalman_scan.filtered(chain, x, lengths, observed), scanned=True)
        found = gaussian_backward.filtered(in_double(chain), double(x), lengths, observed)
        return Posterior(rounded(found, x.dtype), unrounded=found)
    parts = diffuse_start.filtered(chain, directions, x, lengths, observed)
    return Posterior(parts.moments, parts)


@torch.no_grad()
def check_undetermined(chained: Chained) -> None:
    """Raise if an observation, or a combination of its entries, is known before it is observed.

    Raises:
        CovarianceError: the covariance of its prediction is singular.
    """
    chain, x, lengths, observed, directions, regular = chained
    if regular or singular.is_regular(chain.emission_cov) or not chain.is_finite:
        return
    if directions is not None:
        chain = chain.with_all_axes()
        chain = diffuse_start.with_noise(chain, directions, diffuse_start.scales(chain, directions, x.shape[1]))
    if observed is not None:
        chain, x = without_missing(chain, x, observed)
    covs = kalman.filter(chain, x, lengths).predicted_covs
    known = singular.determined(chain.with_all_axes(), covs)
    if known is None:
        return
    known = known & length_mask(lengths, x.shape[1])
    if bool(known.any()):
        sequence, step = known.nonzero()[0].tolist()
        raise CovarianceError(
            "expected observations that earlier ones do not determine, got one that they determine in sequence "
            f"{sequence} at step {step + 1}, where the covariance of the prediction is singular; give emission_cov a "
            "variance in that direction, or leave such a column out"
        )


def check_finite(log_normalizers: Tensor) -> None:
    """Raise an error that names sequence and step if a prediction's covariance is not positive definite.

    Raises:
        CovarianceError: log p(x_t | x_{1:t-1}) is NaN at some step.
    """
    failed = log_normalizers.isnan()
    if bool(failed.any()):
        sequence, step = failed.nonzero()[0].tolist()
        way_out = "larger variances" if log_normalizers.dtype == torch.float64 else "float64 or larger variances"
        raise CovarianceError(
            f"expected predictions with positive definite covariances, got one that is not for sequence {sequence} at "
            f"step {step + 1}; use {way_out}"
        )


@torch.no_grad()
def last_states(chained: Chained, index: Tensor) -> Tensor:
    """Draws of z_L given x_{1:L} for the sequences at `index` (k,), with repetitions, (k, D).

    Raises:
        CovarianceError: a prediction whose covariance is not positive definite.
        ValueError: a sequence that does not determine a diffuse start.
    """
    result = filtered(chained)
    result.check_determined(chained.lengths)
    means, covs, last = result.moments.filtered_means, result.moments.filtered_covs, chained.lengths[index] - 1
    root = gaussian_backward.root_of(covs[index % len(covs), last])  # (k, D, D)
    mean = means[index, last]
    return mean + (root @ torch.randn_like(mean)[..., None])[..., 0]


def _first_step(chained: Chained) -> Chained:
    """The chain of x_1."""
    chain, x, lengths, observed, directions, regular = chained
    full = chain.with_all_axes()
    cut = full._replace(emission_matrix=full.emission_matrix[:, :1], emission_cov=full.emission_cov[:, :1])
    offset = None if cut.state_offset is None else cut.state_offset[:, :1]
    cut = cut._replace(transition_matrix=cut.transition_matrix[:, :1], transition_cov=cut.transition_cov[:, :1])
    cut = cut._replace(state_offset=offset)
    observed = None if observed is None else observed[:, :1]
    return Chained(cut, x[:, :1], torch.ones_like(lengths), observed, directions, regular)


def _read(model: Conditionals, data: Sequences, x: Tensor) -> tuple[kalman.GaussianChain, Tensor, Tensor | None]:
    """The chain read from the laws, d_t (1 or batch, 1 or T, M), and the diffuse directions of z_1."""
    assert isinstance(model.states, GaussianStates)  # `has_chain` has checked it
    dim, (batch, num_steps, width) = model.states.dim, x.shape
    name, check = type(model).__name__, not torch.is_grad_enabled() or model not in _CHECKED
    h = memory_of(model).unroll(data.x, None, data.inputs)
    later = h if h is None or num_steps == 1 else h[:, 1:]  # a law is asked of some step, though one step has no move
    h_1 = None if h is None else h[:, 0] if model.input_dim is not None else h[:1, 0]  # h_1 is one, without inputs

    def read(law: Any, which: str, h: Tensor | None, steps: int, size: int, first_step: int) -> Affine:
        law = partial(_given, law, None if h is None else h[None])
        reading = Reading(law, f"{name}.{which}", (batch, steps), size, first_step)
        return affine(reading, x, dim, check=check)

    start = model.initial(h_1)
    directions = start.directions if isinstance(start, DiffuseNormal) else None
    first = moments_of(start, f"{name}.initial", dim, x)
    moves = read(model.transition, "transition", later, max(num_steps - 1, 1), dim, 2)
    sees = read(model.emission, "emission", h, num_steps, width, 1)
    if check and all(bool(part.isfinite().all()) for part in (*first, *moves, *sees)):
        _CHECKED.add(model)
    chain = kalman.GaussianChain(first.mean, first.cov, moves.matrix, moves.cov, sees.matrix, sees.cov, moves.offset)
    return chain, sees.offset, directions


def _given(law: Any, h: Tensor | None, z: Tensor) -> object:
    return law(z, h)
