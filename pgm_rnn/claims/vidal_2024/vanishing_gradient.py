"""Vanishing and exploding gradients: how dh_T / dh_1 grows with T.

linear dynamics    |lambda_1|^T <= ||A^T|| <= cond(V) |lambda_1|^T,    A = V diag(lambda) V^{-1}
tanh               dh_T / dh_1 = prod_t diag(1 - h_t^2) A,    at most ||A||^T
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest, rounding
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.emissions import Bernoulli
from pgm_rnn.models.rnn import RNN
from pgm_rnn.randomness import seeded

DIM = 5


def network(cell: str, A: Tensor, bias: Tensor, seed: int, input_scale: float = 0.3) -> RNN:
    """A recurrent network over bits with this recurrent matrix, its inputs' weights normal."""
    with seeded(seed, stream=4), torch.no_grad():
        rnn = RNN(cell, emission=Bernoulli(2), hidden_dim=len(A)).double()
        weights = dict(rnn.named_parameters())
        weights["cell.network.weight_hh_l0"].copy_(A)
        weights["cell.network.weight_ih_l0"].normal_(std=input_scale)
        weights["cell.network.bias_ih_l0"].copy_(bias)
        weights["cell.network.bias_hh_l0"].zero_()
        rnn.initial_memory = torch.nn.Parameter(0.1 * torch.randn(len(A), dtype=A.dtype))
    return rnn


def end_to_end(rnn: RNN, num_steps: int, seed: int) -> Tensor:
    """The Jacobian of h_{T+1} in h_1 for a random sequence of inputs, (D, D), by backpropagation."""
    with seeded(seed, stream=5):
        inputs = torch.randint(2, (num_steps, 2)).double()

    def last(h: Tensor) -> Tensor:
        for x in inputs:
            h = rnn.recurrence(h, None, x)
        return h

    assert rnn.initial_memory is not None
    jacobian: Tensor = torch.autograd.functional.jacobian(last, rnn.initial_memory.detach())
    return jacobian


class Spectrum(NamedTuple):
    """Spectrum of a matrix A = V diag(lambda) V^{-1}.

    Attributes:
        radius: log |lambda_1|, the largest.
        condition: log(||V|| ||V^{-1}||), zero for a normal matrix.
    """

    radius: float
    condition: float


def spectrum(A: Tensor) -> Spectrum:
    """Spectrum by eigenvalues and eigenvectors."""
    values, vectors = torch.linalg.eig(A)
    return Spectrum(math.log(float(values.abs().max())), math.log(float(torch.linalg.cond(vectors))))


def random_matrix(radius: float, seed: int) -> Tensor:
    """A normal matrix scaled to a spectral radius."""
    with seeded(seed):
        A = torch.randn(DIM, DIM, dtype=torch.float64)
    return radius * A / torch.linalg.eigvals(A).abs().max()


def rotation(seed: int) -> Tensor:
    """A random orthogonal matrix."""
    with seeded(seed):
        return torch.nn.init.orthogonal_(torch.empty(DIM, DIM, dtype=torch.float64))


class VanishingGradient(Claim):
    """The rate of linear dynamics lies between log |lambda_1| and that plus log cond(V) / T."""

    id = "vanishing-gradient"
    source = f"{PAPER}, Exploding/Vanishing Gradients: LDS case"
    statement = "for linear dynamics log ||dh_T/dh_1|| / T tends to log |lambda_1(A)|, at most log cond(V) / T above it"
    quotation = "Hence, the gradient involving A^T terms will also either explode or vanish."
    meaning = (
        "In a linear network the influence of the first state on a late one is a power of the matrix A. Its size "
        "grows or falls by the modulus of the largest eigenvalue at each step, up to a factor that does not grow."
    )
    hypotheses = "g is the identity, A has a basis of eigenvectors, and lambda_1 is the largest in modulus"
    routes = "backpropagation through the model's recurrence, against the eigenvalues and eigenvectors of A"
    control = "tanh for g in place of the identity"
    proof = (
        "After n steps the derivative is A^n. With A = V Lambda V^{-1}, |lambda_1|^n <= ||A^n|| <= cond(V) "
        "|lambda_1|^n: A^n stretches its first eigenvector by |lambda_1|^n, and the norm of a product is at most the "
        "product of norms. So log ||A^n|| / n lies between log |lambda_1| and log |lambda_1| + log cond(V) / n. With "
        "tanh, slopes below one enter at every step."
    )

    num_steps = (1, 10, 100)

    @override
    def cases(self) -> Sequence[float]:
        return [0.7, 0.95, 1.0, 1.2]

    @property
    @override
    def tolerance(self) -> float:
        """Rounding error of log |lambda_1|: that of the matrix times the eigenvalue's condition, at most 1000."""
        return rounding(1, width=1000 * DIM)

    @override
    def residual(self, case: float, seed: int) -> float:
        return self._distance("elman-linear", case, seed)

    @override
    def control_residual(self, case: float, seed: int) -> float:
        return self._distance("elman", case, seed)

    def _distance(self, cell: str, radius: float, seed: int) -> float:
        """Distance of the rate from its interval, in nats per step."""
        A = random_matrix(radius, seed)
        rnn, law = network(cell, A, torch.zeros(DIM), seed), spectrum(A)
        outside = []
        for num_steps in self.num_steps:
            norm = torch.linalg.matrix_norm(end_to_end(rnn, num_steps, seed), 2)
            above = float(norm.log()) / num_steps - law.radius
            outside += [-above, above - law.condition / num_steps, 0.0]
        return largest(outside)


class VanishingGradientTanh(Claim):
    """With tanh the gradient falls faster than |lambda_1|^T, if A is normal."""

    id = "vanishing-gradient-tanh"
    source = f"{PAPER}, Issues with RNN: Vanishing Gradients"
    statement = "with tanh for g and a normal A, log ||dh_T/dh_1|| / T lies below log |lambda_1(A)|"
    quotation = "We have to backpropagate through many gradient terms to get back to the first time step"
    meaning = (
        "The slope of tanh is at most one, so gradients vanish faster than in the linear network, if A is normal. For "
        "other matrices tanh may also switch off a unit that held another one back, and then the gradient can grow."
    )
    hypotheses = "A A' = A' A, so that ||A|| = |lambda_1|; the slopes of tanh are at most one"
    routes = "backpropagation through the model's recurrence, against the eigenvalues of A"
    control = "a matrix that is not normal: of two units that cancel each other, tanh silences one, and the other grows"
    proof = (
        "The Jacobian of a step is diag(1 - h^2) A with diagonal entries in (0, 1], so its norm is at most ||A||, "
        "which is |lambda_1| for a normal A. The norm of the product over T steps is at most the product of the "
        "norms: log ||dh_T/dh_1|| / T <= log |lambda_1|. Where A is not normal ||A|| can exceed |lambda_1|, and the "
        "argument says nothing: of two units that cancel each other, silencing one leaves the other's growth."
    )

    num_steps = 50

    @override
    def cases(self) -> Sequence[float]:
        return [0.7, 0.95, 1.0, 1.2]

    @property
    @override
    def tolerance(self) -> float:
        return rounding(1, width=DIM)

    @override
    def residual(self, case: float, seed: int) -> float:
        return max(0.0, self._above(case * rotation(seed), torch.zeros(DIM), seed))

    @override
    def control_residual(self, case: float, seed: int) -> float:
        pair = torch.tensor([[1.3, 1.0], [-1.0, -0.7]], dtype=torch.float64)  # eigenvalues 0.3 and 0.3
        A, bias = torch.zeros(DIM, DIM, dtype=torch.float64), torch.zeros(DIM)
        A[:2, :2], bias[0], bias[1] = 0.7 * pair, -0.7, 4.0
        A[2:, 2:] = 0.1 * case * rotation(seed)[2:, 2:]
        return self._above(A, bias, seed, input_scale=0.01)

    def _above(self, A: Tensor, bias: Tensor, seed: int, input_scale: float = 0.3) -> float:
        jacobian = end_to_end(network("elman", A, bias, seed, input_scale), self.num_steps, seed)
        return float(torch.linalg.matrix_norm(jacobian, 2).log()) / self.num_steps - spectrum(A).radius


class OrthogonalInitialisation(Claim):
    """Orthogonal matrices keep every gradient's norm, until g bends it."""

    id = "orthogonal-initialisation"
    source = f"{PAPER}, Issues with RNN: Vanishing Gradients"
    statement = "started from a random orthonormal A, linear dynamics keep the norm of every gradient for all T"
    quotation = "start with random orthonormal matrices"
    meaning = (
        "An orthonormal matrix rotates and never stretches, so the gradients of a linear network keep their length "
        "however long the sequence is. Independent random entries of the same average size do not have this property."
    )
    hypotheses = "A A' = I and g is the identity"
    routes = "backpropagation through the model's recurrence, its singular values against the number one"
    control = "normal entries of variance 1 / D, which keep squared lengths on average"
    proof = (
        "If A' A = I then (A^n)' A^n = I: all singular values of A^n are one, and |(A^n)' v| = |v| for every v. With "
        "independent entries of variance 1 / D only the mean of |A v|^2 is |v|^2. The singular values are spread, and "
        "in products over many steps the spread grows exponentially."
    )

    num_steps = 100

    @override
    def cases(self) -> Sequence[int]:
        return range(4)

    @property
    @override
    def tolerance(self) -> float:
        return rounding(self.num_steps, width=DIM)

    @override
    def residual(self, case: int, seed: int) -> float:
        return self._spread(rotation(seed), seed)

    @override
    def control_residual(self, case: int, seed: int) -> float:
        with seeded(seed):
            return self._spread(torch.randn(DIM, DIM, dtype=torch.float64) / DIM**0.5, seed)

    def _spread(self, A: Tensor, seed: int) -> float:
        jacobian = end_to_end(network("elman-linear", A, torch.zeros(DIM), seed), self.num_steps, seed)
        return float((torch.linalg.svdvals(jacobian) - 1).abs().max())


class GradientDirection(Claim):
    """An erratum: not every gradient explodes with A^T."""

    id = "gradient-direction"
    source = f"{PAPER}, Exploding/Vanishing Gradients: LDS case"
    statement = (
        "the gradient of v' h_T grows with the largest |lambda_j| among the left eigenvectors that make up v, which "
        "may be below one where |lambda_1| is above; printed: with |lambda_1|, for any initial condition"
    )
    quotation = "For any initial condition z_0 and a large T"
    meaning = (
        "The powers of A follow its largest eigenvalue; a gradient need not. The loss chooses a direction, and if that "
        "direction has no component along the first eigenvector, the gradient can vanish while A^n explodes."
    )
    hypotheses = "v is a left eigenvector of A, of another eigenvalue than lambda_1"
    routes = "backpropagation through the model's recurrence, against log |lambda_j| for every left eigenvector v_j"
    control = "as printed: log |lambda_1| for all of them"
    kind = "erratum"
    proof = (
        "The gradient of v' h_T in h_1 is (A')^n v. For a left eigenvector, A' v = lambda_j v, it is lambda_j^n v, "
        "and its norm grows with log |lambda_j| whatever lambda_1 is. For v = sum_j c_j v_j the largest |lambda_j| "
        "with c_j not zero decides. It equals |lambda_1| for almost every v, but not for all."
    )
    erratum = "wrong"
    example = (
        "A = diag(2, 1/2) and v = (0, 1): |lambda_1| = 2, and the gradient after 10 steps is (0, 2^-10) = (0, 0.00098)."
    )

    num_steps = 10
    eigenvalues = (1.2, 0.9, -0.7, 0.5, 0.4)

    @override
    def cases(self) -> Sequence[int]:
        return range(1, DIM)

    @property
    @override
    def tolerance(self) -> float:
        """A rounding error in the direction of lambda_1 grows by 1.2 / 0.4 a step, 3^10 = 59049 in all."""
        return rounding(1, width=DIM) * 3**self.num_steps / self.num_steps

    @override
    def residual(self, case: int, seed: int) -> float:
        return abs(self._rate(case, seed) - math.log(abs(self.eigenvalues[case])))

    @override
    def control_residual(self, case: int, seed: int) -> float:
        return abs(self._rate(case, seed) - math.log(self.eigenvalues[0]))

    def _rate(self, number: int, seed: int) -> float:
        with seeded(seed):
            V = rotation(seed) + 0.3 * torch.randn(DIM, DIM, dtype=torch.float64)
        left = torch.linalg.inv(V)  # its rows
        A = V @ torch.diag(torch.tensor(self.eigenvalues, dtype=torch.float64)) @ left
        jacobian = end_to_end(network("elman-linear", A, torch.zeros(DIM), seed), self.num_steps, seed)
        gradient = left[number] @ jacobian
        return float((gradient.norm() / left[number].norm()).log()) / self.num_steps
