"""Checks of the observations that a model is given, the same for every engine.

What is missing is False in a mask, by step or by entry, or NaN where there is no mask. Every engine then takes
log p(x_o | z, h) of the entries o that were observed (`pgm_rnn.distributions.observed`), which is exact. A memory reads
whole observations, so a model that has one takes no missing ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.coerce import as_tensor
from pgm_rnn.emissions import Emission
from pgm_rnn.kernels.not_numbers import has_nan
from pgm_rnn.legend import Legend
from pgm_rnn.sequence_model.conditionals import Conditionals, First, check_states, example_of
from pgm_rnn.sequence_model.law_checks import check_laws
from pgm_rnn.sequences import Data, Sequences, as_sequences, check_mask, length_mask, over_events, some_observed


def checked(
    model: Conditionals,
    data: Data,
    lengths: Tensor | None = None,
    *,
    z: Tensor | None = None,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    with_states: bool = False,
) -> Sequences:
    """The data of a public function as one batch: zeros in the padding and where x is missing, in the model's dtype.

    Args:
        model: the model whose family, inputs and states the data must fit.
        data: a batch, or observations (batch, T, *event) as `as_sequences` takes them: tensors, arrays, lists, tables.
            One sequence (T, *event) is a batch of one.
        lengths: (batch,) steps of each sequence, None for T.
        z: latent states (batch, T, *latent), where they are given.
        inputs: (batch, T, input_dim) for a model with inputs.
        mask: True where x was observed, (batch, T) or the shape of x; None for wherever it is not NaN.
        with_states: whether to check and keep the batch's latent states; if not, they are left out.

    Raises:
        TypeError: no numbers, or no integers for a family of symbols.
        ValueError: wrong shape, device, lengths, NaN or values outside the family's support; missing observations that
            the model's memory reads; or a method of the model that does not return what engines rely on (`law_checks`).
    """
    given = marked(model, as_batch(model, data, lengths, z=z, inputs=inputs, mask=mask))
    example, observed = example_of(model), given.observed
    lengths = given.lengths
    _check_steps(model, lengths)
    with _gaps_explained(model):
        x = valid(model.family, given.x, example, observed, lengths, legend=given.legend)
    inputs = check_inputs(given.inputs, model.input_dim, x, example)
    z = given.z if with_states else None
    if z is not None:
        z = check_states(model.states, z, length_mask(lengths, x.shape[1]))
    check_laws(model, x, inputs)
    return Sequences(x, lengths, z, inputs, observed, given.legend)


@contextmanager
def _gaps_explained(model: Conditionals) -> Iterator[None]:
    """Add to an error about NaN why this model cannot leave it out, if its memory reads every observation."""
    try:
        yield
    except ValueError as error:
        reads = model.initial_memory is not None and model.memory_reads_observations
        if not reads or "got nan" not in str(error):
            raise
        raise ValueError(
            f"{error}; the memory of {type(model).__name__} reads every observation, so fill in what is missing, or "
            "cut the sequences there"
        ) from error


def _check_steps(model: Conditionals, lengths: Tensor) -> None:
    """Raise if every sequence ends within the first steps that the model is given; one that does has no nats.

    Raises:
        ValueError: it does.
    """
    if model.num_given > 1 and bool((lengths <= model.num_given).all()):
        raise ValueError(
            f"expected a sequence of more than the {model.num_given} steps that the model is given, got at most "
            f"{int(lengths.max())} steps; use first='model' or a lower order"
        )


def as_batch(
    model: object,
    data: Data,
    lengths: Tensor | None = None,
    *,
    z: Tensor | None = None,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
) -> Sequences:
    """The data as one batch; one sequence (T, *event) of the model's events is a batch of one, see `as_sequences`.

    Raises:
        TypeError, ValueError: data that are no batch.
    """
    family = getattr(model, "family", None)
    event_shape = family.event_shape if isinstance(family, Emission) else None
    return as_sequences(data, lengths, z=z, inputs=inputs, mask=mask, event_shape=event_shape)


def marked(model: Conditionals, data: Sequences) -> Sequences:
    """The data, with a mask where x is NaN for a model that is given no mask and has no memory of observations.

    A mask that has the same truth value for all entries of each step is replaced by one with a truth value per step.

    Raises:
        ValueError: observations are missing that the model's memory reads, or all are NaN.
    """
    observed = data.observed
    if observed is None and (model.initial_memory is None or not model.memory_reads_observations):
        observed = _numbers(data, example_of(model).device)
    if observed is None:
        return data
    check_memory(model)
    return Sequences(*data[:4], mask=_by_step(observed), legend=data.legend)


def _numbers(data: Sequences, device: torch.device) -> Tensor | None:
    """True where x on the model's device is no NaN, the shape of x; None if that is everywhere within the lengths.

    Raises:
        ValueError: all observations are NaN.
    """
    if not data.x.is_floating_point() or data.x.device != device:
        return None
    if not has_nan(data.x):
        return None
    observed = Sequences(data.x, data.lengths, mask=~data.x.isnan()).observed
    if observed is not None and not bool(observed.any()):
        raise ValueError(
            "expected numbers among the observations, got nan in sequence 0 at step 1 and everywhere else; give a mask "
            "if all of them are missing"
        )
    return observed


def _by_step(observed: Tensor) -> Tensor:
    """A mask (batch, T) or (batch, T, *event) as one of (batch, T), where that says as much."""
    some = some_observed(observed)
    return some if torch.equal(some, ~some_observed(~observed)) else observed


def check_memory(model: Conditionals) -> None:
    """Raise if missing observations would be read by the memory of a model.

    Raises:
        ValueError: the model has a memory.
    """
    if model.initial_memory is not None and model.memory_reads_observations:
        raise ValueError(
            f"expected no gaps, because the memory of {type(model).__name__} reads every observation, got missing "
            "ones; fill them in, or use a model with latent states and no memory, such as HMM or LinearGaussianSSM"
        )


def check_given(data: Sequences, first: First) -> None:
    """Raise if x_1 is missing where the laws are conditioned on it.

    Raises:
        ValueError: `first` is "condition", and an entry of x_1 is missing.
    """
    if first == "condition" and data.observed is not None:
        check_whole(data.observed[:, 0])


def check_whole(first_observed: Tensor) -> None:
    """Raise unless x_1, on which the states are conditioned, is there: True where it was observed, (batch, *event).

    Raises:
        ValueError: an entry is missing.
    """
    if not bool(first_observed.all()):
        sequence = int((~first_observed).nonzero()[0, 0])
        raise ValueError(
            "expected an observed x_1 with first='condition', which conditions the states on it, got a missing one in "
            f"sequence {sequence}; use first='model'"
        )


def chosen_first(model: Conditionals, first: First | None) -> First:
    """`first`, or the model's own `first` for None.

    Raises:
        ValueError: an unknown word.
    """
    if first is None:
        return model.first
    check_choice("first", first, ("model", "condition"))
    return first


def check_observations(
    family: Emission,
    x: Tensor,
    lengths: Tensor | None,
    like: Tensor,
    mask: Tensor | None = None,
    *,
    name: str = "x",
) -> tuple[Tensor, Tensor]:
    """Observations with zeros in their padding and where they are missing, in the dtype of `like`, and lengths.

    Args:
        family: the family whose event shape and support the observations must have.
        x: (batch, T, *event), or one sequence (T, *event), which becomes a batch of one.
        lengths: (batch,), None for T.
        like: a parameter of the model, whose device the observations must share; they are converted to its dtype.
        mask: True where x was observed, (batch, T) or the shape of x; None for everywhere.
        name: name of x in error messages.

    Raises:
        TypeError: no numbers, or no integers for a family of symbols.
        ValueError: wrong shape, device or lengths, numbers too large for the dtype, NaN, or values outside the family's
            support.
    """
    batch = as_sequences(x, lengths, event_shape=family.event_shape)
    if mask is not None and mask.shape[:2] != batch.x.shape[:2]:
        mask = mask[None]  # the mask of one sequence
    return valid(family, batch.x, like, mask, batch.lengths, name), batch.lengths


def valid(
    family: Emission,
    x: Tensor,
    like: Tensor,
    mask: Tensor | None,
    lengths: Tensor,
    name: str = "x",
    *,
    legend: Legend | None = None,
) -> Tensor:
    """Observations as `check_observations` returns them, given checked lengths.

    Raises:
        TypeError: complex observations, or no integers for a family of symbols.
        ValueError: observations of the wrong shape, on another device, or outside the family's support.
    """
    event_shape = family.event_shape
    if x.shape[2:] != event_shape:
        expected = ", ".join(["batch", "T", *map(str, event_shape)])
        raise ValueError(f"expected {name} of shape ({expected}), got {tuple(x.shape)}")
    if x.device != like.device:
        raise ValueError(
            f"expected {name} on {like.device}, where the model is, got {x.device}; move one of them with .to"
        )
    given, x = x, _in_dtype(family, x, like.dtype, name)
    if bool((lengths < x.shape[1]).any()):
        x = x.where(over_events(length_mask(lengths, x.shape[1]), x), 0)  # at which every density is finite
    if mask is not None:
        x = x.where(over_events(check_mask(mask, x), x), 0)
    _check_range(name, given, x)
    if not family.takes(x):
        invalid = family.invalid(x) & _there(x, mask, lengths)
        if not bool(invalid.any()):
            return x
        where = tuple(invalid.nonzero()[0].tolist())
        place = f"sequence {where[0]} at step {where[1] + 1}{_column(where[2:], legend)}"
        raise ValueError(f"expected {family.support_of(where[2:])}, got {x[where].item()} in {place}")
    return x


def _there(x: Tensor, mask: Tensor | None, lengths: Tensor) -> Tensor:
    """Where an entry is no padding and was observed, in the shape of x."""
    there = over_events(length_mask(lengths, x.shape[1]), x).expand(x.shape)
    return there if mask is None else there & over_events(check_mask(mask, x), x)


def _column(entry: tuple[int, ...], legend: Legend | None) -> str:
    """An entry of an observation in words, by the name of its column where that is known; nothing for a scalar."""
    if not entry:
        return ""
    if legend is None or entry[0] >= len(legend.columns):
        return f", column {entry[0]} (counted from 0)"
    return f", column {legend.columns[entry[0]].name}"


def check_inputs(
    inputs: Any, input_dim: int | None, x: Tensor, like: Tensor | None = None, name: str = "inputs"
) -> Tensor | None:
    """Checked inputs u, (batch, T, input_dim) for observations x (batch, T, *event); None if the model takes none.

    Args:
        inputs: the inputs to check.
        input_dim: the model's number of inputs, None if it takes none.
        x: observations, or any tensor (batch, T, ...).
        like: a tensor whose device the inputs must have, and to whose dtype they are converted; None for x.
        name: the argument by which the caller gave them, for the errors.

    Raises:
        ValueError: inputs for a model that takes none, or no inputs for a model that takes some; wrong shape or device,
            NaN or infinity.
        TypeError: complex numbers.
    """
    like = x if like is None else like
    if input_dim is None:
        if inputs is not None:
            raise ValueError(f"expected no {name}, because the model takes none, got some; leave them out")
        return None
    expected = (*x.shape[:2], input_dim)
    inputs = inputs if inputs is None else as_tensor(name, inputs)
    if inputs is not None and expected[0] == 1 and tuple(inputs.shape) == expected[1:]:
        inputs = inputs[None]  # those of one sequence
    if inputs is None or tuple(inputs.shape) != expected:
        got = inputs if inputs is None else tuple(inputs.shape)
        way_out = f"; give {name}=..." if inputs is None else ""
        raise ValueError(f"expected {name} of shape {expected}, one row u_t for each step, got {got}{way_out}")
    if inputs.is_complex():
        raise TypeError(f"expected {name} as real numbers, got {inputs.dtype}; use .real")
    inputs = as_real(name, inputs, like.dtype)
    if inputs.device != like.device or not bool(inputs.isfinite().all()):
        fault = f"{name} on {inputs.device}" if inputs.device != like.device else "NaN or infinity"
        raise ValueError(f"expected finite {name} on {like.device}, where x is, got {fault}")
    return inputs


def _in_dtype(family: Emission, x: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    if family.needs_integers:
        if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
            raise TypeError(f"expected {name} of an integer dtype for {family.support}, got {x.dtype}; use .long()")
        return x.long()
    if x.is_complex():
        raise TypeError(f"expected {name} as real numbers, got {x.dtype}; use .real")
    return x.to(dtype)


def as_real(name: str, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers in a floating dtype.

    Raises:
        ValueError: a number that is too large for it.
    """
    cast = x.to(dtype)
    _check_range(name, x, cast)
    return cast


def _check_range(name: str, given: Tensor, x: Tensor) -> None:
    """Raise if a number that was given became infinite in the dtype of x."""
    if given.dtype == x.dtype or not given.is_floating_point():
        return
    large = x.isinf() & given.isfinite()
    if bool(large.any()):
        raise ValueError(
            f"expected {name} of size up to {torch.finfo(x.dtype).max:.2g}, the largest of the model's {x.dtype}, got "
            f"{float(given[large][0]):.2g}; rescale it, or use model.double()"
        )
