"""Particle marginal Metropolis-Hastings: draws from p(theta | x_{1:T}) where p(x_{1:T} | theta) is only estimated.

    theta' ~ N(theta, scale^2 S) in unconstrained space,   accept with probability
    min(1, p(theta') Z'(x) / (p(theta) Z(x))),   Z an unbiased estimate of p(x_{1:T} | theta) by a particle filter

The estimate with which a parameter was accepted is kept, which makes the chain exact for any number of particles
(Andrieu, Doucet & Holenstein, 2010). S is the covariance of the warm-up's draws, and the scale is adapted to accept a
fraction 0.234 of the moves (Haario, Saksman & Tamminen, 2001; Roberts, Gelman & Gilks, 1997). Both are fixed after the
warm-up.

A proposed parameter is rejected, with Z' = 0, if the filter loses all particles, a number overflows, or a value leaves
the support of a distribution. The same holds for the start, a draw from the priors: up to `STARTS` draws are tried.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import biject_to
from tqdm import tqdm

from pgm_rnn.checks import check_counts
from pgm_rnn.inference import smc
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.kernels.compilation import working_seconds
from pgm_rnn.particles import DegenerateWeightsError
from pgm_rnn.randomness import seeded
from pgm_rnn.results import shown
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.sequences import Data

__all__ = ["ParticlePosterior", "run"]

ACCEPTED = 0.234
"""Fraction of the moves that the warm-up aims to accept."""
STARTS = 1000
"""Largest number of draws from the priors that are tried as a start, until one has positive probability."""


class ParticlePosterior(NamedTuple):
    """Result of `run`.

    Attributes:
        posterior: the draws as a single chain, as from `mcmc.run`.
        acceptance: fraction of the moves after the warm-up that were accepted.
        log_likelihoods: the estimate with which each draw was accepted, (num_samples,), nats.
        by_sequence: its terms, one per sequence, (num_samples, B), nats; None if they were not kept.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "posterior", "acceptance")

    posterior: Posterior
    acceptance: float
    log_likelihoods: Tensor
    by_sequence: Tensor | None = None


class _Point(NamedTuple):
    """A parameter vector in unconstrained space, log p(theta) with its Jacobian, and the estimates log Z, (B,)."""

    vector: Tensor
    log_prior: Tensor
    by_sequence: Tensor

    @property
    def log_likelihood(self) -> Tensor:
        return self.by_sequence.sum()

    @property
    def score(self) -> Tensor:
        return self.log_prior + self.log_likelihood


@torch.no_grad()
def run(
    program: WithPriors,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_samples: int = 1000,
    num_warmup: int = 1000,
    num_particles: int = 100,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
    progress: bool = True,
    filter_options: Mapping[str, Any] | None = None,
) -> ParticlePosterior:
    """Draws from the posterior distribution of a model's parameters, with its states summed out by a particle filter.

    Args:
        program: a model and the priors on its parameters.
        x: observations (B, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (B,) steps of each sequence, None for T.
        num_samples: draws kept.
        num_warmup: moves before them, which adapt the proposal.
        num_particles: number of particles of the filter. A standard deviation of log Z around one is most efficient.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: True where x was observed, (B, T) or the shape of x; None for wherever it is not NaN.
        seed: random seed for all draws, including the start: the first of up to `STARTS` draws from the priors to which
            the filter gives a positive probability.
        progress: whether a terminal shows a progress bar.
        filter_options: further keyword arguments of `smc.log_marginal_likelihood`, such as `proposal`.

    Raises:
        TypeError: `program` is not a `WithPriors`, or its model has no latent states.
        ValueError: a program with groups, an option that is out of range, or none of `STARTS` draws from the priors has
            a positive probability. An error that comes from the program, and not from a parameter's value, is raised
            as it is.
    """
    if not isinstance(program, WithPriors):
        raise TypeError(f"expected a model with priors, WithPriors(model, {{...}}), got {type(program).__name__}")
    if program.groups is not None:
        raise ValueError(
            f"expected a program without groups for pmmh.run, got {len(program.group_names)}; mcmc.run takes it"
        )
    check_counts(num_samples=num_samples, num_warmup=num_warmup, num_particles=num_particles)
    options = {"num_particles": num_particles, "inputs": inputs, "mask": mask} | dict(filter_options or {})
    begun, target = working_seconds(), _Target(program, x, lengths, options)
    with seeded(seed, stream=9):
        chain = _Chain(target, target.start())
        total = num_warmup + num_samples
        for number in tqdm(range(total), unit="move", disable=None if progress else True, leave=False):
            chain.move(adapt=number < num_warmup)
            if number == num_warmup - 1:
                chain.forget()
    vectors = torch.stack([point.vector for point in chain.points])
    drawn = [target.parameters(vector) for vector in vectors]
    samples = {name: torch.stack([values[name] for values in drawn])[None] for name in program.priors}
    posterior = Posterior(samples, torch.zeros(1, dtype=torch.int64), working_seconds() - begun, seed=seed)
    by_sequence = torch.stack([point.by_sequence for point in chain.points])
    log_likelihoods = torch.stack([point.log_likelihood for point in chain.points])
    return ParticlePosterior(posterior, chain.accepted / num_samples, log_likelihoods, by_sequence)


class _ImpossibleError(ValueError):
    """A parameter has probability zero; the message says why."""


class _Target:
    """The estimated log posterior in unconstrained space."""

    def __init__(self, program: WithPriors, x: Data, lengths: Tensor | None, options: dict[str, Any]) -> None:
        self.program, self.x, self.lengths, self.options = program, x, lengths, options
        self.transforms = {name: biject_to(law.support) for name, law in program.priors.items()}
        self.shapes = {
            name: self.transforms[name].inverse_shape(law.event_shape) for name, law in program.priors.items()
        }

    def start(self) -> _Point:
        """The first draw from the priors that has a positive probability.

        Raises:
            ValueError: none of `STARTS` draws has.
        """
        for _ in range(STARTS):
            try:
                return self.possible(self.drawn)
            except _ImpossibleError as error:
                last = error
        names = ", ".join(self.program.priors)
        raise ValueError(
            f"expected a draw from the priors with positive probability as a start, got none among {STARTS} draws of "
            f"{names} (the last one: {last}); use narrower priors or more particles"
        ) from last

    def drawn(self) -> Tensor:
        """A draw from the priors in unconstrained space."""
        parts = [self.transforms[name].inv(law.sample()).flatten() for name, law in self.program.priors.items()]
        return torch.cat(parts)

    def parameters(self, vector: Tensor) -> dict[str, Tensor]:
        """The parameters by name."""
        return {name: self.transforms[name](raw) for name, raw in self._pieces(vector).items()}

    def at(self, vector: Tensor) -> _Point:
        """The point with a new estimate of its likelihood."""
        values, log_prior = self.parameters(vector), vector.new_zeros(())
        for name, raw in self._pieces(vector).items():
            jacobian = self.transforms[name].log_abs_det_jacobian(raw, values[name]).sum()
            log_prior = log_prior + self.program.priors[name].log_prob(values[name]) + jacobian
        model = self.program.model
        estimate = call_with(
            model, self.program.raw(values), smc.log_marginal_likelihood, model, self.x, self.lengths, **self.options
        )
        return _Point(vector, log_prior, estimate)

    def proposed(self, vector: Tensor) -> _Point | None:
        """The proposed point, or None if it has probability zero."""
        try:
            return self.possible(lambda: vector)
        except _ImpossibleError:
            return None

    def possible(self, place: Callable[[], Tensor]) -> _Point:
        """The point at an unconstrained vector.

        Raises:
            _ImpossibleError: it has probability zero or cannot be computed.
        """
        try:
            point = self.at(place())
        except Exception as error:
            if not _says_impossible(error):
                raise
            raise _ImpossibleError(_in_short(error)) from error
        if not bool(point.score.isfinite()):
            prior, likelihood = float(point.log_prior), float(point.log_likelihood)
            raise _ImpossibleError(f"log prior {prior:g} and log likelihood {likelihood:g}")
        return point

    def _pieces(self, vector: Tensor) -> dict[str, Tensor]:
        """The unconstrained vector, split into one piece per parameter."""
        pieces = vector.split([shape.numel() for shape in self.shapes.values()])
        return {name: piece.reshape(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}


class _Chain:
    """A random walk: its current point, its history, and its proposal."""

    def __init__(self, target: _Target, start: _Point) -> None:
        self.target, self.now = target, start
        self.points: list[_Point] = []
        self.accepted = 0
        size = len(start.vector)
        self.log_scale = math.log(2.38 / size**0.5)
        self.root = torch.eye(size).to(start.vector)

    def move(self, adapt: bool) -> None:
        """Make one Metropolis move. In the warm-up, adapt the scale, and every hundred moves the covariance."""
        step = math.exp(self.log_scale) * self.root @ torch.randn_like(self.now.vector)
        proposed = self.target.proposed(self.now.vector + step)
        probability = 0.0 if proposed is None else float((proposed.score - self.now.score).exp().clamp(max=1.0))
        if float(torch.rand(())) < probability and proposed is not None:
            self.now = proposed
            self.accepted += 1
        self.points.append(self.now)
        if adapt:
            self.log_scale += (probability - ACCEPTED) / len(self.points) ** 0.6
            if len(self.points) % 100 == 0:
                self._learn_covariance()

    def forget(self) -> None:
        """Discard the draws of the warm-up."""
        self.points, self.accepted = [], 0

    def _learn_covariance(self) -> None:
        vectors = torch.stack([point.vector for point in self.points[len(self.points) // 2 :]])
        cov = vectors.mT.cov().reshape(vectors.shape[1], -1)
        ridge = 1e-6 * max(1.0, float(cov.diagonal().max())) * torch.eye(len(cov)).to(cov)
        self.root = torch.linalg.cholesky(cov + ridge)


def _says_impossible(error: Exception) -> bool:
    """Whether an error comes from impossible values of a parameter, and not from a mistake in the program.

    Such errors are: the filter has no particle left, a covariance is not positive definite, a number overflows, or a
    distribution of torch's or Pyro's rejects a parameter or a value.
    """
    if isinstance(error, DegenerateWeightsError | torch.linalg.LinAlgError | ArithmeticError):  # type: ignore[attr-defined]
        return True
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    module = "" if place is None else str(place.tb_frame.f_globals.get("__name__"))
    by_a_law = module.startswith(("torch.distributions.", "pyro.distributions."))
    return by_a_law and isinstance(error, ValueError | RuntimeError) and not isinstance(error, NotImplementedError)


def _in_short(error: Exception) -> str:
    """An error's message in one line, without the list of rejected values that torch's distributions append."""
    return str(error).split("\n")[0].split("; ")[0].removesuffix(", but found invalid values:")
