"""Tests for chains and sequences in which a scaled recursion may lose a state by underflow.

Rounding never loses a state, because all terms are nonnegative; underflow does. Where a state cannot be entered again
(left-to-right, absorbing, block-diagonal, sparse chains) a belief that becomes zero stays zero, even if later
observations leave no other state. Each of three conditions rules that out. A sequence that meets none of them is
computed in numbers that carry their own exponents (`hmm_wide`):

1. Every transition probability is at least d. Then so is every predicted probability, and an underflow of at most
   K tiny is a relative error of K tiny / d, far below one rounding error. Such a chain is dense; p(z_1) may have zeros.
2. In a sequence, every possible state keeps a belief of at least `least`, and every scale c_t is at least `floor`. Then
   every predicted probability of a possible state is at least least * floor, again far above K tiny, and so is every
   product of a belief and a positive transition probability. Where positive transition probabilities are themselves
   tiny, every state that the tables lead to counts as possible, even if its predicted probability is zero.
3. Only p(x_{1:T}) and posteriors given all of x are needed, every scale is at least `floor`, and no state that the
   tables lead to has a backward number above `largest_backward`. With l_t(j) lost at step t, at most K tiny / floor,
   and backward numbers b_t(j) = p(x_{t+1:T} | z_t = j) / (c_{t+1} ... c_T),
       p(x_{1:T}) = c_1 ... c_T (1 + sum_t sum_j l_t(j) b_t(j)),
   and posteriors are off by no more than that sum. The beliefs p(z_t | x_{1:t}) on the way may then be wrong.
"""

from typing import NamedTuple

import torch
from torch import Tensor

LEAST_TRANSITION = {torch.float32: 1e-15, torch.float64: 1e-140}
LEAST_BELIEF = {torch.float32: 1e-18, torch.float64: 1e-150}
LEAST_SCALE = {torch.float32: 1e-6, torch.float64: 1e-100}


class LossTest(NamedTuple):
    """Thresholds by which the forward recursion recognises a lost state.

    Attributes:
        least: a possible state whose belief is below this counts as lost; 0 turns the test off.
        floor: a step whose scale, relative to the state that fits best, is below this counts as lost.
        reachable: states that count as possible though their predicted probability is zero, (P, T or less, K), bool.
    """

    least: float
    floor: float
    reachable: Tensor


def is_dense(initial: Tensor, transition: Tensor) -> bool:
    """Whether underflow is harmless whatever is observed (condition 1)."""
    least = LEAST_TRANSITION.get(transition.dtype, 1.0)
    return bool((transition.amin() >= least) & ((initial >= least) | (initial == 0)).all())


def no_test(initial: Tensor) -> LossTest:
    """The test for a dense chain: none."""
    return LossTest(0.0, 0.0, initial.new_zeros(1, 1, 1, dtype=torch.bool))


def loss_test(initial: Tensor, transition: Tensor, num_steps: int) -> LossTest:
    """The test for a chain that is not dense (condition 2).

    Args:
        initial: (P, K).
        transition: (P, 1 or T - 1, K, K).
        num_steps: T.
    """
    least, floor = LEAST_BELIEF[transition.dtype], LEAST_SCALE[transition.dtype]
    tiny = torch.finfo(transition.dtype).tiny / least * 2.0**20
    if bool(((transition == 0) | (transition >= tiny)).all() & ((initial == 0) | (initial >= tiny)).all()):
        return LossTest(least, floor, initial.new_zeros(1, 1, initial.shape[-1], dtype=torch.bool))
    return LossTest(least, floor, reachable_states(initial, transition, num_steps))


def reachable_states(initial: Tensor, transition: Tensor, num_steps: int) -> Tensor:
    """States that paths of positive probability reach, (P, T or less, K); the last row holds for all later steps."""
    num_tables = max(len(initial), len(transition))
    reached = [(initial > 0).expand(num_tables, -1)]
    edges = (transition > 0).expand(num_tables, -1, -1, -1)
    for t in range(num_steps - 1):
        ahead = (reached[-1][:, :, None] & edges[:, t % edges.shape[1]]).any(1)
        if edges.shape[1] == 1 and torch.equal(ahead, reached[-1]):
            break
        reached.append(ahead)
    return torch.stack(reached, 1)


def largest_backward(dtype: torch.dtype, num_states: int, num_steps: int) -> float:
    """The bound of condition 3: all losses together add at most half a rounding error.

    Beliefs may be carried with a factor of up to 1e3 (`hmm_compiled.NEAR_ZERO`).
    """
    info = torch.finfo(dtype)
    lost = 1e3 * (num_states + 2) * info.tiny / LEAST_SCALE[dtype]
    return info.eps / (2 * num_states * num_steps * lost)


def largest_future(dtype: torch.dtype) -> float:
    """The cap on p(x_t | z_t) b_t / c_t, which grows without bound for a state that no path reaches.

    It lies above 1 / (least * floor), so possible states never meet it.
    """
    return torch.finfo(dtype).max / 2.0**40
