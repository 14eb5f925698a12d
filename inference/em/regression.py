"""Linear regression from expected second moments, the M-step of linear-Gaussian models.

y = W w + N(0, S):   W = sum E(y w') [sum E(w w')]^{-1},   S = sum E((y - W w)(y - W w)') / n

W does not depend on S, so S is estimated after it, among the matrices that exceed a given one. For y = z_{t+1} and
w = z_t these are eq. (12) and (13) of Shumway & Stoffer (1982).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Regression(NamedTuple):
    """Sums over n pairs of the expected products of y (N,) and w (V,).

    Attributes:
        yy: sum of E(y y'), (N, N).
        yw: sum of E(y w'), (N, V).
        ww: sum of E(w w'), (V, V).
        num_pairs: n.
    """

    yy: Tensor
    yw: Tensor
    ww: Tensor
    num_pairs: int

    def coefficients(self, given: Tensor, free: Tensor, *, nearest: bool = False) -> Tensor:
        """The most likely W (N, V); columns where `free` (V,) is False are those of `given`.

        Args:
            given: present coefficients, (N, V).
            free: which columns to estimate.
            nearest: whether to choose, among many that are most likely, those nearest to `given`, not to zero; for w
                that do not reach every direction.
        """
        if not bool(free.any()):
            return given
        start = given.clone()
        if not nearest:
            start[:, free] = 0.0
        left = self.yw[:, free] - start @ self.ww[:, free]
        start[:, free] += torch.linalg.lstsq(self.ww[free][:, free], left.mT).solution.mT
        return start

    def residual_cov(self, coefficients: Tensor) -> Tensor:
        """The most likely S (N, N) for given coefficients."""
        cross = coefficients @ self.yw.mT
        total = self.yy - cross - cross.mT + coefficients @ self.ww @ coefficients.mT
        return 0.5 * (total + total.mT) / self.num_pairs


class Bounded(NamedTuple):
    """The most likely covariance S among those that exceed a floor F.

    Attributes:
        cov: S, (N, N); S - F is positive semidefinite.
        held: directions v (N, m) in which v' S v = v' F v; of unit length if F is the identity.
    """

    cov: Tensor
    held: Tensor


def fraction_of(cov: Tensor, fraction: float, least: float) -> Tensor:
    """A fraction of a covariance (N, N), but at least `least` in every direction.

    So rounding cannot make it singular. Both are measured in units of the variables' own standard deviations.
    """
    scale = cov.diagonal().sqrt()
    scale = scale.where(scale > 0, 1.0)
    values, vectors = torch.linalg.eigh(cov / (scale[:, None] * scale))
    root = scale[:, None] * vectors * (fraction * values).clamp(min=least).sqrt()
    return root @ root.mT


def most_likely_above(cov: Tensor, floor: Tensor) -> Bounded:
    """argmax -log det S - tr(S^{-1} cov) over all S that exceed the floor F, (N, N) each, F positive definite.

    In coordinates where F is the identity, S has the eigenvectors of `cov` and its eigenvalues, raised to at least 1.
    """
    root = torch.linalg.cholesky(floor)
    half = torch.linalg.solve_triangular(root, cov, upper=False)
    whitened = torch.linalg.solve_triangular(root, half.mT, upper=False)
    values, vectors = torch.linalg.eigh(0.5 * (whitened + whitened.mT))
    low = values < 1
    if not bool(low.any()):
        return Bounded(cov, vectors[:, low])
    factor = root @ (vectors * values.clamp(min=1).sqrt())
    return Bounded(factor @ factor.mT, vectors[:, low])
