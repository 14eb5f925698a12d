"""The hidden semi-Markov model: a hidden Markov model whose states last by laws of their own.

    z_1 ~ Categorical(initial_probs);   a segment of state k lasts d steps, d ~ durations[k], 1 <= d <= D
    the next segment's state ~ Categorical(transition_probs[k]), another one than k;   x_t ~ emission[z_t]

z_t is the number of the state at each step. The memory counts how many steps the present segment has lasted, so that
the four laws of a sequence model say the same (`pgm_rnn.sequence_model.segments`). Exact inference takes O(T K (K + D))
for T steps. The first segment begins at x_1. The last one may go on past x_T (right censoring): its duration is only
known to be at least the steps that it has in the data. In the unrolled Pyro program the memory reads z, so that
enumeration sums over all K^T paths: for short sequences only. The fused program and every engine of ours do not.

Sources: Yu (2010), a survey; Guédon (2003) for the last segment.
"""

import copy
from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_counts, check_probs
from pgm_rnn.emissions import Categorical, Emission, EmissionTable, chosen_family
from pgm_rnn.emissions.natural import SOFTMAX, Map, Natural, whole
from pgm_rnn.models.as_drawn import AsDrawn
from pgm_rnn.models.durations import KINDS, CategoricalDurations, Durations, random_durations
from pgm_rnn.models.hmm import as_table
from pgm_rnn.models.info import NUM_STATES, GradientFit, ModelInfo, Size
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import First, SemiMarkov, SequenceModel


class HSMM(AsDrawn, SemiMarkov, SequenceModel):
    """A hidden semi-Markov model over K states with any emission.

    The probabilities are copied into unconstrained parameters, which gradients train; a zero stays zero.

    Args:
        initial_probs: p(z_1 = k), (K,).
        transition_probs: p(next state = j | state = i) at the end of a segment, (K, K), zeros on the diagonal.
        durations: p(d = 1), ..., p(d = D) in each state, (K, D), or laws of `pgm_rnn.models.durations`, such as
            PoissonDurations(rates, max_duration=D).
        emission: a table p(x_t = s | z_t = k), (K, num_symbols), or a law for each state, such as
            Gaussian(2).table(loc=..., scale=...).
        max_duration: the longest duration that is allowed, in steps; None for the width of the durations.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        ValueError: fewer than two states, durations beyond max_duration or none, self-transitions, shapes that do not
            fit, or rows that do not sum to one.

    Example:
        >>> model = HSMM.random(num_states=2, num_symbols=3, max_duration=4, seed=0)
        >>> batch = model.sample(num_sequences=5, num_steps=20, seed=1)
        >>> model.log_prob(batch.x).shape, model.duration_probs.shape
        (torch.Size([5]), torch.Size([2, 4]))
    """

    def __init__(
        self,
        initial_probs: Tensor,
        transition_probs: Tensor,
        durations: Tensor | Durations,
        emission: Tensor | EmissionTable,
        *,
        max_duration: int | None = None,
        first: First = "model",
    ) -> None:
        initial_probs, transition_probs = torch.as_tensor(initial_probs), torch.as_tensor(transition_probs)
        check_probs("initial_probs", initial_probs, (None,))
        num_states, dtype = initial_probs.shape[0], initial_probs.dtype
        check_probs("transition_probs", transition_probs, (num_states, num_states))
        _check_moves(transition_probs)
        laws = _laws(durations, num_states, max_duration)
        table = as_table(emission, num_states)
        super().__init__(table.family, first)
        self.count_steps(num_states, laws.max_duration, dtype)
        self.initial_logits = nn.Parameter(initial_probs.log())
        self.transition_logits = nn.Parameter(_logits_of_moves(transition_probs.to(dtype)))
        self.durations = copy.deepcopy(laws).to(dtype)
        self.emission_table = copy.deepcopy(table).to(dtype)

    @staticmethod
    def random(
        num_states: int,
        num_symbols: int | None = None,
        max_duration: int = 10,
        *,
        durations: str = "categorical",
        emission: Emission | None = None,
        seed: int | None = None,
        first: First = "model",
    ) -> "HSMM":
        """An HSMM whose rows of probabilities are Dirichlet(1) draws.

        Args:
            num_states: K, at least 2.
            num_symbols: short for emission=Categorical(num_symbols).
            max_duration: D, in steps.
            durations: "categorical", "geometric", "poisson" or "negative-binomial".
            emission: another family; its unconstrained parameters are standard normal.
            seed: makes the draw reproducible; None uses torch's global generator.
            first: as for `HSMM`.

        Raises:
            ValueError: fewer than two states, a max_duration below 1, or not exactly one of num_symbols and emission.
        """
        check_counts(num_states=num_states, max_duration=max_duration)
        family = chosen_family(num_symbols, emission)
        with seeded(seed):
            start = dist.Dirichlet(torch.ones(num_states)).sample()
            moves = torch.empty(num_states, num_states).exponential_() * (1 - torch.eye(num_states))
            laws, table = random_durations(durations, num_states, max_duration), family.random_table(num_states)
        if num_states > 1:
            moves = moves / moves.sum(-1, keepdim=True)
        else:
            moves = torch.ones(1, 1)
        model = HSMM(start, moves, laws, table, first=first)
        model._remember_draw()
        return model

    @property
    def num_states(self) -> int:
        """K, the number of states."""
        return self.states.num_states

    @property
    def max_duration(self) -> int:
        """D, the longest duration in steps."""
        return self.states.max_duration

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name, number of states, longest duration and kind of its law, which make a model of this shape."""
        sizes = {"num_states": self.num_states, "max_duration": self.max_duration}
        return "hsmm", {**sizes, "durations": self.durations.kind}

    @property
    def initial_probs(self) -> Tensor:
        """p(z_1 = k), (K,)."""
        return self.initial_logits.softmax(-1)

    @property
    def transition_probs(self) -> Tensor:
        """p(next state = j | state = i), (K, K), zeros on the diagonal, rows sum to one."""
        return _moves(self.transition_logits)

    @property
    def duration_probs(self) -> Tensor:
        """p(d = 1), ..., p(d = D) in each state, (K, D), rows sum to one."""
        return self.durations.probs()

    @property
    def emission_probs(self) -> Tensor:
        """p(x_t = s | z_t = k), (K, num_symbols), for a categorical emission.

        Raises:
            ValueError: an emission of another family.
        """
        if not isinstance(self.family, Categorical):
            raise ValueError(f"expected an HSMM of symbols for emission_probs, got {self.family}; use emission_table")
        return self.emission_table.params.softmax(-1)

    @torch.no_grad()
    def set_probs(
        self,
        initial_probs: Tensor | None = None,
        transition_probs: Tensor | None = None,
        emission_params: Tensor | None = None,
    ) -> None:
        """Replace parameters in place; None leaves a parameter unchanged. Durations have their own `fit`.

        Args:
            initial_probs: p(z_1), (K,).
            transition_probs: p(next state = j | state = i), (K, K), zeros on the diagonal.
            emission_params: unconstrained parameters of `emission_table`, (K, num_params).
        """
        if initial_probs is not None:
            self.initial_logits.copy_(initial_probs.log())
        if transition_probs is not None:
            self.transition_logits.copy_(_logits_of_moves(transition_probs))
        if emission_params is not None:
            self.emission_table.set_params(emission_params)
        self._forget_draw()

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Probabilities by the names of the constructor; those of durations and emission are their own."""
        moves = Map(_logits_of_moves, _moves, SOFTMAX.support, f"{SOFTMAX.values}, zeros on the diagonal")
        views = {
            "initial_probs": whole("initial_logits", SOFTMAX),
            "transition_probs": whole("transition_logits", moves),
        }
        if isinstance(self.family, Categorical):
            views["emission_probs"] = whole("emission_table.params", SOFTMAX)
        return views

    def emission(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(x_t | z_t); its batch shape is that of z."""
        return self.emission_table(z)


def _moves(logits: Tensor) -> Tensor:
    """p(next state = j | state = i) from logits (..., K, K), whose diagonals do not count."""
    own = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    return logits.masked_fill(own, -torch.inf).softmax(-1)


def _logits_of_moves(probs: Tensor) -> Tensor:
    """Logits of p(next state = j | state = i), (..., K, K), zeros on the diagonal, where they do not count."""
    own = torch.eye(probs.shape[-1], dtype=torch.bool, device=probs.device)
    return probs.log().masked_fill(own, 0.0).contiguous()


def _check_moves(transition_probs: Tensor) -> None:
    """Raise unless no state follows itself.

    Raises:
        ValueError: a positive number on the diagonal.
    """
    own = transition_probs.detach().diagonal()
    if bool((own != 0).any()) and len(own) > 1:
        state = int(own.ne(0).nonzero()[0])
        raise ValueError(
            f"expected zeros on the diagonal of transition_probs, because durations say how long a state lasts, got "
            f"{float(own[state]):.6g} for state {state}; put it into the durations"
        )


def _laws(durations: object, num_states: int, max_duration: int | None) -> Durations:
    """The laws of durations, checked.

    Raises:
        ValueError: laws of another number of states, or durations longer than max_duration.
    """
    laws = durations if isinstance(durations, Durations) else CategoricalDurations(torch.as_tensor(durations))
    if laws.num_states != num_states:
        raise ValueError(f"expected durations for {num_states} states, got them for {laws.num_states}")
    if max_duration is not None:
        check_counts(max_duration=max_duration)
        if laws.max_duration > max_duration:
            raise ValueError(
                f"expected durations of at most max_duration = {max_duration} steps, got laws up to "
                f"{laws.max_duration} steps; leave max_duration out, or cut the laws off"
            )
    return laws


INFO = ModelInfo(
    "hsmm",
    HSMM.random,
    "steps of the present segment",
    "discrete, with durations",
    "Choe et al. sec. 2.2, opened to durations",
    {"num_states": 3, "num_symbols": 2, "max_duration": 2},
    title="`HSMM`",
    fit=GradientFit(
        "A hidden semi-Markov model: states that last by laws of their own, by gradient steps on the exact likelihood.",
        {
            "num_states": NUM_STATES,
            "max_duration": Size("Longest duration of a state, in steps.", 10),
            "durations": Size("Law of the durations.", "categorical", kind=str, choices=KINDS),
        },
    ),
    small={"num_states": 3, "max_duration": 3},
)
