"""The definition of a switching linear system: a sum over all paths of regimes, each one large normal vector.

    p(x_{1:T}) = sum over s_{1:T} of p(s_{1:T}) N(x; mean, covariance of the stacked observations given s_{1:T})

The joint normal law of y_1, ..., y_T and x_1, ..., x_T given the regimes is built from the matrices by hand, so nothing
here is a filter.
"""

from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pgm_rnn.models import SwitchingLinearSSM


class Path(NamedTuple):
    """A path of regimes: log p(s, x), and the moments of all y given s and x, (T, D) and (T D, T D)."""

    regimes: tuple[int, ...]
    log_joint: Tensor
    mean: Tensor
    cov: Tensor


def all_paths(model: SwitchingLinearSSM, x: Tensor) -> list[Path]:
    """Every path of regimes for one sequence x (T, M), NaN where an entry is missing."""
    return [_path(model, x, regimes) for regimes in product(range(model.num_regimes), repeat=len(x))]


def log_marginal(model: SwitchingLinearSSM, x: Tensor) -> Tensor:
    """log p(x_{1:T}) of one sequence."""
    return torch.stack([path.log_joint for path in all_paths(model, x)]).logsumexp(0)


def smoothed(model: SwitchingLinearSSM, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p(s_t = k | x) (T, K), E(y_t | x) (T, D) and Cov(y_t | x) (T, D, D) of one sequence."""
    paths, dim = all_paths(model, x), model.latent_dim
    weights = torch.stack([path.log_joint for path in paths]).softmax(0)
    regimes = torch.tensor([path.regimes for path in paths])
    probs = torch.stack([(weights[:, None] * (regimes == k)).sum(0) for k in range(model.num_regimes)], -1)
    means = torch.stack([path.mean for path in paths])
    covs = torch.stack(
        [
            torch.stack([path.cov[t * dim : (t + 1) * dim, t * dim : (t + 1) * dim] for t in range(len(x))])
            for path in paths
        ]
    )
    mean = (weights[:, None, None] * means).sum(0)
    far = means - mean
    cov = (weights[:, None, None, None] * (covs + far[..., :, None] * far[..., None, :])).sum(0)
    return probs, mean, cov


def filtered(model: SwitchingLinearSSM, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p(s_t = k | x_{1:t}), E(y_t | x_{1:t}) and Cov(y_t | x_{1:t}): the last of `smoothed` for each beginning of x."""
    parts = [smoothed(model, x[: t + 1]) for t in range(len(x))]
    return tuple(torch.stack([part[i][-1] for part in parts]) for i in range(3))  # type: ignore[return-value]


def _path(model: SwitchingLinearSSM, x: Tensor, regimes: tuple[int, ...]) -> Path:
    num_steps, dim = len(x), model.latent_dim
    log_p = model.initial_probs[regimes[0]].log()
    for old, new in pairwise(regimes):
        log_p = log_p + model.transition_probs[old, new].log()
    mean, rows = [model.initial_mean[regimes[0]]], [torch.eye(dim, num_steps * dim)]
    for t, k in enumerate(regimes[1:], 1):
        A, fresh = model.transition_matrix[k], torch.eye(num_steps * dim)[t * dim : (t + 1) * dim]
        mean.append(A @ mean[-1] + model.transition_offset[k])
        rows.append(A @ rows[-1] + fresh)  # y_t as a matrix times the noises of all steps
    noises = [model.initial_cov[regimes[0]], *(model.transition_cov[k] for k in regimes[1:])]
    cov = torch.cat(rows) @ torch.block_diag(*noises) @ torch.cat(rows).mT
    C = torch.block_diag(*(model.emission_matrix[k] for k in regimes))
    R = torch.block_diag(*(model.emission_cov[k] for k in regimes))
    y = torch.cat(mean)
    seen, there = C @ y + torch.cat([model.emission_offset[k] for k in regimes]), ~x.reshape(-1).isnan()
    C, seen, R = C[there], seen[there], R[there][:, there]
    S = C @ cov @ C.mT + R
    values = x.reshape(-1)[there]
    gain = torch.linalg.solve(S, C @ cov).mT
    log_x = MultivariateNormal(seen, S).log_prob(values) if len(values) else torch.zeros(())
    return Path(regimes, log_p + log_x, (y + gain @ (values - seen)).reshape(num_steps, dim), cov - gain @ C @ cov)
