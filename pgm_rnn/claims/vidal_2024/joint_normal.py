"""The linear-Gaussian system as one normal law of all its states and observations: what any recursion must give.

    z_t = A z_{t-1} + B u_t + w_t,   x_t = C z_t + D u_t + v_t,   z = m_z + G e,   e standard normal, (T D,)

The conditional moments are those of a partitioned normal vector; nothing is computed one step after another but G.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.claims.claim import rounding

Moments = dict[str, Tensor]
"""A system's matrices, by the names of `LinearGaussianSSM`'s constructor."""


class Posterior(NamedTuple):
    """Moments of the states given observations.

    Attributes:
        means: (batch, T, D).
        covs: the same for every sequence, (T, D, D).
    """

    means: Tensor
    covs: Tensor


class JointNormal:
    """The law of z_{1:T} and x_{1:T} of a linear-Gaussian system with given inputs.

    Args:
        moments: the matrices.
        num_steps: T.
        inputs: u, (batch, T, U), or None.
        batch: the number of sequences.
    """

    def __init__(self, moments: Moments, num_steps: int, inputs: Tensor | None, batch: int) -> None:
        A, C = moments["transition_matrix"], moments["emission_matrix"]
        self.num_steps, (self.obs_dim, self.latent_dim) = num_steps, C.shape
        roots = [torch.linalg.cholesky(moments[name]) for name in ("initial_cov", "transition_cov")]
        means = [moments["initial_mean"].expand(batch, -1)]
        rows = [torch.zeros(self.latent_dim, num_steps * self.latent_dim, dtype=A.dtype)]
        rows[0][:, : self.latent_dim] = roots[0]
        for t in range(1, num_steps):
            row = A @ rows[-1]
            row[:, t * self.latent_dim : (t + 1) * self.latent_dim] = roots[1]
            rows.append(row)
            drive = 0.0 if inputs is None else inputs[:, t] @ moments["input_matrix"].T
            means.append(means[-1] @ A.T + drive)
        G, state_means = torch.cat(rows), torch.stack(means, dim=1)
        emit = torch.block_diag(*[C] * num_steps)
        self.state_means, self.state_cov = state_means.flatten(1), G @ G.T
        feed = 0.0 if inputs is None else inputs @ moments["feedthrough_matrix"].T
        self.obs_means = (state_means @ C.T + feed).flatten(1)
        self.cross = self.state_cov @ emit.T
        self.obs_cov = emit @ self.cross + torch.block_diag(*[moments["emission_cov"]] * num_steps)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x_{1:T}) of observations (batch, T, M): (batch,), nats."""
        return torch.distributions.MultivariateNormal(self.obs_means, self.obs_cov).log_prob(x.flatten(1))

    def given(self, x: Tensor, seen: list[int]) -> Posterior:
        """Moments of each z_t given x_{1:s}, s = seen[t-1]: T - 1 ahead for the smoother, t for the filter."""
        means, covs = [], []
        for t, s in enumerate(seen):
            states, past = slice(t * self.latent_dim, (t + 1) * self.latent_dim), s * self.obs_dim
            gain = torch.linalg.solve(self.obs_cov[:past, :past], self.cross[states, :past].T).T
            innovation = x.flatten(1)[:, :past] - self.obs_means[:, :past]
            means.append(self.state_means[:, states] + innovation @ gain.T)
            covs.append(self.state_cov[states, states] - gain @ self.cross[states, :past].T)
        return Posterior(torch.stack(means, dim=1), torch.stack(covs))


def joint_rounding(num_steps: int, latent_dim: int, obs_dim: int) -> float:
    """`rounding` of solves with the joint covariance: n^2 products for n entries, T steps of a recursion beside it."""
    return rounding(num_steps, width=(num_steps * (latent_dim + obs_dim)) ** 2)
