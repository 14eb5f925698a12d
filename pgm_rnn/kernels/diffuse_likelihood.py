"""log p(x_{1:T}) of an exact diffuse start, with its gradients; definitions and symbols of `diffuse_start`.

The gradient is E(d log p(x | delta) | x) over delta (Fisher's identity). log p(x | delta) and its gradient are
quadratic in delta, so 2 q points with the first two moments of delta give it exactly. A gradient that is to be
differentiated again is taken of the definition (`diffuse_differentiable`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.kernels import diffuse_differentiable, kalman, second_order, transforms
from pgm_rnn.kernels.diffuse_start import filtered, last_estimate, scales, with_noise
from pgm_rnn.kernels.gaussian_chain import GaussianChain, detached, without_missing


def log_marginal_likelihood(
    chain: GaussianChain, directions: Tensor, x: Tensor, lengths: Tensor, observed: Tensor | None = None
) -> Tensor:
    """log p(x_{1:T}) of each sequence as defined above, (B,), nats.

    It is differentiable in the parameters and in x, as often as is asked. Arguments and errors are those of
    `diffuse_start.filtered`.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    full = _parts(chain.with_all_axes())
    if transforms.is_differentiated((x, directions, *full)):
        return _by_torch(x, lengths, observed, directions, *full)
    if transforms.is_transformed((x, directions, *full)):
        value: Tensor = transforms.ByRule.apply(_of_tensors, _rows, x, lengths, directions, *full, observed)
        return value
    return _of_tensors(x, lengths, directions, *full, observed)


def _parts(chain: GaussianChain) -> list[Tensor]:
    """The parameters of a chain with all its axes."""
    return [part for part in chain if part is not None]


def _of_tensors(x: Tensor, lengths: Tensor, directions: Tensor, *others: Tensor | None) -> Tensor:
    """The compiled recursion; `others` are the parameters and the mask."""
    value: Tensor = _LogMarginalLikelihood.apply(x, lengths, others[-1], directions, *others[:-1])
    return value


def _rows(num: int, axes: Sequence[int | None], *arguments: Any) -> tuple[Tensor, int]:
    """Rows of `torch.func.vmap`, one after the other."""
    each = ([t] * num if axis is None else t.unbind(axis) for t, axis in zip(arguments, axes, strict=True))
    return torch.stack([_of_tensors(*row) for row in zip(*each, strict=True)]), 0


class _LogMarginalLikelihood(torch.autograd.Function):
    @staticmethod
    @override
    def forward(
        ctx: Any, x: Tensor, lengths: Tensor, observed: Tensor | None, directions: Tensor, *parameters: Tensor
    ) -> Tensor:
        result = filtered(GaussianChain(*parameters), directions, x, lengths, observed)
        value = result.moments.log_normalizers.sum(-1)
        mean, root, _ = last_estimate(result, lengths)
        ctx.save_for_backward(x, lengths, observed, directions, *parameters, value, mean, root)
        return value

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, lengths, observed, directions, *parameters, value, mean, root = ctx.saved_tensors
        arguments = (x, directions, *parameters)
        if torch.is_grad_enabled():

            def again(x: Tensor, *rest: Tensor) -> Tensor:
                return _by_torch(x, lengths, observed, *rest)

            found = second_order.gradients(again, arguments, grad, value)
        else:
            found = _gradients(arguments, lengths, observed, _points(mean, root), grad)
        return found[0], None, None, *found[1:]


def _by_torch(x: Tensor, lengths: Tensor, observed: Tensor | None, directions: Tensor, *parameters: Tensor) -> Tensor:
    """log p(x_{1:T}), (B,), by torch operations."""
    full = GaussianChain(*parameters)
    scale = scales(detached(full), directions.detach(), x.shape[1])
    proper = with_noise(full, directions, scale)
    if observed is None:
        return diffuse_differentiable.log_marginal_likelihood(x, lengths, directions, scale, *_parts(proper))
    proper, x = without_missing(proper, x, observed)
    value = diffuse_differentiable.log_marginal_likelihood(x, lengths, directions, scale, *_parts(proper))
    return value + kalman.too_many(observed, lengths, x.dtype).sum(-1)


def _gradients(
    arguments: tuple[Tensor, ...], lengths: Tensor, observed: Tensor | None, points: Tensor, weights: Tensor
) -> tuple[Tensor, ...]:
    """d sum_b weights[b] log p(x^{(b)}) / d (x, B, parameters): the mean of those of log p(x | delta) at the points."""
    with torch.enable_grad():
        x, directions, *parameters = leaves = [tensor.detach().requires_grad_() for tensor in arguments]
        full = GaussianChain(*parameters)
        proper = with_noise(full, directions, scales(detached(full), directions.detach(), x.shape[1]))
        starts = proper.initial_mean + points @ directions.mT  # (2 q, B, D)
        seen, clean = (proper, x) if observed is None else without_missing(proper, x, observed)
        total = _at_starts(seen, starts, clean, lengths)
        return torch.autograd.grad(total @ weights / len(points), leaves)


def _at_starts(chain: GaussianChain, starts: Tensor, x: Tensor, lengths: Tensor) -> Tensor:
    """The sum of log p(x_{1:T}) over the means of z_1 (num, B, D), (B,); points share shared covariances, too."""
    batch = starts.shape[1]
    if all(len(part) == 1 for part in chain[1:6] if part is not None):
        num, offset = len(starts), chain.state_offset
        if offset is not None and len(offset) > 1:
            chain = chain._replace(state_offset=offset.repeat(num, 1, 1))
        x, lengths, starts = x.repeat(num, 1, 1), lengths.repeat(num), starts.reshape(1, -1, starts.shape[-1])
    found = [kalman.log_marginal_likelihood(chain._replace(initial_mean=start), x, lengths) for start in starts]
    return torch.cat(found).reshape(-1, batch).sum(0)


def _points(mean: Tensor, root: Tensor) -> Tensor:
    """2 q points, (2 q, B, q), whose mean and covariance are `mean` (B, q) and root root', (B, q, q)."""
    offsets = mean.shape[-1] ** 0.5 * root.movedim(-1, 0)  # (q, B, q)
    return mean + torch.cat([offsets, -offsets])
