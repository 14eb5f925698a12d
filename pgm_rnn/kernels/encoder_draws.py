"""States drawn from an encoder along a GRU or an LSTM that reads them, compiled, with an analytic gradient.

    u_t = relu(a_t + E h_t),   (loc, raw) = M u_t + m,   z_t = loc + e_t s_t,   s_t = max(softplus(raw), least_scale)
    p_t = relu(P z_t + q),     h_{t+1} = cell(h_t) with inputs b_t + V p_t, weights U and c (`pgm_rnn.kernels.gates`)

a_t and b_t, what encoder and cell read of x_t, and e_t, standard normal, are given; h_t may be another particle's
(`pgm_rnn.kernels.lineages`), and that of an LSTM has its memory cells behind it. In torch such a loop spends most of
its time on starting operations. Backward, only the chain of h_t and z_t is compiled: the derivatives by the weights are
one matrix product each, over all steps and sequences.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from pgm_rnn.kernels import doors, gates, positive, transforms
from pgm_rnn.kernels.gated import run_lanes, suits, with_zeros
from pgm_rnn.kernels.hmm_lanes import LANES
from pgm_rnn.kernels.lineages import Lineage, as_arguments, check, from_arguments


class Weights(NamedTuple):
    """The maps of encoder, cell and features of a state: H units, D entries of a state, F features.

    G is 4 with a GRU and 5 with an LSTM: the encoder and the parts of the cell.

    Attributes:
        recurrent: E above U, (G H, H).
        recurrent_bias: zeros above c, (G H,).
        head: M, (2 D, H).
        head_bias: m, (2 D,).
        extract: P, (F, D).
        extract_bias: q, (F,).
        from_state: V, ((G - 1) H, F).
    """

    recurrent: Tensor
    recurrent_bias: Tensor
    head: Tensor
    head_bias: Tensor
    extract: Tensor
    extract_bias: Tensor
    from_state: Tensor


class EncoderDraws(NamedTuple):
    """States of all steps and what they were made with.

    Attributes:
        z: the states, (B, T, D).
        h: the memory that each was drawn with, (B, T, H), or (B, T, 2 H) with the cells of an LSTM.
        scale: s_t, (B, T, D).
        phi_z: p_t, (B, T, F).
    """

    z: Tensor
    h: Tensor
    scale: Tensor
    phi_z: Tensor


def _suits(features: Tensor, noise: Tensor, start: Tensor, weights: Weights) -> bool:
    """Whether these draws run compiled: tensors as `gated.suits` says, and no layer wider than it says."""
    units = max(weights.head.shape[1], noise.shape[2], len(weights.extract_bias))
    return suits(features, noise, start, *weights, units=units)


def encoder_draws(
    features: Tensor, noise: Tensor, start: Tensor, weights: Weights, lineage: Lineage | None = None
) -> EncoderDraws:
    """z_t, h_t, s_t and p_t of every step, differentiable in every argument.

    Args:
        features: a_t beside b_t in the parts of the cell, r, s, n or i, f, g, o: (B, T, 4 H) or (B, T, 5 H).
        noise: e_t, (B, T, D).
        start: h_1, (B, H), or with the cells of an LSTM (B, 2 H).
        weights: the maps.
        lineage: the particles that rows continue; None if each continues itself.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other, or no step.
    """
    _check(features, noise, start, weights)
    if lineage is not None:
        check(lineage, *features.shape[:2])
    if not _suits(features, noise, start, weights):
        return EncoderDraws(*_by_torch(lineage, features, noise, start, *weights))
    given = *as_arguments(lineage), features, noise, start, *weights
    return EncoderDraws(*_Draws.apply(room(features, noise, start, weights), True, *given)[:4])


class Room(NamedTuple):
    """What the compiled function fills: the results, then u_t and the activations that the gradient reads.

    Attributes:
        z: (B, T, D).
        h: (B, T, H), or (B, T, 2 H) with the cells of an LSTM.
        scale: (B, T, D).
        phi_z: (B, T, F).
        hidden: u_t, (B, T, H).
        kept: activations of groups of eight rows, (groups, T, G H + D, 8), of one step where there are no gradients.
    """

    z: Tensor
    h: Tensor
    scale: Tensor
    phi_z: Tensor
    hidden: Tensor
    kept: Tensor


def room(features: Tensor, noise: Tensor, start: Tensor, weights: Weights) -> Room:
    """Room for the draws of the rows of `noise`, (B, T, D); of the other arguments only the sizes are read."""
    (batch, steps, dim), gates = noise.shape, features.shape[-1]
    keep = torch.is_grad_enabled() and any(part.requires_grad for part in (features, noise, start, *weights))
    sizes = dim, start.shape[-1], dim, len(weights.extract_bias), weights.head.shape[1]
    z, h, scale, phi_z, hidden = (noise.new_empty(batch, steps, size) for size in sizes)
    kept = noise.new_empty(-(-batch // LANES), steps if keep else 1, gates + dim, LANES)
    return Room(z, h, scale, phi_z, hidden, kept)


def filled(
    space: Room, lineage: Lineage, features: Tensor, noise: Tensor, start: Tensor, weights: Weights
) -> EncoderDraws:
    """The draws that stand in their room already, with their gradients in the arguments of `encoder_draws`."""
    return EncoderDraws(*_Draws.apply(space, False, *lineage, features, noise, start, *weights)[:4])


def _check(features: Tensor, noise: Tensor, start: Tensor, weights: Weights) -> None:
    batch, num_steps, _ = doors.main_tensor("features", features, "B, T, G H")
    size = doors.main_tensor("head", weights.head, "2 D, H")[1]
    dim = doors.main_tensor("noise", noise, "B, T, D")[-1]
    width = doors.main_tensor("extract_bias", weights.extract_bias, "F")[0]
    doors.tensor("noise", noise, features, batch, num_steps, dim)
    doors.tensor("start", start, features, batch, memory_size(features, size))
    check_weights(weights, features, size, dim, width)


def memory_size(features: Tensor, size: int) -> int:
    """Numbers of the memory whose cell of H units reads features (..., G H): an LSTM's cells stand behind h.

    Raises:
        ValueError: features of another width than encoder and a GRU, or an LSTM, read.
    """
    found = {4 * size: size, 5 * size: 2 * size}.get(features.shape[-1])
    if found is None:
        raise ValueError(f"expected features with 4 or 5 parts of {size} numbers, got {features.shape[-1]} per step")
    return found


def check_weights(weights: Weights, like: Tensor, size: int, dim: int, width: int) -> None:
    """Raise unless the maps are of H units, D entries and F features, and like the features, (..., G H).

    Raises:
        TypeError: a map of another dtype.
        ValueError: another shape or device.
    """
    all_parts = like.shape[-1]
    of_maps = (all_parts, size), (all_parts,), (2 * dim, size), (2 * dim,), (width, dim), (width,)
    shapes = *of_maps, (all_parts - size, width)
    for (name, value), shape in zip(weights._asdict().items(), shapes, strict=True):
        doors.tensor(name, value, like, *shape)


def _by_torch(
    lineage: Lineage | None, features: Tensor, noise: Tensor, start: Tensor, *weights: Tensor
) -> tuple[Tensor, ...]:
    maps, h = Weights(*weights), start
    size = maps.head.shape[1]
    parts = [size, features.shape[-1] - size]
    steps = []
    for t, (given, e) in enumerate(zip(features.unbind(1), noise.unbind(1), strict=True)):
        h = h if lineage is None else lineage.taken(h, t)
        a, b = given.split_with_sizes(parts, -1)
        from_h, from_h_cell = F.linear(h[:, :size], maps.recurrent, maps.recurrent_bias).split_with_sizes(parts, -1)
        loc, raw = F.linear(F.relu(a + from_h), maps.head, maps.head_bias).chunk(2, -1)
        scale = positive.scale_of_network(raw)
        z = torch.addcmul(loc, e, scale)
        phi_z = F.relu(F.linear(z, maps.extract, maps.extract_bias))
        steps.append((z, h, scale, phi_z))
        h = _turned(b + F.linear(phi_z, maps.from_state), from_h_cell, h)
    return tuple(torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))


def _turned(from_x: Tensor, from_h: Tensor, h: Tensor) -> Tensor:
    """The memory after a step of its cell, a GRU where the gates are three times as wide as it."""
    if from_x.shape[-1] == 3 * h.shape[-1]:
        return gates.gru(from_x, from_h, h)
    return torch.cat(gates.lstm(from_x + from_h, h.chunk(2, -1)[1]), -1)


def _run(name: str, batch: int, *arguments: Tensor | float) -> None:
    from pgm_rnn.kernels import encoder_draws_compiled

    run_lanes(getattr(encoder_draws_compiled, name), batch, *arguments)


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
        ctx.mark_non_differentiable(*output[4:])
        ctx.set_materialize_grads(False)
        ctx.kin = inputs[3]
        ctx.save_for_backward(inputs[2], *inputs[4:], *output)

    @staticmethod
    @override
    def backward(ctx: Any, *given_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        ancestors, *saved = ctx.saved_tensors
        given, (z, h, scale, phi_z, hidden, kept) = saved[:10], saved[10:]
        grads = with_zeros(given_grads[:4], (z, h, scale, phi_z))
        if torch.is_grad_enabled() or transforms.is_transformed(grads):
            looped = partial(_by_torch, from_arguments(ancestors, ctx.kin))
            return *[None] * 4, *torch.func.vjp(looped, *given)[1](tuple(grads))
        features, noise, start, recurrent, _, head, _, extract, _, from_state = given
        size = head.shape[1]
        is_gru = start.shape[1] == size
        of_features, of_start = (z.new_empty(part.shape) for part in (features, start))
        of_inside = z.new_empty(hidden.shape if is_gru else 0)
        of_raw, of_extracted = z.new_empty(*z.shape[:2], len(head)), z.new_empty(phi_z.shape)
        transposed = (weight.mT for weight in (recurrent, head, extract, from_state))
        filled = of_features, of_inside, of_raw, of_extracted, of_start
        _run("backward", len(z), *grads, noise, h, phi_z, hidden, kept, ancestors, *transposed, *filled, ctx.kin)
        by_parts = [of_features[..., :-size], of_inside] if is_gru else [of_features]  # apart: a copy would take longer
        of_recurrent = (
            torch.cat(parts) for parts in zip(*(of_map(part, h[..., :size]) for part in by_parts), strict=True)
        )
        return (
            *[None] * 4,
            of_features,
            of_raw[..., : z.shape[2]] * scale,
            of_start,
            *of_recurrent,
            *of_map(of_raw, hidden),
            *of_map(of_extracted, z),
            of_map(of_features[..., size:], phi_z)[0],
        )


def of_map(of_values: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives by the matrix and the vector of an affine map, from those by its values (B, T, ...)."""
    rows = of_values.flatten(0, 1)
    return rows.mT @ read.flatten(0, 1), rows.sum(0)
