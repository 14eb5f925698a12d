"""Resampling: draw each particle's ancestor so that particle n is expected to have N W_n descendants.

    multinomial    N independent draws from W
    stratified     one draw in each of N equal parts of the distribution function of W
    systematic     the same draw in each part
    residual       floor(N W_n) copies of each, the rest multinomial

All of them invert the distribution function at uniforms in [0, 1), which may be given: then the ancestors are a
deterministic function of weights and uniforms. A particle of weight zero never has a descendant. Sources: Douc, Cappe &
Moulines (2005); soft resampling: Karkus, Hsu & Lee (2018).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.kernels.threads import run_compiled


class Soft(NamedTuple):
    """Result of `soft`.

    Attributes:
        ancestors: (N, B), int64.
        log_weights: what the resampled particles still weigh, (N, B), differentiable in the weights they came from.
    """

    ancestors: Tensor
    log_weights: Tensor


def ancestors(log_weights: Tensor, scheme: str = "systematic", uniforms: Tensor | None = None) -> Tensor:
    """Ancestors of N particles for each of B sequences, (N, B), int64.

    Args:
        log_weights: unnormalised, (N, B), nats; -inf for weight zero, at least one of each column larger.
        scheme: one of `SCHEMES`.
        uniforms: in [0, 1), of shape `uniforms_shape(scheme, N, B)`; None draws them by torch's global generator.

    Raises:
        ValueError: an unknown scheme, uniforms of another shape or outside [0, 1).
    """
    check_choice("resampling", scheme, SCHEMES)
    shape = uniforms_shape(scheme, *log_weights.shape)
    if uniforms is None:
        uniforms = torch.rand(shape, dtype=torch.float64, device=log_weights.device)
    elif uniforms.shape != shape or not bool(((uniforms >= 0) & (uniforms < 1)).all()):
        raise ValueError(f"expected uniforms of shape {tuple(shape)} in [0, 1), got {tuple(uniforms.shape)} or others")
    weights = log_weights.detach().double().softmax(0)
    return SCHEMES[scheme](weights, uniforms.double())


def uniforms_shape(scheme: str, num_particles: int, batch: int) -> torch.Size:
    """How many uniforms a scheme takes: (1, B) for systematic, (N, B) for the others."""
    return torch.Size([1 if scheme == "systematic" else num_particles, batch])


def soft(log_weights: Tensor, share: float = 0.5, scheme: str = "systematic", uniforms: Tensor | None = None) -> Soft:
    """Resampling from share W + (1 - share) / N, whose new weights keep the gradient of the old ones.

    Args:
        log_weights: unnormalised, (N, B), nats.
        share: of the weights in the mixture, in (0, 1]; with 1 the new weights are all one, and keep their gradient.
        scheme: one of `SCHEMES`.
        uniforms: as for `ancestors`.

    Raises:
        ValueError: a share outside (0, 1], or as `ancestors`.
    """
    if not 0 < share <= 1:
        raise ValueError(f"expected share in (0, 1], got {share}")
    weights = log_weights.softmax(0)
    mixture = share * weights.detach() + (1 - share) / len(weights)
    drawn = ancestors(mixture.log(), scheme, uniforms)
    return Soft(drawn, (weights.gather(0, drawn) / mixture.gather(0, drawn)).log())


def _multinomial(weights: Tensor, uniforms: Tensor) -> Tensor:
    return _inverse(weights, uniforms)


def _stratified(weights: Tensor, uniforms: Tensor) -> Tensor:
    parts = torch.arange(len(weights), device=weights.device)[:, None]
    points = ((parts + uniforms) / len(weights)).expand(weights.shape)
    if weights.device.type != "cpu":
        return _inverse(weights, points)
    from pgm_rnn.kernels.inverse_cdf import invert_sorted

    found = torch.empty(weights.shape, dtype=torch.int64)
    run_compiled(invert_sorted, weights, points, found)
    return found


def _residual(weights: Tensor, uniforms: Tensor) -> Tensor:
    expected = len(weights) * weights
    copies = (expected + 1e-9).floor()  # N W_n may be a whole number but for rounding
    rest = (expected - copies).clamp(min=0.0)
    rest = rest.where(rest.sum(0) > 0, weights)
    until = copies.cumsum(0)
    index = torch.arange(len(weights), device=weights.device, dtype=weights.dtype)[:, None].expand_as(weights)
    kept = torch.searchsorted(until.mT.contiguous(), index.mT.contiguous(), right=True).mT
    drawn = _inverse(rest, uniforms)
    return torch.where(index < until[-1], kept.clamp(max=len(weights) - 1), drawn)


def _inverse(weights: Tensor, points: Tensor) -> Tensor:
    """The first particle at which the distribution function exceeds each point, (N, B)."""
    cumulative = weights.cumsum(0)
    total = cumulative[-1]
    scaled = (points * total).mT.contiguous()
    found = torch.searchsorted(cumulative.mT.contiguous(), scaled, right=True).mT
    return torch.minimum(found, _last_positive(weights))


def _last_positive(weights: Tensor) -> Tensor:
    """The last particle of positive weight in each column, where rounding may not lead beyond, (B,)."""
    return len(weights) - 1 - (weights > 0).to(torch.int8).flip(0).argmax(0)


SCHEMES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "multinomial": _multinomial,
    "stratified": _stratified,
    "systematic": _stratified,
    "residual": _residual,
}
"""From normalised weights (N, B) and uniforms to ancestors, by name."""
