"""An autoregressive hidden Markov model: every state is a linear regression on the last p observations.

    z_1 ~ Categorical(initial_probs),   z_t ~ Categorical(transition_probs[z_{t-1}])                latent state
    x_t ~ N(b[z_t] + a[z_t, 1] x_{t-1} + ... + a[z_t, p] x_{t-p}, s[z_t]^2)                          observation

The past reads observations alone, so enumeration stays exact: Juang & Rabiner (1985). Before x_1 are zeros.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO, infer_discrete
from torch import Tensor
from torch.distributions import constraints


def model(
    x: Tensor, lengths: Tensor, initial_probs: Tensor, transition_probs: Tensor, a: Tensor, b: Tensor, s: Tensor
) -> list[Tensor]:
    """p(x, z) of numbers x (batch, T), with a (K, p), b and s (K,); the steps after lengths[i] are padding."""
    z, states, past = None, [], [torch.zeros_like(x[:, 0])] * a.shape[1]
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                probs = initial_probs if z is None else transition_probs[z]
                z = pyro.sample(f"z_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
                mean = b[z] + sum(a[z, i] * lag for i, lag in enumerate(past))
                drawn = pyro.sample(f"x_{t}", dist.Normal(mean, s[z]), obs=x_t)
            past = [drawn, *past[:-1]]
            states.append(z)
    return states


def guide(x: Tensor, lengths: Tensor, *_: Tensor) -> None:
    """Enumerated in the model, z needs no guide: the ELBO is the exact log likelihood."""


def trained_model(x: Tensor, lengths: Tensor) -> list[Tensor]:
    """Two states of order 1 whose numbers SVI can train; the slopes start apart."""
    probs = [
        pyro.param("initial_probs", torch.tensor([0.5, 0.5]), constraint=constraints.simplex),
        pyro.param("transition_probs", torch.tensor([[0.8, 0.2], [0.2, 0.8]]), constraint=constraints.simplex),
    ]
    a, b = pyro.param("a", torch.tensor([[0.3], [-0.3]])), pyro.param("b", torch.zeros(2))
    return model(x, lengths, *probs, a, b, pyro.param("s", torch.ones(2), constraint=constraints.positive))


def main() -> None:
    """Learn two regimes, one that persists and one that alternates, and find them again."""
    pyro.set_rng_seed(0)
    truth = torch.tensor([0.5, 0.5]), torch.tensor([[0.95, 0.05], [0.05, 0.95]])
    truth += (torch.tensor([[0.9], [-0.9]]), torch.zeros(2), torch.tensor([0.5, 0.5]))
    states, series, past = [torch.randint(2, (40,))], [], torch.zeros(40)
    for _ in range(30):
        states.append(dist.Categorical(truth[1][states[-1]]).sample())
        past = dist.Normal(truth[2][states[-1], 0] * past, 0.5).sample()
        series.append(past)
    x, z, lengths = torch.stack(series, dim=1), torch.stack(states[1:], dim=1), torch.full((40,), 30)

    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    svi, steps = SVI(trained_model, guide, pyro.optim.Adam({"lr": 0.05}), elbo), lengths.sum()
    losses = [svi.step(x, lengths) / steps for _ in range(60)]
    decode = infer_discrete(trained_model, first_available_dim=-2, temperature=0)
    found = torch.stack(decode(x, lengths), dim=1)

    print("Exact negative log likelihood, in nats per step:")
    print(f"  before training         {losses[0]:.4f}")
    print(f"  after training          {losses[-1]:.4f}")
    print(f"  of the true parameters  {elbo.loss(model, guide, x, lengths, *truth) / steps:.4f}")
    slopes = [round(value, 2) for value in pyro.param("a").flatten().tolist()]
    print(f"Slopes {slopes}; share of the steps in the true regime:")
    print(f"  after training          {(found == z).float().mean():.3f}")


if __name__ == "__main__":
    main()
