"""Symbols: p(x = j) = softmax(params)_j, the family that the argument `num_symbols` stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.checks import check_counts, check_probs
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.info import FamilyInfo
from pgm_rnn.emissions.natural import SOFTMAX, Natural, whole


@dataclass(frozen=True)
class Categorical(Emission):
    """x in 0..num_symbols - 1 with p(x = j) = softmax(params)_j.

    Observations are integers of event shape (). A recurrence reads them as one-hot vectors; `RNN` uses an embedding
    instead.
    """

    num_symbols: int

    def __post_init__(self) -> None:
        check_counts(num_symbols=self.num_symbols)

    @property
    @override
    def event_shape(self) -> torch.Size:
        return torch.Size()

    @property
    @override
    def num_params(self) -> int:
        return self.num_symbols

    @property
    @override
    def input_dim(self) -> int:
        return self.num_symbols

    @property
    @override
    def support(self) -> str:
        return f"symbols in 0..{self.num_symbols - 1}"

    @property
    @override
    def needs_integers(self) -> bool:
        return True

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        return {"probs": whole("params", SOFTMAX)}

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        return _symbol_law(params)

    @override
    def invalid(self, x: Tensor) -> Tensor:
        return (x < 0) | (x >= self.num_symbols)

    @override
    def as_input(self, x: Tensor) -> Tensor:
        return F.one_hot(x.long(), self.num_symbols).to(torch.get_default_dtype())

    @override
    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | params[k]), looked up in the table of log probabilities."""
        return params.log_softmax(-1).T[x]

    @override
    def mixture(self, params: Tensor, probs: Tensor) -> TorchDistribution:
        """The mixture as a law of symbols, with probabilities from one matrix product.

        Each symbol's column is divided by its largest entry first, so that the probability of a rare symbol does not
        underflow.
        """
        logs = params.log_softmax(-1)
        largest = logs.amax(0).clamp(min=torch.finfo(logs.dtype).min)  # finite even for a symbol that no state emits
        return _symbol_law((probs @ (logs - largest).exp()).log() + largest)

    @override
    def random_table(self, num_states: int) -> EmissionTable:
        """Rows of probabilities uniform on the simplex, Dirichlet(1)."""
        return self.table(dist.Dirichlet(torch.ones(self.num_symbols)).sample((num_states,)))

    def table(self, probs: Tensor) -> EmissionTable:
        """One law for each state from rows of probabilities (num_states, num_symbols); zeros are allowed.

        Raises:
            ValueError: another shape, negative numbers or NaN, or rows that do not sum to one.
        """
        probs = torch.as_tensor(probs)
        check_probs("probs", probs, (None, self.num_symbols))
        return EmissionTable(self, probs.log())


def _symbol_law(params: Tensor) -> TorchDistribution:
    """Categorical normalised by one fused log_softmax; torch's own two passes would cost 2 % of a training step."""
    law = dist.Categorical.__new__(dist.Categorical)
    law.logits = law._param = params.log_softmax(-1)
    law._num_events = params.shape[-1]
    torch.distributions.Distribution.__init__(law, params.shape[:-1], validate_args=False)
    return law


def chosen_family(num_symbols: int | None, emission: Emission | None) -> Emission:
    """The family `emission`, or Categorical(num_symbols); exactly one of the two is given.

    Raises:
        ValueError: both or none of them.
        TypeError: an emission that is no family.
    """
    if (num_symbols is None) == (emission is None):
        raise ValueError(
            "expected exactly one of num_symbols and emission, such as num_symbols=3, got "
            f"{'neither' if emission is None else 'both'}"
        )
    if num_symbols is not None:
        return Categorical(num_symbols)
    if not isinstance(emission, Emission):
        raise TypeError(f"expected a family such as Bernoulli(88) as emission, got {type(emission).__name__}")
    return emission


MAX_SYMBOLS = 1_000_000
"""Largest number of symbols, because tables have one entry per symbol and state."""


def symbols_of(x: Tensor) -> Categorical:
    """The family of symbols 0, 1, 2, ... among the numbers in a file, (batch, T).

    Raises:
        ValueError: more than one variable, other numbers than 0, 1, 2, ..., or a number of at least `MAX_SYMBOLS`.
    """
    if x.dim() != 2:
        raise ValueError(f"expected one variable of symbols, got {x.shape[-1]}; choose one with --column")
    if not bool(((x >= 0) & (x == x.floor())).all()):
        raise ValueError("expected symbols 0, 1, 2, ... for --emission categorical, got other numbers")
    if float(x.max()) >= MAX_SYMBOLS:
        raise ValueError(f"expected symbols below {MAX_SYMBOLS:,}, got {float(x.max()):g}; number them from 0")
    return Categorical(int(x.max()) + 1)


def _draw(family: Emission, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randint(family.num_params, tuple(shape), generator=generator)


INFO = FamilyInfo(
    "categorical",
    Categorical,
    _draw,
    examples={"symbols": Categorical(3)},
    numbers="symbols",
    of_numbers=symbols_of,
    kind="symbol",
)
