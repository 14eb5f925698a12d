"""The scaled forward recursion of a Markov chain with finitely many states.

    a_1(k) = p(z_1 = k) p(x_1 | k),    a_{t+1}(j) = p(x_{t+1} | j) sum_i a_t(i) p(z_{t+1} = j | z_t = i)

With a_t divided by its sum c_t at every step, log p(x_{1:T}) = sum_t log c_t and a_t = p(z_t | x_{1:t}). Rounding
errors stay relative, which log-space recursions do not manage. Gradients by autograd through the loop.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Filtered(NamedTuple):
    """Result of the forward recursion.

    Attributes:
        log_normalizers: log p(x_t | x_{1:t-1}), (batch, T), nats; 0 in the padding; -inf from the first step on which
            the observations have probability zero.
        filtered_probs: p(z_t | x_{1:t}), (batch, T, K); in the padding that of the last step; zero after an
            observation of probability zero.
    """

    log_normalizers: Tensor
    filtered_probs: Tensor


def forward(initial_probs: Tensor, transition_probs: Tensor, emission_log_probs: Tensor, mask: Tensor) -> Filtered:
    """Filtered probabilities and the terms of the log marginal likelihood.

    Args:
        initial_probs: p(z_1), (K,) or (batch, K).
        transition_probs: p(z_t = j | z_{t-1} = i), (K, K), rows sum to one.
        emission_log_probs: log p(x_t | z_t = k), (batch, T, K).
        mask: True up to each sequence's length, (batch, T).

    Source: Choe, Shin & Spencer (2017), sec. 3.2, with alpha_1 = D_{x_1} P(H_1) and the scale divided out.
    """
    log_normalizers, beliefs = [], []
    belief = initial_probs.expand(emission_log_probs.shape[0], -1)
    for t, (log_likelihood, valid) in enumerate(zip(emission_log_probs.unbind(1), mask.unbind(1), strict=True)):
        predicted = belief if t == 0 else belief @ transition_probs
        shift = _largest(log_likelihood, among=predicted > 0)
        unnormalised = predicted * (log_likelihood - shift[:, None]).clamp(max=80.0).exp()  # e^80 fits float32
        scale = unnormalised.sum(-1)
        possible = scale != 0  # NaN stays NaN
        safe = scale.where(possible, 1.0)
        log_normalizers.append((safe.log() + shift).where(possible, -torch.inf))
        belief = (unnormalised / safe[:, None]).where(valid[:, None], belief)
        beliefs.append(belief)
    return Filtered(torch.stack(log_normalizers, 1).where(mask, 0.0), torch.stack(beliefs, 1))


def _largest(log_likelihood: Tensor, among: Tensor) -> Tensor:
    """The largest finite entry among the reachable states, for those out of reach must not set the scale: (batch,)."""
    largest = log_likelihood.detach().masked_fill(~among, -torch.inf).amax(-1)
    return largest.where(largest.isfinite(), 0.0)
