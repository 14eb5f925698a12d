"""A Markov chain: the only memory is the observation before.

    x_1 ~ Categorical(initial_probs)
    x_t ~ Categorical(transition_probs[h_t]),   h_t = x_{t-1},   t = 2..T

Vidal (2024), the taxonomy of sequence models; Anderson & Goodman (1957), for the estimate by counts.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor
from torch.distributions import constraints


def model(x: Tensor, lengths: Tensor, initial_probs: Tensor, transition_probs: Tensor) -> None:
    """p(x) of symbols x (batch, T); sequence i has lengths[i] steps, the rest is padding."""
    probs = initial_probs
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in enumerate(x.unbind(1), start=1):
            with poutine.mask(mask=t <= lengths):
                x_t = pyro.sample(f"x_{t}", dist.Categorical(probs), obs=x_t)
            probs = transition_probs[x_t]


def guide(x: Tensor, lengths: Tensor, *_: Tensor) -> None:
    """Nothing is latent."""


def trained_model(x: Tensor, lengths: Tensor) -> None:
    """The same chain with probabilities that SVI can train; they stay on the simplex."""
    initial_probs = pyro.param("initial_probs", torch.ones(3) / 3, constraint=constraints.simplex)
    transition_probs = pyro.param("transition_probs", torch.ones(3, 3) / 3, constraint=constraints.simplex)
    model(x, lengths, initial_probs, transition_probs)


def count(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The most likely probabilities in closed form: p(j) = n_j / n and p(j | i) = n_ij / n_i."""
    inside = torch.arange(1, x.shape[1]) < lengths[:, None]  # steps 2..T that count, (batch, T - 1)
    pairs = 3 * x[:, :-1][inside] + x[:, 1:][inside]
    transitions = pairs.bincount(minlength=9).reshape(3, 3)
    initial = x[:, 0].bincount(minlength=3)
    return initial / initial.sum(), transitions / transitions.sum(1, keepdim=True)


def main() -> None:
    """Estimate a chain by counts and by gradients."""
    pyro.set_rng_seed(0)
    x, lengths = torch.randint(3, (20, 6)), torch.randint(2, 7, (20,))
    for t in range(1, 6):  # after each symbol the next one of the circle is likely
        x[:, t] = torch.where(torch.rand(20) < 0.7, (x[:, t - 1] + 1) % 3, x[:, t])
    svi = SVI(trained_model, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    losses = [svi.step(x, lengths) for _ in range(150)]
    exact = Trace_ELBO().loss(model, guide, x, lengths, *count(x, lengths))

    print("Log likelihood of 20 sequences, in nats. Gradients and counts reach the same maximum:")
    print(f"  uniform probabilities  {-losses[0]:.3f}")
    print(f"  trained by gradients   {-losses[-1]:.3f}")
    print(f"  counted                {-exact:.3f}")
    print("Estimates of p(x_t = 1 | x_{t-1} = 0):")
    print(f"  trained                {pyro.param('transition_probs')[0, 1].item():.3f}")
    print(f"  counted                {count(x, lengths)[1][0, 1].item():.3f}")


if __name__ == "__main__":
    main()
