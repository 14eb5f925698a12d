"""A switching linear-Gaussian state-space model: regimes summed out exactly, vectors inferred by a guide.

    s_1 ~ Categorical(p),   s_t ~ Categorical(P[s_{t-1}])             regime
    y_1 ~ N(m[s_1], V[s_1]),   y_t ~ N(A[s_t] y_{t-1}, Q[s_t])        latent vector
    x_t ~ N(C[s_t] y_t, R[s_t])                                       observation, t = 1..T

Given y the regimes are a Markov chain, which Pyro enumerates; `pgm_rnn.inference.mixture_kalman` does the reverse and
integrates y out given the regimes. Choe, Shin & Spencer (2017), sec. 3.3; Ghahramani & Hinton (2000).
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO, infer_discrete
from torch import Tensor
from torch.distributions import constraints


def model(x: Tensor, lengths: Tensor, *laws: Tensor) -> list[tuple[Tensor, Tensor]]:
    """p(x, s, y) of x (batch, T, M); sequence i has lengths[i] steps, the rest is padding; returns all s and y."""
    p, P, m, V, A, Q, C, R = laws
    s = y = None
    states = []
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                s = pyro.sample(f"s_{t}", dist.Categorical(p if s is None else P[s]), infer={"enumerate": "parallel"})
                mean, cov = (m[s], V[s]) if y is None else ((A[s] @ y[..., None])[..., 0], Q[s])
                y = pyro.sample(f"y_{t}", dist.MultivariateNormal(mean, cov))
                seen = (C[s] @ y[..., None])[..., 0]
                pyro.sample(f"x_{t}", dist.MultivariateNormal(seen, R[s]), obs=x_t)
            states.append((s, y))
    return states


def guide(x: Tensor, lengths: Tensor, *laws: Tensor) -> None:
    """q(y | x): independent normal entries with parameters of their own; enumerated in the model, s needs no guide."""
    shape = (*x.shape[:2], laws[2].shape[1])
    loc = pyro.param("loc", torch.zeros(shape))
    scale = pyro.param("scale", torch.ones(shape), constraint=constraints.positive)
    with pyro.plate("sequences", len(x), dim=-1):
        for t in range(x.shape[1]):
            with poutine.mask(mask=t < lengths):
                pyro.sample(f"y_{t + 1}", dist.Normal(loc[:, t], scale[:, t]).to_event(1))


def main() -> None:
    """Find out when a process rested and when it swung, from noisy observations of it."""
    pyro.set_rng_seed(0)
    eye, swings = torch.eye(2), torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # a quarter of a turn per step
    laws = torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.1, 0.9]]), torch.zeros(2, 2), torch.stack([eye, eye])
    laws += (torch.stack([eye, swings]), 0.1 * torch.stack([eye, eye]), torch.stack([eye, eye]))
    laws += (0.1 * torch.stack([eye, eye]),)
    blank, lengths = torch.zeros(30, 8, 2), torch.full((30,), 8)
    draw = poutine.trace(poutine.uncondition(model)).get_trace(blank, lengths, *laws).nodes
    x, s, y = (torch.stack([draw[f"{name}_{t}"]["value"] for t in range(1, 9)], dim=1) for name in "xsy")

    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    svi, steps = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), elbo), lengths.sum()
    losses = [svi.step(x, lengths, *laws) / steps for _ in range(120)]
    loc = pyro.param("loc").detach()
    known = poutine.condition(model, data={f"y_{t + 1}": loc[:, t] for t in range(8)})
    found = infer_discrete(known, first_available_dim=-2, temperature=0)(x, lengths, *laws)
    right = (torch.stack([state for state, _ in found], dim=1) == s).float().mean()

    print("Upper bound on the negative log likelihood, in nats per step:")
    print(f"  before inference        {losses[0]:.4f}")
    print(f"  after inference         {losses[-1]:.4f}")
    print("Share of steps at which the most likely regimes are the true ones; mean squared error of y, and of x for y:")
    print(f"  regimes                 {right:.3f}")
    print(f"  guide                   {(loc - y).square().mean():.3f}")
    print(f"  observations            {(x - y).square().mean():.3f}")


if __name__ == "__main__":
    main()
