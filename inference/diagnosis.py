"""Why a loss or a likelihood is no finite number, in words: parameters, the scale of the data, the learning rate."""

import torch
from torch import Tensor, nn

from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.sequences import Sequences, length_mask

LARGE = 100.0
"""Real observations above this size are named as the likely cause: networks begin with weights for numbers near 1."""


def check_scores(model: nn.Module, family: Emission, data: Sequences, values: Tensor, what: str) -> None:
    """Raise a FloatingPointError that names the cause if a log likelihood, (batch,), is no number.

    Minus infinity is one where observations may have probability zero; real observations never have density zero, so
    there it means that the density left the range of numbers.
    """
    wrong = values.isnan() | (values == torch.inf) | ((values == -torch.inf) & family.continuous)
    if bool(wrong.any()):
        sequence = int(wrong.nonzero()[0])
        raise FloatingPointError(
            f"the {what} of sequence {sequence} is {float(values[sequence])}; {cause(model, family, data, 0)}"
        )


TABLES = ("initial_probs", "transition_probs", "emission_probs")
"""What rows of probabilities a model with finitely many states may have."""


def check_numbers(model: object) -> None:
    """Raise a ValueError that names the parameter if a model with finitely many states is no law: NaN would follow.

    Parameters may be infinite, where a probability is zero, if each row of the tables that they make is one.
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
        wrong = getattr(model, name).detach().isnan().any(-1)
        if bool(wrong.any()):
            index = wrong.nonzero()[0].tolist()
            row = "" if not index else f" in row {index[0] if len(index) == 1 else tuple(index)}"
            raise ValueError(
                f"expected probabilities as {name} of the {of}, got NaN{row}; look for logits of plus infinity, or of "
                "minus infinity in a whole row"
            )


def _tables_of(model: object) -> tuple[str, ...]:
    """The tables of probabilities that a model has; that of the emission only where it emits symbols."""
    symbols = isinstance(getattr(model, "family", None), Categorical) and hasattr(model, "emission_probs")
    return TABLES if symbols else TABLES[:2]


def cause(model: nn.Module, family: Emission, data: Sequences, num_updates: int) -> str:
    """The likely reason and the way out.

    Args:
        model: whose loss or likelihood is not finite.
        family: of the observations that it reads.
        data: these observations.
        num_updates: gradient steps taken so far; before the first no learning rate is to blame.
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
    """Where the largest of real observations is, if it is above `LARGE`."""
    inside = length_mask(data.lengths, data.x.shape[1])
    sizes = data.x.abs().reshape(*inside.shape, -1).nan_to_num(0.0).amax(-1).where(inside, 0.0)  # (batch, T)
    sequence, step = divmod(int(sizes.argmax()), sizes.shape[1])
    largest = float(sizes[sequence, step])
    if largest <= LARGE:
        return None
    return (
        f"the observations are large, {largest:.3g} in sequence {sequence} at step {step + 1}, "
        f"and what follows from them leaves the range of {str(data.x.dtype).removeprefix('torch.')}; "
    )
