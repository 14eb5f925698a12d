"""A hidden semi-Markov model: each state lasts some steps by a law of its own, then another state follows.

    s_1 ~ Categorical(initial_probs),   s_t ~ Categorical(transition_probs[s_{t-1}]) where r_{t-1} = 1, else s_{t-1}
    r_t ~ Categorical(duration_probs[s_t]) + 1 where a segment begins, else r_{t-1} - 1                steps left
    x_t ~ Categorical(emission_probs[s_t])                                                observation, t = 1..T

The pair (s_t, r_t) is a Markov chain, which Pyro enumerates as one number z_t = s_t D + r_t - 1. The last segment may
go on past the end. Yu (2010); `pgm_rnn.models.HSMM` takes K (K + D) numbers per step in place of the (K D)^2 here.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO, infer_discrete
from torch import Tensor
from torch.distributions import constraints


def moves(transition_probs: Tensor, duration_probs: Tensor) -> Tensor:
    """p(s_t, r_t | s_{t-1}, r_{t-1}), (K D, K D)."""
    num_states, longest = duration_probs.shape
    begins = (transition_probs[..., None] * duration_probs).flatten(1)  # from r = 1, (K, K D)
    goes_on = torch.eye(num_states * longest).roll(-1, 1)  # to r - 1
    return goes_on.index_copy(0, torch.arange(num_states) * longest, begins)


def model(x: Tensor, lengths: Tensor, *probs: Tensor) -> list[Tensor]:
    """p(x, z) of symbols x (batch, T); sequence i has lengths[i] steps, the rest is padding; returns z."""
    initial_probs, transition_probs, duration_probs, emission_probs = probs
    longest, z, states = duration_probs.shape[1], None, []
    start, table = (initial_probs[:, None] * duration_probs).flatten(), moves(transition_probs, duration_probs)
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                law = dist.Categorical(start if z is None else table[z])
                z = pyro.sample(f"z_{t}", law, infer={"enumerate": "parallel"})
                pyro.sample(f"x_{t}", dist.Categorical(emission_probs[z // longest]), obs=x_t)
            states.append(z)
    return states


def guide(x: Tensor, lengths: Tensor, *_: Tensor) -> None:
    """Enumerated in the model, z needs no guide: the ELBO is the exact log likelihood."""


def trained_model(x: Tensor, lengths: Tensor) -> list[Tensor]:
    """The same with two states, which take turns, and with durations and emissions that SVI can train."""
    start = {"duration_probs": [[0.25] * 4] * 2, "emission_probs": [[0.4, 0.3, 0.3], [0.3, 0.3, 0.4]]}
    probs = [pyro.param(name, torch.tensor(rows), constraint=constraints.simplex) for name, rows in start.items()]
    return model(x, lengths, torch.tensor([0.5, 0.5]), 1 - torch.eye(2), *probs)


def main() -> None:
    """Learn how long two states last from draws."""
    pyro.set_rng_seed(0)
    truth = torch.tensor([0.5, 0.5]), 1 - torch.eye(2), torch.tensor([[0.1, 0.8, 0.1, 0.0], [0.0, 0.1, 0.1, 0.8]])
    truth += (torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]),)
    blank, lengths = torch.zeros(60, 16, dtype=torch.long), torch.randint(10, 17, (60,))
    draw = poutine.trace(poutine.uncondition(model)).get_trace(blank, torch.tensor(16), *truth).nodes
    x, z = (torch.stack([draw[f"{name}_{t}"]["value"] for t in range(1, 17)], dim=1) for name in "xz")

    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    svi, steps = SVI(trained_model, guide, pyro.optim.Adam({"lr": 0.1}), elbo), lengths.sum()
    losses = [svi.step(x, lengths) / steps for _ in range(80)]
    found = torch.stack(infer_discrete(trained_model, first_available_dim=-2, temperature=0)(x, lengths), dim=1)
    right = (found // 4 == z // 4)[torch.arange(16) < lengths[:, None]].float().mean()
    mean = pyro.param("duration_probs").detach() @ torch.arange(1.0, 5.0)

    print("Exact negative log likelihood, in nats per step:")
    print(f"  before training         {losses[0]:.4f}")
    print(f"  after training          {losses[-1]:.4f}")
    print(f"  of the true parameters  {elbo.loss(model, guide, x, lengths, *truth) / steps:.4f}")
    print("Share of steps at which the most likely path is in the true state; mean durations, 2.0 and 3.7 in truth:")
    for number in (right, *mean):
        print(f"  after training          {number:.3f}")


if __name__ == "__main__":
    main()
