"""A training step of an LSTM language model: hidden 128, vocabulary 50, batch 64, T = 100.

The bare step is torch.nn.LSTM and cross entropy on x_2..x_T given x_1; ours is the same likelihood by Pyro's
Trace_ELBO, first="condition", fused (one site) and unrolled (a site a variable and step). Before they are timed, the
losses must agree.
"""

from collections.abc import Callable

import pyro
import torch
import torch.nn.functional as F
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from benchmarks.timing import time_in_turn
from pgm_rnn.models import RNN

HIDDEN_DIM, VOCABULARY, BATCH, NUM_STEPS = 128, 50, 64, 100


class BareLanguageModel(nn.Module):
    """What one writes without a graphical model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN_DIM)
        self.lstm = nn.LSTM(HIDDEN_DIM, HIDDEN_DIM, batch_first=True)
        self.readout = nn.Linear(HIDDEN_DIM, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        """Negative log likelihood of x_2..x_T given x_1, summed, nats."""
        output, _ = self.lstm(self.embedding(x[:, :-1]))
        return F.cross_entropy(self.readout(output).flatten(0, 1), x[:, 1:].flatten(), reduction="sum")


def run(repeats: int = 40) -> list[tuple[str, float, float]]:
    """Rows (name, milliseconds a step, ratio to the bare step)."""
    torch.manual_seed(0)
    x = torch.randint(VOCABULARY, (BATCH, NUM_STEPS))
    bare, rnn = BareLanguageModel(), RNN("lstm", num_symbols=VOCABULARY, hidden_dim=HIDDEN_DIM, first="condition")
    _copy(bare, rnn)
    elbo = Trace_ELBO()(rnn.model, rnn.guide)
    losses: dict[str, tuple[Callable[[], Tensor], nn.Module]] = {
        "bare torch.nn.LSTM": (lambda: bare(x), bare),
        "pgm_rnn fused": (lambda: elbo(x), rnn),
        "pgm_rnn unrolled": (lambda: elbo(x, rendering="unrolled"), rnn),
    }
    with pyro.settings.context(module_local_params=True):
        values = [float(loss().detach()) for loss, _ in losses.values()]
        assert max(values) - min(values) < 1e-4 * max(values), f"the losses differ: {values}"
        fast = {name: _step(*losses[name]) for name in list(losses)[:2]}
        times = time_in_turn(fast, repeats)
        times |= time_in_turn({"pgm_rnn unrolled": _step(*losses["pgm_rnn unrolled"])}, repeats=5, warmup=1)
    reference = times["bare torch.nn.LSTM"]
    return [(name, value, value / reference) for name, value in times.items()]


def _step(loss: Callable[[], Tensor], module: nn.Module) -> Callable[[], None]:
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


@torch.no_grad()
def _copy(bare: BareLanguageModel, rnn: RNN) -> None:
    """Give the RNN the bare model's parameters; h_1 stays zero."""
    assert rnn.embedding is not None
    rnn.embedding.load_state_dict(bare.embedding.state_dict())
    rnn.cell.network.load_state_dict(bare.lstm.state_dict())
    rnn.readout.load_state_dict(bare.readout.state_dict())
