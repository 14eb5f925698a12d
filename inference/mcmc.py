"""Markov chain Monte Carlo over a model's parameters: Pyro's No-U-Turn sampler, latent states summed out exactly.

    theta ~ p(theta | x_{1:T}),   p(theta | x) proportional to p(theta) p(x | theta)

The gradient of log p(x | theta) comes from the compiled recursions, so a step costs what a step of training costs.
"""

import math
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pyro
import torch
from pyro.infer import MCMC, NUTS
from pyro.nn import PyroModule
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from pgm_rnn.checks import check_counts
from pgm_rnn.kernels.compilation import working_seconds
from pgm_rnn.randomness import seeded
from pgm_rnn.results import shown
from pgm_rnn.sequence_model.chains import CovarianceError
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.sequences import Data

__all__ = ["Posterior", "run"]

STATISTICS = ("lp", "energy", "diverging", "acceptance_rate", "n_steps", "step_size")
"""Numbers of NUTS for each draw, under ArviZ's names.

lp: log p(theta, x) in unconstrained space, nats. energy: the Hamiltonian at the start of the trajectory, nats.
diverging: whether the trajectory diverged. acceptance_rate: mean acceptance probability along it. n_steps: leapfrog
steps. step_size: their size.
"""


class Posterior(NamedTuple):
    """Result of `run`.

    Attributes:
        samples: draws of each parameter by its name, (num_chains, num_samples, *shape).
        divergences: number of divergent transitions per chain, (num_chains,).
        seconds: wall-clock time without the compilation of kernels.
        statistics: numbers of the sampler for each draw, by `STATISTICS`, (num_chains, num_samples); empty where the
            sampler has none.
        seed: the random seed of the run, if it is known.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "means", "num_chains", "num_samples", "seconds")

    samples: dict[str, Tensor]
    divergences: Tensor
    seconds: float
    statistics: Mapping[str, Tensor] = MappingProxyType({})
    seed: int | None = None

    @property
    def num_chains(self) -> int:
        """Chains."""
        return len(self.divergences)

    @property
    def num_samples(self) -> int:
        """Draws of each chain."""
        return next(iter(self.samples.values())).shape[1]

    @property
    def means(self) -> dict[str, Tensor]:
        """Posterior mean of every parameter, (*shape,)."""
        return {name: draws.mean((0, 1)) for name, draws in self.samples.items()}

    @property
    def effective_sample_sizes(self) -> dict[str, Tensor]:
        """Effective sample size of all chains together, (*shape,)."""
        return {name: effective_sample_size(draws) for name, draws in self.samples.items()}

    @property
    def r_hat(self) -> dict[str, Tensor]:
        """Split Gelman-Rubin statistic, near one where the chains agree, (*shape,)."""
        return {name: split_gelman_rubin(draws) for name, draws in self.samples.items()}

    def draw(self, index: int, chain: int = 0) -> dict[str, Tensor]:
        """One draw of all parameters."""
        return {name: draws[chain, index] for name, draws in self.samples.items()}


class _OurNUTS(NUTS):
    """NUTS that rejects parameters without a density, and keeps its numbers of each draw after Pyro's clean-up."""

    def __init__(self, model: Callable[..., Any], **options: Any) -> None:
        super().__init__(model, **options)
        self.draws: list[tuple[float, ...]] = []
        self.accepted: list[float] = []

    def _initialize_model_properties(self, model_args: tuple[Any, ...], model_kwargs: dict[str, Any]) -> None:
        """The parent's; a proposal that makes a covariance singular has no density, as one that overflows."""
        super()._initialize_model_properties(model_args, model_kwargs)
        self.potential_fn = _or_nan(self.potential_fn)

    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parent's draw; its `STATISTICS` are recorded, also in the warm-up."""
        num_divergences, step_size = len(self._divergences), float(self.step_size)
        self.accepted, self.energy = [], math.nan
        drawn: dict[str, Tensor] = super().sample(params)
        num_steps = len(self.accepted)
        rate = sum(self.accepted) / num_steps if num_steps else 1.0  # a program without latent sites takes no step
        diverging = len(self._divergences) > num_divergences
        lp = math.nan if self._potential_energy_last is None else -float(self._potential_energy_last)
        self.draws.append((lp, self.energy, diverging, rate, num_steps, step_size))
        return drawn

    def _sample_r(self, name: str) -> tuple[dict[Any, Tensor], dict[Any, Tensor]]:
        """The parent's momentum, which fixes the energy of the trajectory that begins."""
        momentum: tuple[dict[Any, Tensor], dict[Any, Tensor]] = super()._sample_r(name)
        if self._potential_energy_last is not None:
            self.energy = float(self._kinetic_energy(momentum[1]) + self._potential_energy_last)
        return momentum

    def _build_basetree(self, *arguments: Any) -> Any:
        """The parent's leapfrog step, whose acceptance probability is recorded."""
        tree = super()._build_basetree(*arguments)
        self.accepted.append(float(tree.sum_accept_probs))
        return tree

    def statistics(self, num_samples: int) -> dict[str, Tensor]:
        """The `STATISTICS` of the last draws, (num_samples,)."""
        columns = zip(*self.draws[-num_samples:], strict=True)
        return {name: torch.tensor(values) for name, values in zip(STATISTICS, columns, strict=True)}


def run(
    model: Callable[..., Any],
    x: Data,
    lengths: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    num_samples: int = 500,
    num_warmup: int = 500,
    num_chains: int = 1,
    target_acceptance: float = 0.8,
    max_tree_depth: int = 10,
    seed: int = 0,
    progress: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Posterior:
    """Draws from the posterior distribution of a program's parameters by the No-U-Turn sampler.

    Args:
        model: a Pyro program of (x, lengths), such as `pgm_rnn.WithPriors(hmm, {...})`, or of x alone where
            `lengths` is None, such as a `PyroModule[HMM]` with `PyroSample`s, or a function that samples parameters and
            observes a `pgm_rnn.distributions.DiscreteHMM`. Its latent sites must be continuous.
        x: observations (batch, T, *event), or any `Data` that the program takes.
        lengths: (batch,) steps of each sequence, None for T.
        mask: True where x was observed, (batch, T) or the shape of x, for a program that takes `mask`, such as
            `WithPriors`; missing observations are integrated out exactly. `WithPriors` also takes NaN as missing.
        num_samples: draws kept in each chain.
        num_warmup: draws before them, which adapt the step size and the mass matrix.
        num_chains: number of chains, run one after the other, each from its own start.
        target_acceptance: mean acceptance probability to adapt to, between 0 and 1.
        max_tree_depth: the longest trajectory has 2 ** max_tree_depth steps.
        seed: random seed for starts and draws.
        progress: whether a terminal shows a progress bar.
        options: further keyword arguments of the program.

    Raises:
        TypeError: `model` cannot be called.
        ValueError: an option is out of range.
    """
    if not callable(model):
        raise TypeError(
            f"expected a Pyro program, such as pgm_rnn.WithPriors(model, priors), got {type(model).__name__}"
        )
    check_counts(num_samples=num_samples, num_warmup=num_warmup, num_chains=num_chains, max_tree_depth=max_tree_depth)
    if not 0 < target_acceptance < 1:
        raise ValueError(f"expected target_acceptance between 0 and 1, got {target_acceptance}")
    start, arguments = working_seconds(), (x,) if lengths is None else (x, lengths)
    given = {} if mask is None else {"mask": mask}
    # a PyroModule was made for the present setting, and a bound method of one was, too
    local = pyro.settings.get("module_local_params") or not isinstance(getattr(model, "__self__", model), PyroModule)
    chains, found = [], []
    for chain in range(num_chains):
        with seeded(seed, stream=7 + 1000 * chain), pyro.settings.context(module_local_params=local):
            kernel = _OurNUTS(model, target_accept_prob=target_acceptance, max_tree_depth=max_tree_depth)
            sampler = MCMC(kernel, num_samples, num_warmup, disable_progbar=not (progress and sys.stderr.isatty()))
            sampler.run(*arguments, **given, **(options or {}))
        chains.append(sampler.get_samples())
        found.append(kernel.statistics(num_samples))
    samples = {name: torch.stack([chain[name] for chain in chains]) for name in chains[0]}
    if isinstance(model, WithPriors):
        samples = model.completed(samples)
    statistics = {name: torch.stack([chain[name] for chain in found]) for name in STATISTICS}
    return Posterior(samples, statistics["diverging"].sum(-1), working_seconds() - start, statistics, seed)


def _or_nan(potential: Callable[[dict[str, Tensor]], Tensor]) -> Callable[[dict[str, Tensor]], Tensor]:
    """A potential that is NaN, with gradient NaN, at parameters for which observations have no density."""

    def evaluated(parameters: dict[str, Tensor]) -> Tensor:
        try:
            return potential(parameters)
        except CovarianceError:
            return math.nan * torch.stack([value.sum() for value in parameters.values()]).sum()

    return evaluated
