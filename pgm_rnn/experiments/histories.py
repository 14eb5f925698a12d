"""All histories of a hidden Markov model, and networks fitted to all of them at once: the limit n = infinity.

    loss = 1/T sum_t sum_{x_{1:t}} p(x_{1:t}) KL(p(z_t | x_{1:t}) || q(z_t | x_{1:t}))        nats per step

is the expected loss of `training` less its least value: no sequence is drawn and no state. Of p^T sequences many begin
alike, so histories are a tree in which h_t is computed once for each of the p^t histories of t symbols. The loss is
minimised by L-BFGS, which has no learning rate to choose, in float64.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.experiments.lbfgs import minimized
from pgm_rnn.experiments.scores import divergence
from pgm_rnn.experiments.taggers import Weights, tagger_of
from pgm_rnn.inference import forward_backward
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.tagger import Tagger

UNIT = 1e-6
"""L-BFGS's unit of the loss in nats per step, chosen so that its tolerances lie below the divergences of interest."""

CONVERGED = 1e-9
"""L-BFGS stops where an iteration gains less than this, in `UNIT`, or where no derivative is larger."""

MEMORY = 100
"""Steps that L-BFGS remembers: more than a small network has parameters, for the loss is badly conditioned."""


class Histories(NamedTuple):
    """All N = p + p^2 + ... + p^T histories of a model, the short ones first, those of a length in order.

    Attributes:
        x: every sequence x_{1:T}, (p^T, T), in that order too.
        probs: p(x_{1:t}), (N,); those of a length sum to one.
        beliefs: p(z_t | x_{1:t}), (N, m).
    """

    x: Tensor
    probs: Tensor
    beliefs: Tensor

    @property
    def num_steps(self) -> int:
        """T."""
        return self.x.shape[1]

    def numbers(self, x: Tensor) -> Tensor:
        """The number of the history x_{1:t} at every step of sequences (B, T): (B, T)."""
        num_symbols, number, first, found = int(self.x.max()) + 1, torch.zeros_like(x[:, 0]), 0, []
        for t in range(x.shape[1]):
            number = number * num_symbols + x[:, t]
            found.append(first + number)
            first += num_symbols ** (t + 1)
        return torch.stack(found, 1)

    def mean(self, values: Tensor) -> float:
        """The mean over steps of the expectation of a value (N,) of every history."""
        return float(self.probs @ values.to(self.probs.dtype)) / self.num_steps

    def kl(self, log_probs: Tensor) -> float:
        """KL(p || q) in nats per step of log q(z_t | x_{1:t}), (N, m)."""
        return self.mean(divergence(self.beliefs, log_probs))


def all_sequences(num_symbols: int, num_steps: int) -> Tensor:
    """Every sequence of symbols, (p^T, T), the last symbol running fastest."""
    return torch.cartesian_prod(*[torch.arange(num_symbols)] * num_steps).view(-1, num_steps)


def all_histories(hmm: HMM, num_steps: int) -> Histories:
    """The forward algorithm on every history."""
    num_symbols = hmm.emission_probs.shape[1]
    x = all_sequences(num_symbols, num_steps)
    result = forward_backward.filter(hmm, x)
    log_probs = result.log_normalizers.cumsum(1)
    firsts = [num_symbols ** (num_steps - t) for t in range(1, num_steps + 1)]  # one sequence for each beginning
    return Histories(
        x,
        torch.cat([log_probs[::stride, t] for t, stride in enumerate(firsts)]).exp(),
        torch.cat([result.filtered_probs[::stride, t] for t, stride in enumerate(firsts)]),
    )


def history_log_probs(weights: Weights, num_steps: int) -> Tensor:
    """log q(z_t | x_{1:t}) of one network, a stack of one, on every history: (m, N), in the order of `Histories`."""
    inputs, recurrent, bias, readout, offset, start = (weights[name][0] for name in ("W", "U", "b", "V", "c", "h_0"))
    h, levels = start[:, None], []
    for _ in range(num_steps):
        before = recurrent @ h + bias[:, None]
        h = torch.tanh(before[:, :, None] + inputs[:, None, :]).flatten(1)  # (k, p^t)
        levels.append(h)
    return (readout @ torch.cat(levels, 1) + offset[:, None]).log_softmax(0)


class Fitted(NamedTuple):
    """Result of `fit`.

    Attributes:
        weights: a stack of one network, float64.
        kl: its expected divergence, nats per step.
        converged: whether it stopped before its last iteration.
    """

    weights: Weights
    kl: float
    converged: bool

    @property
    def tagger(self) -> Tagger:
        """The network itself."""
        return tagger_of(self.weights)


def fit(histories: Histories, first: Weights, num_iterations: int, *, trains_start: bool = False) -> Fitted:
    """Fit a network to all histories: L-BFGS minimises the expected divergence from the initial weights.

    Args:
        histories: histories of the hidden Markov model.
        first: initial weights, a stack of one network.
        num_iterations: largest number of iterations.
        trains_start: whether h_0 is trained too; otherwise it is zero.
    """
    first = {name: value.double() for name, value in first.items()}
    trained = [name for name in first if name != "h_0" or trains_start]
    target = (histories.beliefs * histories.probs[:, None]).mT.contiguous() / histories.num_steps
    entropy = -histories.kl(torch.zeros_like(histories.beliefs))

    def loss(leaves: Weights) -> Tensor:
        return -(target * history_log_probs({**first, **leaves}, histories.num_steps)).sum() - entropy

    found = minimized(
        loss,
        {name: first[name] for name in trained},
        num_iterations=num_iterations,
        memory=MEMORY,
        gain=CONVERGED,
        derivative=CONVERGED,
        unit=UNIT,
    )
    return Fitted({**first, **found.tensors}, found.value, found.converged)
