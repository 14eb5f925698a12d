"""A recurrent network with noise on its state and its output, followed by a particle filter.

    h_t = x_{t-1},   h_1 = 0                                   memory: the observation before
    z_1 ~ N(m, P),   z_t ~ N(tanh(A z_{t-1} + W h_t), Q)       latent state
    x_t ~ N(C z_t, R)                                          observation, t = 1..T

Vidal (2024), "Extended Kalman Filters for RNNs"; Sohl-Dickstein & Kingma (2015), sec. 2.3.
"""

from collections import namedtuple
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SMCFilter
from torch import Tensor

Parameters = namedtuple("Parameters", "m P A Q C R W")  # (D,), (D, D), (D, D), (D, D), (M, D), (M, M), (D, M)


def guide_step(state: dict[str, Tensor], t: int, h: Tensor, x_t: Tensor, net: Parameters) -> Tensor:
    """Draw z_t given h_t and state["z"], which is z_{t-1}. This guide does not look at x_t."""
    if t == 1:
        return pyro.sample("z_1", dist.MultivariateNormal(net.m, net.P))
    return pyro.sample(f"z_{t}", dist.MultivariateNormal(torch.tanh(state["z"] @ net.A.mT + h @ net.W.mT), net.Q))


def model_step(state: dict[str, Tensor], t: int, h: Tensor, x_t: Tensor, net: Parameters) -> Tensor:
    """Draw z_t and x_t, and keep z_t in state["z"]."""
    z = state["z"] = guide_step(state, t, h, x_t, net)
    return pyro.sample(f"x_{t}", dist.MultivariateNormal(z @ net.C.mT, net.R), obs=x_t)


def model(x: Tensor, lengths: Tensor, net: Parameters) -> None:
    """p(x, z) of observations x (batch, T, M); sequence i has lengths[i] steps, the rest is padding."""
    state, h = {}, torch.zeros_like(x[:, 0])
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                h = model_step(state, t, pyro.deterministic(f"h_{t}", h, event_dim=1), x_t, net)


def guide(x: Tensor, lengths: Tensor, net: Parameters) -> None:
    """q(z | x): the model's own transitions, which see of x only what is fed back."""
    state, h = {}, torch.zeros_like(x[:, 0])
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                state["z"], h = guide_step(state, t, h, x_t, net), x_t


def main() -> None:
    """Draw one sequence from an oscillating network, and find its states with 1000 particles."""
    pyro.set_rng_seed(0)
    torch.set_default_dtype(torch.float64)  # in float32 the weights of SMCFilter may sum to less than one
    A, C, W = torch.tensor([[1.5, -1.0], [1.0, 1.5]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.2], [0.0]])
    net = Parameters(torch.zeros(2), torch.eye(2), A, 0.05 * torch.eye(2), C, 0.5 * torch.eye(1), W)
    draw = poutine.trace(poutine.uncondition(model)).get_trace(torch.zeros(1, 40, 1), torch.tensor([40]), net).nodes
    x, z = (torch.cat([draw[f"{name}_{t}"]["value"] for t in range(1, 41)]) for name in "xz")

    program = SimpleNamespace(init=model_step, step=model_step), SimpleNamespace(init=guide_step, step=guide_step)
    smc, means = SMCFilter(*program, num_particles=1000, max_plate_nesting=0), []
    for t, (h, x_t) in enumerate(zip([torch.zeros(1), *x[:-1]], x, strict=True), start=1):
        (smc.init if t == 1 else smc.step)(t, h, x_t, net)
        means.append(smc.get_empirical()["z"].mean)
    error = (torch.stack(means) - z).square().mean(0).sqrt()

    print("A state has two entries; the output shows the first of them, with noise. Root mean square errors:")
    print(f"  first entry, taken to be the output     {(x - z[:, :1]).square().mean().sqrt():.3f}")
    print(f"  first entry, mean of the particles      {error[0]:.3f}")
    print(f"  second entry, taken to be its average   {z[:, 1].std(correction=0):.3f}")
    print(f"  second entry, mean of the particles     {error[1]:.3f}")


if __name__ == "__main__":
    main()
