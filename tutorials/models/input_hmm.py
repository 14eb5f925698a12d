"""A hidden Markov model with inputs: a logistic regression for every state, and moves that the input drives.

    z_1 ~ softmax(a + A u_1),   z_t ~ softmax(b[z_{t-1}] + B[z_{t-1}] u_t)        latent state
    x_t ~ Bernoulli(sigmoid(c[z_t] + C[z_t] u_t))                                 observation, t = 1..T

Bengio & Frasconi (1995). With A = B = 0 it is the GLM-HMM of choices in neuroscience: how an animal answers a stimulus
depends on a hidden strategy.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO
from torch import Tensor


def model(
    x: Tensor, lengths: Tensor, u: Tensor, a: Tensor, A: Tensor, b: Tensor, B: Tensor, c: Tensor, C: Tensor
) -> None:
    """p(x, z | u) of bits x (batch, T) for inputs u (batch, T, D); sequence i has lengths[i] steps.

    a is (K,), A (K, D), b (K, K), B (K, K, D), c (K,) and C (K, D).
    """
    z = None
    with pyro.plate("sequences", len(x), dim=-1):
        for t, (x_t, u_t) in pyro.markov(enumerate(zip(x.unbind(1), u.unbind(1), strict=True), start=1)):
            with poutine.mask(mask=t <= lengths):
                logits = a + u_t @ A.mT if z is None else b[z] + (B[z] @ u_t[..., None])[..., 0]
                z = pyro.sample(f"z_{t}", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
                answer = c[z] + (C[z] * u_t).sum(-1)
                pyro.sample(f"x_{t}", dist.Bernoulli(logits=answer), obs=x_t)


def guide(x: Tensor, lengths: Tensor, u: Tensor, *_: Tensor) -> None:
    """Enumerated in the model, z needs no guide: the ELBO is the exact log likelihood."""


def main() -> None:
    """An animal that follows a stimulus in one state and guesses in the other."""
    pyro.set_rng_seed(0)
    u, stay = torch.randn(40, 25, 1), torch.tensor([[0.95, 0.05], [0.1, 0.9]])
    weights = torch.tensor([4.0, 0.0])
    z, x = torch.zeros(40, dtype=torch.long), []
    for u_t in u.unbind(1):
        z = dist.Categorical(stay[z]).sample()
        x.append(dist.Bernoulli(logits=weights[z] * u_t[:, 0]).sample())
    seen, lengths = torch.stack(x, dim=1), torch.full((40,), 25)

    def trained_model(x: Tensor, lengths: Tensor, u: Tensor) -> None:
        zeros = torch.zeros(2, 1), torch.zeros(2, 2, 1)
        start, moves = torch.zeros(2), pyro.param("moves", torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        slopes = pyro.param("slopes", torch.tensor([[1.0], [0.2]]))
        model(x, lengths, u, start, zeros[0], moves, zeros[1], pyro.param("bias", torch.zeros(2)), slopes)

    svi = SVI(trained_model, guide, pyro.optim.Adam({"lr": 0.1}), TraceEnum_ELBO(max_plate_nesting=1))
    losses = [svi.step(seen, lengths, u) / lengths.sum() for _ in range(60)]
    print("Exact negative log likelihood, in nats per step:")
    print(f"  before training  {losses[0]:.4f}")
    print(f"  after training   {losses[-1]:.4f}")
    print(f"  a fair coin      {torch.log(torch.tensor(2.0)):.4f}")
    print("Weight of the stimulus in each state:", [round(w, 1) for w in pyro.param("slopes").flatten().tolist()])
    print("Probability of staying:", [round(p, 2) for p in pyro.param("moves").softmax(-1).diagonal().tolist()])


if __name__ == "__main__":
    main()
