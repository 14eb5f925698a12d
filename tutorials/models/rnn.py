"""A recurrent network is a graphical model: its hidden states have Delta laws.

    h_t = f(h_{t-1}, x_{t-1})                  hidden state, h_1 a parameter
    x_t ~ Categorical(softmax(W h_t + b))      observation, t = 1..T

Choe, Shin & Spencer (2017), sec. 3.1 and fig. 3; Sohl-Dickstein & Kingma (2015), eq. (1)-(2).
"""

import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn


class RNN(nn.Module):
    """The network's parts. `cell`, the function f, is nn.GRUCell, nn.RNNCell or any map from (input, h) to a new h."""

    def __init__(self, num_symbols: int, hidden_dim: int, cell: Callable[[int, int], nn.Module] = nn.GRUCell) -> None:
        super().__init__()
        self.h_1 = nn.Parameter(torch.zeros(hidden_dim))
        self.embedding = nn.Embedding(num_symbols, hidden_dim)
        self.cell = cell(hidden_dim, hidden_dim)
        self.readout = nn.Linear(hidden_dim, num_symbols)


def model(x: Tensor, lengths: Tensor, net: RNN) -> None:
    """p(x) of symbols x (batch, T); sequence i has lengths[i] steps, the rest is padding."""
    pyro.module("net", net)
    h = net.h_1.expand(len(x), -1)
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in enumerate(x.unbind(1), start=1):
            with poutine.mask(mask=t <= lengths):
                h = pyro.deterministic(f"h_{t}", h, event_dim=1)
                x_t = pyro.sample(f"x_{t}", dist.Categorical(logits=net.readout(h)), obs=x_t)
            h = net.cell(net.embedding(x_t), h)


def guide(x: Tensor, lengths: Tensor, net: RNN) -> None:
    """Nothing is latent: h is a function of x, and the ELBO is the log likelihood."""


def main() -> None:
    """Learn sequences that count 0, 1, 2, 0, 1, 2, ... from a random start."""
    pyro.set_rng_seed(0)
    x = (torch.arange(9)[:, None] + torch.arange(8)) % 3
    lengths = torch.tensor([8, 7, 6]).repeat_interleave(3)
    net = RNN(num_symbols=3, hidden_dim=8)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step(x, lengths, net) / len(x) for _ in range(100)]

    print("Negative log likelihood per sequence, in nats. The first symbol is one of three at random and costs log 3;")
    print("the others cost nothing once the network can count.")
    print(f"  log 3            {math.log(3):.4f}")
    print(f"  before training  {losses[0]:.4f}")
    print(f"  after training   {losses[-1]:.4f}")


if __name__ == "__main__":
    main()
