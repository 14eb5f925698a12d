"""Axes of the tables of a Markov chain: one for all sequences and steps, or one for each."""

from torch import Tensor


def two_axes(initial: Tensor) -> Tensor:
    """p(z_1) as (P, K)."""
    return initial if initial.dim() == 2 else initial[None]


def four_axes(transition: Tensor) -> Tensor:
    """The transition as (P, 1 or T - 1, K, K)."""
    if not transition.numel():
        transition = transition.new_zeros(transition.shape[-2:])  # never used, but read
    return transition.reshape((1,) * (4 - transition.dim()) + transition.shape)


def one_or_each(transition: Tensor, num_sequences: int) -> Tensor:
    """The transition with four axes, the first of size 1 or num_sequences."""
    transition = four_axes(transition)
    return transition if len(transition) == 1 else transition.repeat(num_sequences // len(transition), 1, 1, 1)
