"""The latent states to draw: a result of `pgm_rnn.infer` or of an engine, or those that a model gives to data."""

from typing import Any

import torch
from torch import Tensor

from pgm_rnn.report.inferring import infer
from pgm_rnn.report.states_of_data import States
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Data, as_sequences

_LAWS = ("filtered_probs", "smoothed_probs", "filtered_means", "smoothed_means")


def states_of(source: object, data: Data | None, engine: str, num_particles: int, seed: int | None) -> States:
    """The states of `source`.

    Args:
        source: a `States`; a result of `forward_backward` or `kalman`; or a model, to which `data` belong.
        data: the sequences, for their names, times and lengths.
        engine: the engine for a model, as for `pgm_rnn.infer`.
        num_particles: as for `pgm_rnn.infer`.
        seed: as for `pgm_rnn.infer`.

    Raises:
        TypeError: another source.
        ValueError: a model without data, or data with another number of sequences or steps than the result.
    """
    batch = None if data is None else as_sequences(data)
    if isinstance(source, SequenceModel):
        if batch is None:
            raise ValueError(
                f"expected data beside a model, whose states depend on them, got {type(source).__name__} alone; "
                "give the data as the second argument"
            )
        return infer(source, batch, engine=engine, num_particles=num_particles, seed=seed)
    states = source if isinstance(source, States) else _of_engine(source)
    if batch is None:
        return states
    if len(batch.lengths) != len(states.lengths) or int(batch.lengths.max()) > int(states.lengths.max()):
        raise ValueError(
            f"expected the data of the result, {len(states.lengths)} sequences of up to {int(states.lengths.max())} "
            f"steps, got {len(batch.lengths)} of up to {int(batch.lengths.max())}; give the data that the result was "
            "made from"
        )
    found = {name: getattr(states, name) for name in states.__dataclass_fields__}
    return States(**found | {"lengths": batch.lengths, "legend": batch.legend or states.legend})


def _of_engine(result: object) -> States:
    """The result of a filter or smoother as `States`."""
    found: dict[str, Any] = {name: getattr(result, name) for name in _LAWS if hasattr(result, name)}
    if not found:
        raise TypeError(
            "expected a result of pgm_rnn.infer, forward_backward or kalman, or a model with data, got "
            f"{type(result).__name__}"
        )
    for name in ("filtered", "smoothed"):
        if f"{name}_means" in found:
            covs: Tensor = getattr(result, f"{name}_covs")
            found[f"{name}_sds"] = covs.diagonal(dim1=-2, dim2=-1).clamp(min=0.0).sqrt()
    first: Tensor = next(iter(found.values()))
    lengths = torch.full(first.shape[:1], first.shape[1])
    return States(type(result).__module__.split(".")[2], "it was given", lengths, **found)
