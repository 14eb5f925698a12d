"""Small networks whose outputs are normal laws, the building blocks of priors, encoders and transitions."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgm_rnn.distributions.normal import Normal
from pgm_rnn.emissions import Bernoulli
from pgm_rnn.emissions.family import EmissionHead
from pgm_rnn.kernels import gated, positive
from pgm_rnn.kernels.guides import Map

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "identity": lambda x: x,
}
"""Activations between layers, by name."""


class Layers(nn.Module):
    """a(W_n ... a(W_1 x + b_1) ... + b_n): an activation after every layer.

    Args:
        sizes: width of the input, then width of every layer.
        activation: one of `ACTIVATIONS`.
    """

    def __init__(self, sizes: Sequence[int], activation: str) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., sizes[-1]) for inputs (..., sizes[0])."""
        for layer in self.linear:
            x = self.activation(layer(x))
        return x


class GRU(nn.GRU):
    """torch's network, time first, whose layers run compiled where `pgm_rnn.kernels.gated` suits."""

    def forward(self, x: Any, start: Tensor | None = None) -> tuple[Any, Tensor]:
        """As torch's: the top layer's hidden vectors (T, B, H) and the last ones of every layer, (layers, B, H)."""
        weights = list(self.parameters())
        plain = isinstance(x, Tensor) and x.dim() == 3 and not (self.batch_first or self.bidirectional or self.dropout)
        if not plain or not gated.suits(x, *weights, *(() if start is None else (start,)), units=self.hidden_size):
            return super().forward(x, start)
        last: list[Tensor] = []
        for layer, (weight, matrix, bias, recurrent_bias) in enumerate(_by_layer(weights)):
            first = x.new_zeros(x.shape[1], self.hidden_size) if start is None else start[layer]
            x = gated.gru(F.linear(x, weight, bias), first, matrix, recurrent_bias)
            last.append(x[-1])
        return x, torch.stack(last)

    def packed(self, x: Tensor, lengths: Tensor, *, backwards: bool) -> Tensor | None:
        """The top layer's hidden vectors of sequences one after the other, (R, H); None where they do not run compiled.

        Args:
            x: the steps of all sequences, (R, D).
            lengths: those of each, (B,).
            backwards: whether each sequence is read from its end.
        """
        weights = list(self.parameters())
        plain = type(self) is GRU and not (self.bidirectional or self.dropout or is_hooked(self))
        if not plain or not gated.suits(x, *weights, units=self.hidden_size):
            return None
        start = x.new_zeros(len(lengths), self.hidden_size)
        for weight, matrix, bias, recurrent_bias in _by_layer(weights):
            from_x = F.linear(x, weight, bias)
            x = gated.packed_gru(from_x, start, matrix, recurrent_bias, lengths, backwards=backwards)
        return x


def _by_layer(weights: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """W, U, b and c of each layer of torch's networks, from their parameters in order."""
    return [weights[i : i + 4] for i in range(0, len(weights), 4)]


class NormalHead(nn.Module):
    """N(W x + b, softplus(V x + c)^2) for each entry of a vector, with scales of at least `positive.least_scale`.

    Args:
        width: width of the features x.
        size: number of entries of the vector.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.linear, self.size = nn.Linear(width, 2 * size), size

    def forward(self, features: Tensor) -> Normal:
        """The law given features (..., width): batch shape (...), event shape (size,)."""
        return Normal(*self.loc_and_scale(features), event_dim=1)

    def loc_and_scale(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of that law, (..., size) each."""
        loc, raw_scale = F.linear(features, self.linear.weight, self.linear.bias).chunk(2, dim=-1)
        return loc, positive.scale_of_network(raw_scale)


def rectified_maps(parts: Iterable[nn.Module], shapes: Sequence[tuple[int, int]]) -> list[Map] | None:
    """The maps W, b of linear layers and of stacks of rectified layers that end in a law; None for any others.

    A law may be normal or one of bits. A layer that is pruned, hooked or of a class of its own is another, and so is
    one more layer in a stack, such as a dropout, or one without its activation.

    Args:
        parts: torch's linear layers, and stacks.
        shapes: the shapes of the matrices, in order.
    """
    found = [layer for part in parts for layer in ([part] if isinstance(part, nn.Linear) else _layers(part))]
    if any(layer is None or is_hooked(layer) or not _is_affine(layer) for layer in found):
        return None
    maps = [Map(layer.weight, layer.bias) for layer in found]  # type: ignore[union-attr, arg-type]
    return maps if [tuple(layer.weight.shape) for layer in maps] == list(shapes) else None


def _layers(stack: nn.Module) -> list[nn.Module | None]:
    """The layers of a stack, None for what is not known."""
    if is_hooked(stack):
        return [None]
    if type(stack) is nn.Sequential:
        return [layer for part in stack for layer in _layers(part)]
    if type(stack) is Layers and stack.activation is F.relu:
        return [*stack.linear]
    if type(stack) is NormalHead:
        return [stack.linear]
    return [stack if type(stack) is EmissionHead and type(stack.family) is Bernoulli else None]


def _is_affine(layer: nn.Module) -> bool:
    """Whether a layer is torch's own or a head, with a vector."""
    return type(layer) in (nn.Linear, EmissionHead) and isinstance(layer.bias, Tensor)


def is_hooked(module: nn.Module) -> bool:
    """Whether something runs before, after or in place of a module's own forward, or before or after its gradient."""
    forward = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)


def is_as_written(model: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a model's laws are those of a class, so that another form of them may take their place."""
    laws = {"initial", "transition", "emission", "proposal", "encode"}
    laws |= {"recurrence", "transition_mean", "emission_mean"}
    return type(model) is kind and not laws & vars(model).keys()
