"""Hamilton's switching autoregression: the mean of a series switches, its deviations are autoregressive of order one.

    s_t ~ Categorical(transition_probs[s_{t-1}])                                            latent regime, s_0 too
    x_t ~ N(m[s_t] + a (x_{t-1} - m[s_{t-1}]), scale^2)                                     observation, t = 1..T

x_t reads two regimes: Pyro enumerates with history=2. The deviation before x_1 is 0. Hamilton (1989), eq. (4.1)-(4.3).
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO
from torch import Tensor
from torch.distributions import constraints


def model(
    x: Tensor,
    lengths: Tensor,
    initial_probs: Tensor,
    transition_probs: Tensor,
    means: Tensor,
    a: Tensor,
    scale: Tensor,
) -> None:
    """p(x, s) of numbers x (batch, T), with the law of s_1 as initial_probs; sequence i has lengths[i] steps."""
    s, before = None, None
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1), history=2):
            with poutine.mask(mask=t <= lengths):
                probs = initial_probs if s is None else transition_probs[s]
                deviation = 0.0 if s is None else before - means[s]
                s = pyro.sample(f"s_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
                pyro.sample(f"x_{t}", dist.Normal(means[s] + a * deviation, scale), obs=x_t)
            before = x_t


def guide(x: Tensor, lengths: Tensor, *_: Tensor) -> None:
    """Enumerated in the model, s needs no guide: the ELBO is the exact log likelihood."""


def main() -> None:
    """Growth that switches between a slump and a boom."""
    pyro.set_rng_seed(0)
    moves, means, a, scale = torch.tensor([[0.8, 0.2], [0.05, 0.95]]), torch.tensor([-1.5, 1.0]), 0.4, 0.7
    s, x, deviation = torch.ones(20, dtype=torch.long), [], torch.zeros(20)
    for _ in range(40):
        s = dist.Categorical(moves[s]).sample()
        x.append(means[s] + a * deviation + scale * torch.randn(20))
        deviation = x[-1] - means[s]
    seen, lengths = torch.stack(x, dim=1), torch.full((20,), 40)

    def trained_model(x: Tensor, lengths: Tensor) -> None:
        start = torch.tensor([0.5, 0.5])
        rows = pyro.param("moves", torch.tensor([[0.7, 0.3], [0.3, 0.7]]), constraint=constraints.simplex)
        levels, slope = pyro.param("means", torch.tensor([-0.5, 0.5])), pyro.param("a", torch.tensor(0.0))
        spread = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        model(x, lengths, start, rows, levels, slope, spread)

    svi = SVI(trained_model, guide, pyro.optim.Adam({"lr": 0.05}), TraceEnum_ELBO(max_plate_nesting=1))
    losses = [svi.step(seen, lengths) / lengths.sum() for _ in range(60)]
    print("Exact negative log likelihood, in nats per step:")
    print(f"  before training  {losses[0]:.4f}")
    print(f"  after training   {losses[-1]:.4f}")
    print("Means:", [round(m, 2) for m in pyro.param("means").tolist()], "of", means.tolist())
    print(f"Autoregression: {pyro.param('a'):.2f} of {a}")


if __name__ == "__main__":
    main()
