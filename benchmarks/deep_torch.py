"""Training losses of a VRNN and a deep Markov model in plain torch: a loop for the guide, all else fused over steps.

This is what one writes without a graphical model: one draw from the guide, log p(x, z) - log q(z | x), summed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainVRNN(nn.Module):
    """Layers of the same sizes as those of `pgm_rnn.models.VRNN(num_keys, size, size)`."""

    def __init__(self, num_keys: int, size: int) -> None:
        super().__init__()
        self.phi_x, self.phi_z = nn.Linear(num_keys, size), nn.Linear(size, size)
        self.prior_hidden, self.prior = nn.Linear(size, size), nn.Linear(size, 2 * size)
        self.encoder_x, self.encoder_h = nn.Linear(size, size), nn.Linear(size, size, bias=False)
        self.encoder = nn.Linear(size, 2 * size)
        self.decoder_hidden, self.decoder = nn.Linear(2 * size, size), nn.Linear(size, num_keys)
        self.cell, self.start = nn.GRUCell(2 * size, size), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """Minus the sum of log p(x, z) - log q(z | x) over the batch, nats."""
        phi_x = F.relu(self.phi_x(x))
        from_x, inputs, h = self.encoder_x(phi_x).unbind(1), phi_x.unbind(1), self.start.expand(len(x), -1)
        steps = []
        for t in range(x.shape[1]):
            raw = self.encoder(F.relu(from_x[t] + self.encoder_h(h)))
            loc, raw_scale = raw.chunk(2, -1)
            z = torch.addcmul(loc, torch.randn_like(loc), F.softplus(raw_scale))
            phi_z = F.relu(self.phi_z(z))
            steps.append((h, raw, z, phi_z))
            if t + 1 < x.shape[1]:
                h = self.cell(torch.cat([inputs[t], phi_z], -1), h)
        h, raw, z, phi_z = (torch.stack(parts, 1) for parts in zip(*steps, strict=True))
        prior = self.prior(F.relu(self.prior_hidden(h)))
        logits = self.decoder(F.relu(self.decoder_hidden(torch.cat([phi_z, h], -1))))
        return _bits(logits, x) + _normal(z, raw) - _normal(z, prior)


class PlainDeepMarkovModel(nn.Module):
    """Layers of the same sizes as those of `pgm_rnn.models.DeepMarkovModel(num_keys, size, size)`."""

    def __init__(self, num_keys: int, size: int) -> None:
        super().__init__()
        self.gate_hidden, self.gate = nn.Linear(size, size), nn.Linear(size, size)
        self.proposed_hidden, self.proposed = nn.Linear(size, size), nn.Linear(size, size)
        self.linear, self.scale = nn.Linear(size, size), nn.Linear(size, size)
        self.emitter_1, self.emitter_2 = nn.Linear(size, size), nn.Linear(size, size)
        self.emitter = nn.Linear(size, num_keys)
        self.backward_network, self.combiner = nn.GRU(num_keys, size), nn.Linear(size, size)
        self.guide = nn.Linear(size, 2 * size)
        self.z_0, self.guide_z_0 = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """Minus the sum of log p(x, z) - log q(z | x) over the batch, nats."""
        after = self.backward_network(x.transpose(0, 1).flip(0))[0].flip(0)
        z, steps = self.guide_z_0.expand(len(x), -1), []
        for r in after.unbind(0):
            raw = self.guide((torch.tanh(self.combiner(z)) + r) / 2)
            loc, raw_scale = raw.chunk(2, -1)
            z = torch.addcmul(loc, torch.randn_like(loc), F.softplus(raw_scale))
            steps.append((raw, z))
        raw, z = (torch.stack(parts, 1) for parts in zip(*steps, strict=True))
        before = torch.cat([self.z_0.expand(len(x), 1, -1), z[:, :-1]], 1)
        gate = torch.sigmoid(self.gate(F.relu(self.gate_hidden(before))))
        proposed = self.proposed(F.relu(self.proposed_hidden(before)))
        loc = torch.lerp(self.linear(before), proposed, gate)
        prior = torch.cat([loc, self.scale(F.relu(proposed))], -1)
        logits = self.emitter(F.relu(self.emitter_2(F.relu(self.emitter_1(z)))))
        return _bits(logits, x) + _normal(z, raw) - _normal(z, prior)


def _bits(logits: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum")


def _normal(z: Tensor, raw: Tensor) -> Tensor:
    """log density without its constant, which cancels."""
    loc, raw_scale = raw.chunk(2, -1)
    scale = F.softplus(raw_scale)
    return (-0.5 * ((z - loc) / scale).square() - scale.log()).sum()
