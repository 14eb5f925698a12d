"""A hidden Markov model, its discrete states summed out by enumeration.

    z_1 ~ Categorical(initial_probs),   z_t ~ Categorical(transition_probs[z_{t-1}])      latent state
    x_t ~ Categorical(emission_probs[z_t])                                                observation, t = 1..T

Choe, Shin & Spencer (2017), sec. 2.2 and 3.2.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO, infer_discrete
from torch import Tensor
from torch.distributions import constraints


def model(
    x: Tensor, lengths: Tensor, initial_probs: Tensor, transition_probs: Tensor, emission_probs: Tensor
) -> list[Tensor]:
    """p(x, z) of symbols x (batch, T); sequence i has lengths[i] steps, the rest is padding; returns z."""
    z, states = None, []
    with pyro.plate("sequences", len(x), dim=-1):
        # pyro.markov promises that z_t depends on z_{t-1} alone: enumeration takes T tables of K x K, not one of K^T.
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                probs = initial_probs if z is None else transition_probs[z]
                z = pyro.sample(f"z_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
                pyro.sample(f"x_{t}", dist.Categorical(emission_probs[z]), obs=x_t)
            states.append(z)
    return states


def guide(x: Tensor, lengths: Tensor, *_: Tensor) -> None:
    """Enumerated in the model, z needs no guide: the ELBO is the exact log likelihood."""


def trained_model(x: Tensor, lengths: Tensor) -> list[Tensor]:
    """The same HMM, two states and three symbols, with probabilities that SVI can train."""
    start = {"initial_probs": [0.5, 0.5], "transition_probs": [[0.6, 0.4], [0.4, 0.6]]}
    start |= {"emission_probs": [[0.4, 0.3, 0.3], [0.3, 0.3, 0.4]]}
    probs = [pyro.param(name, torch.tensor(rows), constraint=constraints.simplex) for name, rows in start.items()]
    return model(x, lengths, *probs)


def main() -> None:
    """Learn an HMM from draws of another, and find the states again."""
    pyro.set_rng_seed(0)
    truth = torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    truth += (torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]),)
    blank, lengths = torch.zeros(50, 8, dtype=torch.long), torch.randint(5, 9, (50,))
    draw = poutine.trace(poutine.uncondition(model)).get_trace(blank, torch.tensor(8), *truth).nodes
    x, z = (torch.stack([draw[f"{name}_{t}"]["value"] for t in range(1, 9)], dim=1) for name in "xz")

    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    svi, steps = SVI(trained_model, guide, pyro.optim.Adam({"lr": 0.1}), elbo), lengths.sum()
    losses = [svi.step(x, lengths) / steps for _ in range(60)]
    decode = infer_discrete(trained_model, first_available_dim=-2, temperature=0)
    found = torch.stack(decode(x, lengths), dim=1)
    right = (found == z)[torch.arange(8) < lengths[:, None]].float().mean()

    print("Exact negative log likelihood, in nats per step:")
    print(f"  before training         {losses[0]:.4f}")
    print(f"  after training          {losses[-1]:.4f}")
    print(f"  of the true parameters  {elbo.loss(model, guide, x, lengths, *truth) / steps:.4f}")
    print("Share of the steps at which the most likely path (Viterbi) is in the true state:")
    print(f"  after training          {right:.3f}")


if __name__ == "__main__":
    main()
