"""Names of the axes of a model's parameters, and the parameters of a fit under their natural names.

    transition_probs (state, next_state)     transition_matrix (state, previous_state)     loc (state, observable)

Axes that have no such name are numbered, as ArviZ does: "readout.weight_dim_0". "observable" has the names of the
data's variables; ArviZ's `summary` and `plot_forest` fail, from version 1 on, for parameters with an axis "variable" or
"column".
"""

from typing import Any

import torch
from torch import Tensor, nn

from pgm_rnn.emissions import Categorical, Mixture
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model.naturals import listed, natural_parameters
from pgm_rnn.sequence_model.parameters import current_parameters
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.states import NUMBERED, GaussianStates

_NAMED = {
    "initial_probs": ("state",),
    "transition_probs": ("state", "next_state"),
    "initial_mean": ("state",),
    "transition_matrix": ("state", "previous_state"),
    "emission_matrix": ("observable", "state"),
}
"""Axes of the parameters of the zoo's models, by the names of their constructors."""
_OF_LAWS = (
    "emission_probs",
    "probs",
    "loc",
    "scale",
    "rate",
    "cov",
    "df",
    "mean",
    "dispersion",
    "gate",
    "weights",
    "concentration",
)
"""Parameters of the laws of finitely many states."""


def axes_of(name: str, shape: torch.Size | tuple[int, ...], model: object | None = None) -> tuple[str, ...]:
    """The names of the axes of a parameter; `model` is the model or program that has it, None if it is not known.

    A parameter that differs between groups has the axis "group" in front, and its hyperparameters have the axes of one
    group's parameter where they have its shape.
    """
    if not isinstance(model, WithPriors):
        return _axes_of(name, name, shape, model)
    if name in model.by_group:
        return ("group", *_axes_of(name, name, shape[1:], model.model))
    if name in model.offsets:
        return ("group", *_axes_of(name, name.removesuffix("_offset"), shape[1:], model.model))
    of = [own for own in model.by_group if name in model.hyper_sites(own).values()]
    return _axes_of(name, of[0] if of else name, shape, model.model)


def _axes_of(name: str, like: str, shape: torch.Size | tuple[int, ...], model: object | None) -> tuple[str, ...]:
    """The axes that a parameter called `like` would have."""
    sizes = _sizes(model)
    for axes in _candidates(like.rpartition(".")[2], model):
        if tuple(sizes.get(axis) for axis in axes) == tuple(shape):
            return axes
    return tuple(f"{name}_dim_{number}" for number in range(len(shape)))


@torch.no_grad()
def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters: natural ones, as few as determine the raw ones that they view, then the other raw ones."""
    raw, naturals = current_parameters(model), natural_parameters(model)
    with seeded(0):  # numbers that are only compared
        probe = {name: value + torch.rand_like(value) for name, value in raw.items()}
    found, viewed = {}, set()
    for name in listed(model):
        natural = naturals.get(name)
        if natural is None:
            continue
        value = natural.read(raw[natural.raw])
        if not torch.allclose(natural.read(probe[natural.raw]), value, rtol=1e-4, atol=1e-6, equal_nan=True):
            found[name] = value
            probe[natural.raw] = natural.write(probe[natural.raw], value)
        viewed.add(natural.raw)
    return found | {name: value for name, value in raw.items() if name not in viewed}


def _sizes(model: object | None) -> dict[str, int]:
    """The sizes of named axes of a model."""
    states, family = getattr(model, "states", None), getattr(model, "family", None)
    sizes: dict[str, int] = {}
    size = states.num_states if isinstance(states, NUMBERED) else None
    size = states.dim if isinstance(states, GaussianStates) else size
    if size is not None:
        sizes |= dict.fromkeys(("state", "next_state", "previous_state", "other_state"), size)
    if family is not None:
        width = max(1, family.event_shape.numel())
        sizes |= {"observable": width, "other_observable": width}
    if isinstance(family, Categorical):
        sizes["symbol"] = family.num_symbols
    if isinstance(family, Mixture):
        sizes["component"] = family.num_components
    return sizes


def _candidates(name: str, model: object | None) -> list[tuple[str, ...]]:
    """Possible axes of a parameter, the likeliest first."""
    if name in _NAMED:
        return [_NAMED[name]]
    part, _, kind = name.partition("_")
    square = kind in ("cov", "correlation", "correlation_cholesky")
    if part in ("initial", "transition") and (square or kind == "scale"):
        return [("state", "other_state")] if square else [("state",)]
    if part == "emission" and (square or kind == "scale"):
        return [("observable", "other_observable")] if square else [("observable",)]
    states: Any = getattr(model, "states", None)
    natural = natural_parameters(model).get(name) if isinstance(model, nn.Module) else None
    if natural is not None and natural.shared:
        return [("observable",), ("observable", "other_observable")]
    if isinstance(getattr(model, "family", None), Mixture):
        lead = ("state", "component")
        return [lead, (*lead, "observable"), (*lead, "observable", "other_observable")]
    if isinstance(states, NUMBERED) and name in _OF_LAWS:
        symbols: list[tuple[str, ...]] = [("state", "symbol")] if name.endswith("probs") else []
        return [*symbols, ("state",), ("state", "observable"), ("state", "observable", "other_observable")]
    return []
