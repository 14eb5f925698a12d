"""The hidden Markov model, its discrete states enumerated.

    z_1 ~ Categorical(initial_probs),   z_t ~ Categorical(transition_probs[z_{t-1}]),   x_t ~ emission[z_t]

Choe, Shin & Spencer (2017), sec. 2.2 and 3.2 (their V is transition_probs transposed).
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
from pgm_rnn.emissions.natural import SOFTMAX, Natural, whole
from pgm_rnn.models.as_drawn import AsDrawn
from pgm_rnn.models.info import ModelInfo
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import First, SequenceModel
from pgm_rnn.states import FiniteStates


class HMM(AsDrawn, SequenceModel):
    """A hidden Markov model over K states with any emission.

    The probabilities are copied into unconstrained logits, the parameters that gradients train; a zero stays zero.

    Args:
        initial_probs: p(z_1 = k), (K,).
        transition_probs: p(z_t = j | z_{t-1} = i), (K, K).
        emission: a table p(x_t = s | z_t = k), (K, num_symbols), or a law for each state, such as
            Gaussian(2).table(loc=..., scale=...).
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        ValueError: shapes that do not fit, negative or NaN probabilities, rows that do not sum to one.

    Example:
        >>> hmm = HMM.random(num_states=2, num_symbols=3, seed=0)
        >>> batch = hmm.sample(num_sequences=4, num_steps=8, seed=1)
        >>> hmm.log_marginal_likelihood(batch.x).shape
        torch.Size([4])
    """

    initial_memory = None

    def __init__(
        self,
        initial_probs: Tensor,
        transition_probs: Tensor,
        emission: Tensor | EmissionTable,
        *,
        first: First = "model",
    ) -> None:
        initial_probs, transition_probs = torch.as_tensor(initial_probs), torch.as_tensor(transition_probs)
        check_probs("initial_probs", initial_probs, (None,))
        num_states = initial_probs.shape[0]
        check_probs("transition_probs", transition_probs, (num_states, num_states))
        table = as_table(emission, num_states)
        super().__init__(table.family, first)
        self.states = FiniteStates(num_states)
        self.initial_logits = nn.Parameter(initial_probs.log())
        self.transition_logits = nn.Parameter(transition_probs.to(initial_probs.dtype).log().contiguous())
        self.emission_table = copy.deepcopy(table).to(initial_probs.dtype)

    @staticmethod
    def random(
        num_states: int,
        num_symbols: int | None = None,
        *,
        emission: Emission | None = None,
        seed: int | None = None,
        first: First = "model",
    ) -> "HMM":
        """An HMM whose initial, transition and categorical emission rows are Dirichlet(1) draws.

        Args:
            num_states: K.
            num_symbols: short for emission=Categorical(num_symbols).
            emission: another family; its unconstrained parameters are standard normal.
            seed: makes the draw reproducible; None uses torch's global generator.
            first: as for `HMM`.

        Source: Choe, Shin & Spencer (2017), sec. 4.1.

        Raises:
            ValueError: a number of states below 1, or not exactly one of num_symbols and emission.
        """
        check_counts(num_states=num_states)
        family = chosen_family(num_symbols, emission)
        with seeded(seed):
            rows = dist.Dirichlet(torch.ones(num_states)).sample((num_states + 1,))
            table = family.random_table(num_states)
        model = HMM(rows[0], rows[1:], table, first=first)
        model._remember_draw()
        return model

    @property
    def num_states(self) -> int:
        """K, the number of states."""
        return self.initial_logits.shape[0]

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name and number of states, which make a model of this shape."""
        return "hmm", {"num_states": self.num_states}

    @property
    def initial_probs(self) -> Tensor:
        """p(z_1 = k), (K,)."""
        return self.initial_logits.softmax(-1)

    @property
    def transition_probs(self) -> Tensor:
        """p(z_t = j | z_{t-1} = i), (K, K), rows sum to one."""
        return self.transition_logits.softmax(-1)

    @property
    def emission_probs(self) -> Tensor:
        """p(x_t = s | z_t = k), (K, num_symbols), for a categorical emission.

        Raises:
            ValueError: an emission of another family.
        """
        if not isinstance(self.family, Categorical):
            raise ValueError(f"expected an HMM of symbols for emission_probs, got {self.family}; use emission_table")
        return self.emission_table.params.softmax(-1)

    @torch.no_grad()
    def set_probs(
        self,
        initial_probs: Tensor | None = None,
        transition_probs: Tensor | None = None,
        emission_params: Tensor | None = None,
    ) -> None:
        """Replace parameters in place; None leaves a parameter unchanged.

        Args:
            initial_probs: p(z_1), (K,).
            transition_probs: p(z_{t+1} = j | z_t = i), (K, K).
            emission_params: unconstrained parameters of `emission_table`, (K, num_params).
        """
        if initial_probs is not None:
            self.initial_logits.copy_(initial_probs.log())
        if transition_probs is not None:
            self.transition_logits.copy_(transition_probs.log())
        if emission_params is not None:
            self.emission_table.set_params(emission_params)
        self._forget_draw()

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Probabilities by the names of the constructor; those of the emission are its table's own."""
        raw = {"initial_probs": "initial_logits", "transition_probs": "transition_logits"}
        if isinstance(self.family, Categorical):
            raw["emission_probs"] = "emission_table.params"
        return {name: whole(logits, SOFTMAX) for name, logits in raw.items()}

    def emission_log_probs(self, x: Tensor) -> Tensor:
        """log p(x_t | z_t = k) for every state: (batch, T, K)."""
        return self.emission_table.log_probs(x)

    def initial(self, h: Any) -> TorchDistribution:
        """p(z_1), batch shape ()."""
        return dist.Categorical(logits=self.initial_logits, validate_args=False)

    def transition(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(z_t | z_{t-1}); its batch shape is that of z."""
        return dist.Categorical(logits=self.transition_logits[z], validate_args=False)

    def emission(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(x_t | z_t); its batch shape is that of z."""
        return self.emission_table(z)


def as_table(emission: object, num_states: int) -> EmissionTable:
    """The table of K laws that is given as a table of probabilities or as one of laws.

    Raises:
        TypeError: neither of them.
        ValueError: laws of another number of states, or probabilities that do not fit.
    """
    if isinstance(emission, Emission):
        raise TypeError(
            f"expected one law per state, got the family {emission}; use {type(emission).__name__}(...).table(...)"
        )
    if not isinstance(emission, EmissionTable):
        if emission is None or isinstance(emission, str):
            raise TypeError(f"expected a table of probabilities or an EmissionTable as emission, got {emission!r}")
        emission = torch.as_tensor(emission)
        check_probs("emission", emission, (num_states, None))
        return Categorical(emission.shape[1]).table(emission)
    if emission.num_states != num_states:
        raise ValueError(f"expected an emission for {num_states} states, got one for {emission.num_states}")
    return emission


INFO = ModelInfo(
    "hmm",
    HMM.random,
    "-",
    "discrete, enumerated",
    "Choe et al. sec. 2.2, 3.2",
    {"num_states": 2, "num_symbols": 2},
    title="`HMM`",
    small={"num_states": 2},
)
