"""A tagger labels every step of a sequence from what has come so far: here the hidden states of an HMM.

    h_t = f(h_{t-1}, x_t),   h_0 = 0              one chain, from the left
    y_t ~ Categorical(softmax(W h_t + c))         label,  t = 1..T

Choe, Shin & Spencer (2017), sec. 4.1: the best law of the label z_t is p(z_t | x_{1:t}), the forward algorithm's.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

START = torch.tensor([0.5, 0.5])
MOVE = torch.tensor([[0.9, 0.1], [0.2, 0.8]])  # p(z_t = j | z_{t-1} = i)
SEE = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]])  # p(x_t = s | z_t = k)


class Tagger(nn.Module):
    """The chain, and what reads its states."""

    def __init__(self, num_symbols: int, num_labels: int, hidden_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, hidden_dim)
        self.network = nn.GRU(hidden_dim, hidden_dim, batch_first=True)
        self.readout = nn.Linear(hidden_dim, num_labels)


def model(x: Tensor, lengths: Tensor, net: Tagger, y: Tensor | None = None) -> Tensor:
    """p(y | x) of symbols x (batch, T); sequence i has lengths[i] steps, the rest is padding; returns y (batch, T)."""
    pyro.module("net", net)
    h, _ = net.network(net.embedding(x))  # padding comes last, so that no step inside has read it
    inside = torch.arange(x.shape[1]) < lengths[:, None]
    with pyro.plate("sequences", len(x), dim=-2), pyro.plate("steps", x.shape[1], dim=-1), poutine.mask(mask=inside):
        h = pyro.deterministic("h", h, event_dim=1)
        return pyro.sample("y", dist.Categorical(logits=net.readout(h)), obs=y)


def guide(x: Tensor, lengths: Tensor, net: Tagger, y: Tensor | None = None) -> None:
    """Nothing is latent once the labels are seen."""


def data(num_sequences: int, num_steps: int = 10) -> tuple[Tensor, Tensor]:
    """Symbols x and states y of the HMM, (num_sequences, num_steps) each."""
    y = [dist.Categorical(START).sample((num_sequences,))]
    for _ in range(num_steps - 1):
        y.append(dist.Categorical(MOVE[y[-1]]).sample())
    states = torch.stack(y, dim=1)
    return dist.Categorical(SEE[states]).sample(), states


def forward(x: Tensor) -> Tensor:
    """p(z_t | x_{1:t}) by the forward algorithm, (batch, T, 2)."""
    beliefs, predicted = [], START
    for seen in x.unbind(1):
        joint = predicted * SEE[:, seen].T
        beliefs.append(joint / joint.sum(-1, keepdim=True))
        predicted = beliefs[-1] @ MOVE
    return torch.stack(beliefs, dim=1)


def main() -> None:
    """Learn the forward algorithm from labelled sequences."""
    pyro.set_rng_seed(0)
    net, (x, y), (new_x, new_y) = Tagger(3, 2, hidden_dim=8), data(500), data(2000)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    losses = [svi.step(x, torch.full((500,), 10), net, y) / y.numel() for _ in range(100)]
    law = poutine.trace(model).get_trace(new_x, torch.full((2000,), 10), net).nodes["y"]["fn"]
    print("Negative log likelihood of the labels of new sequences, in nats per step:")
    print(f"  before training (of the training data)  {losses[0]:.4f}")
    print(f"  the tagger, after training              {-dist.Categorical(law.probs).log_prob(new_y).mean():.4f}")
    print(f"  the forward algorithm, the best law     {-dist.Categorical(forward(new_x)).log_prob(new_y).mean():.4f}")


if __name__ == "__main__":
    main()
