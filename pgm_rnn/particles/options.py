"""Options of a particle filter."""

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
"""Log score (N, B) of how well z_{t-1} (N, B, *latent) and h_{t-1} are expected to explain x_t (B, *event)."""


@dataclass(frozen=True)
class Options:
    """Options of a particle filter.

    Attributes:
        num_particles: N, at least 1.
        proposal: None for the model's own guide, "bootstrap" for its transition, or a function.
        lookahead: the lookahead of an auxiliary filter, or None.
        resampling: one of `kernels.resampling.SCHEMES`, or "soft".
        ess_threshold: resample where the effective sample size is at most this fraction of N: 0 never, 1 at every step.
        gradient: "drop" leaves out the gradient through resampling, so the total gradient is biased; "score" keeps it,
            through the weights by which ancestors were drawn.
        degenerate: "raise" an error if all weights of a sequence are zero, or continue with the likelihood "-inf".
        noise: the uniforms of every step; None draws from torch's global generator.

    Raises:
        ValueError: num_particles below 1, an unknown word, or an ess_threshold outside [0, 1].
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
            raise ValueError(f"expected ess_threshold in [0, 1], a fraction of N, got {self.ess_threshold}")
        if isinstance(self.proposal, str):
            check_choice("proposal", self.proposal, ("bootstrap",))

    @property
    def scheme(self) -> str:
        """The scheme that inverts the distribution function: systematic for soft resampling, else `resampling`."""
        return "systematic" if self.resampling == "soft" else self.resampling

    def uniforms(self, number: int) -> Uniforms | None:
        """The uniforms of step `number`, or None if there is no `noise`."""
        return None if self.noise is None else self.noise(number)
