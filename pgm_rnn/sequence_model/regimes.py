"""The laws of a model with switching states, given the regimes: linear and Gaussian, read by evaluating them.

    s_t ~ p(s_t | s_{t-1}),   y_t = A y_{t-1} + b + N(0, Q),   x_t = C y_t + d + N(0, R)

A, b and Q depend on s_{t-1} and s_t, C, d and R on s_t, and all of them on a memory h_t and inputs if there are any. As
in `affine`, the means are evaluated at y = 0 and at D multiples of unit vectors. That p(s_t | s_{t-1}) does not depend
on y_{t-1}, that the means are affine in it and the covariances constant, is checked at random vectors: only then can
the y_t be summed out exactly. Models whose regimes read y_{t-1} (recurrent ones) need `smc`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.distributions.regime_normal import RegimeNormal
from pgm_rnn.sequence_model.affine import SIZES, moments_of, power_of_two

_BLIND = "regime probabilities that do not read y_{t-1}"
_LINEAR = "a mean that is affine in y"
_CONSTANT = "a covariance that does not read y"


class Start(NamedTuple):
    """The law of the first regime and vector.

    Attributes:
        log_probs: log p(s_1 = k), (*batch, K).
        mean: E(y_1 | s_1 = k), (*batch, K, D).
        cov: Cov(y_1 | s_1 = k), (*batch, K, D, D).
    """

    log_probs: Tensor
    mean: Tensor
    cov: Tensor


class Moves(NamedTuple):
    """The laws of the next regime and vector, given the present regime.

    Attributes:
        log_probs: log p(s_t = k | s_{t-1}), (*batch, K).
        matrix: A, (*batch, K, D, D).
        offset: b, (*batch, K, D).
        cov: Q, (*batch, K, D, D).
    """

    log_probs: Tensor
    matrix: Tensor
    offset: Tensor
    cov: Tensor


class Sees(NamedTuple):
    """The law of an observation, given the regime.

    Attributes:
        matrix: C, (*batch, M, D).
        offset: d, (*batch, M).
        cov: R, (*batch, M, M).
    """

    matrix: Tensor
    offset: Tensor
    cov: Tensor


def regime_law(law: object, name: str, num_regimes: int, dim: int) -> RegimeNormal:
    """The law itself if it is one of these regimes and vectors.

    Raises:
        TypeError: another law.
        ValueError: one of other sizes.
    """
    if not isinstance(law, RegimeNormal):
        raise TypeError(
            f"expected laws from {name} that are RegimeNormal(logits, loc, scale_tril), because the model's states are "
            f"SwitchingStates({num_regimes}, {dim}), got {type(law).__name__}; import it from pgm_rnn.distributions"
        )
    if tuple(law.loc.shape[-2:]) != (num_regimes, dim):
        raise ValueError(
            f"expected laws from {name} of {num_regimes} regimes and {dim} entries, got {tuple(law.loc.shape[-2:])}"
        )
    return law


def start_of(model: Any, h: Tensor | None) -> Start:
    """The law of s_1 and y_1 for memory h (*batch, dim) or None.

    Raises:
        TypeError, ValueError: as `regime_law`.
    """
    law = regime_law(model.initial(h), f"{type(model).__name__}.initial", *_sizes(model))
    batch, covs = law.batch_shape, law.covs
    return Start(law.log_probs.expand(*batch, -1), law.loc.expand(*batch, -1, -1), covs.expand(*batch, -1, -1, -1))


def moves_of(model: Any, regime: Tensor, h: Tensor | None, *, check: bool = False) -> Moves:
    """The laws of s_t and y_t after the regimes s_{t-1} (*batch), for memory h (*batch, dim) or None.

    Raises:
        TypeError, ValueError: as `regime_law`; also a ValueError if `check` finds a law that is not linear in
            y_{t-1}, or regimes that read it.
    """
    name, (num_regimes, dim) = f"{type(model).__name__}.transition", _sizes(model)

    def at(y: Tensor) -> RegimeNormal:
        return regime_law(model.transition(*_beside(regime, y, h)), name, num_regimes, dim)

    origin = at(_like(model, regime, h).new_zeros(1, dim))
    size = power_of_two(float(origin.loc.detach().abs().max()))
    units = at(size * torch.eye(dim, dtype=origin.loc.dtype, device=origin.loc.device))
    shape = regime.shape
    offset = _expanded(origin.loc, (1, *shape), 2)[0]
    matrix = ((_expanded(units.loc, (dim, *shape), 2) - offset) / size).movedim(0, -1)
    found = Moves(
        _expanded(origin.log_probs, (1, *shape), 1)[0], matrix, offset, _expanded(origin.covs, (1, *shape), 3)[0]
    )
    if check:
        y = _random(dim, size, found.offset)
        law = at(y)
        _check(name, _BLIND, law.log_probs.exp(), found.log_probs.exp(), 1.0)
        expected = offset + _times(matrix, y)
        _check(name, _LINEAR, law.loc, expected, offset.abs() + _times(matrix.abs(), y.abs()))
        scale = found.cov.diagonal(dim1=-2, dim2=-1).sqrt()
        _check(name, _CONSTANT, law.covs, found.cov, scale[..., :, None] * scale[..., None, :])
    return found


def sees_of(model: Any, regime: Tensor, h: Tensor | None, width: int, *, check: bool = False) -> Sees:
    """The laws of x_t in the regimes s_t (*batch), for memory h (*batch, dim) or None; x_t has `width` entries.

    Raises:
        TypeError: a law that is not normal.
        ValueError: a law of another size, or one that is not linear in y_t, which is looked at if `check` says so.
    """
    name, (_, dim) = f"{type(model).__name__}.emission", _sizes(model)
    like = _like(model, regime, h)

    def at(y: Tensor) -> tuple[Tensor, Tensor]:
        mean, cov = moments_of(model.emission(*_beside(regime, y, h)), name, width, like)
        return _expanded(mean, (len(y), *regime.shape), 1), _expanded(cov, (len(y), *regime.shape), 2)

    offsets, covs = at(like.new_zeros(1, dim))
    size = power_of_two(float(offsets.detach().abs().max()))
    matrix = ((at(size * torch.eye(dim, dtype=like.dtype, device=like.device))[0] - offsets) / size).movedim(0, -1)
    found = Sees(matrix, offsets[0], covs[0])
    if check:
        y = _random(dim, size, found.offset)
        mean, cov = at(y)
        allowed = found.offset.abs() + _times(matrix.abs(), y.abs())
        _check(name, _LINEAR, mean, found.offset + _times(matrix, y), allowed)
        scale = found.cov.diagonal(dim1=-2, dim2=-1).sqrt()
        _check(name, _CONSTANT, cov, found.cov, scale[..., :, None] * scale[..., None, :])
    return found


def _like(model: Any, regime: Tensor, h: Tensor | None) -> Tensor:
    """A tensor with the dtype and device of vectors y."""
    return h if h is not None else next(iter(model.parameters()), torch.zeros((), device=regime.device))


def _sizes(model: Any) -> tuple[int, int]:
    return model.states.num_regimes, model.states.dim


def _beside(regime: Tensor, y: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """States z (num, *batch, 1 + D) of regimes (*batch) and vectors (num, D), and memory that broadcasts with them."""
    vectors = y.reshape(len(y), *(1,) * regime.dim(), -1).expand(len(y), *regime.shape, -1)
    numbers = regime.to(y.dtype).expand(len(y), *regime.shape)[..., None]
    return torch.cat([numbers, vectors], dim=-1), None if h is None else h[None]


def _expanded(part: Tensor, shape: tuple[int, ...], own: int) -> Tensor:
    """A parameter with its batch axes expanded to `shape`; its last `own` axes stay."""
    return part.expand(*shape, *part.shape[part.dim() - own :])


def _times(matrix: Tensor, y: Tensor) -> Tensor:
    """Matrices (*batch, N, D) times vectors (num, D): (num, *batch, N)."""
    return (matrix @ y.mT).movedim(-1, 0)


def _random(dim: int, size: float, like: Tensor) -> Tensor:
    """Random vectors of several sizes, (len(SIZES), D)."""
    scales = torch.tensor([n * (size if n > 1 else 1.0) for n in SIZES], dtype=torch.float64)
    noise = torch.randn(len(SIZES), dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (scales[:, None] * noise).to(like)


def _check(name: str, what: str, found: Tensor, expected: Tensor, allowed: Tensor | float) -> None:
    """Raise if a law at random vectors is not what the laws at unit vectors say.

    Raises:
        ValueError: it is not; the way out is `smc`.
    """
    tolerance = torch.finfo(found.dtype).eps ** 0.5
    if bool(((found - expected).abs() > tolerance * torch.as_tensor(allowed)).any()):
        raise ValueError(
            f"expected {what} in {name}, so that the vectors can be summed out, got another one; use smc, which takes "
            "any law"
        )
