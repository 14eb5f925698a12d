"""The linear-Gaussian state-space model, or linear dynamical system.

    z_1 ~ N(m, P),   z_t = A z_{t-1} + B u_t + N(0, Q),   x_t = C z_t + D u_t + N(0, R)

Choe, Shin & Spencer (2017), sec. 2.2; Vidal (2024), "RNNs vs LDSs", where the inputs are called x and the outputs y.
Differences: the first state is z_1, which has the initial law; the input u_1 affects only the output.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.distributions.diffuse_normal import DiffuseNormal, checked_directions
from pgm_rnn.emissions import Emission, Gaussian
from pgm_rnn.kernels import kalman
from pgm_rnn.models.gaussian_states import (
    COVARIANCES,
    GaussianStateModel,
    as_parameter,
    chosen_obs_dim,
    random_parts,
    with_ranks,
)
from pgm_rnn.models.info import ModelInfo
from pgm_rnn.models.structural import Change, CycleKind, StructuralSSM
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import First, GivesChain

_MATRICES = ("initial_mean", "transition_matrix", "emission_matrix", "input_matrix", "feedthrough_matrix")

Reach = Literal["both", "states", "outputs"]


class LinearGaussianSSM(GivesChain, GaussianStateModel):
    """A linear-Gaussian state-space model with D states, M outputs and, if there is a B or a D, U inputs.

    Matrices are copied into parameters, covariances as Cholesky factors, so gradients can train all of them.

    Args:
        initial_mean: m, (D,).
        initial_cov: P, (D, D), positive semidefinite like the other covariances; training keeps the range of each.
        transition_matrix: A, (D, D).
        transition_cov: Q, (D, D).
        emission_matrix: C, (M, D).
        emission_cov: R, (M, M).
        input_matrix: B, (D, U), or None.
        feedthrough_matrix: the slides' D, (M, U), or None.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).
        diffuse: what is unknown about z_1 before x_1: truth values for its entries, (D,), or columns B, (D, q), in
            which case z_1 = m + B delta + N(0, P) with a flat prior on delta. P is kept in the other directions only.
            Likelihoods are limits (`pgm_rnn.kernels.diffuse_start`), and `sample` has no law of z_1 to draw from.

    Raises:
        ValueError: shapes that do not fit, NaN, covariances that are not positive semidefinite, or diffuse directions
            that depend on each other.

    Example:
        >>> one = torch.eye(1)
        >>> level = LinearGaussianSSM(torch.zeros(1), 100 * one, one, 0.1 * one, one, one)
        >>> x = level.sample(num_sequences=4, num_steps=8, seed=0).x
        >>> x.shape, level.log_marginal_likelihood(x).shape
        (torch.Size([4, 8, 1]), torch.Size([4]))
    """

    initial_memory = None
    linear = True

    def __init__(
        self,
        initial_mean: Tensor,
        initial_cov: Tensor,
        transition_matrix: Tensor,
        transition_cov: Tensor,
        emission_matrix: Tensor,
        emission_cov: Tensor,
        input_matrix: Tensor | None = None,
        feedthrough_matrix: Tensor | None = None,
        *,
        first: First = "model",
        diffuse: Tensor | Sequence[bool] | None = None,
    ) -> None:
        start = None if diffuse is None else _directions(diffuse, torch.as_tensor(initial_mean))
        if start is not None:
            initial_cov = _across(torch.as_tensor(initial_cov).to(start), start)
        super().__init__(
            initial_mean, initial_cov, transition_matrix, transition_cov, emission_matrix, emission_cov, first
        )
        self.diffuse: Tensor | None
        self.register_buffer("diffuse", start)
        given = [torch.as_tensor(matrix) for matrix in (input_matrix, feedthrough_matrix) if matrix is not None]
        self.input_dim = given[0].shape[-1] if given and given[0].dim() == 2 else None
        self.input_matrix = self._optional("input_matrix", input_matrix, self.latent_dim)
        self.feedthrough_matrix = self._optional("feedthrough_matrix", feedthrough_matrix, self.obs_dim)

    def _optional(self, name: str, value: Tensor | None, rows: int) -> nn.Parameter | None:
        return None if value is None else as_parameter(name, value, (rows, self.input_dim), self.initial_mean)

    @staticmethod
    def random(
        latent_dim: int,
        obs_dim: int | None = None,
        *,
        emission: Emission | None = None,
        input_dim: int | None = None,
        inputs_reach: Reach = "both",
        seed: int | None = None,
        first: First = "model",
        ranks: Sequence[int] | None = None,
        diffuse_dim: int | None = None,
    ) -> "LinearGaussianSSM":
        """A stable system: A is 0.9 times a random rotation, other matrices are normal, covariances near the identity.

        Args:
            latent_dim: D.
            obs_dim: M.
            emission: Gaussian(M), in place of `obs_dim`.
            input_dim: U, or None for no inputs.
            inputs_reach: "states" for a matrix B, "outputs" for a matrix D, or "both", if there are inputs.
            seed: makes the draw reproducible; None uses torch's global generator.
            first: as for `LinearGaussianSSM`.
            ranks: ranks of P, Q and R, for singular noise; None for full ranks.
            diffuse_dim: number of entries of z_1, from the first on, that have a diffuse start; None for no such start.

        Raises:
            ValueError: sizes below 1, ranks or a diffuse_dim that do not fit, an unknown `inputs_reach`, or not exactly
                one of obs_dim and emission.
        """
        obs_dim = chosen_obs_dim(obs_dim, emission)
        check_counts(latent_dim=latent_dim, **({} if input_dim is None else {"input_dim": input_dim}))
        check_choice("inputs_reach", inputs_reach, ("both", "states", "outputs"))
        with seeded(seed):
            parts = random_parts(latent_dim, obs_dim)
            B = D = None
            if input_dim is not None:
                B, D = torch.randn(latent_dim, input_dim), torch.randn(obs_dim, input_dim)
            matrices = {"both": (B, D), "states": (B, None), "outputs": (None, D)}
            start = None if diffuse_dim is None else torch.eye(latent_dim)[:, :diffuse_dim]
            model = LinearGaussianSSM(*parts, *matrices[inputs_reach], first=first, diffuse=start)
            return with_ranks(model, ranks)

    @staticmethod
    def structural(
        level: Change = "stochastic",
        trend: Change = "none",
        seasonal: int | None = None,
        cycle: CycleKind = "none",
        ar: int | None = None,
        regression: int | None = None,
        **options: Any,
    ) -> StructuralSSM:
        """A linear-Gaussian model made of a level, a trend, a season, a cycle, an autoregression and inputs.

        Its parameters are those of the components, not whole matrices. Arguments, further options and errors are those
        of `StructuralSSM`.

        Raises:
            TypeError: an unknown option.
            ValueError: as `StructuralSSM`.
        """
        return StructuralSSM(level, trend, seasonal, cycle, ar, regression, **options)

    @property
    def emission_is_regular(self) -> bool:
        """Whether R is positive definite by its construction."""
        return "emission_cov" not in self.ranges

    def initial(self, h: Any) -> TorchDistribution:
        """p(z_1), batch shape ()."""
        if self.diffuse is None:
            return super().initial(h)
        return DiffuseNormal(self.initial_mean, self.initial_covariance.root, self.diffuse)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name, sizes and `inputs_reach`, which make a model of this shape."""
        sizes: dict[str, Any] = {"latent_dim": self.latent_dim, "input_dim": self.input_dim}
        reach = "outputs" if self.input_matrix is None else "states" if self.feedthrough_matrix is None else "both"
        sizes |= {} if self.input_dim is None else {"inputs_reach": reach}
        sizes |= {} if self.ranks is None else {"ranks": self.ranks}
        return "lgssm", sizes | ({} if self.diffuse is None else {"diffuse_dim": self.diffuse.shape[1]})

    def transition_mean(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """A z + B u, (..., D), for states (..., D) and inputs h = u (..., U)."""
        mean = z @ self.transition_matrix.mT
        return mean if self.input_matrix is None or h is None else mean + h @ self.input_matrix.mT

    def emission_mean(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """C z + D u, (..., M), for states (..., D) and inputs h = u (..., U)."""
        mean = z @ self.emission_matrix.mT
        return mean if self.feedthrough_matrix is None or h is None else mean + h @ self.feedthrough_matrix.mT

    def moments(self) -> dict[str, Tensor]:
        """The parameters by the names of the constructor; absent ones are left out."""
        found = {name: getattr(self, name) for name in _MATRICES if getattr(self, name) is not None}
        return found | {name: getattr(self, module).matrix for name, module in COVARIANCES.items()}

    @torch.no_grad()
    def set_moments(self, moments: dict[str, Tensor]) -> None:
        """Replace parameters in place, by the names of the constructor.

        Raises:
            ValueError: a covariance that is not positive definite, or whose range differs from the model's.
        """
        new: list[tuple[Tensor, Tensor]] = []
        for name, value in moments.items():
            if name in COVARIANCES:
                covariance = getattr(self, COVARIANCES[name])
                new.append((covariance.raw, covariance.raw_of(name, value)))
            else:
                new.append((getattr(self, name), value))
        for parameter, value in new:  # only now, so that an error above changes nothing
            parameter.copy_(value)

    def chain(self, inputs: Tensor | None = None) -> kalman.GaussianChain:
        """The parameters in the form of the kernels, with B u_t as offsets of the states; `centred` removes D u_t."""
        offset = None
        if inputs is not None and self.input_matrix is not None:
            offset = inputs[:, 1:] @ self.input_matrix.mT
        moments = (self.initial_mean, self.initial_cov, self.transition_matrix, self.transition_cov)
        return kalman.GaussianChain(*moments, self.emission_matrix, self.emission_cov, offset)

    def centred(self, x: Tensor, inputs: Tensor | None = None) -> Tensor:
        """x_t - D u_t, (batch, T, M)."""
        if inputs is None or self.feedthrough_matrix is None:
            return x
        return x - inputs @ self.feedthrough_matrix.mT


def _directions(diffuse: Tensor | Sequence[bool], like: Tensor) -> Tensor:
    """The diffuse directions, (D, q), from truth values (D,) or from columns."""
    given, dim = torch.as_tensor(diffuse), like.shape[0] if like.dim() else 0
    if given.dtype == torch.bool:
        if given.shape != (dim,) or not bool(given.any()):
            raise ValueError(f"expected diffuse as {dim} truth values, some of them True, got {given.tolist()}")
        return torch.eye(dim, dtype=like.dtype, device=like.device)[:, given.to(like.device)].contiguous()
    return checked_directions(given.detach().to(like).clone(memory_format=torch.contiguous_format), dim)


def _across(cov: Tensor, directions: Tensor) -> Tensor:
    """A covariance without its part along the directions, in which a flat prior leaves nothing of it."""
    if cov.shape != (len(directions), len(directions)):
        return cov  # an error that the constructor names
    rest = torch.eye(len(directions), dtype=cov.dtype, device=cov.device) - directions @ torch.linalg.pinv(directions)
    across, eps = rest @ cov @ rest, torch.finfo(cov.dtype).eps
    size = (rest.abs() @ cov.abs() @ rest.abs()).diagonal()
    kept = across.diagonal().abs() > 8 * len(directions) * eps * size  # what is left elsewhere is rounding
    return (0.5 * (across + across.mT)).where(kept[:, None] & kept, 0.0)


INFO = ModelInfo(
    "lgssm",
    LinearGaussianSSM.random,
    "-",
    "Gaussian, linear",
    "Choe et al. sec. 2.2; Vidal, LDS",
    {"latent_dim": 1, "obs_dim": 1},
    (Gaussian,),
    only_vectors=True,
    title="`LinearGaussianSSM`, with inputs, or `structural`: level, trend, season, cycle, AR",
    inputs="input_dim",
    small={"latent_dim": 2},
)
