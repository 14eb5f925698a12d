"""A bidirectional network labels every step of a sequence from what comes before it and what comes after it.

    f_t = forward(f_{t-1}, x_t),    f_0 = 0            chain from the left
    b_t = backward(b_{t+1}, x_t),   b_{T+1} = 0        chain from the right
    y_t ~ Categorical(softmax(W h_t + c))              label, h_t = (f_t, b_t),  t = 1..T

Schuster & Paliwal (1997); Vidal (2024), variants of recurrent networks. Given x, the labels are independent.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BidirectionalRNN(nn.Module):
    """Both chains in one of torch's networks, and what reads their states."""

    def __init__(self, num_symbols: int, num_labels: int, hidden_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, hidden_dim)
        self.network = nn.GRU(hidden_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.readout = nn.Linear(2 * hidden_dim, num_labels)


def model(x: Tensor, lengths: Tensor, net: BidirectionalRNN, y: Tensor | None = None) -> Tensor:
    """p(y | x) of symbols x (batch, T); sequence i has lengths[i] steps, the rest is padding; returns y (batch, T)."""
    pyro.module("net", net)
    packed = pack_padded_sequence(net.embedding(x), lengths, batch_first=True, enforce_sorted=False)
    h, _ = pad_packed_sequence(net.network(packed)[0], batch_first=True, total_length=x.shape[1])
    inside = torch.arange(x.shape[1]) < lengths[:, None]
    with pyro.plate("sequences", len(x), dim=-2), pyro.plate("steps", x.shape[1], dim=-1), poutine.mask(mask=inside):
        h = pyro.deterministic("h", h, event_dim=1)
        return pyro.sample("y", dist.Categorical(logits=net.readout(h)), obs=y)


def guide(x: Tensor, lengths: Tensor, net: BidirectionalRNN, y: Tensor | None = None) -> None:
    """Nothing is latent once the labels are seen."""


def data(num_sequences: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random bits x, lengths, and labels y_t: the majority of x_{t-1}, x_t, x_{t+1}; outside are zeros."""
    lengths = torch.randint(3, 9, (num_sequences,))
    x = torch.randint(2, (num_sequences, 8)) * (torch.arange(8) < lengths[:, None])
    padded = nn.functional.pad(x, (1, 1))
    return x, lengths, (padded[:, :-2] + x + padded[:, 2:] > 1).long()


def main() -> None:
    """Learn labels that a chain from one side could only guess."""
    pyro.set_rng_seed(0)
    net = BidirectionalRNN(num_symbols=2, num_labels=2, hidden_dim=8)
    x, lengths, y = data(100)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step(x, lengths, net, y) / lengths.sum() for _ in range(80)]
    x, lengths, y = data(100)
    law = poutine.trace(model).get_trace(x, lengths, net).nodes["y"]["fn"]
    right = (law.probs.argmax(-1) == y)[torch.arange(8) < lengths[:, None]].float().mean()

    print("Negative log likelihood of the labels, in nats per step; a fair coin has log 2 = 0.693:")
    print(f"  before training  {losses[0]:.3f}")
    print(f"  after training   {losses[-1]:.3f}")
    print("Share of the labels of new sequences that are predicted correctly:")
    print(f"  after training   {right:.3f}")


if __name__ == "__main__":
    main()
