"""Stochastic volatility with leverage: returns whose log variance is a hidden autoregression.

    z_1 ~ N(m, s^2 / (1 - f^2)),   z_t ~ N(m + f (z_{t-1} - m) + s r e_{t-1}, s^2 (1 - r^2))      log variance
    e_t = x_t exp(-z_t / 2),   r = corr(e_t, noise of z_{t+1})                                    error
    x_t ~ N(0, exp(z_t))                                                                          return, t = 1..T

Harvey & Shephard (1996). `pgm_rnn.models.StochasticVolatility` adds Student errors and a guide that reads x.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor
from torch.distributions import constraints


def law_of(z: Tensor | None, x: Tensor | None, m: Tensor, f: Tensor, s: Tensor, r: Tensor) -> dist.Normal:
    """p(z_t | z_{t-1}, x_{t-1}), or p(z_1)."""
    if z is None or x is None:
        return dist.Normal(m, s / (1 - f**2).sqrt())
    return dist.Normal(m + f * (z - m) + s * r * x * (-z / 2).exp(), s * (1 - r**2).sqrt())


def model(x: Tensor, lengths: Tensor, m: Tensor, f: Tensor, s: Tensor, r: Tensor) -> None:
    """p(x, z) of returns x (batch, T); sequence i has lengths[i] steps, the rest is padding."""
    z = before = None
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                z = pyro.sample(f"z_{t}", law_of(z, before, m, f, s, r))
                before = pyro.sample(f"x_{t}", dist.Normal(0, (z / 2).exp()), obs=x_t)


def guide(x: Tensor, lengths: Tensor, m: Tensor, f: Tensor, s: Tensor, r: Tensor) -> None:
    """q(z | x), a normal chain that is moved at each step: z_t ~ N(a_t + b (z_{t-1} - a_{t-1}), c^2)."""
    a = pyro.param("a", m + torch.zeros_like(x))
    b = pyro.param("b", f.clone(), constraint=constraints.interval(-1.0, 1.0))
    c, ahead = pyro.param("c", s.clone(), constraint=constraints.positive), torch.zeros(len(x))
    with pyro.plate("sequences", len(x), dim=-1):
        for t in pyro.markov(range(1, x.shape[1] + 1)):
            with poutine.mask(mask=t <= lengths):
                scale = c / (1 - b**2).sqrt() if t == 1 else c
                ahead = b * (pyro.sample(f"z_{t}", dist.Normal(a[:, t - 1] + ahead, scale)) - a[:, t - 1])


def exact(x: Tensor, m: Tensor, f: Tensor, s: Tensor, r: Tensor) -> Tensor:
    """log p(x) of one sequence (T,), by sums over a grid of log variances."""
    width = 8 * s / (1 - f**2).sqrt()
    z = torch.linspace(float(m - width), float(m + width), 400)
    law, total = law_of(None, None, m, f, s, r).log_prob(z).exp(), torch.zeros(())
    for t, x_t in enumerate(x):
        if t:
            law = law @ law_of(z[:, None], x[t - 1], m, f, s, r).log_prob(z).exp() * (z[1] - z[0])
        law = law * dist.Normal(0, (z / 2).exp()).log_prob(x_t).exp()
        step = law.sum() * (z[1] - z[0])
        law, total = law / step, total + step.log()
    return total


def main() -> None:
    """Infer the log variances of one drawn series by SVI."""
    pyro.set_rng_seed(0)
    numbers = torch.tensor([-0.5, 0.9, 0.4, -0.5]).unbind()
    blank, lengths = torch.zeros(1, 20), torch.tensor([20])
    draw = poutine.trace(poutine.uncondition(model)).get_trace(blank, lengths, *numbers).nodes
    x = torch.stack([draw[f"x_{t}"]["value"] for t in range(1, 21)], dim=1)
    elbo = Trace_ELBO(num_particles=10, vectorize_particles=True, max_plate_nesting=1)
    before = elbo.loss(model, guide, x, lengths, *numbers)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), elbo)
    after = sum([svi.step(x, lengths, *numbers) for _ in range(150)][-30:]) / 30
    print(f"log p(x) in nats, and its lower bounds:\n  ELBO of a guide that does not look at x  {-before:.3f}")
    print(f"  ELBO after training  {-after:.3f}\n  exact, on a grid  {exact(x[0], *numbers):.3f}")


if __name__ == "__main__":
    main()
