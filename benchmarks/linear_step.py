"""A training step of language models, of a GRU and of cells that are linear in their state: hidden 64, batch 8.

The first peer is torch.nn.GRU with an embedding, a readout and cross entropy on x_2..x_T given x_1; ours are the same
likelihood with the cells gru, min-gru and lru, by Pyro's Trace_ELBO. Before the timing, each of our losses must be that
of its own cell run step by step. On a CUDA device, if there is one, a linear recurrence is a scan.
"""

from collections.abc import Callable, Iterator

import pyro
import torch
import torch.nn.functional as F
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from benchmarks.timing import Times, time_in_turn
from pgm_rnn.models import RNN
from pgm_rnn.models.cell import Cell

HIDDEN_DIM, VOCABULARY, BATCH = 64, 50, 8
LENGTHS = (512, 4096)
TOLERANCE = 1e-4
"""Relative error of a float32 sum of T log probabilities."""


class BareGRU(nn.Module):
    """The language model as one writes it without a graphical model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN_DIM)
        self.gru = nn.GRU(HIDDEN_DIM, HIDDEN_DIM)
        self.readout = nn.Linear(HIDDEN_DIM, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        """Negative log likelihood of x_2..x_T given x_1, summed, nats."""
        output, _ = self.gru(self.embedding(x[:, :-1].T))
        return F.cross_entropy(self.readout(output).flatten(0, 1), x[:, 1:].T.flatten(), reduction="sum")


def run(repeats: int = 10) -> Iterator[tuple[str, Times]]:
    """Titles, and milliseconds per step with the ratio to torch.nn.GRU, by name."""
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for num_steps in LENGTHS:
            yield f"T {num_steps}, {device}", _times(num_steps, device, repeats)


def _times(num_steps: int, device: str, repeats: int) -> Times:
    torch.manual_seed(0)
    x = torch.randint(VOCABULARY, (BATCH, num_steps), device=device)
    bare = BareGRU().to(device)
    steps = {"torch.nn.GRU": _step(lambda: bare(x), bare, device)}
    for cell in ("gru", "min-gru", "lru"):
        rnn = RNN(cell, num_symbols=VOCABULARY, hidden_dim=HIDDEN_DIM).to(device)
        steps[f"RNN({cell!r})"] = _step(_checked_loss(rnn, x), rnn, device)
    with pyro.settings.context(module_local_params=True):
        return time_in_turn(steps, repeats)


def _checked_loss(rnn: RNN, x: Tensor) -> Callable[[], Tensor]:
    elbo = Trace_ELBO()(rnn.model, rnn.guide)

    def loss() -> Tensor:
        value: Tensor = elbo(x, first="condition")
        return value

    with pyro.settings.context(module_local_params=True), torch.no_grad():
        found, expected = float(loss()), float(_step_by_step(rnn, x))
    assert abs(found - expected) < TOLERANCE * abs(expected), f"the losses differ: {found}, {expected}"
    return loss


def _step_by_step(rnn: RNN, x: Tensor) -> Tensor:
    """The same loss by a loop over the steps of the cell."""
    assert rnn.embedding is not None
    assert rnn.initial_memory is not None
    hidden = Cell.unroll(rnn.cell, rnn.embedding(x[:, :-1].T), rnn.initial_memory)[1:]
    return F.cross_entropy(rnn.readout(hidden).logits.flatten(0, 1), x[:, 1:].T.flatten(), reduction="sum")


def _step(loss: Callable[[], Tensor], module: nn.Module, device: str) -> Callable[[], None]:
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step
