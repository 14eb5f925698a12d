"""A recurrent network's log likelihood is an ELBO: hidden states are latent, and the guide is the network itself.

    h_t ~ Delta(f(h_{t-1}, x_{t-1}))                            latent state, h_1 a parameter
    x_t ~ Categorical(softmax(W h_t + b))                       observation, t = 1..T
    q(h_t | h_{t-1}, x_{t-1}) = p(h_t | h_{t-1}, x_{t-1})       guide
    log p(x, h) - log q(h | x) = sum_t log p(x_t | h_t)         the claim: in every draw, and for the gradient too

Sohl-Dickstein & Kingma (2015), eq. (3)-(15).
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import RenyiELBO, Trace_ELBO
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class RNN(nn.Module):
    """One of torch's recurrent networks, which is the function f, with an embedding and a readout."""

    def __init__(self, num_symbols: int, hidden_dim: int) -> None:
        super().__init__()
        self.h_1 = nn.Parameter(torch.randn(hidden_dim))
        self.embedding = nn.Embedding(num_symbols, hidden_dim)
        self.network = nn.GRU(hidden_dim, hidden_dim, batch_first=True)
        self.readout = nn.Linear(hidden_dim, num_symbols)

    def run(self, x: Tensor, h: Tensor) -> Tensor:
        """Hidden states after symbols x (batch, T), from the state h (batch, hidden_dim): (batch, T, hidden_dim)."""
        return self.network(self.embedding(x), h[None])[0]


def state_law(h: Tensor, noise: float) -> dist.Distribution:
    """A point mass at h; with noise, which the claim rules out, a normal law around it."""
    return dist.Normal(h, noise).to_event(1) if noise else dist.Delta(h, event_dim=1)


def model(x: Tensor, lengths: Tensor, net: RNN, noise: float = 0.0) -> None:
    """p(x, h) of symbols x (batch, T); sequence i has lengths[i] steps, the rest is padding."""
    h = net.h_1.expand(len(x), -1)
    with pyro.plate("sequences", len(x), dim=-1):
        for t, x_t in enumerate(x.unbind(1), start=1):
            with poutine.mask(mask=t <= lengths):
                h = pyro.sample(f"h_{t}", state_law(h, noise))
                pyro.sample(f"x_{t}", dist.Categorical(logits=net.readout(h)), obs=x_t)
            h = net.run(x_t[:, None], h)[:, 0]


# q(h | x) = prod_t p(h_t | h_{t-1}, x_{t-1}): the model without its observations.
guide = poutine.block(model, hide_types=["observe"])


def main() -> None:
    """Compare the ELBO and its gradient with the usual training loss."""
    pyro.set_rng_seed(0)
    torch.set_default_dtype(torch.float64)
    net, x, lengths = RNN(num_symbols=3, hidden_dim=4), torch.randint(3, (4, 6)), torch.tensor([6, 5, 4, 3])
    start, inside = net.h_1.expand(4, -1), torch.arange(6) < lengths[:, None]
    logits = net.readout(torch.cat([start[:, None], net.run(x[:, :-1], start)], dim=1))  # (4, 6, 3)
    loss = cross_entropy(logits[inside], x[inside], reduction="sum")
    negative_elbo = Trace_ELBO().differentiable_loss(model, guide, x, lengths, net)
    gradients = (torch.autograd.grad(value, list(net.parameters())) for value in (loss, negative_elbo))

    print("Log likelihood of four sequences, in nats, and the largest difference of the gradients of the first two:")
    print(f"  by torch's cross entropy  {-loss:.12f}")
    print(f"  one draw of the ELBO      {-negative_elbo:.12f}")
    print(f"  another                   {-Trace_ELBO().loss(model, guide, x, lengths, net):.12f}")
    print(f"  gradients                 {max((a - b).abs().max() for a, b in zip(*gradients, strict=True)):.12f}")
    noisy = model, guide, x, lengths, net, 0.5
    print("With normal noise around f the ELBO is less than the log likelihood. Estimates for scale 0.5, by 50 draws:")
    print(f"  ELBO                      {-Trace_ELBO(num_particles=50).loss(*noisy):.3f}")
    print(f"  log likelihood            {-RenyiELBO(alpha=0, num_particles=50).loss(*noisy):.3f}")


if __name__ == "__main__":
    main()
