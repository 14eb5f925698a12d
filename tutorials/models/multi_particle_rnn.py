"""A recurrent network with L hidden states at once: which of them emits is a latent variable, summed out.

    h_t^k = f(h_{t-1}^k, x_{t-1})                                   hidden states, h_1^1, ..., h_1^L parameters
    k ~ Uniform(1..L), once or at every step                        the particle that emits
    x_t ~ Categorical(softmax(W h_t^k + b))                         observation, t = 1..T

Sohl-Dickstein & Kingma (2015), sec. 3.1 and app. A: one k for the sequence is eq. (18)-(26), one per step eq. (17).
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO, config_enumerate
from pyro.ops.indexing import Vindex
from torch import Tensor, nn


class MultiParticleRNN(nn.Module):
    """An Elman network, f(h, x) = tanh(W_x e(x) + W_h h + b), and L starts for it."""

    def __init__(self, num_particles: int, num_symbols: int, hidden_dim: int) -> None:
        super().__init__()
        self.h_1 = nn.Parameter(torch.randn(num_particles, hidden_dim))
        self.embedding = nn.Embedding(num_symbols, hidden_dim)
        self.from_x, self.from_h = (nn.Linear(hidden_dim, hidden_dim) for _ in range(2))
        self.readout = nn.Linear(hidden_dim, num_symbols)


def model(x: Tensor, lengths: Tensor, net: MultiParticleRNN, average: str = "sequence") -> None:
    """p(x, k) of symbols x (batch, T); sequence i has lengths[i] steps, the rest is padding."""
    pyro.module("net", net)
    h, rows = net.h_1.expand(len(x), -1, -1), torch.arange(len(x))  # h: (batch, L, hidden_dim)
    uniform, enumerated = dist.Categorical(logits=torch.zeros(len(net.h_1))), {"enumerate": "parallel"}
    with pyro.plate("sequences", len(x), dim=-1):
        k = pyro.sample("k", uniform, infer=enumerated) if average == "sequence" else None
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                h = pyro.deterministic(f"h_{t}", h, event_dim=2)
                if average == "step":
                    k = pyro.sample(f"k_{t}", uniform, infer=enumerated)
                logits = net.readout(Vindex(h)[rows, k])  # one row for each value of k: (L, batch, num_symbols)
                x_t = pyro.sample(f"x_{t}", dist.Categorical(logits=logits), obs=x_t)
            h = torch.tanh(net.from_x(net.embedding(x_t))[:, None] + net.from_h(h))


def guide(x: Tensor, lengths: Tensor, net: MultiParticleRNN, average: str = "sequence") -> None:
    """Enumerated in the model, k needs no guide: the ELBO is the exact log likelihood."""


@config_enumerate
def uniform_guide(x: Tensor, lengths: Tensor, net: MultiParticleRNN) -> None:
    """q(k | x) = 1/L, enumerated, for the ELBO 1/L sum_k sum_t log p(x_t | h_t^k), which Jensen's inequality gives."""
    with pyro.plate("sequences", len(x), dim=-1):
        pyro.sample("k", dist.Categorical(logits=torch.zeros(len(net.h_1))))


def main() -> None:
    """Learn sequences that repeat one symbol or alternate two, and compare the two averages."""
    pyro.set_rng_seed(0)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    x, lengths = pairs.repeat(1, 3), torch.tensor([6, 5, 4]).repeat(3)  # x: (9, 6)
    net, elbo = MultiParticleRNN(num_particles=3, num_symbols=3, hidden_dim=8), TraceEnum_ELBO(max_plate_nesting=1)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), elbo)
    losses = [svi.step(x, lengths, net) / len(x) for _ in range(60)]

    print("Negative log likelihood per sequence, in nats. For nine equally frequent ones, log 9 = 2.197 is the least:")
    print(f"  one k per sequence, before training  {losses[0]:.3f}")
    print(f"  one k per sequence, after training   {losses[-1]:.3f}")
    print("The same network with the other average, and an upper bound that weighs all particles alike, whatever x is:")
    print(f"  one k per step                       {elbo.loss(model, guide, x, lengths, net, 'step') / len(x):.3f}")
    print(f"  -ELBO with q(k | x) = 1/L            {elbo.loss(model, uniform_guide, x, lengths, net) / len(x):.3f}")


if __name__ == "__main__":
    main()
