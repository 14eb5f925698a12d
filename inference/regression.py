"""Linear regression from expected second moments, the M-step of linear-Gaussian models.

y = W w + N(0, S):   W = sum E(y w') [sum E(w w')]^{-1},   S = sum E((y - W w)(y - W w)') / n
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

    def coefficients(self, given: Tensor, free: Tensor) -> Tensor:
        """The most likely W (N, V) whose columns outside `free` (V,), truth values, are those of `given`."""
        if not bool(free.any()):
            return given
        left = self.yw[:, free] - given[:, ~free] @ self.ww[~free][:, free]
        result = given.clone()
        result[:, free] = torch.linalg.lstsq(self.ww[free][:, free], left.mT).solution.mT
        return result

    def residual_cov(self, coefficients: Tensor) -> Tensor:
        """The most likely S (N, N) for given coefficients."""
        cross = coefficients @ self.yw.mT
        total = self.yy - cross - cross.mT + coefficients @ self.ww @ coefficients.mT
        return 0.5 * (total + total.mT) / self.num_pairs
