"""Diagnosis of a loss or likelihood that is not finite: parameters, the scale of the data, or the learning rate."""

import torch
from torch import Tensor, nn

from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.sequences import Sequences, length_mask

LARGE = 100.0
"""Real observations above this size are named as the likely cause: networks begin with weights for numbers near 1."""


def check_scores(model: nn.Module, family: Emission, data: Sequences, values: Tensor, what: str) -> None:
    """Check that log likelihoods, (batch,), are numbers.

    Minus infinity is allowed if observations may have probability zero. Real observations never have density zero, so
    for them it means that the density underflowed.

    Raises:
        FloatingPointError: one is NaN, plus infinity, or minus infinity for real observations; the message names the
            likely cause.
    """
    wrong = values.isnan() | (values == torch.inf) | ((values == -torch.inf) & family.continuous)
    if bool(wrong.any()):
        sequence = int(wrong.nonzero()[0])
        raise FloatingPointError(
            f"the {what} of sequence {sequence} is {float(values[sequence])}; {cause(model, family, data, 0)}"
        )


TABLES = ("initial_probs", "transition_probs", "duration_probs", "emission_probs")
"""Names of the probability tables that a model with finitely many states may have."""


def check_numbers(model: object) -> None:
    """Check that the probabilities of a model with finitely many states are numbers, since NaN would spread silently.

    Parameters may be infinite where a probability is zero, as long as each row of a table is a distribution.

    Raises:
        ValueError: a parameter or a table has NaN; the message names it.
    """
    parameters = dict(model.named_parameters()) if isinstance(model, nn.Module) else {}
    if parameters and all(bool(value.detach().sum().isfinite()) for value in parameters.values()):
        return
    of, broken = type(model).__name__, [name for name, value in parameters.items() if bool(value.isnan().any())]
    if broken:
        raise ValueError(
            f"expected numbers as the parameters of the {of}, got NaN in {broken[0]}; load or make the model again"
        )
    for name in _tables_of(model):
        tables = getattr(model, name)  # of one chain, or of each of several
        for table in tables if isinstance(tables, tuple) else (tables,):
            _check_table(f"{name} of the {of}", table.detach())


def _check_table(name: str, table: Tensor) -> None:
    """Raise unless the rows of a table of probabilities are numbers.

    Raises:
        ValueError: a row has NaN.
    """
    wrong = table.isnan().any(-1)
    if bool(wrong.any()):
        index = wrong.nonzero()[0].tolist()
        row = "" if not index else f" in row {index[0] if len(index) == 1 else tuple(index)}"
        raise ValueError(
            f"expected probabilities as {name}, got NaN{row}; look for logits of plus infinity, or of minus infinity "
            "in a whole row"
        )


def _tables_of(model: object) -> tuple[str, ...]:
    """The probability tables that a model gives itself, if any; the emission's only if it emits symbols."""
    symbols = isinstance(getattr(model, "family", None), Categorical)
    return tuple(name for name in (TABLES if symbols else TABLES[:2]) if hasattr(model, name))


def cause(model: nn.Module, family: Emission, data: Sequences, num_updates: int) -> str:
    """The likely cause of a loss or likelihood that is not finite, and the way out.

    Args:
        model: the model.
        family: family of the observations that it reads.
        data: these observations.
        num_updates: gradient steps taken so far; before the first one the learning rate cannot be the cause.
    """
    broken = [name for name, value in model.named_parameters() if bool((value.isnan() | (value == torch.inf)).any())]
    if num_updates == 0 and broken:
        return f"parameter {broken[0]} of the {type(model).__name__} is NaN or infinite; load or make the model again"
    if family.continuous and (place := _largest(data)) is not None:
        way_out = "standardise them, (x - mean) / standard deviation"
        return place + way_out + ("" if num_updates == 0 else ", before you try a smaller learning rate")
    if num_updates == 0:
        return "look for observations of probability zero, and for very large parameters"
    return "try a smaller learning rate, or look for observations of probability zero"


def _largest(data: Sequences) -> str | None:
    """A clause that names the place of the largest real observation if it is above `LARGE`, None otherwise."""
    inside = length_mask(data.lengths, data.x.shape[1])
    sizes = data.x.abs().reshape(*inside.shape, -1).nan_to_num(0.0).amax(-1).where(inside, 0.0)  # (batch, T)
    sequence, step = divmod(int(sizes.argmax()), sizes.shape[1])
    largest = float(sizes[sequence, step])
    if largest <= LARGE:
        return None
    return (
        f"the observations are large, {largest:.3g} in sequence {sequence} at step {step + 1}, "
        f"and the computation overflows {str(data.x.dtype).removeprefix('torch.')}; "
    )
