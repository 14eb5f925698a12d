"""A particle filter is a recurrent network: its hidden state is the set of particles, once the seed is fixed.

    h_t = (z_t^1, ..., z_t^N)                                    particles of a hidden Markov model, before x_t
    h_{t+1} = move(resample(h_t, weights p(x_t | z_t^n)))        by inverse distribution functions, at fixed uniforms
    x_t ~ 1/N sum_n Categorical(emission_probs[z_t^n])           observation, t = 1..T

Choe, Shin & Spencer (2017), sec. 3.3 and fig. 4. Their hidden state is the resampled set, ours that moved on.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor


def invert(probs: Tensor, u: Tensor) -> Tensor:
    """Draws from Categorical(probs), probs (..., K), as a function of uniforms u (...)."""
    return (probs.cumsum(-1)[..., :-1] <= u[..., None] * probs.sum(-1, keepdim=True)).sum(-1)


def model(x: Tensor, lengths: Tensor, initial_probs: Tensor, A: Tensor, B: Tensor, uniforms: Tensor) -> None:
    """p(x) of symbols x (batch, T); sequence i has lengths[i] steps, the rest is padding.

    A: transition_probs (K, K). B: emission_probs (K, num_symbols). uniforms: (T, 2, N), for resampling and for moving.
    """
    h = invert(initial_probs, uniforms[0, 1]).expand(len(x), -1)
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in enumerate(x.unbind(1), start=1):
            with poutine.mask(mask=t <= lengths):
                h = pyro.deterministic(f"h_{t}", h, event_dim=1)  # (batch, N)
                x_t = pyro.sample(f"x_{t}", dist.Categorical(B[h].mean(-2)), obs=x_t)
            if t < x.shape[1]:
                weights = B[h, x_t[:, None]]  # (batch, N)
                ancestors = invert(weights[:, None], uniforms[t, 0])  # (batch, N)
                h = invert(A[h.gather(1, ancestors)], uniforms[t, 1])


def guide(x: Tensor, lengths: Tensor, *_: Tensor) -> None:
    """Nothing is latent: given the uniforms, the particles are a function of x."""


def log_likelihood(x: Tensor, initial_probs: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """log p(x) of the HMM itself by the forward algorithm, for one sequence (T,)."""
    joint = initial_probs * B[:, x[0]]
    for x_t in x[1:]:
        joint = joint @ A * B[:, x_t]
    return joint.sum().log()


def main() -> None:
    """Compare the networks' likelihood with the exact one of the HMM."""
    pyro.set_rng_seed(0)
    parameters = torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    parameters += (torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]),)
    x = torch.tensor([[0, 0, 2, 2, 1, 0]])
    exact, elbo = log_likelihood(x[0], *parameters), Trace_ELBO()

    print("log p(x_1, ..., x_6) in nats, under the HMM and under networks with N particles, one seed each:")
    print(f"  exact    {exact:.4f}")
    for N in (10, 100, 1000):
        print(f"  N = {N:<5}{-elbo.loss(model, guide, x, torch.tensor([6]), *parameters, torch.rand(6, 2, N)):.4f}")
    losses = [elbo.loss(model, guide, x, torch.tensor([6]), *parameters, torch.rand(6, 2, 5)) for _ in range(200)]
    ratios = (-torch.tensor(losses) - exact).exp()
    print("Over seeds, the network's likelihood is an unbiased estimate of the HMM's. Their ratio, N = 5, 200 seeds:")
    print(f"  mean            {ratios.mean():.3f}")
    print(f"  standard error  {ratios.std() / 200**0.5:.3f}")


if __name__ == "__main__":
    main()
