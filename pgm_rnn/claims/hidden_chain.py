"""An RNN's graphical model M(G; f, g) over the hidden states that it can reach, as stochastic kernels.

    emissions[t-1]: p(x_t | h_t = s)      kernels[t-1]: p(h_{t+1} = s' | h_t = s, x_t)

The kernels of an RNN happen to be point masses, but nothing that is computed from a chain knows that: the hidden
states are summed out like those of any hidden Markov model, and a noisy chain goes through the same code.
"""

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from pgm_rnn.claims.claim import rounding
from pgm_rnn.claims.tables import Table, all_sequences
from pgm_rnn.models.rnn import RNN


class HiddenChain(NamedTuple):
    """A chain of finitely many hidden states that the observations drive, t = 1..T.

    Attributes:
        emissions: p(x_t = k | h_t = s), T tensors (S_t, K); S_1 = 1, for h_1 is a constant.
        kernels: p(h_{t+1} = s' | h_t = s, x_t = k), T - 1 tensors (S_t, K, S_{t+1}).
    """

    emissions: list[Tensor]
    kernels: list[Tensor]

    def noisy(self, noise: float) -> "HiddenChain":
        """The chain with the Delta hypothesis broken: with probability `noise` the next state is drawn uniformly."""
        mixed = [(1 - noise) * kernel + noise / kernel.shape[-1] for kernel in self.kernels]
        return HiddenChain(self.emissions, mixed)

    def conditional_law(self, num_steps: int) -> Tensor:
        """The table p(x_2, ..., x_T | x_1) over all K^T sequences, (K^T,), by variable elimination.

        The states are summed out from the last to the first, which leaves p(x_{t:T} | h_t) after each step.
        """
        future = self.emissions[num_steps - 1]  # (S_T, K)
        for t in range(num_steps - 1, 1, -1):
            after = torch.einsum("skn,nr->skr", self.kernels[t - 1], future)
            future = (self.emissions[t - 1][:, :, None] * after).flatten(1)  # (S_t, K^(T-t+1))
        return torch.einsum("skn,nr->skr", self.kernels[0], future).flatten()

    def enumerated_log_likelihoods(self, x: Tensor) -> Tensor:
        """log p(x_{2:T} | x_1) of each sequence, (batch,), by Pyro's TraceEnum_ELBO, which sums the states out.

        Args:
            x: symbols, (batch, T).
        """
        # logits, for probs would be clamped away from zero by one rounding error, which rare symbols magnify
        kernels, emissions = [k.log() for k in self.kernels], [e.log() for e in self.emissions]

        def program(x: Tensor) -> None:
            h = torch.tensor(0)
            for t in pyro.markov(range(1, len(x))):
                law = dist.Categorical(logits=kernels[t - 1][h, x[t - 1]])
                h = pyro.sample(f"h_{t + 1}", law, infer={"enumerate": "parallel"})
                pyro.sample(f"x_{t + 1}", dist.Categorical(logits=emissions[t][h]), obs=x[t])

        elbo = TraceEnum_ELBO(max_plate_nesting=0)
        return torch.tensor([-elbo.loss(program, lambda x: None, row) for row in x], dtype=torch.float64)

    def joint(self, num_steps: int) -> Table:
        """p(x_1, h_2, x_2, ..., h_T, x_T) with p(x_1) the emission at h_1."""
        x_1, *later = self.emissions[:num_steps]
        operands: list[object] = [x_1[0], [0], self.kernels[0][0], [0, 1], later[0], [1, 2]]
        for t, (kernel, emission) in enumerate(zip(self.kernels[1 : num_steps - 1], later[1:], strict=True), start=1):
            operands += [kernel, [2 * t - 1, 2 * t, 2 * t + 1], emission, [2 * t + 1, 2 * t + 2]]
        names = ["x_1"]
        for t in range(2, num_steps + 1):
            names += [f"h_{t}", f"x_{t}"]
        return Table(tuple(names), torch.einsum(*operands, list(range(len(names)))))


@torch.no_grad()
def reachable_chain(rnn: RNN, num_symbols: int, num_steps: int) -> HiddenChain:
    """The chain of an RNN over symbols or bits, its states found by following every sequence of inputs.

    P(H_{t+1} = s' | s, x) = delta(s' = f(s, x)), Choe et al. (2017), sec. 3.1; states that coincide are one state.
    """
    symbols = torch.arange(num_symbols).to(torch.int64 if rnn.family.needs_integers else torch.float64)
    assert rnn.initial_memory is not None
    states = rnn.initial_memory[None]  # (S_t, state_dim)
    emissions, kernels = [], []
    for t in range(num_steps):
        emissions.append(rnn.emission(None, states[:, None]).log_prob(symbols).exp())  # (S_t, K)
        if t < num_steps - 1:
            reached = rnn.recurrence(states[:, None], None, symbols.expand(len(states), -1))  # (S_t, K, state_dim)
            states, index = torch.unique(reached.flatten(0, 1), dim=0, return_inverse=True)
            kernels.append(F.one_hot(index.reshape(reached.shape[:2]), len(states)).double())
    return HiddenChain(emissions, kernels)


def table_rounding(num_steps: int) -> float:
    """`rounding` of sums over the joint table of T bits and the hidden states that they can reach, 2^(t-1) at h_t."""
    return rounding(num_steps=1, width=2**num_steps * 2 ** (num_steps * (num_steps - 1) // 2))


def sequences_of(rnn: RNN, num_symbols: int, num_steps: int) -> Tensor:
    """All K^T sequences in the dtype that the RNN takes."""
    x = all_sequences(num_symbols, num_steps)
    return x if rnn.family.needs_integers else x.double()
