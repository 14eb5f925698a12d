"""The RNN as users write it: torch's cells in a loop, without a graphical model and without our own equations.

    h_0 given,   h_s = f(h_{s-1}, x_s),   x_{s+1} ~ g(h_s)          Choe et al. (2017), sec. 2.1

It shares nothing with `pgm_rnn.models` but the parameters, which it reads as tensors, so that gradients with respect
to them can be compared too.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgm_rnn.emissions import Bernoulli, Categorical, Gaussian, Poisson
from pgm_rnn.models.cells import DeepTransitionCell, StackedCell, UnfusedElmanCell
from pgm_rnn.models.linear_cells import LRU, LinearCell, MinGRU
from pgm_rnn.models.rnn import RNN

Layer = Callable[[Tensor, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]


def step_log_probs(rnn: RNN, x: Tensor) -> Tensor:
    """log p(x_t | x_{<t}) for every t, (batch, T), nats."""
    layers = _layers(rnn)
    states = _initial_states(rnn, len(layers), x.shape[0])
    log_probs = []
    for x_t in x.unbind(1):
        output = F.linear(states[-1][0], rnn.readout.weight, rnn.readout.bias)
        log_probs.append(_log_prob(rnn, output, x_t))
        signal = _input(rnn, x_t)
        for i, layer in enumerate(layers):
            states[i] = layer(signal, states[i])
            signal = states[i][0]
    return torch.stack(log_probs, 1)


def log_likelihood(rnn: RNN, x: Tensor, lengths: Tensor | None = None, condition: bool = False) -> Tensor:
    """log p(x_{1:L}), or log p(x_{2:L} | x_1), of each sequence, (batch,), nats."""
    log_probs = step_log_probs(rnn, x)
    if lengths is not None:
        log_probs = log_probs * (torch.arange(x.shape[1]) < lengths[:, None])
    return log_probs[:, int(condition) :].sum(1)


def _layers(rnn: RNN) -> list[Layer]:
    cell = rnn.cell
    if isinstance(cell, DeepTransitionCell):
        return [_deep_layer(cell)]
    if isinstance(cell, LinearCell):
        return [_linear_layer(layer) for layer in cell.layers]
    assert isinstance(cell, StackedCell)
    return [_layer(cell, i) for i in range(cell.network.num_layers)]


def _layer(cell: StackedCell, i: int) -> Layer:
    network = cell.network
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = {name: getattr(network, f"{name}_l{i}") for name in names}
    if isinstance(cell, UnfusedElmanCell):
        return lambda x, state: (
            cell.activation(
                x @ weights["weight_ih"].T + weights["bias_ih"] + state[0] @ weights["weight_hh"].T + weights["bias_hh"]
            ),
            state[1],
        )
    sizes = weights["weight_ih"].shape[1], network.hidden_size
    if isinstance(network, nn.LSTM):
        lstm = _with(nn.LSTMCell(*sizes), weights)
        return lambda x, state: lstm(x, state)
    if isinstance(network, nn.GRU):
        gru = _with(nn.GRUCell(*sizes), weights)
        return lambda x, state: (gru(x, state[0]), state[1])
    elman = _with(nn.RNNCell(*sizes, nonlinearity=str(network.mode)[4:].lower()), weights)
    return lambda x, state: (elman(x, state[0]), state[1])


def _with(module: nn.Module, weights: dict[str, nn.Parameter]) -> nn.Module:
    """A torch cell that uses the same parameter tensors, so that gradients reach them."""
    for name, weight in weights.items():
        setattr(module, name, weight)
    return module


def _deep_layer(cell: DeepTransitionCell) -> Layer:
    u_1, *deeper = [u for u in cell.recurrent if isinstance(u, nn.Linear)]
    w = cell.input

    def layer(x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x @ w.weight.T + w.bias + state[0] @ u_1.weight.T)
        for u in deeper:
            h = torch.tanh(h @ u.weight.T + u.bias)
        return h, state[1]

    return layer


def _linear_layer(layer: nn.Module) -> Layer:
    if isinstance(layer, MinGRU):
        (w_gate, w_new), (b_gate, b_new) = layer.input.weight.chunk(2), layer.input.bias.chunk(2)

        def gated(x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            s = torch.sigmoid(x @ w_gate.T + b_gate)
            return (1 - s) * state[0] + s * (x @ w_new.T + b_new), state[1]

        return gated
    assert isinstance(layer, LRU)
    decay, angle = layer.log_decay, layer.log_angle
    units, pairs = len(decay), len(angle)
    factors = torch.exp(-decay.exp()) * torch.exp(1j * F.pad(angle.exp(), (0, units - pairs)))
    scales = (1 - torch.exp(-decay.exp()) ** 2).sqrt()
    real, imaginary = layer.input.weight[:units], F.pad(layer.input.weight[units:], (0, 0, 0, units - pairs))

    def rotated(x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if layer.output is not None:
            x = F.gelu(x @ layer.output.weight.T + layer.output.bias)
        h = state[0][:, :units] + 1j * F.pad(state[0][:, units:], (0, units - pairs))
        h = factors * h + scales * (x @ real.T + 1j * (x @ imaginary.T))
        return torch.cat([h.real, h.imag[:, :pairs]], 1), state[1]

    return rotated


def _initial_states(rnn: RNN, num_layers: int, batch: int) -> list[tuple[Tensor, Tensor]]:
    """(hidden, memory) of each layer from the bottom up; the state's vector holds them from the top down."""
    assert rnn.initial_memory is not None
    parts = rnn.initial_memory.reshape(-1, 1, rnn.cell.hidden_dim).expand(-1, batch, -1)
    return [(parts[num_layers - 1 - i], parts[-1 - i]) for i in range(num_layers)]


def _input(rnn: RNN, x: Tensor) -> Tensor:
    if rnn.embedding is not None:
        return F.one_hot(x, rnn.embedding.num_embeddings).to(rnn.embedding.weight.dtype) @ rnn.embedding.weight
    x = torch.log(1 + x) if isinstance(rnn.family, Poisson) else x
    return x.reshape(x.shape[0], -1)


def _log_prob(rnn: RNN, output: Tensor, x: Tensor) -> Tensor:
    """Densities by torch's losses."""
    if isinstance(rnn.family, Categorical):
        return -F.cross_entropy(output, x, reduction="none")
    x = x.reshape(x.shape[0], -1)
    if isinstance(rnn.family, Bernoulli):
        return -F.binary_cross_entropy_with_logits(output, x, reduction="none").sum(-1)
    if isinstance(rnn.family, Gaussian):
        loc, raw = output.chunk(2, -1)
        scale = torch.logaddexp(raw, torch.zeros_like(raw))
        return -F.gaussian_nll_loss(loc, x, scale**2, full=True, eps=0.0, reduction="none").sum(-1)
    assert isinstance(rnn.family, Poisson)
    rate = torch.logaddexp(output, torch.zeros_like(output))
    return -(F.poisson_nll_loss(rate, x, log_input=False, reduction="none", eps=0.0) + torch.lgamma(x + 1)).sum(-1)
