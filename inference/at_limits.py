"""Sentences on concentrations, degrees of freedom and dispersions that end at the limit of what a fit searches."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from pgm_rnn.emissions.natural import Limits, Natural
from pgm_rnn.sequence_model.naturals import natural_parameters

_NEARLY = 1.001
"""Halvings and the rounding of raw parameters end a little below the largest value."""


NO_BOUND = "the likelihood has no bound"
"""What the sentences on vanishing scales say of it."""


class FitWarning(UserWarning):
    """A fit by gradient steps ended, but its result needs attention."""


class LimitWarning(FitWarning):
    """A fit by gradient steps ended with a parameter at, or beyond, the limit of what has a meaning."""


@torch.no_grad()
def of_parameters(naturals: Mapping[str, Natural], raw: Mapping[str, Tensor], used: Tensor | None = None) -> list[str]:
    """One sentence for each natural parameter and each of its limits that a state has reached.

    Args:
        naturals: the natural parameters by name.
        raw: the raw parameters by name, those that are fitted.
        used: which states have a share of the data, (K,); None for all.
    """
    found = []
    for name, natural in naturals.items():
        if natural.limits is None or natural.raw not in raw:
            continue
        value = natural.read(raw[natural.raw].detach()).double()
        value = value[None] if natural.shared else value
        for end, at in _at_ends(value, natural.limits).items():
            at = at.reshape(len(at), -1)
            at = at if used is None or natural.shared else at & used[:, None]
            if bool(at.any()):
                found.append(_sentence(name, natural, end, at))
    return found


def of_model(model: nn.Module, fitted: Collection[str] | None = None) -> list[str]:
    """The sentences on a model.

    Args:
        model: the model.
        fitted: names of the module's parameters that were fitted; None for those that require a gradient.
    """
    raw = {
        name: parameter
        for name, parameter in model.named_parameters()
        if (parameter.requires_grad if fitted is None else name in fitted)
    }
    return of_parameters(_naturals(model), raw)


@torch.no_grad()
def of_scales(model: nn.Module, x: Tensor, fitted: Collection[str], floor: Tensor | None = None) -> list[str]:
    """A sentence for each scale of real observations that has fallen below their rounding error in float64.

    A law with such a scale has only exactly predicted observations, and a log density as large as the scale is small.

    Args:
        model: the model.
        x: observations, (batch, T, *event); the size of the smallest column that is not zero counts.
        fitted: names of the module's parameters that were fitted.
        floor: the smallest scales that the fit sets, `SMALLEST_SCALE` of the observations' spread, (*event,), where it
            has such: scales near them count, too.
    """
    sizes = x.double().nan_to_num().abs().reshape(*x.shape[:2], -1).amax((0, 1))
    sizes = sizes[sizes > 0]
    rounding = torch.finfo(torch.float64).eps * float(sizes.min()) if len(sizes) else 0.0
    raw, found = dict(model.named_parameters()), []
    for name, natural in _naturals(model).items():
        if not name.endswith(("scale", "scales")) or natural.raw not in fitted:
            continue
        value = natural.read(raw[natural.raw].detach()).double()
        least = max(rounding, 4 * torch.finfo(raw[natural.raw].dtype).tiny)
        for at, below in ((value <= least, "below the rounding"), (_near(value, floor), "at most 2e-06 of the spread")):
            if bool(at.any()):
                found.append(_vanishing(name, value, at, below, by_state=value.dim() == x.dim() - 1))  # (K, *event)
                break
    return found


def _near(value: Tensor, floor: Tensor | None) -> Tensor:
    """Which scales are at most twice the smallest ones that a fit sets."""
    if floor is None:
        return torch.zeros_like(value) > 0
    each = value.shape[value.dim() - floor.dim() :] == floor.shape
    return value <= 2 * (floor if each else floor.min())


def _vanishing(name: str, value: Tensor, at: Tensor, below: str, *, by_state: bool) -> str:
    where = f", in {_named('state', at.reshape(len(at), -1).any(1))} (counted from 0)" if by_state else ""
    return (
        f"{name} ends at {float(value.min()):.2g}, {below} of the observations{where}: they are predicted exactly "
        f"there, and {NO_BOUND}; use fewer states, or other starts"
    )


def _naturals(model: nn.Module) -> dict[str, Natural]:
    """The natural parameters of a model, each once, under the first of its names."""
    found = {id(natural): (name, natural) for name, natural in reversed([*natural_parameters(model).items()])}
    return dict(found.values())


def _at_ends(value: Tensor, limits: Limits) -> dict[str, Tensor]:
    return {"least": value <= limits.least * limits.near_least, "largest": value >= limits.most / _NEARLY}


def _sentence(name: str, natural: Natural, end: str, at: Tensor) -> str:
    """The sentence for truth values (K, number of entries)."""
    assert natural.limits is not None
    limit, meaning = natural.limits.least, natural.limits.at_least
    if end == "largest":
        limit, meaning = natural.limits.most, natural.limits.at_most
    states = "all states" if natural.shared else f"{_named('state', at.any(1))} (counted from 0)"
    columns = f", {_named('entry', at.any(0))}" if at.shape[1] > 1 else ""
    return f"{name} ends near {limit:g}, the {end} value that a fit searches, in {states}{columns}: {meaning}"


def _named(what: str, which: Tensor) -> str:
    numbers = which.nonzero()[:, 0].tolist()
    plural = {"state": "states", "entry": "entries"}[what]
    return f"{what if len(numbers) == 1 else plural} {', '.join(map(str, numbers[:10]))}{', ...' * (len(numbers) > 10)}"
