"""A recurrent network with noise on its state and its output.

    z_1 ~ N(m, P),   z_t = g(A z_{t-1} + W h_t) + N(0, Q),   x_t = f(C z_t) + N(0, R)

h_t is an exogenous input u_t or, with `feedback`, the previous observation x_{t-1}, with x_0 = 0. Vidal (2024), "RNNs
vs LDSs" and "Extended Kalman Filters for RNNs"; Sohl-Dickstein & Kingma (2015), sec. 2.3. Differences: the slides'
x_{t-1} is our u_t, and their y_t our x_t; their first state is z_0 and does not emit.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.emissions import Emission, Gaussian
from pgm_rnn.kernels import particle_runs
from pgm_rnn.kernels.gaussian_chain import GaussianChain, per_entry
from pgm_rnn.kernels.particle_runs import Run
from pgm_rnn.models.gaussian_states import GaussianStateModel, as_parameter, chosen_obs_dim, random_parts, with_ranks
from pgm_rnn.models.info import LATENT_DIM, STEPS_ON_A_BOUND, GradientFit, ModelInfo
from pgm_rnn.models.networks import is_as_written
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import First, memory_of
from pgm_rnn.sequence_model.mixins import RunsWhole
from pgm_rnn.sequences import Sequences

FUNCTIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu, "identity": torch.clone}
"""The functions that g and f may be, by name; they apply to each entry."""


class NoisyRNN(RunsWhole, GaussianStateModel):
    """A recurrent network with Gaussian noise on its D states and its M outputs.

    Args:
        initial_mean: m, (D,).
        initial_cov: P, (D, D), positive semidefinite like the other covariances; training keeps the range of each.
        transition_matrix: A, (D, D).
        transition_cov: Q, (D, D).
        emission_matrix: C, (M, D).
        emission_cov: R, (M, M).
        input_matrix: W, (D, U), or (D, M) with feedback, or None for no inputs.
        activation: g, one of "tanh", "sigmoid", "relu", "identity".
        output: f, likewise.
        feedback: whether the input is the previous observation.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1), which has no closed form here.

    Raises:
        ValueError: shapes that do not fit, NaN, covariances that are not positive semidefinite, an unknown function.

    Example:
        >>> rnn = NoisyRNN.random(latent_dim=3, obs_dim=2, feedback=True, seed=0)
        >>> rnn.sample(num_sequences=4, num_steps=8, seed=1).z.shape
        torch.Size([4, 8, 3])
    """

    def __init__(
        self,
        initial_mean: Tensor,
        initial_cov: Tensor,
        transition_matrix: Tensor,
        transition_cov: Tensor,
        emission_matrix: Tensor,
        emission_cov: Tensor,
        input_matrix: Tensor | None = None,
        *,
        activation: str = "tanh",
        output: str = "identity",
        feedback: bool = False,
        first: First = "model",
    ) -> None:
        super().__init__(
            initial_mean, initial_cov, transition_matrix, transition_cov, emission_matrix, emission_cov, first
        )
        check_choice("activation", activation, FUNCTIONS)
        check_choice("output", output, FUNCTIONS)
        if feedback and input_matrix is None:
            raise ValueError("expected input_matrix (D, M), which reads the observation, with feedback=True, got None")
        self.activation, self.output = activation, output
        width = self.obs_dim if feedback else None
        self.input_matrix = None
        if input_matrix is not None:
            self.input_matrix = as_parameter("input_matrix", input_matrix, (self.latent_dim, width), self.initial_mean)
            self.input_dim = None if feedback else self.input_matrix.shape[1]
        self.initial_memory: Tensor | None
        self.register_buffer("initial_memory", torch.zeros_like(self.emission_matrix[:, 0]) if feedback else None)

    @staticmethod
    def random(
        latent_dim: int,
        obs_dim: int | None = None,
        *,
        emission: Emission | None = None,
        input_dim: int | None = None,
        activation: str = "tanh",
        output: str = "identity",
        feedback: bool = False,
        seed: int | None = None,
        first: First = "model",
        ranks: Sequence[int] | None = None,
    ) -> "NoisyRNN":
        """A network whose A is 0.9 times a random rotation; other matrices are normal, covariances near the identity.

        Args:
            latent_dim: D.
            obs_dim: M.
            emission: Gaussian(M), in place of `obs_dim`.
            input_dim: U, or None for no exogenous inputs.
            activation: g.
            output: f.
            feedback: whether the input is the previous observation; then `input_dim` must be None.
            seed: makes the draw reproducible; None uses torch's global generator.
            first: as for `NoisyRNN`.
            ranks: ranks of P, Q and R, for singular noise; None for full ranks.

        Raises:
            ValueError: sizes below 1, ranks that do not fit, an input_dim with feedback, or not exactly one of obs_dim
                and emission.
        """
        obs_dim = chosen_obs_dim(obs_dim, emission)
        check_counts(latent_dim=latent_dim, **({} if input_dim is None else {"input_dim": input_dim}))
        if feedback and input_dim is not None:
            raise ValueError(f"expected input_dim=None with feedback=True, where the input is x_(t-1), got {input_dim}")
        width = obs_dim if feedback else input_dim
        with seeded(seed):
            parts = random_parts(latent_dim, obs_dim)
            matrix = None if width is None else torch.randn(latent_dim, width) / width**0.5
            model = NoisyRNN(*parts, matrix, activation=activation, output=output, feedback=feedback, first=first)
            return with_ranks(model, ranks)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name, sizes, functions and kind of input, which make a model of this shape."""
        sizes: dict[str, Any] = {"latent_dim": self.latent_dim, "input_dim": self.input_dim}
        feedback = self.initial_memory is not None
        sizes |= {} if self.ranks is None else {"ranks": self.ranks}
        return "noisy-rnn", sizes | {"activation": self.activation, "output": self.output, "feedback": feedback}

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        """h_t = x_{t-1}, with feedback."""
        if self.initial_memory is None:
            return super().recurrence(h, z, x)
        return x

    def transition_mean(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """g(A z + W h), (..., D), for states (..., D) and inputs (..., U)."""
        total = z @ self.transition_matrix.mT
        if self.input_matrix is not None and h is not None:
            total = total + h @ self.input_matrix.mT
        return FUNCTIONS[self.activation](total)

    def emission_mean(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """f(C z), (..., M), for states (..., D)."""
        return FUNCTIONS[self.output](z @ self.emission_matrix.mT)

    def whole_run(self, data: Sequences, num_particles: int, threshold: float) -> Run | None:
        """A bootstrap filter as one compiled function; None for a subclass, whose means may be others."""
        if not is_as_written(self, NoisyRNN):
            return None
        h = memory_of(self).unroll(data.x, None, data.inputs)
        offset = None
        if h is not None and self.input_matrix is not None:
            offset = h[:, min(1, h.shape[1] - 1) :] @ self.input_matrix.mT  # one step has no move, but an offset
        covs = self.initial_cov, self.transition_cov, self.emission_cov
        chain = GaussianChain(
            self.initial_mean, covs[0], self.transition_matrix, covs[1], self.emission_matrix, covs[2], offset
        )
        observed = None if data.observed is None else per_entry(data.mask, data.x)
        functions = self.activation, self.output
        return particle_runs.gaussian(chain, data.x, data.lengths, num_particles, threshold, observed, functions)


INFO = ModelInfo(
    "noisy-rnn",
    NoisyRNN.random,
    "-",
    "Gaussian, nonlinear",
    "Vidal, EKF for RNNs; Sohl-Dickstein & Kingma sec. 2.3",
    {"latent_dim": 1, "obs_dim": 1},
    (Gaussian,),
    only_vectors=True,
    title="`NoisyRNN`, with inputs or fed back",
    fit=GradientFit(
        "A recurrent network with noise on its state and its output, by gradient steps on a bound.",
        {"latent_dim": LATENT_DIM},
        STEPS_ON_A_BOUND,
    ),
    inputs="input_dim",
    small={"latent_dim": 2},
)
