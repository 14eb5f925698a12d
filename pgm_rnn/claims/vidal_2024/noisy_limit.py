"""A network with little noise on its state is nearly a recurrent network, and how nearly.

z_t = g(A z_{t-1} + W x_{t-1}) + s L e_t,   x_t = f(C z_t) + v_t,   e_t standard normal,  z_1 = m + s L_1 e_1
log p_s(x) = l(0) + s^2 / 2 (tr H + |grad|^2) + O(s^4)      l(s e) = log p(x | e),  derivatives in s e at 0
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.models.noisy_rnn import NoisyRNN

NUM_STEPS, DIM, OBS_DIM = 3, 2, 2

FUNCTIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "identity": lambda a: a}

Case = tuple[str, str]
"""g and f."""


def noisy(base: NoisyRNN, scale: float) -> NoisyRNN:
    """The network with the noise of its states, z_1 among them, times `scale`."""
    return NoisyRNN(
        base.initial_mean,
        scale**2 * base.initial_cov,
        base.transition_matrix,
        scale**2 * base.transition_cov,
        base.emission_matrix,
        base.emission_cov,
        base.input_matrix,
        activation=base.activation,
        output=base.output,
        feedback=True,
    )


def quadrature(model: NoisyRNN, x: Tensor, shift: float) -> Tensor:
    """log p(x_{1:T}) of each sequence, (batch,), nats, from the model's own laws at the points m, m + 3^(1/2) L e_i.

    Three Gauss-Hermite points in every direction integrate polynomials of degree five, so that what is left out is of
    the sixth order in the noise. `shift` moves the noise off its centre, in standard deviations.
    """
    points = 3**0.5 * torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype) + shift
    nodes = torch.cartesian_prod(*[points] * DIM)  # (9, D)
    weights = torch.cartesian_prod(*[torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=x.dtype)] * DIM).prod(-1).log()
    law = model.initial(None)
    z = (law.loc + nodes @ law.scale_tril.T)[:, None].expand(-1, len(x), -1)  # (paths, batch, D)
    log_weights = weights[:, None] + model.emission(z, None).log_prob(x[:, 0])
    for t in range(1, x.shape[1]):
        law = model.transition(z, x[:, t - 1])
        offsets = nodes @ model.transition_covariance.root.T
        z = (law.loc + offsets[:, None, None]).flatten(0, 1)
        log_weights = (log_weights + weights[:, None, None]).flatten(0, 1) + model.emission(z, None).log_prob(x[:, t])
    return log_weights.logsumexp(0)


def network_log_prob(base: NoisyRNN, x: Tensor, noise: Tensor) -> Tensor:
    """log p(x | noise) of one sequence (T, M) by a recurrent network that adds `noise` (T, D) to its states, nats."""
    g, f = FUNCTIONS[base.activation], FUNCTIONS[base.output]
    assert base.input_matrix is not None  # it reads its observations
    roots = [torch.linalg.cholesky(cov) for cov in (base.initial_cov, base.transition_cov)]
    z = base.initial_mean + roots[0] @ noise[0]
    total = torch.zeros((), dtype=x.dtype)
    for t, x_t in enumerate(x):
        if t > 0:
            z = g(base.transition_matrix @ z + base.input_matrix @ x[t - 1]) + roots[1] @ noise[t]
        error = x_t - f(base.emission_matrix @ z)
        precision = torch.linalg.inv(base.emission_cov)
        total = total - 0.5 * (error @ precision @ error + torch.logdet(2 * torch.pi * base.emission_cov))
    return total


class NoisyRnnLimit(Claim):
    """The likelihood tends to the network's, and the difference is the second-order term of its expansion."""

    id = "noisy-rnn-limit"
    source = f"{PAPER}, RNNs vs LDSs; Sohl-Dickstein & Kingma (2015), sec. 2.3"
    statement = "as the state's noise s -> 0, log p(x) tends to the RNN's, and (log p_s - log p_0) / s^2 to a constant"
    quotation = "No noise w_t, v_t when RNN used for prediction instead of generation."
    meaning = (
        "A network with a little noise in its state is nearly the network without it: the difference in log "
        "likelihood is of second order in the noise's scale, with a coefficient that derivatives of the plain network "
        "give."
    )
    hypotheses = "the noise is centred and normal; g and f are smooth"
    routes = (
        "the noisy network's laws summed out by quadrature at s = 1/64 and 1/128, the quotients extrapolated, against "
        "(tr H + |grad|^2) / 2 by automatic differentiation of a plain recurrent network in its perturbations"
    )
    control = "noise whose mean is one standard deviation from zero, whose effect is of first order"
    kind = "limit"
    unit = "limit"
    proof = (
        "Let F(d) be log p(x) of the plain network with its states displaced by d. Then p_s(x) = E exp F(s e) with e "
        "standard normal, and exp F(s e) = exp F(0) [1 + s grad' e + s^2/2 (e' H e + (grad' e)^2) + ...]. Odd orders "
        "have mean zero, E e' H e = tr H and E (grad' e)^2 = |grad|^2. So log p_s = F(0) + s^2 (tr H + |grad|^2) / 2 + "
        "O(s^4). Noise whose mean is not zero keeps the term of first order."
    )

    scales = (1 / 64, 1 / 128)
    num_sequences = 4

    @override
    def cases(self) -> Sequence[Case]:
        return [("tanh", "identity"), ("tanh", "tanh"), ("sigmoid", "identity"), ("sigmoid", "tanh")]

    @property
    @override
    def tolerance(self) -> float:
        """Extrapolation leaves a term of order s^4, 6e-8 here, relative to the constant; 10 000 of that are allowed."""
        return 10_000 * self.scales[0] ** 4

    @override
    def residual(self, case: Case, seed: int) -> float:
        return self._distance(case, seed, shift=0.0)

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        return self._distance(case, seed, shift=1.0)

    @torch.no_grad()
    def _distance(self, case: Case, seed: int, shift: float) -> float:
        base = NoisyRNN.random(DIM, OBS_DIM, activation=case[0], output=case[1], feedback=True, seed=seed).double()
        x = noisy(base, self.scales[0]).sample(self.num_sequences, NUM_STEPS, seed=seed).x
        still = x.new_zeros(NUM_STEPS, DIM)
        limit = torch.stack([network_log_prob(base, row, still) for row in x])
        coarse, fine = ((quadrature(noisy(base, s), x, shift) - limit) / s**2 for s in self.scales)
        expected = torch.stack([second_order(base, row, still) for row in x])
        return float(((4 * fine - coarse) / 3 - expected).abs().max() / (1 + expected.abs().max()))


def second_order(base: NoisyRNN, x: Tensor, still: Tensor) -> Tensor:
    """(tr H + |grad|^2) / 2 of log p(x | noise) at no noise."""

    def value(noise: Tensor) -> Tensor:
        return network_log_prob(base, x, noise.reshape(still.shape))

    gradient = torch.func.grad(value)
    slope, curvature = gradient(still.flatten()), torch.func.jacrev(gradient)(still.flatten())
    return 0.5 * (curvature.trace() + slope.square().sum())
