"""Training steps of many small networks: one after the other, under torch.func.vmap, and with stacked weights.

The networks are those of `pgm-rnn reproduce`: symbols in, states out, 100 sequences of 8 steps each. Before they are
timed, the three must give the same losses. A step is the value and the gradient; the optimiser is left out.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from benchmarks.timing import Times, time_in_turn
from pgm_rnn.experiments.taggers import label_log_probs, stacked
from pgm_rnn.models.cell import Cell
from pgm_rnn.models.tagger import Tagger

BATCH, NUM_STEPS = 100, 8
SIZES = ((24, 1, 2, 3), (24, 20, 2, 3), (12, 100, 2, 3), (10, 20, 5, 10), (4, 100, 512, 3))
"""Networks, units, states and symbols: those of figures 5, 7 and 6."""


class SteppedTagger(Tagger):
    """A tagger whose cell goes step by step, for vmap goes neither into torch's fused network nor into checks."""

    def __init__(self, num_symbols: int, num_labels: int, hidden_dim: int) -> None:
        super().__init__("elman", num_symbols, num_labels, hidden_dim)
        self.cell.unroll = lambda x, h: Cell.unroll(self.cell, x, h)  # type: ignore[method-assign]

    def forward(self, x: Tensor) -> Tensor:
        """log p(y_t | x_{1:t}), (B, T, m)."""
        log_probs: Tensor = self.readout(self.hidden(x, torch.full((len(x),), x.shape[1]))).logits
        return log_probs


def run(repeats: int = 40) -> list[tuple[str, Times]]:
    """A title and the times of each size."""
    return [
        (f"{number} networks of {k} units, {m} states, {p} symbols", _times(number, k, m, p, repeats))
        for number, k, m, p in SIZES
    ]


def _times(number: int, hidden_dim: int, num_labels: int, num_symbols: int, repeats: int) -> Times:
    torch.manual_seed(0)
    networks = [Tagger("elman", num_symbols, num_labels, hidden_dim) for _ in range(number)]
    stepped = [SteppedTagger(num_symbols, num_labels, hidden_dim) for _ in range(number)]
    for network, other in zip(networks, stepped, strict=True):
        other.load_state_dict(network.state_dict())
    x = torch.randint(num_symbols, (number, BATCH, NUM_STEPS))
    y = torch.randint(num_labels, (number, BATCH, NUM_STEPS))
    losses = {
        "one after the other": _one_by_one(networks, x, y),
        "torch.func.vmap": _mapped(stepped, x, y),
        "stacked weights": _stacked(networks, x, y),
    }
    values = [float(loss().detach()) for loss, _ in losses.values()]
    assert max(values) - min(values) < 1e-5 * max(values), f"the losses differ: {values}"
    return time_in_turn({name: _step(*loss) for name, loss in losses.items()}, repeats)


def _step(loss: Callable[[], Tensor], parameters: list[Tensor]) -> Callable[[], object]:
    return lambda: torch.autograd.grad(loss(), parameters)


def _one_by_one(networks: list[Tagger], x: Tensor, y: Tensor) -> tuple[Callable[[], Tensor], list[Tensor]]:
    def loss() -> Tensor:
        terms = [-network.log_prob(y[i], x[i]).sum() for i, network in enumerate(networks)]
        return torch.stack(terms).sum()

    return loss, [parameter for network in networks for parameter in network.parameters()]


def _mapped(networks: list[SteppedTagger], x: Tensor, y: Tensor) -> tuple[Callable[[], Tensor], list[Tensor]]:
    parameters = {name: value.detach().requires_grad_() for name, value in stack_module_state(networks)[0].items()}
    batched = vmap(lambda weights, x: functional_call(networks[0], weights, (x,)))
    return lambda: -batched(parameters, x).gather(-1, y[..., None]).sum(), list(parameters.values())


def _stacked(networks: list[Tagger], x: Tensor, y: Tensor) -> tuple[Callable[[], Tensor], list[Tensor]]:
    weights = {name: value.detach().requires_grad_() for name, value in stacked(networks).items()}
    return lambda: -label_log_probs(weights, x).gather(-1, y.mT[..., None]).sum(), list(weights.values())
