"""A hidden Markov model as three tables, and its distribution by definition: the sum over all paths of states.

    p(z_{1:T}, x_{1:T}) = p(z_1) p(x_1 | z_1) prod_{t>1} p(z_t | z_{t-1}) p(x_t | z_t)

Nothing here calls a model or an engine; `hmm` hands the tables to the model under test.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.models.hmm import HMM


class FiniteChain(NamedTuple):
    """Tables of K states and S symbols.

    Attributes:
        initial: p(z_1 = k), (K,).
        transition: p(z_{t+1} = j | z_t = i), (K, K), rows sum to one.
        emission: p(x_t = s | z_t = k), (K, S).
    """

    initial: Tensor
    transition: Tensor
    emission: Tensor

    @staticmethod
    def random(num_states: int, num_symbols: int, seed: int, memory: float = 0.05) -> "FiniteChain":
        """Rows uniform on the simplex, drawn again until x_1 moves some probability of x_2 by `memory`."""
        generator = torch.Generator().manual_seed(seed % 2**63)
        while True:
            chain = FiniteChain(
                random_rows(1, num_states, generator)[0],
                random_rows(num_states, num_states, generator),
                random_rows(num_states, num_symbols, generator),
            )
            if chain._memory() > memory:
                return chain

    @staticmethod
    def sticky(seed: int, num_states: int = 2) -> "FiniteChain":
        """States that persist with probability 0.8 to 0.9 and mostly emit their own symbol."""
        generator = torch.Generator().manual_seed(seed % 2**63)
        stay = 0.8 + 0.1 * torch.rand(num_states, 1, generator=generator, dtype=torch.float64)
        away = (1 - torch.eye(num_states, dtype=torch.float64)) / (num_states - 1)
        kept = torch.eye(num_states, dtype=torch.float64)
        rows = [rate * kept + (1 - rate) * away for rate in (stay, stay.flip(0))]
        return FiniteChain(torch.full((num_states,), 1 / num_states, dtype=torch.float64), *rows)

    def _memory(self) -> float:
        """Largest difference of p(x_2 | x_1) from p(x_2)."""
        pairs = self.law(2).reshape(self.num_symbols, -1)
        return float((pairs / pairs.sum(1, keepdim=True) - pairs.sum(0)).abs().max())

    @property
    def num_states(self) -> int:
        """K."""
        return len(self.initial)

    @property
    def num_symbols(self) -> int:
        """S."""
        return self.emission.shape[1]

    def hmm(self) -> HMM:
        """The model of these tables, float64."""
        return HMM(self.initial, self.transition, self.emission)

    def path_probs(self, x: Tensor) -> Tensor:
        """p(z_{1:T}, x_{1:T}) of symbols x (batch, T) for every path in the order of `all_sequences`: (batch, K^T)."""
        paths = all_sequences(self.num_states, x.shape[1])
        probs = self.initial[paths[:, 0]] * self.emission[paths[:, 0], x[:, :1]]  # (batch, K^T)
        for t in range(1, x.shape[1]):
            probs = probs * self.transition[paths[:, t - 1], paths[:, t]] * self.emission[paths[:, t], x[:, t, None]]
        return probs

    def joint_with_last(self, x: Tensor) -> Tensor:
        """p(z_T = k, x_{1:T}), (batch, K)."""
        return self.path_probs(x).reshape(len(x), -1, self.num_states).sum(1)

    def probs(self, x: Tensor) -> Tensor:
        """p(x_{1:T}), (batch,)."""
        return self.path_probs(x).sum(-1)

    def law(self, num_steps: int) -> Tensor:
        """p(x_{1:T}) of all S^T sequences, (S^T,)."""
        return self.probs(all_sequences(self.num_symbols, num_steps))


def random_rows(num_rows: int, width: int, generator: torch.Generator) -> Tensor:
    """Independent rows, each uniform on the simplex, (num_rows, width)."""
    exponentials = -torch.rand(num_rows, width, generator=generator, dtype=torch.float64).clamp(min=1e-300).log()
    return exponentials / exponentials.sum(-1, keepdim=True)
