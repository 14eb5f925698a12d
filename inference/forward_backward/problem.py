"""Which models have finitely many states, and their checked data."""

from typing import Protocol

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.inference.diagnosis import check_numbers
from pgm_rnn.inference.suitable import unsuitable
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.law_checks import check_tables
from pgm_rnn.sequence_model.observations import as_batch, checked
from pgm_rnn.sequence_model.products import has_product
from pgm_rnn.sequence_model.segments import has_segments
from pgm_rnn.sequence_model.tables import has_tables
from pgm_rnn.sequences import Data, Sequences


class FiniteStateModel(Protocol):
    """A model that gives its tables itself; any `SequenceModel` with `FiniteStates` will do."""

    @property
    def initial_probs(self) -> Tensor:
        """p(z_1), (K,)."""

    @property
    def transition_probs(self) -> Tensor:
        """p(z_{t+1} = j | z_t = i), (K, K) or with more axes in front as in `pgm_rnn.kernels.hmm`."""

    def emission_log_probs(self, x: Tensor) -> Tensor:
        """log p(x_t | z_t = k), (B, T, K)."""

    def emission(self, z: Tensor, h: Tensor | None) -> TorchDistribution:
        """p(x_t | z_t, h_t), batch shape that of z."""

    def check(self, x: Tensor, lengths: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Valid observations and explicit lengths."""


FiniteModel = FiniteStateModel | SequenceModel
"""Models that the functions take; for other models the error names a suitable engine."""


class ImpossibleSequenceError(ValueError):
    """Posteriors were asked for, but the observations have probability zero."""


def check_possible(log_normalizers: Tensor, consequence: str) -> None:
    """Raise an error that names sequence, step and consequence if a term (B, T) is minus infinity.

    Raises:
        ImpossibleSequenceError: a sequence has probability zero.
    """
    impossible = log_normalizers == -torch.inf
    if bool(impossible.any()):
        sequence, step = impossible.nonzero()[0].tolist()
        raise ImpossibleSequenceError(
            f"expected observations of positive probability, got probability zero for sequence {sequence} from step "
            f"{step + 1} on; {consequence}"
        )


def has_finite_states(model: object) -> bool:
    """Whether the states are finitely many, and summed out exactly."""
    return has_tables(model) or has_segments(model) or has_product(model)


def checked_finite(
    model: object,
    x: Data,
    lengths: Tensor | None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
) -> Sequences:
    """Checked data for a model with finitely many states.

    Raises:
        TypeError: a model without finitely many states.
        ValueError: observations that do not fit, or a parameter of the model that is NaN or makes no probabilities.
    """
    if not has_finite_states(model):
        raise unsuitable("forward_backward", "finitely many states", model)
    check_numbers(model)
    if isinstance(model, SequenceModel):
        return checked(model, x, lengths, inputs=inputs, mask=mask)
    check_tables(model)
    given = as_batch(model, x, lengths, inputs=inputs, mask=mask)
    values, lengths = model.check(given.x, given.lengths, given.observed)  # type: ignore[attr-defined]
    return Sequences(values, lengths, mask=given.mask)
