"""Peak memory of value and gradient where transitions read an input: tables of 64 states at each of 32 x 1000 steps.

Whole tables would take 0.5 GB in single precision, and autograd several times that. The resident peak of a fresh
interpreter is measured; in single precision it must stay below `LIMIT`.
"""

import subprocess
import sys
import time

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from benchmarks.smc_memory import Peak
from pgm_rnn.emissions import Gaussian
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import FiniteStates

NUM_STATES, NUM_SEQUENCES, NUM_STEPS = 64, 32, 1000
LIMIT = 2e9
"""Bytes."""

MEASURE = """
from benchmarks import finite_memory, smc_memory
seconds = finite_memory.climbed("{dtype}", {sequences}, {steps})
print(smc_memory.resident_peak(), seconds)
"""


class Driven(SequenceModel):
    """z_t given z_{t-1} and an input u_t, x_t ~ N(mean[z_t], 1)."""

    input_dim = 1

    def __init__(self) -> None:
        super().__init__(Gaussian())
        self.states = FiniteStates(NUM_STATES)
        self.moves, self.drive = (nn.Parameter(torch.randn(NUM_STATES, NUM_STATES)) for _ in range(2))
        self.mean = nn.Parameter(torch.randn(NUM_STATES))

    def initial(self, h: Tensor) -> TorchDistribution:
        """Law of z_1."""
        return dist.Categorical(logits=self.drive[0] * h)

    def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """Law of z_t."""
        return dist.Categorical(logits=self.moves[z] + self.drive[z] * h)

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """Law of x_t."""
        return dist.Normal(self.mean[z], 1.0)


def climbed(dtype: str, num_sequences: int, num_steps: int) -> float:
    """Seconds for a value and its gradient, the first call of a process left out."""
    torch.manual_seed(0)
    model = Driven().to(getattr(torch, dtype))
    x, u = torch.randn(num_sequences, num_steps), torch.randn(num_sequences, num_steps, 1)
    data = Sequences(x.to(model.mean), torch.full((num_sequences,), num_steps), inputs=u.to(model.mean))
    model.log_prob(data.select(slice(0, 1))).sum().backward()  # compiles
    start = time.perf_counter()
    model.log_prob(data).sum().backward()
    return time.perf_counter() - start


def measured(dtype: str, num_sequences: int = NUM_SEQUENCES, num_steps: int = NUM_STEPS) -> Peak:
    """The peak of a fresh process."""
    code = MEASURE.format(dtype=dtype, sequences=num_sequences, steps=num_steps)
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return Peak(num_steps, int(found[0]) / 1e6, float(found[1]))


def run() -> list[tuple[str, list[Peak]]]:
    """Tables (title, peaks) for both precisions, for 32 sequences and for a single one of as many steps in all.

    Raises:
        ValueError: the peak of 32 sequences in single precision exceeds the limit.
    """
    tables = []
    for dtype in ("float32", "float64"):
        peaks = [measured(dtype), measured(dtype, 1, NUM_SEQUENCES * NUM_STEPS)]
        tables.append((f"{NUM_STATES} states, {NUM_SEQUENCES} sequences and a single one, {dtype}", peaks))
    if tables[0][1][0].megabytes > LIMIT / 1e6:
        raise ValueError(f"expected less than {LIMIT / 1e9:.0f} GB, got {tables[0][1][0].megabytes:.0f} MB")
    return tables
