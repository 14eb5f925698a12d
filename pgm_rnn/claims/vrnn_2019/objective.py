"""The objective of a variational recurrent network: its terms, what they sum to, and what they bound.

E_q sum_t [log p(x_t | z_{<=t}, x_{<t}) - KL(q(z_t | x_{<=t}, z_{<t}) || p(z_t | x_{<t}, z_{<t}))] <= log p(x_{1:T})
Chung et al. (2015), eq. (11)
"""

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest, rounding
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.claims.vrnn_2019 import PAPER
from pgm_rnn.claims.vrnn_2019.factorisation import LARGEST_TERM, WIDTH
from pgm_rnn.claims.vrnn_2019.written_out import CELLS, Terms, WrittenOut, random_vrnn
from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.randomness import seeded

OUTERMOST = 9.0
"""Standard deviations between the guide's mean and the last point of its quadrature."""


def guided_quadrature(net: WrittenOut, x: Tensor, num_points: int) -> tuple[Tensor, Tensor]:
    """log p(x_{1:T}) and the evidence lower bound of each sequence, (batch,), by the guide's own quadrature, nats.

    Points of the trapezoidal rule in every z_t, spread by the guide's mean and deviation. Their weights sum to one, so
    that the bound holds between the two sums by Jensen's inequality, whatever the error of the rule.
    """
    nodes = torch.linspace(-OUTERMOST, OUTERMOST, num_points, dtype=torch.float64)
    log_weights = (-(nodes**2) / 2).log_softmax(0)
    h, log_q_weight, log_ratio = net.h_1.expand(len(x), -1), x.new_zeros(len(x)), x.new_zeros(len(x))
    for t in range(x.shape[1]):
        x_t = x[:, t, 0].repeat_interleave(num_points**t)
        loc, scale = net.encoder(x_t, h)
        z = (loc[:, None] + scale[:, None] * nodes).flatten()
        h, x_t = h.repeat_interleave(num_points, dim=0), x_t.repeat_interleave(num_points)
        prior, guide = (torch.distributions.Normal(*law) for law in (net.prior(h), net.encoder(x_t, h)))
        ratio = net.decoder(x_t, z, h) + prior.log_prob(z) - guide.log_prob(z)
        log_ratio = log_ratio.repeat_interleave(num_points) + ratio
        log_q_weight = (log_q_weight[:, None] + log_weights).flatten()
        h = net.hidden(x_t, z, h)
    log_q_weight, log_ratio = log_q_weight.reshape(len(x), -1), log_ratio.reshape(len(x), -1)
    return (log_q_weight + log_ratio).logsumexp(1), (log_q_weight.exp() * log_ratio).sum(1)


class VrnnObjective(Claim):
    """The note's terms sum to Pyro's bound, and that is below the log likelihood."""

    id = "vrnn-objective"
    source = f"{PAPER}, sec. 3; Chung et al. (2015), eq. (11)"
    statement = "sum_t [log P(x_t | z_{<=t}, x_{<t}) - KL(q(z_t) || P(z_t))] is the variational bound on log p(x)"
    quotation = "The objective function for each timestep looks very similar to a normal VAE"
    meaning = (
        "Each step is a variational autoencoder whose prior and guide know the past. Added up and averaged over the "
        "guide's draws, the steps' terms are a bound on log p(x)."
    )
    hypotheses = "the guide draws z_t given x_{<=t} and z_{<t}, and the KL is taken to the prior at h_t"
    routes = (
        "Pyro's TraceMeanField_ELBO, draw by draw, against closed forms of the networks written out; its expectation "
        "and log p(x) by quadrature over z, which must be the larger"
    )
    control = "the KL taken to N(0, 1), the P(z) of the note's sec. 2"
    proof = (
        "Take q(z | x) = prod_t q(z_t | x_{<=t}, z_{<t}). Jensen's inequality gives log p(x) >= E_q [log p(x, z) - "
        "log q(z | x)] = E_q sum_t [log p(x_t | z_{<=t}, x_{<t}) + log p(z_t | x_{<t}, z_{<t}) - log q(z_t | x_{<=t}, "
        "z_{<t})]. Averaged over z_t given z_{<t}, the last two terms are -KL(q(z_t | x_{<=t}, z_{<t}) || p(z_t | "
        "x_{<t}, z_{<t})). With N(0, 1) in place of the model's prior the terms are those of another model."
    )

    num_steps = 3

    @override
    def cases(self) -> Sequence[str]:
        return list(CELLS)

    @property
    @override
    def tolerance(self) -> float:
        return LARGEST_TERM * rounding(self.num_steps, WIDTH)

    @torch.no_grad()
    @override
    def residual(self, case: str, seed: int) -> float:
        vrnn = random_vrnn(case, seed)
        bound, terms, x = self._draw(vrnn, seed)
        difference = abs(float(bound - (terms.decoder - terms.kl).sum()))
        log_likelihood, expectation = guided_quadrature(WrittenOut(vrnn), x, num_points=30)
        return largest([difference / len(x), float((expectation - log_likelihood).max())])

    @torch.no_grad()
    @override
    def control_residual(self, case: str, seed: int) -> float:
        bound, terms, x = self._draw(random_vrnn(case, seed), seed)
        return abs(float(bound - (terms.decoder - terms.kl_to_standard).sum())) / len(x)

    def _draw(self, vrnn: VRNN, seed: int) -> tuple[Tensor, Terms, Tensor]:
        """Pyro's bound for some states that the guide draws, and the terms at these states."""
        x = vrnn.sample(6, self.num_steps, seed=seed).x
        with pyro.settings.context(module_local_params=True):
            with seeded(seed, stream=4):
                trace = poutine.trace(vrnn.guide).get_trace(x, rendering="unrolled")
            with seeded(seed, stream=4):
                loss = TraceMeanField_ELBO().differentiable_loss(vrnn.model, vrnn.guide, x, rendering="unrolled")
        states: list[Any] = [trace.nodes[f"z_{t}"]["value"] for t in range(1, self.num_steps + 1)]
        z = torch.stack(states, dim=1)
        return -loss, WrittenOut(vrnn).terms(x, z), x


class VrnnObjectiveSum(Claim):
    """An erratum: the terms of the steps are added up, not averaged."""

    id = "vrnn-objective-sum"
    source = f"{PAPER}, sec. 3"
    statement = "the bound is the expectation under q of the sum of the steps' terms; printed: of their average"
    quotation = "This is averaged across all timesteps to approximate the expectation."
    meaning = (
        "The log density of a sequence is a sum over its steps. What approximates the expectation is an average over "
        "draws of z. Divided by the number of steps, the objective trains just as well if all sequences have the same "
        "length, but it is no bound on log p(x)."
    )
    hypotheses = "discrete observations, so that no term exceeds zero, and a guide not far from the prior"
    routes = "log p(x) and the expectation of the terms by quadrature over z; what exceeds log p(x) is no bound"
    control = "as printed: the average over the steps"
    kind = "erratum"
    proof = (
        "Jensen's inequality bounds log p(x) by the expectation under q of the sum S of the steps' terms "
        "(`vrnn-objective`). For discrete observations no term is positive, so S <= S / T: the average is the larger "
        "of the two, and above log p(x) as soon as the guide's gap, log p(x) - E S, is less than (1 - 1/T) |E S|."
    )
    erratum = "imprecise"
    example = (
        "Two tosses of a fair coin, a guide equal to the prior: every term is log 0.5, their sum is log p(x) = -1.39, "
        "and their average -0.69 is above log p(x)."
    )

    num_steps = 3

    @override
    def cases(self) -> Sequence[str]:
        return list(CELLS)

    @property
    @override
    def tolerance(self) -> float:
        return LARGEST_TERM * rounding(self.num_steps, WIDTH)

    @override
    def residual(self, case: str, seed: int) -> float:
        return max(0.0, self._excess(case, seed, divisor=1))

    @override
    def control_residual(self, case: str, seed: int) -> float:
        return self._excess(case, seed, divisor=self.num_steps)

    @torch.no_grad()
    def _excess(self, case: str, seed: int, divisor: int) -> float:
        """The most by which the quotient exceeds the log probability of any word, nats."""
        vrnn = random_vrnn(case, seed)
        for network in (vrnn.prior, vrnn.encoder.head):  # laws of z near one another: a bad guide's average bounds too
            for parameter in network.parameters():
                parameter.mul_(0.1)
        x = all_sequences(2, self.num_steps).double()[..., None]
        log_likelihood, expectation = guided_quadrature(WrittenOut(vrnn), x, num_points=30)
        return float((expectation / divisor - log_likelihood).max())
