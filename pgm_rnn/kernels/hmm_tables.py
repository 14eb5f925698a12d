"""Tables of a Markov chain with all of their axes, whether they are shared or differ by sequence and step."""

from torch import Tensor


def two_axes(initial: Tensor) -> Tensor:
    """p(z_1) as (P, K)."""
    return initial if initial.dim() == 2 else initial[None]


def four_axes(transition: Tensor) -> Tensor:
    """The transition as (P, 1 or T - 1, K, K)."""
    if not transition.numel():
        transition = transition.new_zeros(transition.shape[-2:])  # T = 1: the recursions use no table but expect one
    return transition.reshape((1,) * (4 - transition.dim()) + transition.shape)


def one_or_each(transition: Tensor, num_sequences: int) -> Tensor:
    """The transition with four axes, the first of size 1 or num_sequences."""
    transition = four_axes(transition)
    return transition if len(transition) == 1 else transition.repeat(num_sequences // len(transition), 1, 1, 1)
