"""States drawn from a combiner along their own chain, compiled, with an analytic gradient.

    u_t = f_t + tanh(C z_{t-1} + c) / 2,   (loc, raw) = M u_t + m,   z_t = loc + e_t s_t

s_t = max(softplus(raw), least_scale). f_t, what the combiner reads of the observations, and e_t, standard normal, are
given; z_{t-1} may be another particle's (`pgm_rnn.kernels.lineages`). As in `pgm_rnn.kernels.encoder_draws`, the
derivatives by the weights are one matrix product each.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from pgm_rnn.kernels import doors, positive, transforms
from pgm_rnn.kernels.encoder_draws import of_map
from pgm_rnn.kernels.gated import run_lanes, suits, with_zeros
from pgm_rnn.kernels.hmm_lanes import LANES
from pgm_rnn.kernels.lineages import Lineage, as_arguments, check, from_arguments


class Weights(NamedTuple):
    """The maps of the combiner: D entries of a state, G of what it reads.

    Attributes:
        combiner: C, (G, D).
        combiner_bias: c, (G,).
        head: M, (2 D, G).
        head_bias: m, (2 D,).
    """

    combiner: Tensor
    combiner_bias: Tensor
    head: Tensor
    head_bias: Tensor


class CombinerDraws(NamedTuple):
    """States of all steps and their scales.

    Attributes:
        z: the states, (B, T, D).
        scale: s_t, (B, T, D).
    """

    z: Tensor
    scale: Tensor


def combiner_draws(
    features: Tensor, noise: Tensor, start: Tensor, weights: Weights, lineage: Lineage | None = None
) -> CombinerDraws:
    """z_t and s_t of every step, differentiable in every argument; compiled where `gated.suits` says so.

    Args:
        features: f_t, (B, T, G).
        noise: e_t, (B, T, D).
        start: z_0, (B, D).
        weights: the maps.
        lineage: the particles that rows continue; None if each continues itself.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other, or no step.
    """
    batch, num_steps, width = doors.main_tensor("features", features, "B, T, G")
    dim = doors.main_tensor("noise", noise, "B, T, D")[-1]
    doors.tensor("noise", noise, features, batch, num_steps, dim)
    doors.tensor("start", start, features, batch, dim)
    check_weights(weights, features, width, dim)
    if lineage is not None:
        check(lineage, batch, num_steps)
    if not suits(features, noise, start, *weights, units=max(width, dim)):
        return CombinerDraws(*_by_torch(lineage, features, noise, start, *weights))
    given = *as_arguments(lineage), features, noise, start, *weights
    return CombinerDraws(*_Draws.apply(room(features, noise, start, weights), True, *given)[:2])


class Room(NamedTuple):
    """What the compiled function fills: the results, then u_t and the activations that the gradient reads.

    Attributes:
        z: (B, T, D).
        scale: (B, T, D).
        combined: u_t, (B, T, G).
        kept: activations of groups of eight rows, (groups, T, G + D, 8), of one step where there are no gradients.
    """

    z: Tensor
    scale: Tensor
    combined: Tensor
    kept: Tensor


def room(features: Tensor, noise: Tensor, start: Tensor, weights: Weights) -> Room:
    """Room for the draws of the rows of `noise`, (B, T, D); of the other arguments only the sizes are read."""
    (batch, steps, dim), width = noise.shape, features.shape[-1]
    keep = torch.is_grad_enabled() and any(part.requires_grad for part in (features, noise, start, *weights))
    z, scale, combined = (noise.new_empty(batch, steps, size) for size in (dim, dim, width))
    kept = noise.new_empty(-(-batch // LANES), steps if keep else 1, width + dim, LANES)
    return Room(z, scale, combined, kept)


def filled(
    space: Room, lineage: Lineage, features: Tensor, noise: Tensor, start: Tensor, weights: Weights
) -> CombinerDraws:
    """The draws that stand in their room already, with their gradients in the arguments of `combiner_draws`."""
    return CombinerDraws(*_Draws.apply(space, False, *lineage, features, noise, start, *weights)[:2])


def check_weights(weights: Weights, like: Tensor, width: int, dim: int) -> None:
    """Raise unless the maps are of G numbers and D entries, and like a tensor.

    Raises:
        TypeError: a map of another dtype.
        ValueError: another shape or device.
    """
    shapes = (width, dim), (width,), (2 * dim, width), (2 * dim,)
    for (name, value), shape in zip(weights._asdict().items(), shapes, strict=True):
        doors.tensor(name, value, like, *shape)


def _by_torch(
    lineage: Lineage | None,
    features: Tensor,
    noise: Tensor,
    start: Tensor,
    combiner: Tensor,
    bias: Tensor,
    head: Tensor,
    head_bias: Tensor,
) -> tuple[Tensor, ...]:
    z, steps = start, []
    for t, (given, e) in enumerate(zip(features.unbind(1), noise.unbind(1), strict=True)):
        z = z if lineage is None else lineage.taken(z, t)
        combined = torch.add(given, torch.tanh(F.linear(z, combiner, bias)), alpha=0.5)
        loc, raw = F.linear(combined, head, head_bias).chunk(2, -1)
        scale = positive.scale_of_network(raw)
        z = torch.addcmul(loc, e, scale)
        steps.append((z, scale))
    return tuple(torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))


def _run(name: str, batch: int, *arguments: Tensor | float) -> None:
    from pgm_rnn.kernels import combiner_draws_compiled

    run_lanes(getattr(combiner_draws_compiled, name), batch, *arguments)


class _Draws(transforms.Function):
    """A `Room`; the second argument says whether it is still to be filled."""

    @staticmethod
    @override
    def forward(
        space: Room, run: bool, ancestors: Tensor, kin: int, features: Tensor, noise: Tensor, *others: Tensor
    ) -> Room:
        if run:
            start, *weights = others
            given = features, noise, start, ancestors, *weights
            _run("draws", len(noise), *given, *space, kin, positive.least_scale(noise.dtype))
        return space

    @staticmethod
    @override
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the gradient reads."""
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)
        ctx.kin = inputs[3]
        ctx.save_for_backward(inputs[2], *inputs[4:], *output)

    @staticmethod
    @override
    def backward(ctx: Any, *given_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        ancestors, given, (z, scale, combined, kept) = (
            ctx.saved_tensors[0],
            ctx.saved_tensors[1:8],
            ctx.saved_tensors[8:],
        )
        grads, lineage = with_zeros(given_grads[:2], (z, scale)), from_arguments(ancestors, ctx.kin)
        if torch.is_grad_enabled() or transforms.is_transformed(grads):
            return *[None] * 4, *torch.func.vjp(partial(_by_torch, lineage), *given)[1](tuple(grads))
        features, noise, start, combiner, _, head, _ = given
        of_features, of_inside, of_start = (combined.new_empty(part.shape) for part in (features, features, start))
        of_raw = z.new_empty(*z.shape[:2], len(head))
        filled = of_features, of_inside, of_raw, of_start
        _run("backward", len(z), *grads, noise, kept, ancestors, combiner.mT, head.mT, *filled, ctx.kin)
        before = torch.cat([start[:, None], z[:, :-1]], dim=1) if lineage is None else lineage.before(z, start)
        of_maps = *of_map(of_inside, before), *of_map(of_raw, combined)
        return *[None] * 4, of_features, of_raw[..., : z.shape[2]] * scale, of_start, *of_maps
