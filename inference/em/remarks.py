"""Warnings about the parameters at the end of EM, one sentence each."""

from collections.abc import Collection
from functools import singledispatch

import torch
from torch import Tensor

LEAST_SHARE = 0.1
"""Expected number of steps below which a state has no share of the data."""
_MOST_NAMED = 10


class EmWarning(UserWarning):
    """A fit by EM ended, but its result needs attention."""


def of_states(shares: Tensor, held: Tensor, min_scale: float, *, from_data: bool = False) -> list[str]:
    """Sentences on states without a share of the data, and on states held at the smallest scale.

    Args:
        shares: expected number of steps in each state, (K,).
        held: whether a column of a state is held at the smallest scale, (K, D).
        min_scale: the argument of that name in `em.fit`.
        from_data: whether EM began at parameters estimated from the data, so that there is no need to recommend it.
    """
    remedies = "use fewer states or more restarts" if from_data else "use fewer states, start='data', or more restarts"
    empty, found = ~have_share(shares), []
    if bool(empty.any()):
        found.append(
            f"Almost none of the data, less than {LEAST_SHARE} expected steps, belongs to {named('state', empty)} of "
            f"{len(empty)} (counted from 0): {remedies}"
        )
    held = held & ~empty[:, None]
    if bool(held.any()):
        found.append(
            f"The scale is held at min_scale={min_scale:.2g} in {named('state', held.any(1))}, "
            f"{named('column', held.any(0))} (counted from 0): the observations in such a state are constant there, or "
            "its columns determine each other, and the likelihood has no bound. Leave such columns out, use fewer "
            "states, or choose a larger min_scale"
        )
    return found


def have_share(shares: Tensor) -> Tensor:
    """Which states have a share of the data, (K,)."""
    return shares >= LEAST_SHARE


@singledispatch
def component_probs(family: object, params: Tensor) -> dict[str, Tensor]:
    """Weights of the components of laws that are mixtures, (K, M), by their place in an observation; most have none."""
    return {}


def of_components(shares: Tensor, probs: dict[str, Tensor]) -> list[str]:
    """Sentences on components without a share of the data, in states that have one.

    Args:
        shares: expected number of steps in each state, (K,).
        probs: as `component_probs` gives them.
    """
    found = []
    for where, weights in probs.items():
        empty = (shares[:, None] * weights < LEAST_SHARE) & (shares >= LEAST_SHARE)[:, None]
        if bool(empty.any()):
            found.append(
                f"Almost none of the data, less than {LEAST_SHARE} expected steps, belongs to "
                f"{_components(empty)}{where} (counted from 0): use fewer components or more restarts"
            )
    return found


def _components(which: Tensor) -> str:
    """'component 1 of state 0, components 0, 2 of state 3', for truth values (K, M)."""
    states = which.any(1).nonzero()[:, 0].tolist()
    shown = [f"{named('component', which[k])} of state {k}" for k in states[:_MOST_NAMED]]
    return ", ".join(shown) + (", ..." if len(states) > _MOST_NAMED else "")


def of_noise(covariances: list[str], columns: Tensor, min_scale: float) -> list[str]:
    """Sentences on covariances of a linear-Gaussian model that are held at the smallest that is allowed.

    Args:
        covariances: the variables whose noise is held, such as "the states" or "the observations".
        columns: True for columns of the observations that are predicted exactly, (M,).
        min_scale: as for `of_states`.
    """
    if not covariances:
        return []
    where = f", in {named('column', columns)} (counted from 0)" if bool(columns.any()) else ""
    return [
        f"The noise of {' and of '.join(covariances)} is held at min_scale={min_scale:.2g}{where}. A column that is "
        "constant, a straight line, or determined by other columns is predicted exactly, and the likelihood has no "
        "bound: leave such a column out, take fewer states, or choose a larger min_scale"
    ]


def of_diffuse_start(emission_matrix: Tensor, diffuse: Tensor, free: Collection[str]) -> list[str]:
    """A sentence if log p(x) has no bound because a diffuse start has no unit in which its states could be measured.

    For states s z in place of z, C / s and s A s^{-1} give the same predictions, and log p(x) grows by log s for each
    diffuse direction of each sequence.

    Args:
        emission_matrix: C, (M, D).
        diffuse: directions B in which the first state is unknown, (D, q).
        free: names of the parameters that are fitted.
    """
    hidden = diffuse.shape[1] - int(torch.linalg.matrix_rank(emission_matrix @ diffuse))
    causes = [name for name in ("emission_matrix", "transition_matrix") if name in free]
    causes = [name for name in causes if name == "emission_matrix" or hidden > 0]
    if not causes:
        return []
    return [
        f"The likelihood of a diffuse start has no bound while {' and '.join(causes)} can shrink, because the states "
        "then have no unit: the fitted values depend on where EM ended. Keep the unit fixed by "
        f"frozen={tuple(causes)!r}, or give initial_cov in place of diffuse"
    ]


def of_fall(start: str, iteration: int, nats: float, *, in_double: bool = False) -> str:
    """The sentence on an iteration that lowered the objective; `in_double`: whether the model already is in float64."""
    remedy = "Check" if in_double else "Use float64, or check"
    return (
        f"{start} lowered its objective by {nats:.4g} nats in iteration {iteration}, more than rounding explains. EM "
        f"has not converged, and the parameters before that iteration are kept. {remedy} that the model begins with "
        "scales above min_scale"
    )


def named(what: str, which: Tensor) -> str:
    """'state 3', or 'states 0, 3', for truth values (n,)."""
    numbers = which.nonzero()[:, 0].tolist()
    shown = ", ".join(map(str, numbers[:_MOST_NAMED])) + (", ..." if len(numbers) > _MOST_NAMED else "")
    return f"{what}{'s' if len(numbers) > 1 else ''} {shown}"
