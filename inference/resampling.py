"""Resampling: draw each particle's ancestor so that particle n is expected to have N W_n descendants.

    multinomial    N independent draws from W
    stratified     one draw in each of N equal parts of the distribution function of W
    systematic     the same draw in each part
    residual       floor(N W_n) copies of each, the rest multinomial

All schemes invert the distribution function at uniforms in [0, 1). If the uniforms are given, the ancestors are a
deterministic function of weights and uniforms. A particle of weight zero never has a descendant. Sources: Douc, Cappe &
Moulines (2005); soft resampling: Karkus, Hsu & Lee (2018).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.kernels.resampling import SCHEMES, draw_ancestors, uniforms_shape

__all__ = ["SCHEMES", "Soft", "ancestors", "soft", "uniforms_shape"]


class Soft(NamedTuple):
    """Result of `soft`.

    Attributes:
        ancestors: (N, B), int64.
        log_weights: log weights of the resampled particles, (N, B), differentiable in the old weights.
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
        TypeError: log weights or uniforms are not floating-point tensors.
        ValueError: an unknown scheme, uniforms of another shape or outside [0, 1), or a column of log weights with NaN,
            plus infinity or only minus infinity.
    """
    _check(log_weights)
    check_choice("resampling", scheme, SCHEMES)
    shape = uniforms_shape(scheme, *log_weights.shape)
    if uniforms is None:
        uniforms = torch.rand(shape, dtype=torch.float64, device=log_weights.device)
    return draw_ancestors(log_weights.detach().double().softmax(0), scheme, uniforms.double())


def _check(log_weights: Tensor) -> None:
    """Check that particles can be drawn with these log weights, (N, B)."""
    if not isinstance(log_weights, Tensor) or not log_weights.is_floating_point():
        got = log_weights.dtype if isinstance(log_weights, Tensor) else type(log_weights).__name__
        raise TypeError(f"expected log_weights as a floating-point tensor, got {got}")
    if log_weights.dim() != 2 or 0 in log_weights.shape:
        raise ValueError(f"expected log_weights of shape (N, B) and not empty, got {tuple(log_weights.shape)}")
    wrong = ~log_weights.detach().amax(0).isfinite()  # NaN and the infinite are the largest
    if bool(wrong.any()):
        column = int(wrong.nonzero()[0])
        found = float(log_weights.detach()[:, column].amax())
        what = "nothing but -inf" if found == -torch.inf else str(found)
        raise ValueError(
            f"expected a finite largest log weight for every sequence, got {what} for sequence {column}; "
            "look for the observation or parameter that it comes from"
        )


def soft(log_weights: Tensor, share: float = 0.5, scheme: str = "systematic", uniforms: Tensor | None = None) -> Soft:
    """Soft resampling: draws from share W + (1 - share) / N, with new weights that keep the gradient of the old ones.

    Args:
        log_weights: unnormalised, (N, B), nats.
        share: the weights' share of the mixture, in (0, 1]. With 1 all new weights are one, but keep their gradient.
        scheme: one of `SCHEMES`.
        uniforms: as for `ancestors`.

    Raises:
        TypeError, ValueError: as `ancestors`; also a ValueError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"expected share in (0, 1], got {share}")
    _check(log_weights)
    weights = log_weights.softmax(0)
    mixture = share * weights.detach() + (1 - share) / len(weights)
    drawn = ancestors(mixture.log(), scheme, uniforms)
    return Soft(drawn, (weights.gather(0, drawn) / mixture.gather(0, drawn)).log())
