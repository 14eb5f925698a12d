"""Theorem 5: hidden states with Delta laws are latent variables, and to infer them is to run the network.

    p(h_t | h_{t-1}, x_{t-1}) = delta(h_t = f(h_{t-1}, x_{t-1}))      latent state, h_1 a parameter
    x_t ~ Categorical(softmax(W h_t + b))                             observation, t = 2..T; x_1 is given
    p(x_2, ..., x_T | x_1) = prod_t p(x_t | h_t)                      the claim: no sum over h is left

Choe, Shin & Spencer (2017), Theorem 5. Their h_t is h_{t+1} here.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Importance
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class RNN(nn.Module):
    """One of torch's recurrent networks, which is the function f, with an embedding and a readout."""

    def __init__(self, num_symbols: int, hidden_dim: int) -> None:
        super().__init__()
        self.h_1 = nn.Parameter(torch.randn(hidden_dim))
        self.embedding = nn.Embedding(num_symbols, hidden_dim)
        self.network = nn.RNN(hidden_dim, hidden_dim, batch_first=True)
        self.readout = nn.Linear(hidden_dim, num_symbols)

    def run(self, x: Tensor, h: Tensor) -> Tensor:
        """Hidden states after symbols x (batch, T), from the state h (batch, hidden_dim): (batch, T, hidden_dim)."""
        return self.network(self.embedding(x), h[None])[0]


def state_law(h: Tensor, noise: float) -> dist.Distribution:
    """A point mass at h; with noise, which the theorem rules out, a normal law around it."""
    return dist.Normal(h, noise).to_event(1) if noise else dist.Delta(h, event_dim=1)


def model(x: Tensor, lengths: Tensor, net: RNN, noise: float = 0.0) -> None:
    """p(x_2, ..., x_T, h | x_1) of symbols x (batch, T); sequence i has lengths[i] steps, the rest is padding."""
    h = net.h_1.expand(len(x), -1)
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in enumerate(x.unbind(1), start=1):
            with poutine.mask(mask=t <= lengths):
                h = pyro.sample(f"h_{t}", state_law(h, noise))
                if t > 1:
                    pyro.sample(f"x_{t}", dist.Categorical(logits=net.readout(h)), obs=x_t)
            h = net.run(x_t[:, None], h)[:, 0]


# q(h | x) = prod_t p(h_t | h_{t-1}, x_{t-1}): the model without its observations.
guide = poutine.block(model, hide_types=["observe"])


@torch.no_grad()
def main() -> None:
    """Infer the hidden states by importance sampling, and run the network."""
    pyro.set_rng_seed(0)
    torch.set_default_dtype(torch.float64)
    net, x, lengths = RNN(num_symbols=3, hidden_dim=4), torch.randint(3, (1, 8)), torch.tensor([8])
    hidden = net.run(x[:, :-1], net.h_1[None])[0]  # h_2, ..., h_8, one run of torch's network

    print("Log likelihood of x_2, ..., x_8 given x_1, in nats, by torch's cross entropy:")
    print(f"  the network itself         {-cross_entropy(net.readout(hidden), x[0, 1:], reduction='sum'):.12f}")
    print("By importance sampling, with 50 draws of h_2, ..., h_8: log likelihood, effective sample size, and largest")
    print("distance of a draw from the network's own hidden states. Without noise a single draw would do.")
    for noise in (0.0, 0.5):
        posterior = Importance(model, guide, num_samples=50).run(x, lengths, net, noise)
        draws = [[trace.nodes[f"h_{t}"]["value"][0] for t in range(2, 9)] for trace in posterior.exec_traces]
        print(f"  noise {noise}, log likelihood  {posterior.get_log_normalizer():.12f}")
        print(f"  noise {noise}, sample size     {posterior.get_ESS():.3f}")
        print(f"  noise {noise}, distance        {max((torch.stack(h) - hidden).abs().max() for h in draws):.3f}")


if __name__ == "__main__":
    main()
