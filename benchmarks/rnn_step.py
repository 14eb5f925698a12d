"""A training step of an LSTM language model: hidden 128, vocabulary 50, batch 64, T = 100.

The bare step is torch.nn.LSTM and cross entropy on x_2..x_T given x_1; ours is the same likelihood by Pyro's
Trace_ELBO, fused (one site) and unrolled (one site per variable and step). Before the timing, the losses must agree.
The joint likelihood p(x_1..T) is timed too; it has one more term.
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
    """The language model as one writes it without a graphical model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN_DIM)
        self.lstm = nn.LSTM(HIDDEN_DIM, HIDDEN_DIM, batch_first=True)
        self.readout = nn.Linear(HIDDEN_DIM, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        """Negative log likelihood of x_2..x_T given x_1, summed, nats."""
        output, _ = self.lstm(self.embedding(x[:, :-1]))
        return F.cross_entropy(self.readout(output).flatten(0, 1), x[:, 1:].flatten(), reduction="sum")


def run(repeats: int = 100) -> list[tuple[str, float, float]]:
    """Rows (name, milliseconds per step, ratio to the bare step)."""
    torch.manual_seed(0)
    x = torch.randint(VOCABULARY, (BATCH, NUM_STEPS))
    bare, rnn = BareLanguageModel(), RNN("lstm", num_symbols=VOCABULARY, hidden_dim=HIDDEN_DIM)
    _copy(bare, rnn)
    elbo = Trace_ELBO()(rnn.model, rnn.guide)
    losses: dict[str, tuple[Callable[[], Tensor], nn.Module]] = {
        "bare torch.nn.LSTM": (lambda: bare(x), bare),
        "pgm_rnn fused, p(x_2..T | x_1)": (lambda: elbo(x, first="condition"), rnn),
        "pgm_rnn unrolled, p(x_2..T | x_1)": (lambda: elbo(x, first="condition", rendering="unrolled"), rnn),
    }
    with pyro.settings.context(module_local_params=True):
        values = [float(loss().detach()) for loss, _ in losses.values()]
        assert max(values) - min(values) < 1e-4 * max(values), f"the losses differ: {values}"
        bare_step, fused_step, unrolled_step = (_step(*loss) for loss in losses.values())
        joint_step = _step(lambda: elbo(x), rnn)
        fast = dict(zip(losses, (bare_step, fused_step), strict=False)) | {"pgm_rnn fused, p(x_1..T)": joint_step}
        times = time_in_turn(fast, repeats)
        bare_name, _, unrolled_name = losses
        slow = time_in_turn({bare_name: bare_step, unrolled_name: unrolled_step}, repeats=10)
    times |= {unrolled_name: slow[unrolled_name]}
    return [(name, milliseconds, ratio) for name, (milliseconds, ratio) in times.items()]


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
