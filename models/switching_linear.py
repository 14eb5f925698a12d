"""A linear dynamical system that switches between K regimes, each with its own dynamics and observations.

    s_1 ~ Categorical(p),         s_t ~ Categorical(softmax(log P[s_{t-1}] + W[s_{t-1}] y_{t-1}))
    y_1 ~ N(m, P) of regime s_1,  y_t ~ N(A y_{t-1} + b, Q) and x_t ~ N(C y_t + d, R) of regime s_t

The state is z_t = (s_t, y_t), one vector of 1 + D numbers. Without weights W, y is linear and Gaussian given the
regimes, so `pgm_rnn.inference.mixture_kalman` sums it out: p(x_{1:T}) is a mixture of K^T normal densities. With W, the
recurrent model, the regimes depend on y, and `smc` and `svi` approximate both.

Sources: Choe, Shin & Spencer (2017), sec. 3.3; Barber (2006); Linderman et al. (2017) for the recurrent model.
"""

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_counts, check_covariance, check_probs
from pgm_rnn.distributions.regime_normal import RegimeNormal
from pgm_rnn.emissions import Emission, Gaussian
from pgm_rnn.emissions.natural import SOFTMAX, Natural, whole
from pgm_rnn.models.covariance import CovarianceTable
from pgm_rnn.models.gaussian_states import as_parameter, check_matrix, chosen_obs_dim, random_cov
from pgm_rnn.models.info import LATENT_DIM, STEPS_ON_A_BOUND, GradientFit, ModelInfo, Size
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import First, SequenceModel
from pgm_rnn.states import SwitchingStates

_COVARIANCES = {
    "initial_cov": "initial_covariances",
    "transition_cov": "transition_covariances",
    "emission_cov": "emission_covariances",
}


class SwitchingLinearSSM(SequenceModel):
    """A switching linear dynamical system with K regimes, D latent entries and M observed ones.

    Every parameter has one row per regime and is copied; covariances are kept as Cholesky factors, probabilities as
    logarithms, so gradients can train all of them.

    Args:
        initial_probs: p(s_1 = k), (K,).
        transition_probs: p(s_t = j | s_{t-1} = i), (K, K); with weights, those where y_{t-1} = 0.
        initial_mean: m, (K, D).
        initial_cov: P, (K, D, D), positive definite like the other covariances.
        transition_matrix: A, (K, D, D), for the move to y_t in regime s_t.
        transition_cov: Q, (K, D, D).
        emission_matrix: C, (K, M, D).
        emission_cov: R, (K, M, M).
        transition_offset: b, (K, D), None for zeros.
        emission_offset: d, (K, M), None for zeros.
        regime_weights: W, (K, K, D), rows s_{t-1}, columns s_t, of the recurrent model; None for regimes that do not
            read y.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        ValueError: shapes that do not fit, NaN, rows that do not sum to one, or covariances that are not positive
            definite.

    Example:
        >>> model = SwitchingLinearSSM.random(num_regimes=2, latent_dim=1, obs_dim=1, seed=0)
        >>> batch = model.sample(num_sequences=3, num_steps=5, seed=0)
        >>> batch.z.shape, model.log_prob(batch.x, batch.z).shape
        (torch.Size([3, 5, 2]), torch.Size([3]))
    """

    initial_memory = None
    reparametrised = False

    def __init__(
        self,
        initial_probs: Tensor,
        transition_probs: Tensor,
        initial_mean: Tensor,
        initial_cov: Tensor,
        transition_matrix: Tensor,
        transition_cov: Tensor,
        emission_matrix: Tensor,
        emission_cov: Tensor,
        transition_offset: Tensor | None = None,
        emission_offset: Tensor | None = None,
        regime_weights: Tensor | None = None,
        *,
        first: First = "model",
    ) -> None:
        start, moves, mean = (torch.as_tensor(part) for part in (initial_probs, transition_probs, initial_mean))
        check_probs("initial_probs", start, (None,))
        num_regimes = len(start)
        check_probs("transition_probs", moves, (num_regimes, num_regimes))
        check_matrix("initial_mean", mean, (num_regimes, None))
        matrix = torch.as_tensor(emission_matrix)
        dim = mean.shape[1]
        check_matrix("emission_matrix", matrix, (num_regimes, None, dim))
        size = matrix.shape[1]
        super().__init__(Gaussian(size), first)
        self.states = SwitchingStates(num_regimes, dim)
        self.initial_logits = nn.Parameter(start.detach().to(mean).log())
        self.transition_logits = nn.Parameter(moves.detach().to(mean).log())
        self.initial_mean = nn.Parameter(mean.detach().clone())
        self.transition_matrix = as_parameter("transition_matrix", transition_matrix, (num_regimes, dim, dim), mean)
        self.emission_matrix = as_parameter("emission_matrix", matrix, (num_regimes, size, dim), mean)
        self.transition_offset = _optional("transition_offset", transition_offset, (num_regimes, dim), mean)
        self.emission_offset = _optional("emission_offset", emission_offset, (num_regimes, size), mean)
        self.regime_weights = (
            None
            if regime_weights is None
            else as_parameter("regime_weights", regime_weights, (num_regimes, num_regimes, dim), mean)
        )
        self.initial_covariances = _table("initial_cov", initial_cov, num_regimes, dim, mean)
        self.transition_covariances = _table("transition_cov", transition_cov, num_regimes, dim, mean)
        self.emission_covariances = _table("emission_cov", emission_cov, num_regimes, size, mean)

    @staticmethod
    def random(
        num_regimes: int,
        latent_dim: int,
        obs_dim: int | None = None,
        *,
        emission: Emission | None = None,
        recurrent: bool = False,
        seed: int | None = None,
        first: First = "model",
    ) -> "SwitchingLinearSSM":
        """Regimes that stay with probability 0.9 and rotate y each in its own way, 0.95 times its length.

        Args:
            num_regimes: K.
            latent_dim: D.
            obs_dim: M.
            emission: Gaussian(M), in place of `obs_dim`.
            recurrent: whether regimes read y, with standard normal weights.
            seed: makes the draw reproducible; None uses torch's global generator.
            first: as for `SwitchingLinearSSM`.

        Raises:
            ValueError: sizes below 1, or not exactly one of obs_dim and emission.
        """
        size = chosen_obs_dim(obs_dim, emission)
        check_counts(num_regimes=num_regimes, latent_dim=latent_dim)
        with seeded(seed):
            rotations = torch.linalg.qr(torch.randn(num_regimes, latent_dim, latent_dim)).Q
            matrices = torch.randn(num_regimes, size, latent_dim) / latent_dim**0.5
            covs = [
                torch.stack([random_cov(width) for _ in range(num_regimes)]) for width in (latent_dim, latent_dim, size)
            ]
            offsets = torch.randn(num_regimes, latent_dim), torch.randn(num_regimes, size)
            weights = torch.randn(num_regimes, num_regimes, latent_dim) if recurrent else None
        even = torch.full((num_regimes,), 1 / num_regimes)
        stay = 0.9 * torch.eye(num_regimes) + 0.1 * even
        means = torch.zeros(num_regimes, latent_dim)
        parts = (even, stay, means, covs[0], 0.95 * rotations, covs[1], matrices, covs[2], *offsets, weights)
        return SwitchingLinearSSM(*parts, first=first)

    @property
    def num_regimes(self) -> int:
        """K, the number of regimes."""
        return len(self.initial_logits)

    @property
    def latent_dim(self) -> int:
        """D, the number of entries of y."""
        return self.initial_mean.shape[1]

    @property
    def obs_dim(self) -> int:
        """M, the number of entries of an observation."""
        return self.emission_matrix.shape[1]

    @property
    def recurrent(self) -> bool:
        """Whether the regimes read y."""
        return self.regime_weights is not None

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name and sizes, which make a model of this shape."""
        sizes = {"num_regimes": self.num_regimes, "latent_dim": self.latent_dim, "recurrent": self.recurrent}
        return "switching-lgssm", sizes

    @property
    def initial_probs(self) -> Tensor:
        """p(s_1 = k), (K,)."""
        return self.initial_logits.softmax(-1)

    @property
    def transition_probs(self) -> Tensor:
        """p(s_t = j | s_{t-1} = i), (K, K), where y_{t-1} = 0."""
        return self.transition_logits.softmax(-1)

    @property
    def initial_cov(self) -> Tensor:
        """P, (K, D, D)."""
        return self.initial_covariances.matrix

    @property
    def transition_cov(self) -> Tensor:
        """Q, (K, D, D)."""
        return self.transition_covariances.matrix

    @property
    def emission_cov(self) -> Tensor:
        """R, (K, M, M)."""
        return self.emission_covariances.matrix

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Probabilities by the names of the constructor, covariances as "initial_cov", "initial_scale" and so on."""
        probs = {
            "initial_probs": whole("initial_logits", SOFTMAX),
            "transition_probs": whole("transition_logits", SOFTMAX),
        }
        return probs | {
            f"{name.removesuffix('cov')}{view}": natural.within(module)
            for name, module in _COVARIANCES.items()
            for view, natural in getattr(self, module).natural_views().items()
        }

    def initial(self, h: Any) -> TorchDistribution:
        """p(z_1), batch shape ()."""
        return RegimeNormal(self.initial_logits, self.initial_mean, self.initial_covariances.scale_tril)

    def transition(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(z_t | z_{t-1}); its batch shape is that of z."""
        regime, y = _parts(z)
        logits = self.transition_logits[regime]
        if self.regime_weights is not None:
            logits = logits + (self.regime_weights[regime] @ y[..., None])[..., 0]
        mean = (self.transition_matrix @ y[..., None, :, None])[..., 0] + self.transition_offset  # (*batch, K, D)
        return RegimeNormal(logits, mean, self.transition_covariances.scale_tril)

    def emission(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(x_t | z_t); its batch shape is that of z."""
        regime, y = _parts(z)
        mean = (self.emission_matrix[regime] @ y[..., None])[..., 0] + self.emission_offset[regime]
        scale_tril = self.emission_covariances.scale_tril[regime]
        return dist.MultivariateNormal(mean, scale_tril=scale_tril, validate_args=False)


def _parts(z: Tensor) -> tuple[Tensor, Tensor]:
    """The regimes (*batch) and the vectors (*batch, D) of states."""
    return z[..., 0].long(), z[..., 1:]


def _optional(name: str, value: Tensor | None, shape: tuple[int, ...], like: Tensor) -> nn.Parameter:
    return nn.Parameter(like.new_zeros(shape)) if value is None else as_parameter(name, value, shape, like)


def _table(name: str, covs: Tensor, num_regimes: int, size: int, like: Tensor) -> CovarianceTable:
    """Checked covariances (K, size, size); `name` is for the error."""
    covs = torch.as_tensor(covs)
    check_matrix(name, covs, (num_regimes, size, size))
    return CovarianceTable(
        torch.stack([check_covariance(f"{name}[{k}]", cov.to(like), size) for k, cov in enumerate(covs)])
    )


INFO = ModelInfo(
    "switching-lgssm",
    SwitchingLinearSSM.random,
    "-",
    "discrete and Gaussian",
    "Choe et al. sec. 3.3; Vidal, LDS",
    {"num_regimes": 2, "latent_dim": 1, "obs_dim": 1},
    (Gaussian,),
    only_vectors=True,
    title="`SwitchingLinearSSM`, also recurrent",
    fit=GradientFit(
        "A linear dynamical system that switches between regimes, by gradient steps on a bound.",
        {
            "num_regimes": Size("Number of regimes.", shown="needed"),
            "latent_dim": LATENT_DIM,
        },
        {**STEPS_ON_A_BOUND, "learning_rate": 1e-2, "objective": "fivo", "num_particles": 16},
    ),
    small={"num_regimes": 2, "latent_dim": 2},
)
