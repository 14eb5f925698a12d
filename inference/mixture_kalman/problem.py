"""Checked arguments of the engine: a model with switching states whose vectors can be summed out, and its data."""

from typing import Any

import torch
from torch import Tensor

from pgm_rnn.inference.suitable import unsuitable
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequence_model.chains import as_vectors
from pgm_rnn.sequence_model.observations import check_given, checked
from pgm_rnn.sequence_model.regimes import moves_of, sees_of, start_of
from pgm_rnn.sequences import Data, Sequences, length_mask, over_events
from pgm_rnn.states import SwitchingStates


def has_switching_states(model: object) -> bool:
    """Whether the states of a model are switching ones, and no memory reads them."""
    return isinstance(getattr(model, "states", None), SwitchingStates) and not getattr(
        model, "memory_reads_state", False
    )


def prepared(model: Any, x: Data, lengths: Tensor | None, inputs: Tensor | None, mask: Tensor | None) -> Sequences:
    """Checked data, NaN where an entry is missing, of a model whose laws are linear given the regimes.

    Raises:
        TypeError: a model without switching states, or other laws than `RegimeNormal` and normal ones.
        ValueError: observations that do not fit the model, a law that is not linear in y, or regimes that read y.
    """
    if not has_switching_states(model) or not isinstance(model, SequenceModel):
        raise unsuitable("mixture_kalman", "switching states", model)
    data = checked(model, x, lengths, inputs=inputs, mask=mask)
    check_given(data, model.first)
    check_summable(model, data)
    if data.observed is None:
        return data
    there = data.observed | over_events(~length_mask(data.lengths, data.x.shape[1]), data.observed)
    gaps = data.x.where(over_events(there, data.x), torch.nan)
    return Sequences(gaps, data.lengths, inputs=data.inputs, legend=data.legend)


def sums_out_vectors(model: object, data: Sequences) -> bool:
    """Whether a model has switching states whose vectors can be summed out, as its laws on checked data show."""
    if not has_switching_states(model):
        return False
    try:
        check_summable(model, data)
    except (TypeError, ValueError):
        return False
    return True


@torch.no_grad()
def check_summable(model: Any, data: Sequences) -> None:
    """Raise unless the vectors of a switching model can be summed out, as far as its first steps show it.

    Raises:
        TypeError, ValueError: as `prepared`.
    """
    h = memory_of(model).unroll(data.x[:, :2], None, None if data.inputs is None else data.inputs[:, :2])
    regimes = torch.arange(model.states.num_regimes, device=data.x.device)
    start_of(model, None if h is None else h[:, 0])
    if h is not None:
        regimes = regimes.expand(len(h), -1)
        h = h[:, -1:].expand(*regimes.shape, -1)
    moves_of(model, regimes, h, check=True)
    sees_of(model, regimes, h, as_vectors(data.x).shape[-1], check=True)
