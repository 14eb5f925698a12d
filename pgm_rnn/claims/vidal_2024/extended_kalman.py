"""The extended Kalman filter: what it linearises, where, and that it is the Kalman filter of a linear network.

z_{t+1} = g(A z_t + W u_{t+1}) + w_t,   x_t = f(C z_t) + v_t
A_t = diag(g'(A z_{t|t} + W u_{t+1})) A,   C_t = diag(f'(C z_{t|t-1})) C
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest, rounding, smallest
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.claims.vidal_2024.joint_normal import JointNormal, joint_rounding
from pgm_rnn.claims.vidal_2024.kalman import Case, driven, moments_distance, system
from pgm_rnn.inference import kalman
from pgm_rnn.models.noisy_rnn import NoisyRNN

NUM_SEQUENCES, NUM_STEPS, DIM = 4, 6, 3

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "sigmoid": torch.sigmoid}
DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda a: 1 - torch.tanh(a) ** 2,
    "sigmoid": lambda a: torch.sigmoid(a) * (1 - torch.sigmoid(a)),
}


class ExtendedKalman(Claim):
    """The engine's extended filter on a network with identities for g and f."""

    id = "extended-kalman"
    source = f"{PAPER}, Extended Kalman Filters for RNNs"
    statement = "where g and f are linear, the extended Kalman filter is the Kalman filter"
    quotation = "We linearize f and g around current estimate of mean and covariance using first-order Taylor expansion"
    meaning = (
        "Where there is nothing to linearise, the extended filter must be the Kalman filter. This is the case in "
        "which its answer is known."
    )
    hypotheses = "g and f are the identity"
    routes = "the engine with method='extended' on a noisy RNN, against the joint normal law of the linear system"
    control = "tanh for g in place of the identity"
    proof = (
        "The Taylor expansion of first order of a linear function is that function, at whatever point it is taken. So "
        "the linearised system is the system itself, the equations of the extended filter are those of the Kalman "
        "filter, and they are exact (`kalman-is-exact`)."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return [(1, 1, None), (2, 1, None), (3, 2, None), (2, 3, 1), (3, 1, 2)]

    @property
    @override
    def tolerance(self) -> float:
        return joint_rounding(NUM_STEPS, latent_dim=3, obs_dim=3)

    @override
    def residual(self, case: Case, seed: int) -> float:
        return self._distance(case, seed, "identity")

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        return self._distance(case, seed, "tanh")

    @torch.no_grad()
    def _distance(self, case: Case, seed: int, activation: str) -> float:
        moments, inputs = system(case, seed).moments(), driven(case, seed, NUM_SEQUENCES, NUM_STEPS)
        moments.pop("feedthrough_matrix", None)
        network = NoisyRNN(**moments, activation=activation)  # type: ignore[arg-type]
        x = network.sample(NUM_SEQUENCES, NUM_STEPS, seed=seed, inputs=inputs).x
        linear = dict(moments)
        if inputs is not None:
            linear["feedthrough_matrix"] = inputs.new_zeros(case[1], inputs.shape[-1])
        exact = JointNormal(linear, NUM_STEPS, inputs, NUM_SEQUENCES)
        return moments_distance(kalman.smooth(network, x, inputs=inputs, method="extended"), exact, x)


class Reading(NamedTuple):
    """A reading of the slide's two Jacobians; the defaults are the corrected ones.

    Attributes:
        transposed: diag(g') A' and diag(f') C', as printed, instead of diag(g') A and diag(f') C.
        late: f' at C z_{t|t}, as printed, z_{t|t} from an update with f' at C z_{t|t-1}, instead of there.
        offset: whether the linear model keeps the constants g(A z) - A_t z and f(C z) - C_t z.
    """

    transposed: bool = False
    late: bool = False
    offset: bool = True


def slides_filter(model: NoisyRNN, x: Tensor, reading: Reading) -> tuple[Tensor, Tensor]:
    """Filtered means and covariances by the slide's equations, one sequence after the other.

    Args:
        model: a model with as many outputs as states, so that a transposed C fits.
        x: (batch, T, D).
        reading: the reading of the Jacobians.

    Returns:
        (batch, T, D) and (batch, T, D, D).
    """
    steps = []
    for sequence in x:
        mean, cov = torch.as_tensor(model.initial_mean), model.initial_cov
        for x_t in sequence:
            filtered = _updated(model, reading, mean, cov, x_t, at=mean)
            if reading.late:
                filtered = _updated(model, reading, mean, cov, x_t, at=filtered[0])
            steps.append(filtered)
            mean, cov = _predicted(model, reading, *filtered)
    means, covs = (torch.stack(parts) for parts in zip(*steps, strict=True))
    return means.reshape(*x.shape[:2], DIM), covs.reshape(*x.shape[:2], DIM, DIM)


def _updated(
    model: NoisyRNN, reading: Reading, mean: Tensor, cov: Tensor, x: Tensor, at: Tensor
) -> tuple[Tensor, Tensor]:
    """Moments given x too, f linearised at a state."""
    C = model.emission_matrix
    slope = torch.diag(DERIVATIVES[model.output](C @ at)) @ (C.T if reading.transposed else C)
    gain = cov @ slope.T @ torch.linalg.inv(slope @ cov @ slope.T + model.emission_cov)
    expected = FUNCTIONS[model.output](C @ mean) if reading.offset else slope @ mean
    return mean + gain @ (x - expected), cov - gain @ slope @ cov


def _predicted(model: NoisyRNN, reading: Reading, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Moments of the next state, g linearised at the mean."""
    A = model.transition_matrix
    slope = torch.diag(DERIVATIVES[model.activation](A @ mean)) @ (A.T if reading.transposed else A)
    after = FUNCTIONS[model.activation](A @ mean) if reading.offset else slope @ mean
    return after, slope @ cov @ slope.T + model.transition_cov


class _ByTheSlide(Claim):
    """The engine's filter against the slide's equations, with Jacobians as they are read."""

    readings: Sequence[Reading]

    @override
    def cases(self) -> Sequence[tuple[str, str]]:
        return list(product(FUNCTIONS, FUNCTIONS))

    @property
    @override
    def tolerance(self) -> float:
        return rounding(NUM_STEPS, width=DIM**4)  # two products of matrices and an inverse a step

    @override
    def residual(self, case: tuple[str, str], seed: int) -> float:
        return self._distance(case, seed, Reading())

    @override
    def control_residual(self, case: tuple[str, str], seed: int) -> float:
        return smallest(self._distance(case, seed, reading) for reading in self.readings)

    @torch.no_grad()
    def _distance(self, case: tuple[str, str], seed: int, reading: Reading) -> float:
        model = NoisyRNN.random(DIM, DIM, activation=case[0], output=case[1], seed=seed).double()
        x = model.sample(NUM_SEQUENCES, NUM_STEPS, seed=seed).x
        found = kalman.filter(model, x, method="extended")
        means, covs = slides_filter(model, x, reading)
        return largest(
            [float((found.filtered_means - means).abs().max()), float((found.filtered_covs - covs).abs().max())]
        )


class ExtendedKalmanJacobians(_ByTheSlide):
    """An erratum: the derivative of g(A z) is not transposed, and that of f is taken before the update."""

    id = "extended-kalman-jacobians"
    source = f"{PAPER}, Extended Kalman Filters for RNNs"
    statement = "A_t = diag(g'(A z_{t|t})) A and C_t = diag(f'(C z_{t|t-1})) C; printed: A', C', and C_t at z_{t|t}"
    quotation = "A~_t = grad_z g(A z_{t|t}) A', C~_t = grad_z f(C z_{t|t}) C'"
    meaning = (
        "The derivative of g(A z) has A in it, not its transpose. And the emission is linearised before y_t is used, "
        "at the prediction: z_{t|t} is not known yet."
    )
    hypotheses = "g and f act on each entry; A and C are not symmetric"
    routes = "the engine, whose Jacobians are automatic, against the slide's equations with their closed forms"
    control = "as printed: the transposed matrices; the derivative of f at z_{t|t}, which needs the gain that needs it"
    kind = "erratum"
    proof = (
        "By the chain rule d g(A z)_i / d z_j = g'((A z)_i) A_ij: the Jacobian is diag(g'(A z)) A. The gain K_t is "
        "computed from C_t, and z_{t|t} from K_t, so that C_t can only be taken at z_{t|t-1}."
    )
    erratum = "wrong"
    example = (
        "g the identity and A = [[0, 1], [0, 0]]: g(A z) = A z, whose derivative is A. At z = (0, 1), A z = (1, 0) "
        "and A' z = (0, 0)."
    )

    readings = (Reading(transposed=True), Reading(late=True))


class ExtendedKalmanOffset(_ByTheSlide):
    """An erratum: the linear model that stands in for the network has constants."""

    id = "extended-kalman-offset"
    source = f"{PAPER}, Extended Kalman Filters for RNNs"
    statement = (
        "the linearised system is z' = g(A m) + A_t (z - m) + w, x = f(C m) + C_t (z - m) + v; printed: A_t z, C_t z"
    )
    quotation = "z~_{t+1} = A~_t z~_t + w_t, y_t = C~_t z~_t + v_t"
    meaning = (
        "A tangent is a line through the curve's point, not through the origin. The printed system drops the "
        "constant; the slide's own equations for the means keep it."
    )
    hypotheses = "g and f are not linear"
    routes = "the engine, against the slide's equations, whose means go through g and f"
    control = "as printed: the Kalman filter of z' = A_t z + w, x = C_t z + v"
    kind = "erratum"
    proof = (
        "Taylor's expansion of g(A z) at z = m is g(A m) + A_t (z - m). This equals A_t z only if g(A m) = A_t m, as "
        "for a linear g. The slide's prediction and update take their means from g(A z_{t|t}) and f(C z_{t|t-1}), so "
        "they belong to the system with the constants, and its Kalman filter is the extended filter."
    )
    erratum = "wrong"
    example = (
        "One dimension, A = 1, g = tanh, m = 1. g(m) = 0.762; the slope is 1 - 0.762^2 = 0.420, and the printed "
        "system predicts 0.420 m = 0.420."
    )

    readings = (Reading(offset=False),)
