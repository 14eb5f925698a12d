"""A factorial hidden Markov model: two chains of hidden states that move independently, and whose effects add up.

    a_1 ~ Categorical(initial_probs[0]),   a_t ~ Categorical(transition_probs[0][a_{t-1}])      the first chain
    b_1 ~ Categorical(initial_probs[1]),   b_t ~ Categorical(transition_probs[1][b_{t-1}])      the second one
    x_t ~ Normal(effects[0][a_t] + effects[1][b_t], scale)                        observation, t = 1..T

Pyro enumerates each chain in a dimension of its own and sums one of them out at a time. Ghahramani & Jordan (1997);
`pgm_rnn.models.FactorialHMM` does the same for any number of chains and any law of the observations.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO, infer_discrete
from torch import Tensor
from torch.distributions import constraints


def model(x: Tensor, lengths: Tensor, *parameters: list[Tensor]) -> list[list[Tensor]]:
    """p(x, a, b) of numbers x (batch, T); sequence i has lengths[i] steps, the rest is padding; returns a and b."""
    initial_probs, transition_probs, effects, scale = parameters
    states: list[list[Tensor]] = [[]]
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                rows = [table[z] for table, z in zip(transition_probs, states[-1], strict=False)] or initial_probs
                laws = {f"{name}_{t}": dist.Categorical(row) for name, row in zip("ab", rows, strict=True)}
                a, b = (pyro.sample(name, law, infer={"enumerate": "parallel"}) for name, law in laws.items())
                pyro.sample(f"x_{t}", dist.Normal(effects[0][a] + effects[1][b], scale[0]), obs=x_t)
            states.append([a, b])
    return states[1:]


def guide(x: Tensor, lengths: Tensor, *_: object) -> None:
    """Enumerated in the model, the states need no guide: the ELBO is the exact log likelihood."""


HALVES = [torch.tensor([0.5, 0.5])] * 2
MOVES = [torch.tensor([[0.9, 0.1], [0.1, 0.9]])] * 2


def trained_model(x: Tensor, lengths: Tensor) -> list[list[Tensor]]:
    """The same with known chains, and with effects and a scale that SVI can train."""
    rises = pyro.param("rises", torch.tensor([2.0, 0.5]), constraint=constraints.positive)
    scale = pyro.param("scale", torch.tensor([1.0]), constraint=constraints.positive)
    return model(x, lengths, HALVES, MOVES, [torch.tensor([0.0, 1.0]) * rise for rise in rises], [scale])


def main() -> None:
    """Learn the effects of two switches from draws of their sum."""
    pyro.set_rng_seed(0)
    truth = HALVES, MOVES, [torch.tensor([0.0, 3.0]), torch.tensor([0.0, 1.0])], [torch.tensor(0.4)]
    blank, lengths = torch.zeros(60, 16), torch.randint(10, 17, (60,))
    draw = poutine.trace(poutine.uncondition(model)).get_trace(blank, torch.tensor(16), *truth).nodes
    x, a, b = (torch.stack([draw[f"{name}_{t}"]["value"] for t in range(1, 17)], dim=1) for name in "xab")

    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    svi, steps = SVI(trained_model, guide, pyro.optim.Adam({"lr": 0.05}), elbo), lengths.sum()
    losses = [svi.step(x, lengths) / steps for _ in range(100)]
    found = infer_discrete(trained_model, first_available_dim=-2, temperature=0)(x, lengths)
    likely = [torch.stack(part, 1) for part in zip(*found, strict=True)]
    right = ((likely[0] == a) & (likely[1] == b))[torch.arange(16) < lengths[:, None]].float().mean()

    print("Exact negative log likelihood, in nats per step:")
    print(f"  before training         {losses[0]:.4f}")
    print(f"  after training          {losses[-1]:.4f}")
    print(f"  of the true parameters  {elbo.loss(model, guide, x, lengths, *truth) / steps:.4f}")
    print("Share of steps at which the most likely path is in the true state; effects, 3 and 1 in truth:")
    for number in (right, *pyro.param("rises").detach()):
        print(f"  after training          {number:.3f}")


if __name__ == "__main__":
    main()
