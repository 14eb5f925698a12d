"""Condition C.2 of Proposition 6 for a trained network: does one step of its cell follow one of the forward algorithm?

    b_t = p(z_t | x_{1:t}),   b_{t+1} = f_x(b_t)      the forward algorithm, x = x_{t+1}
    h_{t+1} = f_{alpha,x}(h_t)                        the network
    residual = E |phi(f_x(b)) - f_{alpha,x}(phi(b))|^2 / E |h - E h|^2        phi: h_t ~ phi(b_t)

Choe, Shin & Spencer (2017), sec. 3.2. phi is a kernel ridge regression of hidden states on beliefs over half of the
test sequences; the residual is taken on the other half. Zero if some phi makes C.2 hold and the regression finds it.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.experiments.problem import Problem
from pgm_rnn.models.tagger import Tagger

MOST_POINTS = 1500
RIDGE = 1e-6


class Residuals(NamedTuple):
    """Parts of the hidden states' variance.

    Attributes:
        c2: the residual of C.2.
        phi: fraction of the hidden states' variance that phi does not explain, E |h - phi(b)|^2 / E |h - E h|^2.
    """

    c2: float
    phi: float


@torch.no_grad()
def intertwining_residuals(network: Tagger, problem: Problem) -> Residuals:
    """Residuals of one network on its problem's test sequences."""
    x = problem.test.x
    h = network.features(x).double()  # (N, T, k)
    half = len(x) // 2
    points = _spread(torch.arange(half * x.shape[1]), MOST_POINTS)
    phi = KernelRidge(problem.beliefs[:half].flatten(0, 1)[points], h[:half].flatten(0, 1)[points])
    beliefs, later_h, symbols = problem.beliefs[half:], h[half:], x[half:, 1:]
    fitted = phi(beliefs.flatten(0, 1)).view(*later_h.shape)
    stepped = step(network, fitted[:, :-1].flatten(0, 1), symbols.flatten())
    variance = (later_h - later_h.mean((0, 1))).square().sum(-1).mean()
    return Residuals(
        float((fitted[:, 1:].flatten(0, 1) - stepped).square().sum(-1).mean() / variance),
        float((later_h - fitted).square().sum(-1).mean() / variance),
    )


def step(network: Tagger, h: Tensor, x: Tensor) -> Tensor:
    """f_{alpha,x}(h), (N, k), in float64 for hidden states (N, k) and symbols (N,)."""
    cell = copy.deepcopy(network.cell).double()
    return cell.step(network.inputs.as_input(x).double(), h.double())


class KernelRidge:
    """A smooth map fitted to points: Gaussian kernel as wide as their median distance."""

    def __init__(self, inputs: Tensor, outputs: Tensor) -> None:
        self.inputs, self.mean = inputs, outputs.mean(0)
        distances = torch.cdist(inputs, inputs)
        self.width = float(distances[distances > 0].median()) if bool((distances > 0).any()) else 1.0
        kernel = self._kernel(distances)
        kernel.diagonal().add_(RIDGE * len(inputs))
        self.coefficients = torch.linalg.solve(kernel, outputs - self.mean)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Values at other points, (N, k)."""
        return self.mean + self._kernel(torch.cdist(inputs, self.inputs)) @ self.coefficients

    def _kernel(self, distances: Tensor) -> Tensor:
        return torch.exp(-((distances / self.width) ** 2) / 2)


def _spread(numbers: Tensor, most: int) -> Tensor:
    """At most so many of the numbers, evenly spread."""
    return numbers[:: -(-len(numbers) // most)]
