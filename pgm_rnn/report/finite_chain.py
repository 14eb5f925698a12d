"""The Markov chain of finite states whose transitions are the same at all steps: stationary law and durations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.conditionals import example_of


class Chain(NamedTuple):
    """The chain of a model, as functions of its present parameters.

    Attributes:
        initial: p(z_1 = k), (K,).
        transition: p(z_t = j | z_{t-1} = i), (K, K).
        memoryless: whether the model has neither memory nor inputs.
    """

    initial: Callable[[], Tensor]
    transition: Callable[[], Tensor]
    memoryless: bool


def chain_of(model: SequenceModel) -> Chain | None:
    """The chain of a model with finite states, None if its transitions depend on the memory or on inputs.

    Two memories tell: those of the start and one drawn at random.
    """
    memory, num = model.initial_memory, model.states.num_states  # type: ignore[union-attr]
    width = (0 if memory is None else memory.numel()) + (model.input_dim or 0)
    states = torch.arange(num)
    if not width:
        return Chain(lambda: _probs(model.initial(None), num), lambda: _moves(model, states, None), True)
    start = example_of(model).new_zeros(width)
    if memory is not None:
        start[: memory.numel()] = memory.detach().reshape(-1)
    with seeded(0):
        other = start + torch.randn(width, dtype=start.dtype)
    with torch.no_grad():
        here, there = (_moves(model, states, h[None]) for h in (start, other))
    if not torch.equal(here, there):
        return None
    return Chain(lambda: _probs(model.initial(start), num), lambda: _moves(model, states, start[None]), False)


def stationary_law(transition: Tensor) -> Tensor | None:
    """The law pi = pi P, (K,), differentiable; None if P (K, K) has more than one.

    pi (I - P + 1 1') = 1', which has one solution if and only if pi is the only law: Kemeny & Snell (1960), sec. 5.
    """
    if not _is_unique(transition.detach()):
        return None
    ones = torch.ones_like(transition)
    eye = torch.eye(len(transition), dtype=transition.dtype, device=transition.device)
    return torch.linalg.solve((eye - transition + ones).mT, ones[0])


def durations(transition: Tensor) -> Tensor:
    """Expected number of steps in each state once it is entered, 1 / (1 - p_kk), (K,); infinite for p_kk = 1."""
    return 1 / (1 - transition.diagonal())


def _is_unique(transition: Tensor) -> bool:
    """Whether exactly one class of states, each reached from the others, is never left."""
    reach = (transition > 0).cpu().numpy()
    num, labels = connected_components(reach, directed=True, connection="strong")
    left = {int(labels[i]) for i, j in zip(*reach.nonzero(), strict=True) if labels[i] != labels[j]}
    return bool(num - len(left) == 1)


def _moves(model: SequenceModel, states: Tensor, h: Any) -> Tensor:
    return _probs(model.transition(states, h), len(states)).expand(len(states), -1)


def _probs(law: Any, num_states: int) -> Tensor:
    """Probabilities of all states under a law of them, (..., K)."""
    if isinstance(law, torch.distributions.Categorical):
        return law.probs
    states = torch.arange(num_states).view(-1, *[1] * len(law.batch_shape))
    probs: Tensor = law.log_prob(states).exp().movedim(0, -1)
    return probs
