"""A chain of discrete states that a recurrent network drives: a neural hidden Markov model, summed out exactly.

    h_t = cell(h_{t-1}, x_{t-1})                                                  memory, of past symbols only
    z_1 ~ softmax(a + A h_1),   z_t ~ softmax(b[z_{t-1}] + B[z_{t-1}] h_t)        latent state
    x_t ~ softmax(c[z_t])                                                         observation, t = 1..T

The network never reads a state, so enumeration over z costs T tables of K x K, as in a hidden Markov model. The cell is
Choe, Shin & Spencer (2017), sec. 3.1, the chain their sec. 2.2.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO
from torch import Tensor, nn


class RecurrentHMM(nn.Module):
    """A GRU over symbols and a chain of K states."""

    def __init__(self, num_states: int, num_symbols: int, width: int) -> None:
        super().__init__()
        self.embedding, self.cell = nn.Embedding(num_symbols, width), nn.GRUCell(width, width)
        self.h_1 = nn.Parameter(torch.zeros(width))
        self.a, self.A = nn.Parameter(torch.zeros(num_states)), nn.Parameter(torch.zeros(num_states, width))
        self.b = nn.Parameter(torch.randn(num_states, num_states))
        self.B = nn.Parameter(torch.randn(num_states, num_states, width) / width**0.5)
        self.c = nn.Parameter(torch.randn(num_states, num_symbols))


def model(x: Tensor, lengths: Tensor, net: RecurrentHMM) -> None:
    """p(x, z) of symbols x (batch, T); sequence i has lengths[i] steps, the rest is padding."""
    h, z = net.h_1.expand(len(x), -1), None
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                logits = net.a + h @ net.A.mT if z is None else net.b[z] + (net.B[z] @ h[..., None])[..., 0]
                z = pyro.sample(f"z_{t}", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
                pyro.sample(f"x_{t}", dist.Categorical(logits=net.c[z]), obs=x_t)
            h = net.cell(net.embedding(x_t), h)


def guide(x: Tensor, lengths: Tensor, net: RecurrentHMM) -> None:
    """Enumerated in the model, z needs no guide: the ELBO is the exact log likelihood."""


def main() -> None:
    """Learn sequences in which every third symbol repeats the first, which a chain of two states cannot say."""
    pyro.set_rng_seed(0)
    x = torch.randint(2, (60, 9))
    x[:, 3::3] = x[:, :1]
    lengths = torch.full((60,), 9)
    net = RecurrentHMM(num_states=2, num_symbols=2, width=8)

    def trained(x: Tensor, lengths: Tensor) -> None:
        pyro.module("net", net)
        model(x, lengths, net)

    def no_guide(x: Tensor, lengths: Tensor) -> None:
        pass

    svi = SVI(trained, no_guide, pyro.optim.Adam({"lr": 0.02}), TraceEnum_ELBO(max_plate_nesting=1))
    losses = [svi.step(x, lengths) / lengths.sum() for _ in range(150)]
    print("Exact negative log likelihood, in nats per step:")
    print(f"  before training             {losses[0]:.4f}")
    print(f"  after training              {losses[-1]:.4f}")
    print(f"  seven of nine are coins     {7 / 9 * torch.log(torch.tensor(2.0)):.4f}")


if __name__ == "__main__":
    main()
