"""A structural time series: a level with a slope, a season of s steps and noise, as one big normal law.

    l_t = l_{t-1} + b_{t-1} + N(0, v_l),   b_t = b_{t-1} + N(0, v_b)        level and slope
    g_t = -(g_{t-1} + ... + g_{t-s+1}) + N(0, v_g)                          season
    x_t = l_t + g_t + N(0, v)                                               observation, t = 1..T

All first values are N(0, k^2). Everything is a sum of shocks, so the covariance of x_1, ..., x_T has a term for each
variance. Harvey (1989), ch. 2. `pgm_rnn.models.StructuralSSM` takes T steps of a Kalman filter instead, and k = inf.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor
from torch.distributions import constraints


def season(num_steps: int, period: int) -> tuple[Tensor, Tensor]:
    """How g_1, ..., g_T respond to the first s - 1 values, (T, s - 1), and to the later shocks, (T, T - 1)."""
    unit = torch.eye(period - 1 + num_steps - 1)
    values = list(unit[: period - 1])  # g_1 is the last of them
    for shock in unit[period - 1 :]:
        values.append(shock - torch.stack(values[len(values) - period + 1 :]).sum(0))
    rows = torch.stack(values[period - 2 :])
    return rows[:, : period - 1], rows[:, period - 1 :]


def covariance(num_steps: int, period: int, k: float, v: Tensor) -> Tensor:
    """Covariance of x_1, ..., x_T, for the variances v = (noise, level, slope, season)."""
    steps = torch.arange(num_steps)
    since = steps[:, None] - steps  # the shock of step s has had so many steps at t
    level, slope = (since >= 0).to(v.dtype), since.clamp(min=0).to(v.dtype)
    first, later = season(num_steps, period)
    starts = torch.cat([level[:, :1], slope[:, :1], first.to(v.dtype)], dim=1)
    shocks = zip(v[1:], (level[:, 1:], slope[:, 1:], later.to(v.dtype)), strict=True)
    changes = sum(variance * matrix @ matrix.mT for variance, matrix in shocks)
    return k**2 * starts @ starts.mT + changes + v[0] * torch.eye(num_steps, dtype=v.dtype)


def model(x: Tensor, lengths: Tensor, period: int, k: float, v: Tensor) -> None:
    """p(x) of observations x (batch, T); sequence i has lengths[i] steps, the rest is padding."""
    cov = covariance(x.shape[1], period, k, v)
    for i, (row, length) in enumerate(zip(x, lengths.tolist(), strict=True)):
        law = dist.MultivariateNormal(torch.zeros(length, dtype=v.dtype), cov[:length, :length])
        pyro.sample(f"x_{i}", law, obs=row[:length])


def guide(x: Tensor, lengths: Tensor, *_: object) -> None:
    """All states are integrated out: the ELBO is the exact log likelihood."""


def trained_model(x: Tensor, lengths: Tensor, period: int, k: float) -> None:
    """The same with variances that SVI can train."""
    model(x, lengths, period, k, pyro.param("v", torch.full((4,), 0.3), constraint=constraints.positive))


def main() -> None:
    """Find the variances of draws, for every series the same."""
    pyro.set_rng_seed(0)
    truth, lengths = torch.tensor([1.0, 0.2, 0.01, 0.05]), torch.full((20,), 60)
    x = dist.MultivariateNormal(torch.zeros(60), covariance(60, 4, 3.0, truth)).sample((20,))
    elbo = Trace_ELBO()
    svi, steps = SVI(trained_model, guide, pyro.optim.Adam({"lr": 0.05}), elbo), float(lengths.sum())
    losses = [svi.step(x, lengths, 4, 3.0) / steps for _ in range(200)]

    print("Exact negative log likelihood, in nats per step:")
    print(f"  before training         {losses[0]:.4f}")
    print(f"  after training          {losses[-1]:.4f}")
    print(f"  of the true variances   {elbo.loss(model, guide, x, lengths, 4, 3.0, truth) / steps:.4f}")
    print("Variances of noise, level, slope and season; 1.0, 0.2, 0.01 and 0.05 in truth:")
    for number in pyro.param("v").detach():
        print(f"  after training          {number:.3f}")


if __name__ == "__main__":
    main()
