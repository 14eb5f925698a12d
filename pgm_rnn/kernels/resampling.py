"""Ancestors of particles from weights and uniforms: schemes that invert the distribution function of the weights.

    multinomial    at N independent uniforms
    stratified     at (n + u_n) / N, n = 0..N - 1
    systematic     at (n + u) / N with one u
    residual       floor(N W_n) copies of each, the rest multinomial

Sums are in double precision. A particle of weight zero never has a descendant, whatever rounding does. Source: Douc,
Cappé & Moulines (2005), sec. 2.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.kernels import doors
from pgm_rnn.kernels.threads import run_alone, run_compiled

SMALL = 4096
"""Number of weights below which one thread is faster than several."""


def draw_ancestors(weights: Tensor, scheme: str, uniforms: Tensor, chosen: Tensor | None = None) -> Tensor:
    """Ancestors of N particles for each of B sequences, (N, B), int64.

    Args:
        weights: finite and not negative, (N, B), with a positive one in each column to resample.
        scheme: one of `SCHEMES`.
        uniforms: in [0, 1), float64, of shape `uniforms_shape(scheme, N, B)`.
        chosen: which columns to resample, (B,); in others each particle is its own ancestor. None for all.

    Raises:
        TypeError: arguments of another dtype.
        ValueError: arguments that do not fit each other, or weights that are NaN, infinite, negative or all zero.
    """
    num, batch = doors.main_tensor("weights", weights, "N, B")
    check_choice("resampling", scheme, SCHEMES)
    doors.uniforms(uniforms, *uniforms_shape(scheme, num, batch))
    if chosen is not None:
        doors.mask("chosen", chosen, weights, batch)
    else:
        chosen = torch.ones(weights.shape[1], dtype=torch.bool, device=weights.device)
    return SCHEMES[scheme](weights, uniforms.double(), chosen)


def uniforms_shape(scheme: str, num_particles: int, batch: int) -> torch.Size:
    """Shape of the uniforms that a scheme takes: (1, B) for systematic, (N, B) for the others."""
    return torch.Size([1 if scheme == "systematic" else num_particles, batch])


def _check_weights(weights: Tensor, chosen: Tensor) -> None:
    """Raise a ValueError unless each chosen column can be resampled."""
    total = weights.sum(0, dtype=torch.float64)
    _refuse(chosen & ~((weights >= 0).all(0) & (total > 0) & (total < torch.inf)))


def _refuse(wrong: Tensor) -> None:
    if bool(wrong.any()):
        raise ValueError(
            "expected finite, non-negative weights that are not all zero, got NaN, infinite, negative or only zero "
            f"weights in sequence {int(wrong.nonzero()[0])}; look for the observation or parameter that causes them"
        )


def _multinomial(weights: Tensor, uniforms: Tensor, chosen: Tensor) -> Tensor:
    _check_weights(weights, chosen)
    return _inverse(weights.double(), uniforms).where(chosen, _itself(weights))


def _even(weights: Tensor, uniforms: Tensor, chosen: Tensor) -> Tensor:
    if weights.device.type != "cpu":
        _check_weights(weights, chosen)
        points = ((_itself(weights) + uniforms) / len(weights)).expand(weights.shape)
        return _inverse(weights.double(), points).where(chosen, _itself(weights))
    from pgm_rnn.kernels.inverse_cdf import invert_even

    found = torch.empty(weights.mT.shape, dtype=torch.int64)  # (B, N): a sequence's numbers beside each other
    arguments = weights.mT.contiguous(), uniforms.mT.contiguous(), chosen, found
    (run_alone if weights.numel() < SMALL else run_compiled)(invert_even, *arguments)
    if found[:, 0].numpy().min() < 0:
        _refuse(found[:, 0] < 0)
    return found.mT


def _residual(weights: Tensor, uniforms: Tensor, chosen: Tensor) -> Tensor:
    _check_weights(weights, chosen)
    weights = weights.double() / weights.sum(0, dtype=torch.float64)
    expected = len(weights) * weights
    copies = (expected + 1e-9).floor()  # rounding may leave a whole number N W_n a little below
    rest = (expected - copies).clamp(min=0.0)
    rest = rest.where(rest.sum(0) > 0, weights)
    until, itself = copies.cumsum(0), _itself(weights).expand(weights.shape)
    kept = torch.searchsorted(until.mT.contiguous(), itself.double().mT.contiguous(), right=True).mT
    drawn = torch.where(itself < until[-1], kept.clamp(max=len(weights) - 1), _inverse(rest, uniforms))
    return drawn.where(chosen, itself)


def _inverse(weights: Tensor, points: Tensor) -> Tensor:
    """The first particle at which the distribution function exceeds each point, (N, B)."""
    cumulative = weights.cumsum(0)
    scaled = (points * cumulative[-1]).mT.contiguous()
    found = torch.searchsorted(cumulative.mT.contiguous(), scaled, right=True).mT
    last_positive = len(weights) - 1 - (weights > 0).to(torch.int8).flip(0).argmax(0)
    return torch.minimum(found, last_positive)  # rounding may lead past it


def _itself(weights: Tensor) -> Tensor:
    return torch.arange(len(weights), device=weights.device)[:, None]  # (N, 1)


SCHEMES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "multinomial": _multinomial,
    "stratified": _even,
    "systematic": _even,
    "residual": _residual,
}
"""From weights (N, B), uniforms and the columns to resample to ancestors, by name."""
