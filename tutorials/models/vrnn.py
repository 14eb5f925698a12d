"""A variational recurrent network: at every step a variational autoencoder, whose prior the memory sets.

    h_t = hidden(phi_x(x_{t-1}), phi_z(z_{t-1}), h_{t-1})      memory, h_1 a parameter
    z_t ~ prior(h_t)                                           latent state
    x_t ~ decoder(phi_z(z_t), h_t)                             observation, bits, t = 1..T
    q(z_t | x_t, h_t) = encoder(phi_x(x_t), h_t)               guide

Chung et al. (2015), eq. (5)-(9), whose h_{t-1} is h_t here.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn


class VRNN(nn.Module):
    """The four networks prior, encoder, decoder and hidden, and the features phi that they share."""

    def __init__(self, obs_dim: int, latent_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.h_1 = nn.Parameter(torch.zeros(hidden_dim))
        widths = obs_dim, latent_dim
        self.phi_x, self.phi_z = (nn.Sequential(nn.Linear(width, hidden_dim), nn.ReLU()) for width in widths)
        self.prior = pyro.nn.DenseNN(hidden_dim, [hidden_dim], [2 * latent_dim])
        self.encoder = pyro.nn.DenseNN(2 * hidden_dim, [hidden_dim], [2 * latent_dim])
        self.decoder = pyro.nn.DenseNN(2 * hidden_dim, [hidden_dim], [obs_dim])
        self.hidden = nn.GRUCell(2 * hidden_dim, hidden_dim)


def normal(numbers: Tensor) -> dist.Distribution:
    """The normal law of a vector z whose means and raw scales are a network's output."""
    mean, raw = numbers.chunk(2, dim=-1)
    return dist.Normal(mean, nn.functional.softplus(raw)).to_event(1)


def model(x: Tensor, lengths: Tensor, net: VRNN) -> None:
    """p(x, z) of bits x (batch, T, M); sequence i has lengths[i] steps, the rest is padding."""
    pyro.module("net", net)  # the guide's parts too
    h = net.h_1.expand(len(x), -1)
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in enumerate(x.unbind(1), start=1):
            with poutine.mask(mask=t <= lengths):
                h = pyro.deterministic(f"h_{t}", h, event_dim=1)
                phi_z = net.phi_z(pyro.sample(f"z_{t}", normal(net.prior(h))))
                x_law = dist.Bernoulli(logits=net.decoder(torch.cat([phi_z, h], dim=-1)))
                x_t = pyro.sample(f"x_{t}", x_law.to_event(1), obs=x_t)
            h = net.hidden(torch.cat([net.phi_x(x_t), phi_z], dim=-1), h)


def guide(x: Tensor, lengths: Tensor, net: VRNN) -> None:
    """q(z | x): the encoder's law of z_t, along the memory that the drawn states leave behind."""
    h = net.h_1.expand(len(x), -1)
    with pyro.plate("sequences", len(x), dim=-1):
        for t, phi_x in enumerate(net.phi_x(x).unbind(1), start=1):
            with poutine.mask(mask=t <= lengths):
                phi_z = net.phi_z(pyro.sample(f"z_{t}", normal(net.encoder(torch.cat([phi_x, h], dim=-1)))))
            h = net.hidden(torch.cat([phi_x, phi_z], dim=-1), h)


def main() -> None:
    """Learn a light that runs round four lamps, from any of them and in either direction."""
    pyro.set_rng_seed(0)
    start, way = torch.cartesian_prod(torch.arange(4), torch.tensor([-1, 1])).T[..., None]
    x, lengths = torch.eye(4)[(start + way * torch.arange(5)) % 4], torch.tensor([5, 5, 4, 4]).repeat(2)  # x: (8, 5, 4)
    net, steps = VRNN(obs_dim=4, latent_dim=2, hidden_dim=16), lengths.sum()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.03}), Trace_ELBO())
    losses = [svi.step(x, lengths, net) / steps for _ in range(120)]

    print("Negative ELBO, an upper bound of the negative log likelihood, in nats per step of four lamps:")
    print(f"  independent lamps, each on with probability 1/4  {4 * dist.Bernoulli(0.25).entropy():.3f}")
    print(f"  before training                                  {losses[0]:.3f}")
    print(f"  after training                                   {sum(losses[-10:]) / 10:.3f}")


if __name__ == "__main__":
    main()
