"""How a particle filter runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.kernels.resampling import SCHEMES
from pgm_rnn.particles.noise import Noise, Uniforms

Proposal = Callable[[Tensor | None, Tensor | None, Tensor | None], TorchDistribution]
"""q(z_t | z_{t-1}, h_t, features_t): from particles (N, B, *latent), None at t = 1, memory and features (B, F)."""


Lookahead = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""log of how well z_{t-1} (N, B, *latent), h_{t-1} will explain x_t (B, *event): (N, B)."""


@dataclass(frozen=True)
class Options:
    """How a filter runs.

    Attributes:
        num_particles: N, at least 1.
        proposal: None for the model's own guide, "bootstrap" for its transition, or a function.
        lookahead: of an auxiliary filter.
        resampling: one of `kernels.resampling.SCHEMES`, or "soft".
        ess_threshold: resample where the effective sample size is at most this part of N: 0 never, 1 at every step.
        gradient: "drop" leaves the gradient of resampling out, which biases it; "score" keeps it, as the gradient of
            the weights that ancestors were drawn by.
        degenerate: "raise" an error where all weights are zero, or go on with "-inf" for that sequence.
        noise: the uniforms of every step; None draws from torch's global generator.
    """

    num_particles: int = 1000
    proposal: Proposal | Literal["bootstrap"] | None = None
    lookahead: Lookahead | None = None
    resampling: str = "systematic"
    ess_threshold: float = 0.5
    gradient: Literal["drop", "score"] = "drop"
    degenerate: Literal["raise", "-inf"] = "raise"
    noise: Noise | None = None

    def __post_init__(self) -> None:
        check_counts(num_particles=self.num_particles)
        check_choice("resampling", self.resampling, (*SCHEMES, "soft"))
        check_choice("gradient", self.gradient, ("drop", "score"))
        check_choice("degenerate", self.degenerate, ("raise", "-inf"))
        if not 0 <= self.ess_threshold <= 1:
            raise ValueError(f"expected ess_threshold in [0, 1], a part of the particles, got {self.ess_threshold}")
        if isinstance(self.proposal, str):
            check_choice("proposal", self.proposal, ("bootstrap",))

    @property
    def scheme(self) -> str:
        """What inverts the distribution function: the scheme, systematic for soft resampling."""
        return "systematic" if self.resampling == "soft" else self.resampling

    def uniforms(self, number: int) -> Uniforms | None:
        """Those of step `number`, where they are given."""
        return None if self.noise is None else self.noise(number)
