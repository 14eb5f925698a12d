"""Backpropagation through time: a tied parameter's gradient is the sum of those of its copies, one for each step."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest, rounding
from pgm_rnn.claims.instances import random_rnn
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.emissions import Bernoulli
from pgm_rnn.models.rnn import RNN
from pgm_rnn.randomness import seeded

NUM_STEPS, HIDDEN_DIM, OBS_DIM = 6, 4, 2

CELLS: dict[str, Callable[[int, int], nn.RNNCellBase]] = {"elman": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}
"""Torch's cell for each of ours."""

Copies = list[dict[str, Tensor]]
"""A network's parameters, by name, for every step."""


def untied(rnn: RNN, noise: float) -> Copies:
    """Copies of the parameters for each step, apart by normal noise."""
    values = {name: value.detach() for name, value in rnn.named_parameters() if name != "initial_memory"}
    return [
        {name: (value + noise * torch.randn_like(value)).requires_grad_() for name, value in values.items()}
        for _ in range(NUM_STEPS)
    ]


def feedforward(rnn: RNN, cell: str, copies: Copies, x: Tensor) -> Tensor:
    """log p(x) of all sequences by a feed-forward network whose layer t has parameters copies[t], nats."""
    assert rnn.initial_memory is not None
    module, width = CELLS[cell](OBS_DIM, HIDDEN_DIM).double(), rnn.cell.state_dim
    state, total = rnn.initial_memory.detach().expand(len(x), width), torch.zeros((), dtype=x.dtype)
    for x_t, copy in zip(x.unbind(1), copies, strict=True):
        logits = state[:, :HIDDEN_DIM] @ copy["readout.weight"].T + copy["readout.bias"]
        total = total - F.binary_cross_entropy_with_logits(logits, x_t, reduction="sum")
        weights = {name: copy[f"cell.network.{name}_l0"] for name, _ in module.named_parameters()}
        if cell == "lstm":
            state = torch.cat(functional_call(module, weights, (x_t, state.chunk(2, dim=-1))), dim=-1)
        else:
            state = functional_call(module, weights, (x_t, state))
    return total


class ParameterTying(Claim):
    """Gradients of the fused network, and sums of gradients of a feed-forward one."""

    id = "parameter-tying"
    source = f"{PAPER}, Unrolling and Parameter Tying; Backpropagation Through Time"
    statement = "the gradient of a tied parameter is the sum of the gradients of its copies in the unrolled network"
    quotation = "Parameters are tied across time, derivatives are aggregated across all time steps"
    meaning = (
        "Unrolled over T steps a recurrent network is a feed-forward network of T layers that share their weights. "
        "The gradient of a shared weight is the sum of the gradients that its T copies would have."
    )
    hypotheses = "the copies have the same values"
    routes = (
        "the model's log likelihood through torch's fused network, against a feed-forward network of torch's cells "
        "with parameters of their own at every step"
    )
    control = "copies that differ by normal noise of scale 0.05"
    proof = (
        "Let L(theta_1, ..., theta_T) be the loss with a copy of the parameters for each step, and theta_t = theta. "
        "By the chain rule dL/dtheta = sum_t (dL/dtheta_t)(dtheta_t/dtheta) = sum_t dL/dtheta_t, each derivative "
        "taken where all copies are equal. Where copies differ the derivatives are those of another network."
    )

    @override
    def cases(self) -> Sequence[str]:
        return list(CELLS)

    @property
    @override
    def tolerance(self) -> float:
        return rounding(NUM_STEPS, width=4 * HIDDEN_DIM)

    @override
    def residual(self, case: str, seed: int) -> float:
        return self._distance(case, seed, noise=0.0)

    @override
    def control_residual(self, case: str, seed: int) -> float:
        return self._distance(case, seed, noise=0.05)

    def _distance(self, case: str, seed: int, noise: float) -> float:
        """The largest difference between two gradients, relative to one plus the largest entry."""
        rnn = random_rnn(case, Bernoulli(OBS_DIM), num_layers=1, seed=seed, hidden_dim=HIDDEN_DIM)
        x = rnn.sample(5, NUM_STEPS, seed=seed).x
        tied = {name: value for name, value in rnn.named_parameters() if name != "initial_memory"}
        found = torch.autograd.grad(rnn.log_prob(x).sum(), list(tied.values()))
        with seeded(seed, stream=4):
            copies = untied(rnn, noise)
        leaves = [copy[name] for name in tied for copy in copies]
        gradients = torch.autograd.grad(feedforward(rnn, case, copies, x), leaves, allow_unused=True)
        distances = []
        for number, gradient in enumerate(found):
            of_copies = gradients[number * NUM_STEPS : (number + 1) * NUM_STEPS]
            total = torch.stack([part for part in of_copies if part is not None]).sum(0)
            distances.append(float((gradient - total).abs().max() / (1 + gradient.abs().max())))
        return largest(distances)
