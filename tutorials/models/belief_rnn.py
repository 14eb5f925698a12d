"""A hidden Markov model's forward algorithm is a recurrent network: its hidden state is the belief.

    h_1 = initial_probs,   h_{t+1} = A' (b_t * h_t) / (b_t . h_t)      belief p(z_{t+1} | x_{1:t})
    x_t ~ Categorical(B' h_t)                                          observation, t = 1..T
    A = transition_probs,   B = emission_probs,   b_t(k) = B[k, x_t] = p(x_t | z_t = k)

Choe, Shin & Spencer (2017), Proposition 6. Their hidden state is p(z_t | x_{1:t}), ours the belief before x_t.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import Tensor


def model(x: Tensor, lengths: Tensor, initial_probs: Tensor, A: Tensor, B: Tensor) -> None:
    """p(x) of symbols x (batch, T) under the network; sequence i has lengths[i] steps, the rest is padding."""
    h = initial_probs.expand(len(x), -1)
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in enumerate(x.unbind(1), start=1):
            with poutine.mask(mask=t <= lengths):
                h = pyro.deterministic(f"h_{t}", h, event_dim=1)
                x_t = pyro.sample(f"x_{t}", dist.Categorical(h @ B), obs=x_t)
            joint = h * B.mT[x_t]  # p(z_t, x_t | x_{1:t-1}), (batch, K)
            h = joint / joint.sum(-1, keepdim=True) @ A


def guide(x: Tensor, lengths: Tensor, *_: Tensor) -> None:
    """Nothing is latent in the network, and in the HMM the states are enumerated."""


def hmm(x: Tensor, lengths: Tensor, initial_probs: Tensor, A: Tensor, B: Tensor) -> None:
    """p(x, z) under the HMM."""
    z = None
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in pyro.markov(enumerate(x.unbind(1), start=1)):
            with poutine.mask(mask=t <= lengths):
                law = dist.Categorical(initial_probs if z is None else A[z])
                z = pyro.sample(f"z_{t}", law, infer={"enumerate": "parallel"})
                pyro.sample(f"x_{t}", dist.Categorical(B[z]), obs=x_t)


def main() -> None:
    """Compare the two laws, and the network's last hidden state with the HMM's posterior."""
    pyro.set_rng_seed(0)
    torch.set_default_dtype(torch.float64)
    initial_probs, A = torch.tensor([0.7, 0.3]), torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    parameters = initial_probs, A, torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    x, lengths = torch.randint(3, (5, 8)), torch.tensor([8, 7, 6, 5, 8])
    network, enumeration = Trace_ELBO(), TraceEnum_ELBO(max_plate_nesting=1)

    print("Log likelihood of five sequences, in nats:")
    print(f"  recurrent network    {-network.loss(model, guide, x, lengths, *parameters):.12f}")
    print(f"  HMM, by enumeration  {-enumeration.loss(hmm, guide, x, lengths, *parameters):.12f}")
    hidden = poutine.trace(model).get_trace(x, lengths, *parameters).nodes["h_5"]["value"]
    posterior = enumeration.compute_marginals(hmm, guide, x[:, :4], torch.tensor(4), *parameters)["z_4"].probs
    print("p(z_5 = 1 | x_1, ..., x_4) of the first sequence:")
    print(f"  hidden state h_5     {hidden[0, 1]:.12f}")
    print(f"  HMM, by enumeration  {(posterior @ A)[0, 1]:.12f}")


if __name__ == "__main__":
    main()
