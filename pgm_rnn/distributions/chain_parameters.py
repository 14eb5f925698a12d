"""Parts of a parameter of a chain: its first steps, its later steps, other batch axes."""

import torch
from torch import Tensor


def earlier(parameter: Tensor, num_steps: int, axis: int) -> Tensor:
    """A parameter of the first steps, `axis` from the right; unchanged where all steps share it.

    Where no step is asked for the first is left, as if all steps shared it.
    """
    return parameter if parameter.shape[-axis] <= 1 else parameter.narrow(-axis, 0, max(num_steps, 1))


def later(parameter: Tensor, num_steps: int, axis: int) -> Tensor:
    """A parameter of the steps after the first ones; unchanged where all steps share it.

    Where there is no later step the last is left, as if all steps shared it.
    """
    size = parameter.shape[-axis]
    start = min(num_steps, size - 1)
    return parameter if size <= 1 else parameter.narrow(-axis, start, size - start)


def regrouped(parameter: Tensor, own_axes: int, old: torch.Size, new: torch.Size) -> Tensor:
    """A parameter (*old, ...) with batch axes *new; without batch axes where all chains share it."""
    front, own = parameter.shape[: parameter.dim() - own_axes], parameter.shape[parameter.dim() - own_axes :]
    return parameter.reshape(own) if front.numel() == 1 else parameter.expand(*old, *own).reshape(*new, *own)
