"""The variational recurrent network written out: the note's four networks in plain torch, step after step.

    prior(h_t)    encoder(x_t, h_t)    decoder(z_t, h_t)    h_{t+1} = hidden(x_t, z_t, h_t)

It shares nothing with `pgm_rnn.models.vrnn` but the parameters, which it reads by name as tensors; `hidden` is torch's
own cell. Observations are bits, the state z is a single number, so that it can be summed out on a grid.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.randomness import seeded

HIDDEN_DIM = 3
CELLS: dict[str, Callable[[int, int], nn.RNNCellBase]] = {"elman": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}
"""Torch's cell for each of ours."""


class Terms(NamedTuple):
    """The terms of the log density at each step, (batch, T), nats.

    Attributes:
        prior: log p(z_t | h_t).
        guide: log q(z_t | x_t, h_t).
        decoder: log p(x_t | z_t, h_t).
        kl: KL(q(z_t | x_t, h_t) || p(z_t | h_t)), in closed form.
        kl_to_standard: KL(q(z_t | x_t, h_t) || N(0, 1)).
        late_decoder: log p(x_t | z_t, h_{t+1}), whose memory has seen x_t.
    """

    prior: Tensor
    guide: Tensor
    decoder: Tensor
    kl: Tensor
    kl_to_standard: Tensor
    late_decoder: Tensor


class WrittenOut:
    """The four networks of a `random_vrnn`."""

    def __init__(self, vrnn: VRNN) -> None:
        self.weights = {name: value.detach() for name, value in vrnn.named_parameters()}
        self.h_1 = self.weights["initial_memory"]
        self.cell = CELLS[vrnn.cell_name](2 * vrnn.feature_dim, vrnn.hidden_dim).double()
        with torch.no_grad():
            for kind in ("weight_hh", "bias_ih", "bias_hh"):
                getattr(self.cell, kind).copy_(self.weights[f"hidden.cell.network.{kind}_l0"])
            from_x, from_z = self.weights["hidden.cell.network.weight_ih_l0"], self.weights["hidden.from_z.weight"]
            self.cell.weight_ih.copy_(torch.cat([from_x, from_z], dim=-1))

    def prior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of z_t given h_t, (batch,) each."""
        return self._normal("prior.1.linear", self._tanh("prior.0.linear.0", h[:, :HIDDEN_DIM]))

    def encoder(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the guide's z_t given x_t and h_t, (batch,) each."""
        from_h = h[:, :HIDDEN_DIM] @ self.weights["encoder.from_h.weight"].T
        return self._normal("encoder.head.linear", torch.tanh(self._linear("encoder.from_x", self.phi_x(x)) + from_h))

    def decoder(self, x: Tensor, z: Tensor, h: Tensor) -> Tensor:
        """log p(x_t | z_t, h_t), (batch,)."""
        both = torch.cat([self.phi_z(z), h[:, :HIDDEN_DIM]], dim=-1)
        logits = self._linear("decoder.1", self._tanh("decoder.0.linear.0", both))[:, 0]
        return -F.binary_cross_entropy_with_logits(logits, x, reduction="none")

    @torch.no_grad()
    def hidden(self, x: Tensor, z: Tensor, h: Tensor) -> Tensor:
        """h_{t+1}, (batch, state_dim), the cell's hidden vector first."""
        both = torch.cat([self.phi_x(x), self.phi_z(z)], dim=-1)
        if isinstance(self.cell, nn.LSTMCell):
            return torch.cat(self.cell(both, h.chunk(2, dim=-1)), dim=-1)
        state: Tensor = self.cell(both, h)
        return state

    def phi_x(self, x: Tensor) -> Tensor:
        """Features of an observation (batch,)."""
        return self._tanh("phi_x.linear.0", x[:, None])

    def phi_z(self, z: Tensor) -> Tensor:
        """Features of a state (batch,)."""
        return self._tanh("phi_z.linear.0", z[:, None])

    def terms(self, x: Tensor, z: Tensor) -> Terms:
        """Every step's terms for observations (batch, T, 1) and states (batch, T, 1)."""
        h, steps = self.h_1.expand(len(x), -1), []
        for x_t, z_t in zip(x[..., 0].unbind(1), z[..., 0].unbind(1), strict=True):
            prior, guide = self.prior(h), self.encoder(x_t, h)
            decoder, after = self.decoder(x_t, z_t, h), self.hidden(x_t, z_t, h)
            standard = torch.zeros_like(z_t), torch.ones_like(z_t)
            divergences = normal_kl(guide, prior), normal_kl(guide, standard)
            late = self.decoder(x_t, z_t, after)
            steps.append((normal_log_prob(z_t, *prior), normal_log_prob(z_t, *guide), decoder, *divergences, late))
            h = after
        return Terms(*(torch.stack(parts, dim=1) for parts in zip(*steps, strict=True)))

    def grid(self) -> tuple[Tensor, float]:
        """Points on which the trapezoidal rule integrates every law of the prior to one within rounding, and their gap.

        The features of the prior lie in (-1, 1), which bounds its mean m and scale s. The rule with a gap d is off by
        2 sum_k exp(-2 (pi k s / d)^2) for N(m, s^2), and 0.7 of the least s makes this 7e-18; 9 s beyond the outermost
        means lies 2e-19 of the mass.
        """
        weight, bias = self.weights["prior.1.linear.weight"], self.weights["prior.1.linear.bias"]
        reach = weight.abs().sum(-1)
        low, high = (bias - reach).tolist(), (bias + reach).tolist()
        widest, gap = math.log1p(math.exp(high[1])), 0.7 * math.log1p(math.exp(low[1]))
        return torch.arange(low[0] - 9 * widest, high[0] + 9 * widest + gap, gap, dtype=torch.float64), gap

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _tanh(self, name: str, x: Tensor) -> Tensor:
        return torch.tanh(self._linear(name, x))

    def _normal(self, name: str, features: Tensor) -> tuple[Tensor, Tensor]:
        loc, raw = self._linear(name, features).unbind(-1)
        return loc, torch.logaddexp(raw, torch.zeros_like(raw))


def normal_log_prob(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """log N(z; loc, scale^2)."""
    return -0.5 * ((z - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)


def normal_kl(q: tuple[Tensor, Tensor], p: tuple[Tensor, Tensor]) -> Tensor:
    """KL(q || p) = log(s_p / s_q) + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2 of normal laws (mean, deviation)."""
    return (p[1] / q[1]).log() + (q[1] ** 2 + (q[0] - p[0]) ** 2) / (2 * p[1] ** 2) - 0.5


def random_vrnn(cell: str, seed: int) -> VRNN:
    """A float64 network over bits with one latent number, tanh layers and normal parameters.

    The scales of prior and guide vary little around softplus(0.2) = 0.8, so that a grid of some sixty points serves.
    """
    with seeded(seed), torch.no_grad():
        vrnn = VRNN(obs_dim=1, latent_dim=1, hidden_dim=HIDDEN_DIM, cell=cell, activation="tanh").double()
        for parameter in vrnn.parameters():
            parameter.normal_(std=0.7)
        weights = dict(vrnn.named_parameters())
        for head in ("prior.1.linear", "encoder.head.linear"):
            weights[f"{head}.weight"][1] *= 0.1
            weights[f"{head}.bias"][1] = 0.2
    return vrnn


def paths(grid: Tensor, num_steps: int) -> Tensor:
    """Every path of states on the grid, (len(grid) ** num_steps, num_steps, 1)."""
    return torch.cartesian_prod(*[grid] * num_steps).reshape(-1, num_steps, 1)
