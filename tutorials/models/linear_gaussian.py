"""A linear-Gaussian state-space model, its states integrated out exactly (the Kalman filter).

    z_1 ~ N(m, P),   z_t ~ N(A z_{t-1}, Q)      latent state, real vectors
    x_t ~ N(C z_t, R)                           observation, t = 1..T

Choe, Shin & Spencer (2017), sec. 2.2; Vidal (2024), "RNNs vs LDSs".
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import RenyiELBO, Trace_ELBO
from torch import Tensor


def model(x: Tensor, lengths: Tensor, m: Tensor, P: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> None:
    """p(x, z) of observations x (batch, T, M); sequence i has lengths[i] steps, the rest is padding."""
    z = None
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                law = dist.MultivariateNormal(m, P) if z is None else dist.MultivariateNormal(z @ A.mT, Q)
                z = pyro.sample(f"z_{t}", law)
                pyro.sample(f"x_{t}", dist.MultivariateNormal(z @ C.mT, R), obs=x_t)


# q(z | x) = p(z), the model without its observations: the simplest guide, for it does not look at x.
guide = poutine.block(model, hide_types=["observe"])


def exact_law(num_steps: int, m: Tensor, P: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> dist.GaussianHMM:
    """p(x_{1:T}) as one distribution.

    Pyro's chain starts one step earlier, at a z_0 that emits nothing. Its first transition matrix is zero here, so that
    z_1 forgets z_0 and has the law of the first noise, N(m, P). Pyro multiplies from the right: z A' is our A z.
    """
    matrices = torch.stack([torch.zeros_like(A), *[A.mT] * (num_steps - 1)])
    means = torch.stack([m, *[torch.zeros_like(m)] * (num_steps - 1)])
    noise = dist.MultivariateNormal(means, torch.stack([P, *[Q] * (num_steps - 1)]))
    start = dist.MultivariateNormal(torch.zeros_like(m), torch.eye(len(m)))
    return dist.GaussianHMM(start, matrices, noise, C.mT, dist.MultivariateNormal(torch.zeros(len(C)), R))


def main() -> None:
    """Track an object of which only a noisy position is observed."""
    pyro.set_rng_seed(0)
    A, C = torch.tensor([[1.0, 1.0], [0.0, 0.9]]), torch.tensor([[1.0, 0.0]])  # z is (position, velocity)
    parameters = torch.zeros(2), torch.eye(2), A, 0.1 * torch.eye(2), C, 0.5 * torch.eye(1)
    blank, lengths = torch.zeros(1, 6, 1), torch.tensor([6])
    draw = poutine.trace(poutine.uncondition(model)).get_trace(blank, lengths, *parameters).nodes
    x, position = torch.stack([draw[f"x_{t}"]["value"] for t in range(1, 7)], dim=1), draw["z_6"]["value"][0, 0]

    law = exact_law(6, *parameters)
    now = law.filter(x)
    draws = {"num_particles": 1000, "vectorize_particles": True, "max_plate_nesting": 1}
    elbo, weighted = Trace_ELBO(**draws), RenyiELBO(alpha=0, **draws)

    print("log p(x_1, ..., x_6) in nats, and two lower bounds, with 1000 draws of a guide that does not look at x:")
    print(f"  ELBO                       {-elbo.loss(model, guide, x, lengths, *parameters):.3f}")
    print(f"  importance-weighted bound  {-weighted.loss(model, guide, x, lengths, *parameters):.3f}")
    print(f"  exact                      {law.log_prob(x).item():.3f}")
    print("The last position: the truth, its noisy observation, and what the filter infers from all six observations:")
    print(f"  true                       {position:.3f}")
    print(f"  observed                   {x[0, -1, 0]:.3f}")
    print(f"  filtered, mean             {now.mean[0, 0]:.3f}")
    print(f"  standard deviation         {now.covariance_matrix[0, 0, 0].sqrt():.3f}")


if __name__ == "__main__":
    main()
