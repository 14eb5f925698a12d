"""A switching linear system as a mixture of normal laws, one for each path of regimes: what any filter must give.

    p(x_{1:T}) = sum over s_{1:T} of p(s_{1:T}) N(x; m_s, S_s)      K^T stacked normal laws

Given the regimes, y_{1:T} = m + G e with e standard normal, and x_{1:T} = C y + d + v. No filter is used: moments are
those of partitioned normal vectors.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.models.switching_linear import SwitchingLinearSSM


class Posterior(NamedTuple):
    """What a mixture says of a state given observations.

    Attributes:
        probs: of each regime, (K,).
        mean: of y, (D,).
        cov: of y, (D, D).
    """

    probs: Tensor
    mean: Tensor
    cov: Tensor


class RegimePaths(NamedTuple):
    """The laws of y_{1:T} and x_{1:T} given each of P paths of regimes, entries of all steps in one vector.

    Attributes:
        regimes: the paths, (P, T).
        log_probs: log p(s_{1:T}), (P,).
        state_means, state_covs: of y, (P, T D) and (P, T D, T D).
        matrices: C, which takes y to the mean of x, (P, T M, T D).
        offsets: d, (P, T M).
        noise_covs: R, (P, T M, T M).
    """

    regimes: Tensor
    log_probs: Tensor
    state_means: Tensor
    state_covs: Tensor
    matrices: Tensor
    offsets: Tensor
    noise_covs: Tensor

    def densities(self, x: Tensor) -> Tensor:
        """log p(x_{1:T} | s_{1:T}) of one sequence x (T, M), (P,)."""
        return self._normal(1.0).log_prob(x.flatten())

    def second_moments(self, x: Tensor) -> Tensor:
        """log E(p(x | y, s)^2 | s) over draws of y given s, (P,): N(x; C y, R)^2 = |4 pi R|^{-1/2} N(x; C y, R / 2)."""
        size = self.noise_covs.shape[-1] * torch.log(torch.tensor(4 * torch.pi, dtype=x.dtype))
        return self._normal(0.5).log_prob(x.flatten()) - (size + self.noise_covs.logdet()) / 2

    def _normal(self, noise: float) -> MultivariateNormal:
        """The laws of x given the paths, the noise's covariance multiplied by a number."""
        mean = (self.matrices @ self.state_means[..., None])[..., 0] + self.offsets
        return MultivariateNormal(mean, self.matrices @ self.state_covs @ self.matrices.mT + noise * self.noise_covs)

    def last(self, x: Tensor, num_regimes: int) -> Posterior:
        """The law of z_T given all observations x (T, M)."""
        weights, law = (self.log_probs + self.densities(x)).softmax(0), self._normal(1.0)
        cross = self.matrices @ self.state_covs  # Cov(x, y)
        gain = torch.linalg.solve(law.covariance_matrix, cross).mT
        means = self.state_means + (gain @ (x.flatten() - law.loc)[..., None])[..., 0]
        dim = self.state_means.shape[-1] // len(x)
        means, covs = means[:, -dim:], (self.state_covs - gain @ cross)[:, -dim:, -dim:]
        mean = weights @ means
        far = means - mean
        spread = covs + far[:, :, None] * far[:, None, :]
        indicators = torch.nn.functional.one_hot(self.regimes[:, -1], num_regimes).to(x.dtype)
        return Posterior(weights @ indicators, mean, (weights[:, None, None] * spread).sum(0))


def regime_paths(model: SwitchingLinearSSM, num_steps: int) -> RegimePaths:
    """The laws given each of the K^T paths of regimes of T steps."""
    paths = all_sequences(model.num_regimes, num_steps)
    return RegimePaths(*(torch.stack(parts) for parts in zip(*(_given(model, path) for path in paths), strict=True)))


def _given(model: SwitchingLinearSSM, path: Tensor) -> tuple[Tensor, ...]:
    """The fields of `RegimePaths` for one path (T,)."""
    log_p = model.initial_probs[path[0]].log()
    mean, row = model.initial_mean[path[0]], torch.linalg.cholesky(model.initial_cov[path[0]])
    size = len(path) * len(mean)
    means, rows = [mean], [torch.nn.functional.pad(row, (0, size - len(mean)))]
    for t, (old, new) in enumerate(pairwise(path), start=1):
        log_p = log_p + model.transition_probs[old, new].log()
        means.append(model.transition_matrix[new] @ means[-1] + model.transition_offset[new])
        fresh = torch.linalg.cholesky(model.transition_cov[new])
        own = torch.nn.functional.pad(fresh, (t * len(mean), size - (t + 1) * len(mean)))
        rows.append(model.transition_matrix[new] @ rows[-1] + own)
    G = torch.cat(rows)
    C, R = (torch.block_diag(*part[path]) for part in (model.emission_matrix, model.emission_cov))
    return path, log_p, torch.cat(means), G @ G.mT, C, model.emission_offset[path].flatten(), R
