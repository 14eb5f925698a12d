"""Limits of a variational recurrent network: without noise, without recurrence, and with linear networks.

sd of p(z_t | h_t) = 0     z_t is a function of h_t, and the network an RNN
h_t = h_1                  at every step the same variational autoencoder
linear networks            h, z and x are jointly normal: log p(x) is the Kalman filter's
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest, rounding
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.claims.vrnn_2019 import PAPER
from pgm_rnn.claims.vrnn_2019.factorisation import LARGEST_TERM, WIDTH, trace_log_density, words_and_paths
from pgm_rnn.claims.vrnn_2019.written_out import CELLS, WrittenOut, random_vrnn
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import smc
from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.randomness import seeded

NO_NOISE = -700.0
"""Whose softplus, 1e-304, is a standard deviation that no sum in float64 notices."""

Case = tuple[str, str]
"""A limit and a cell."""


class VrnnLimits(Claim):
    """Without noise an RNN, without recurrence an autoencoder a step."""

    id = "vrnn-limits"
    source = f"{PAPER}, sec. 1 and 3"
    statement = "without noise on z it is an RNN, without recurrence a variational autoencoder at every step"
    quotation = "every time step of an RNN being a VAE leads to the model of a Variational RNN"
    meaning = (
        "A VRNN has two simpler models as limits. Take the noise from z and a recurrent network is left; take the "
        "recurrence away and the same autoencoder stands at every step."
    )
    hypotheses = "the prior's standard deviation is zero, or `hidden` gives the h that it was given"
    routes = (
        "the particle filter's likelihood, against torch's cells with E(z_t | h_t) in place of z_t; the program's law "
        "summed over z on a grid, against the product over steps of one autoencoder's"
    )
    control = "the same network with its noise, and with its recurrence"
    proof = (
        "If the prior's scale is zero, z_t = mu(h_t) with probability one and h_{t+1} = f(h_t, mu(h_t), x_t) is a "
        "function of h_t and x_t: a recurrent network with the emission p(x_t | mu(h_t), h_t). If `hidden` returns "
        "the h that it was given, h_t = h_1 for all t, the pairs (z_t, x_t) are independent, and p(x) = prod_t int "
        "p(x_t | z, h_1) p(z | h_1) dz."
    )

    num_steps = 5
    num_summed = 2

    @override
    def cases(self) -> Sequence[Case]:
        return [(limit, cell) for limit in ("no noise", "no recurrence") for cell in CELLS]

    @property
    @override
    def tolerance(self) -> float:
        return LARGEST_TERM * rounding(self.num_steps, WIDTH)

    @torch.no_grad()
    @override
    def residual(self, case: Case, seed: int) -> float:
        vrnn = random_vrnn(case[1], seed)
        if case[0] == "no noise":
            weights = dict(vrnn.named_parameters())
            weights["prior.1.linear.weight"][1] = 0.0
            weights["prior.1.linear.bias"][1] = NO_NOISE
            return self._distance_from_rnn(vrnn, seed)
        for parameter in (*vrnn.hidden.parameters(), vrnn.initial_memory):
            parameter.zero_()  # of which every cell makes zero again
        return self._distance_from_autoencoders(vrnn)

    @torch.no_grad()
    @override
    def control_residual(self, case: Case, seed: int) -> float:
        vrnn = random_vrnn(case[1], seed)
        return self._distance_from_rnn(vrnn, seed) if case[0] == "no noise" else self._distance_from_autoencoders(vrnn)

    def _distance_from_rnn(self, vrnn: VRNN, seed: int) -> float:
        x = vrnn.sample(8, self.num_steps, seed=seed).x
        found = smc.filter(vrnn, x, num_particles=4, proposal="bootstrap", seed=seed).log_marginal_likelihood
        net, total = WrittenOut(vrnn), torch.zeros(len(x), dtype=torch.float64)
        h = net.h_1.expand(len(x), -1)
        for x_t in x[..., 0].unbind(1):
            z = net.prior(h)[0]
            total, h = total + net.decoder(x_t, z, h), net.hidden(x_t, z, h)
        return float((found - total).abs().max())

    def _distance_from_autoencoders(self, vrnn: VRNN) -> float:
        net = WrittenOut(vrnn)
        x, z, weight = words_and_paths(net, self.num_summed)
        density = trace_log_density(vrnn, x, z, "fused").exp()
        found = density.reshape(2**self.num_summed, -1).sum(1) * weight  # (words,)
        bits, states, weight = words_and_paths(net, 1)
        one = net.terms(bits, states)
        law = (one.prior + one.decoder).exp().reshape(2, -1).sum(1) * weight  # of one observation, (2,)
        expected = law[all_sequences(2, self.num_summed)].prod(1)
        return float((found / expected).log().abs().max())


class VrnnLinearLimit(Claim):
    """With linear networks the importance weights estimate the normal law of x without bias."""

    id = "vrnn-linear-limit"
    source = f"{PAPER}, sec. 3; Chung et al. (2015), eq. (5)-(9)"
    statement = "with linear networks the K-sample estimate converges to the linear-Gaussian likelihood of x as K grows"
    quotation = "Generates the prior means and standard deviations to condition z_t against."
    meaning = (
        "If all networks of a VRNN are linear, its likelihood is a normal density that can be written down, and the "
        "estimate from K samples of the guide must converge to it. This checks prior, decoder, memory and guide "
        "together, against numbers that none of them has computed."
    )
    hypotheses = "every network is linear and every scale constant, so that h, z and x are jointly normal"
    routes = (
        "the mean of 2^15 importance weights, in standard errors from the normal density whose covariance comes from "
        "writing every variable as a linear function of all the noise"
    )
    control = "tanh layers with the same parameters"
    kind = "statistical"
    unit = "standard errors"
    proof = (
        "With linear networks and constant scales every h_t, z_t and x_t is a linear function of independent normal "
        "noise, so x is normal, with mean and covariance made of the coefficients. The mean of K weights p(x, z) / q(z "
        "| x), z ~ q, has mean p(x) (`importance-weighted`), and tends to it by the law of large numbers, with an "
        "error of K^(-1/2). With tanh layers x has another law."
    )

    num_steps = 3
    num_sequences = 8
    num_particles = 2**15

    @override
    def cases(self) -> Sequence[int]:
        return range(4)

    @property
    @override
    def tolerance(self) -> float:
        """k = 6 standard errors: 8 sequences and 4 cases lie outside with probability 6e-8 for a normal mean."""
        return 6.0

    @override
    def residual(self, case: int, seed: int) -> float:
        return self._deviation(linear_vrnn(seed, "identity"), seed)

    @override
    def control_residual(self, case: int, seed: int) -> float:
        return self._deviation(linear_vrnn(seed, "tanh"), seed)

    @torch.no_grad()
    def _deviation(self, vrnn: VRNN, seed: int) -> float:
        x = vrnn.sample(self.num_sequences, self.num_steps, seed=seed).x
        result = smc.filter(vrnn, x, num_particles=self.num_particles, proposal="bootstrap", ess_threshold=0, seed=seed)
        # each log weight is log(w / N), with resampling never done
        relative = (result.log_weights - linear_log_likelihood(vrnn, x)).exp() * self.num_particles  # (N, batch)
        errors = relative.std(0) / self.num_particles**0.5
        return largest(((relative.mean(0) - 1) / errors).abs().tolist())


def linear_vrnn(seed: int, activation: str) -> VRNN:
    """A network with normal parameters, an Elman cell without activation, and constant scales."""
    with seeded(seed), torch.no_grad():
        vrnn = VRNN(
            emission=Gaussian(1), latent_dim=1, hidden_dim=2, cell="elman-linear", activation=activation
        ).double()
        for parameter in vrnn.parameters():
            parameter.normal_(std=0.6)
        weights = dict(vrnn.named_parameters())
        for head in ("prior.1.linear", "encoder.head.linear", "decoder.1"):
            weights[f"{head}.weight"][1:] = 0.0
    return vrnn


def linear_log_likelihood(vrnn: VRNN, x: Tensor) -> Tensor:
    """log p(x_{1:T}) with every network taken as linear, (batch,), nats.

    A variable v = v_0 + V e, e the 2 T standard normal numbers behind z and x, is the matrix (v_0, V).
    """
    weights = {name: value.detach() for name, value in vrnn.named_parameters()}

    def linear(name: str, v: Tensor) -> Tensor:
        product = weights[f"{name}.weight"] @ v
        return torch.cat([product[:, :1] + weights[f"{name}.bias"][:, None], product[:, 1:]], dim=1)

    def noisy(name: str, v: Tensor, number: int) -> Tensor:
        loc, raw = linear(name, v)
        loc[number] += torch.logaddexp(raw[0], torch.zeros_like(raw[0]))
        return loc[None]

    num_steps = x.shape[1]
    h = torch.zeros(vrnn.hidden_dim, 1 + 2 * num_steps, dtype=x.dtype)
    h[:, 0] = weights["initial_memory"]
    rows = []
    for t in range(num_steps):
        z = noisy("prior.1.linear", linear("prior.0.linear.0", h), 1 + 2 * t)
        phi_z = linear("phi_z.linear.0", z)
        x_t = noisy("decoder.1", linear("decoder.0.linear.0", torch.cat([phi_z, h])), 2 + 2 * t)
        rows.append(x_t)
        cell = "hidden.cell.network"
        after = weights[f"{cell}.weight_ih_l0"] @ linear("phi_x.linear.0", x_t)
        after = after + weights["hidden.from_z.weight"] @ phi_z + weights[f"{cell}.weight_hh_l0"] @ h
        after[:, 0] += weights[f"{cell}.bias_ih_l0"] + weights[f"{cell}.bias_hh_l0"]
        h = after
    path = torch.cat(rows)  # (T, 1 + 2 T)
    law = torch.distributions.MultivariateNormal(path[:, 0], path[:, 1:] @ path[:, 1:].T)
    return law.log_prob(x[..., 0])
