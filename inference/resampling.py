"""Resampling: draw each particle's ancestor so that particle n is expected to have N W_n descendants.

    multinomial    N independent draws from W
    stratified     one draw in each of N equal parts of the distribution function of W
    systematic     the same draw in each part
    residual       floor(N W_n) copies of each, the rest multinomial

All of them invert the distribution function at uniforms in [0, 1), which may be given: then the ancestors are a
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
    return draw_ancestors(log_weights.detach().double().softmax(0), scheme, uniforms.double())


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
