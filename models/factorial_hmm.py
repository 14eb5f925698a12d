"""The factorial hidden Markov model: several Markov chains, independent a priori, that an observation reads together.

    z_1^m ~ Categorical(initial_probs[m]),   z_t^m ~ Categorical(transition_probs[m][z_{t-1}^m]),   m = 1..M
    x_t ~ N(sum_m W^m[z_t^m], C), or any other law given z_t^1, ..., z_t^M

z_t is one number in 0..K_1 ... K_M - 1 (`pgm_rnn.states.ProductStates`). The exact engines move one chain at a time,
which costs O(T N sum_m K_m) with N = K_1 ... K_M. Where N is too large, `pgm_rnn.inference.mean_field` bounds the
likelihood, and `pgm_rnn.inference.gibbs` draws one chain given the others.

Source: Ghahramani & Jordan (1997). Differences: chains may have different numbers of states, and any family of
observations, whose parameters add up (`models.additive`) or are a table over all combinations of states.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts, check_probs
from pgm_rnn.distributions.product_of_categoricals import ProductOfCategoricals
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, EmissionTable, Tied, chosen_family
from pgm_rnn.emissions.natural import SOFTMAX, Natural, whole
from pgm_rnn.models.additive import AdditiveEmission
from pgm_rnn.models.as_drawn import AsDrawn
from pgm_rnn.models.hmm import as_table
from pgm_rnn.models.info import GradientFit, ModelInfo, Size
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import ClosedMStep, First, SequenceModel
from pgm_rnn.sequence_model.expected import ExpectedProduct
from pgm_rnn.sequence_model.mixins import AdditiveNormal, FitsChains, GivesAdditiveNormal
from pgm_rnn.sequences import Sequences, length_mask
from pgm_rnn.states import ProductStates

EFFECTS = ("additive", "joint")
"""How the chains act on an observation: by sums of effects, or by a table over all combinations of their states."""
_NOISE = 0.5
"""Standard deviation of the effects around the logits of the data's shares, where fits begin."""


class FactorialHMM(AsDrawn, ClosedMStep, FitsChains, GivesAdditiveNormal, SequenceModel):
    """A hidden Markov model with M chains of hidden states and any emission.

    The probabilities are copied into unconstrained logits, the parameters that gradients train; a zero stays zero.

    Args:
        initial_probs: p(z_1^m = k), (K_m,) for each chain.
        transition_probs: p(z_t^m = j | z_{t-1}^m = i), (K_m, K_m) for each chain.
        emission: an `AdditiveEmission` over the same chains, such as AdditiveEmission.normal([W1, W2], scale=...); or
            one law for each combination of states, in the order of `ProductStates`: a table p(x_t = s | z_t),
            (K_1 ... K_M, num_symbols), or laws such as Gaussian(2).table(loc=..., scale=...).
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        ValueError: no chain, shapes that do not fit each other, or rows that do not sum to one.

    Example:
        >>> model = FactorialHMM.random(num_chains=2, num_states=3, num_symbols=4, seed=0)
        >>> batch = model.sample(num_sequences=5, num_steps=8, seed=1)
        >>> model.log_prob(batch.x).shape, [part.shape for part in model.states.split(batch.z)]
        (torch.Size([5]), [torch.Size([5, 8]), torch.Size([5, 8])])
    """

    initial_memory = None
    states: ProductStates
    emission_law: EmissionTable | AdditiveEmission

    def __init__(
        self,
        initial_probs: Sequence[Tensor],
        transition_probs: Sequence[Tensor],
        emission: Tensor | EmissionTable | AdditiveEmission,
        *,
        first: First = "model",
    ) -> None:
        starts, moves = _checked_chains(initial_probs, transition_probs)
        states, dtype = ProductStates(*(len(row) for row in starts)), starts[0].dtype
        law = _checked_emission(emission, states)
        super().__init__(law.family, first)
        self.states = states
        self.initial_logits = nn.ParameterList([nn.Parameter(row.to(dtype).log()) for row in starts])
        self.transition_logits = nn.ParameterList([nn.Parameter(t.to(dtype).log().contiguous()) for t in moves])
        self.emission_law = copy.deepcopy(law).to(dtype)

    @staticmethod
    def random(
        num_chains: int = 2,
        num_states: int | Sequence[int] = 2,
        num_symbols: int | None = None,
        *,
        effects: str = "additive",
        emission: Emission | None = None,
        seed: int | None = None,
        first: First = "model",
    ) -> "FactorialHMM":
        """A model whose rows of probabilities are Dirichlet(1) draws.

        Args:
            num_chains: M.
            num_states: K, the same for all chains, or K_1, ..., K_M.
            num_symbols: short for emission=Categorical(num_symbols).
            effects: "additive" for sums of standard normal effects of the states, "joint" for a law for each
                combination of states.
            emission: another family.
            seed: makes the draw reproducible; None uses torch's global generator.
            first: as for `FactorialHMM`.

        Raises:
            ValueError: counts below 1, not one number of states for each chain, unknown effects, or not exactly one of
                num_symbols and emission.
        """
        check_counts(num_chains=num_chains)
        check_choice("effects", effects, EFFECTS)
        sizes = [num_states] * num_chains if isinstance(num_states, int) else list(num_states)
        if len(sizes) != num_chains:
            raise ValueError(f"expected num_states as one number or {num_chains} of them, got {len(sizes)}")
        family = chosen_family(num_symbols, emission)
        states = ProductStates(*sizes)
        with seeded(seed):
            rows = [dist.Dirichlet(torch.ones(size)).sample((size + 1,)) for size in sizes]
            additive = effects == "additive"
            law = AdditiveEmission.random(family, sizes) if additive else family.random_table(states.num_states)
        model = FactorialHMM([part[0] for part in rows], [part[1:] for part in rows], law, first=first)
        model._remember_draw()
        return model

    @torch.no_grad()
    def start_near(self, data: Sequences, seed: int) -> bool:
        """Draw observation laws near the data; whether there was something to draw.

        Additive normal effects have sums with the means and spreads of the data: each chain gets an equal part of the
        mean and of the variance, and half of the spread is noise. Bits and symbols get the logits of their shares of
        the data, of which each chain has an equal part, and normal noise of 0.5. Other laws stay.

        Args:
            data: observations, NaN where one is missing.
            seed: random seed of the effects.
        """
        law = self.emission_law
        with seeded(seed, stream=22):
            if isinstance(law, AdditiveEmission) and law.cov is not None:
                self._start_near_moments(law, _seen(data))
                return True
            row = _logits_of_shares(law.family, _seen(data))
            if row is None:
                return False
            tables = list(law.effects) if isinstance(law, AdditiveEmission) else [law.params]
            for table in tables:
                table.copy_(row / len(tables) + _NOISE * torch.randn(table.shape, dtype=torch.float64))
        return True

    def _start_near_moments(self, law: AdditiveEmission, x: Tensor) -> None:
        """`start_near` for additive normal effects and observations (n, D)."""
        mean = x.nanmean(0)
        spread = (x - mean).square().nanmean(0).sqrt()
        spread = spread.where(spread > 0, 1.0)
        for effects in law.effects:
            drawn = torch.randn(effects.shape, dtype=torch.float64)
            effects.copy_((mean + drawn * spread * self.num_chains**0.5) / self.num_chains)
        law.set_scale(0.5 * spread)

    @property
    def num_chains(self) -> int:
        """M, the number of chains."""
        return len(self.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """K_1, ..., K_M."""
        return self.states.sizes

    @property
    def effects(self) -> str:
        """How the chains act on an observation: "additive" or "joint"."""
        return "additive" if isinstance(self.emission_law, AdditiveEmission) else "joint"

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name, numbers of chains and states, and the kind of effects, which make a model of this shape."""
        equal = len(set(self.sizes)) == 1
        sizes = {"num_chains": self.num_chains, "num_states": self.sizes[0] if equal else list(self.sizes)}
        return "factorial-hmm", {**sizes, "effects": self.effects}

    @property
    def initial_probs(self) -> tuple[Tensor, ...]:
        """p(z_1^m = k) of each chain, (K_m,)."""
        return tuple(logits.softmax(-1) for logits in self.initial_logits)

    @property
    def transition_probs(self) -> tuple[Tensor, ...]:
        """p(z_t^m = j | z_{t-1}^m = i) of each chain, (K_m, K_m), rows sum to one."""
        return tuple(logits.softmax(-1) for logits in self.transition_logits)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Probabilities of chain m, from 0, as `initial_probs_m` and `transition_probs_m`; the emission has its own."""
        return {
            f"{name}_probs_{m}": whole(f"{name}_logits.{m}", SOFTMAX)
            for name in ("initial", "transition")
            for m in range(self.num_chains)
        }

    def initial(self, h: Any) -> TorchDistribution:
        """p(z_1), batch shape ()."""
        return ProductOfCategoricals([dist.Categorical(logits=row, validate_args=False) for row in self.initial_logits])

    def transition(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(z_t | z_{t-1}), the product of the chains' laws; its batch shape is that of z."""
        own = zip(self.transition_logits, self.states.split(z), strict=True)
        return ProductOfCategoricals([dist.Categorical(logits=rows[k], validate_args=False) for rows, k in own])

    def emission(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(x_t | z_t); its batch shape is that of z."""
        law: TorchDistribution = self.emission_law(z)
        return law

    @torch.no_grad()
    def maximise(self, data: Sequences, expected: ExpectedProduct) -> Collection[str]:
        """The M-step: shares of first states and moves of each chain; least squares for additive normal laws.

        Source: Ghahramani & Jordan (1997), appendix A.
        """
        self._set_chains(expected.first_of_chains, expected.moves_of_chains)
        done = ["initial_logits.", "transition_logits."]
        law, inside = self.emission_law, length_mask(data.lengths, data.x.shape[1])
        observed = None if data.observed is None else data.observed[inside]
        if isinstance(law, AdditiveEmission) and law.fits(observed):
            law.fit(data.x[inside], expected.states[inside], observed)
            done.append("emission_law.")
        return [name for name, _ in self.named_parameters() if name.startswith(tuple(done))]

    @torch.no_grad()
    def maximise_chains(self, data: Sequences, beliefs: Sequence[Tensor], moves: Sequence[Tensor]) -> None:
        """The M-step of structured mean field for additive normal laws: Ghahramani & Jordan (1997), appendix A.

        Raises:
            TypeError: other observation laws.
            ValueError: an observation that is partly missing, or an emission of which some parameters are frozen.
        """
        law, inside = self.emission_law, length_mask(data.lengths, data.x.shape[1])
        free = {parameter.requires_grad for parameter in law.parameters()}
        if not isinstance(law, AdditiveEmission) or law.cov is None:
            raise TypeError(f"expected additive normal laws to fit, got {law.family}; use svi.fit or em.fit")
        if len(free) > 1:
            raise ValueError("expected all or none of the emission's parameters to require gradients, got some")
        if data.observed is not None:
            there = data.observed.reshape(*inside.shape, -1)
            if not torch.equal(there.all(-1), there.any(-1)):
                raise ValueError("expected whole observations for mean_field.fit, got some that are partly missing")
            inside = inside & there.all(-1)
        self._set_chains([belief[:, 0].sum(0) for belief in beliefs], moves)
        if free == {True}:
            law.fit_chains(data.x[inside], [belief[inside] for belief in beliefs])

    def additive_normal(self) -> AdditiveNormal | None:
        """The parts of the means and the covariance, if the emission is additive and normal."""
        law = self.emission_law
        if not isinstance(law, AdditiveEmission) or law.cov is None:
            return None
        return AdditiveNormal(tuple(law.effects), law.cov)

    def _set_chains(self, firsts: Sequence[Tensor], moves: Sequence[Tensor]) -> None:
        """Set the probabilities of the chains that require gradients to shares of first states and moves."""
        for logits, first in zip(self.initial_logits, firsts, strict=True):
            if logits.requires_grad:
                logits.copy_((first / first.sum()).log())
        for logits, counts in zip(self.transition_logits, moves, strict=True):
            if logits.requires_grad:
                totals = counts.sum(-1, keepdim=True)
                logits.copy_((counts / totals).log().where(totals > 0, logits))  # a state without moves keeps its row


def _seen(data: Sequences) -> Tensor:
    """The observations of all sequences, (n, D), float64, NaN where an entry is missing."""
    inside = length_mask(data.lengths, data.x.shape[1])
    x = data.x[inside].reshape(int(inside.sum()), -1).double()
    return x if data.observed is None else x.where(data.observed[inside].reshape(len(x), -1), torch.nan)


def _logits_of_shares(family: Emission, x: Tensor) -> Tensor | None:
    """Logits of the shares of ones, or of symbols, in observations (n, D), each with half a count more, (num_params,).

    None for other families.
    """
    there = x.isfinite()
    if isinstance(family, Bernoulli):
        return ((x.nansum(0) + 0.5) / (there.sum(0) + 1)).logit()
    if isinstance(family, Categorical):
        return (torch.bincount(x[there].long(), minlength=family.num_symbols) + 0.5).log()
    return None


def _checked_chains(
    initial_probs: Sequence[Tensor], transition_probs: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The tables of the chains.

    Raises:
        ValueError: no chain, not as many tables as rows, or probabilities that do not fit.
    """
    starts = [torch.as_tensor(row) for row in initial_probs]
    moves = [torch.as_tensor(table) for table in transition_probs]
    if not starts or len(starts) != len(moves):
        raise ValueError(
            f"expected initial_probs and transition_probs for the same chains, at least one, got {len(starts)} and "
            f"{len(moves)}"
        )
    for m, (row, table) in enumerate(zip(starts, moves, strict=True)):
        check_probs(f"initial_probs of chain {m}", row, (None,))
        check_probs(f"transition_probs of chain {m}", table, (len(row), len(row)))
    return starts, moves


def _checked_emission(emission: object, states: ProductStates) -> EmissionTable | AdditiveEmission:
    """The laws of the observations.

    Raises:
        TypeError: neither effects nor a table of laws or of probabilities.
        ValueError: laws of other states.
    """
    if not isinstance(emission, AdditiveEmission):
        return as_table(emission, states.num_states)
    if emission.states != states:
        raise ValueError(f"expected an emission for {states}, got one for {emission.states}")
    return emission


INFO = ModelInfo(
    "factorial-hmm",
    FactorialHMM.random,
    "-",
    "several discrete chains",
    "Choe et al. sec. 2.2, opened to products",
    {"num_chains": 2, "num_states": 2, "num_symbols": 2},
    refuses=(Tied,),
    title="`FactorialHMM`",
    fit=GradientFit(
        "A factorial hidden Markov model: several chains that an observation reads together, by gradient steps on the "
        "exact likelihood.",
        {
            "num_chains": Size("Number of chains.", 2),
            "num_states": Size("Number of states of each chain; once, or once for each chain.", 2, repeats=True),
            "effects": Size(
                "How the chains act on an observation: sums of effects, or a law for each combination of states.",
                "additive",
                kind=str,
                choices=EFFECTS,
            ),
        },
    ),
    small={"num_chains": 2, "num_states": 2},
)
