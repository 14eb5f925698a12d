"""A deep Markov model: a state-space model made of networks, with a guide that reads the future.

    z_t ~ N(mean(z_{t-1}), scale(z_{t-1})^2)       latent state, z_0 a parameter
    x_t ~ Bernoulli(sigmoid(emitter(z_t)))         observation, bits, t = 1..T
    q(z_t | z_{t-1}, x_{t:T}) = N(...)             guide, after a network has read x_T, ..., x_t

Krishnan, Shalit & Sontag (2017), eq. (2), the gated transition and the guide ST-R.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn


class DMM(nn.Module):
    """The networks of model and guide."""

    def __init__(self, obs_dim: int, latent_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.z_0, self.guide_z_0 = (nn.Parameter(torch.zeros(latent_dim)) for _ in range(2))
        self.gate, self.proposed = (pyro.nn.DenseNN(latent_dim, [hidden_dim], [latent_dim]) for _ in range(2))
        self.linear, self.scale = (nn.Linear(latent_dim, latent_dim) for _ in range(2))
        self.emitter = pyro.nn.DenseNN(latent_dim, [hidden_dim, hidden_dim], [obs_dim])
        self.reader, self.from_z = nn.GRUCell(obs_dim, hidden_dim), nn.Linear(latent_dim, hidden_dim)
        self.guide_mean, self.guide_scale = (nn.Linear(hidden_dim, latent_dim) for _ in range(2))
        nn.init.eye_(self.linear.weight)  # before training, a state stays where it is

    def transition(self, z: Tensor) -> dist.Distribution:
        """p(z_t | z_{t-1}): the mean lies between a linear map of z_{t-1} and a network's proposal."""
        proposed = self.proposed(z)
        mean = torch.lerp(self.linear(z), proposed, torch.sigmoid(self.gate(z)))
        return dist.Normal(mean, nn.functional.softplus(self.scale(torch.relu(proposed)))).to_event(1)

    def combine(self, z: Tensor, r: Tensor) -> dist.Distribution:
        """q(z_t | z_{t-1}, r_t)."""
        c = (torch.tanh(self.from_z(z)) + r) / 2
        return dist.Normal(self.guide_mean(c), nn.functional.softplus(self.guide_scale(c))).to_event(1)


def model(x: Tensor, lengths: Tensor, net: DMM) -> None:
    """p(x, z) of bits x (batch, T, M); sequence i has lengths[i] steps, the rest is padding."""
    pyro.module("net", net)  # the guide's parts too
    z = net.z_0.expand(len(x), -1)
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                z = pyro.sample(f"z_{t}", net.transition(z))
                pyro.sample(f"x_{t}", dist.Bernoulli(logits=net.emitter(z)).to_event(1), obs=x_t)


def guide(x: Tensor, lengths: Tensor, net: DMM) -> None:
    """q(z | x): first r_T, ..., r_1 backwards in time, in which padding changes nothing, then z_1, ..., z_T."""
    z, r, future = net.guide_z_0.expand(len(x), -1), x.new_zeros(len(x), net.reader.hidden_size), {}
    for t in range(x.shape[1], 0, -1):
        r = future[t] = torch.where((t <= lengths)[:, None], net.reader(x[:, t - 1], r), r)
    with pyro.plate("sequences", len(x), dim=-1):
        for t in pyro.markov(range(1, x.shape[1] + 1)):
            with poutine.mask(mask=t <= lengths):
                z = pyro.sample(f"z_{t}", net.combine(z, future[t]))


def main() -> None:
    """Learn two chords of a piano with eight keys, and that a chord lasts."""
    pyro.set_rng_seed(0)
    chord = (torch.rand(20, 6) < torch.tensor([0.5] + 5 * [0.1])).cumsum(1) % 2  # one of two, (20, 6)
    x, lengths = torch.eye(2)[chord].repeat_interleave(4, dim=-1), torch.randint(3, 7, (20,))  # x: (20, 6, 8)
    net, steps = DMM(obs_dim=8, latent_dim=2, hidden_dim=16), lengths.sum()
    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 0.03}), Trace_ELBO())
    losses = [svi.step(x, lengths, net) / steps for _ in range(100)]
    print("Negative ELBO, an upper bound of the negative log likelihood, in nats per step of eight keys:")
    print(f"  eight fair coins  {8 * dist.Bernoulli(0.5).entropy():.3f}")
    print(f"  before training   {losses[0]:.3f}")
    print(f"  after training    {sum(losses[-10:]) / 10:.3f}")


if __name__ == "__main__":
    main()
