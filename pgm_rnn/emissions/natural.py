"""Natural parameters, such as a scale or a probability, as views of the tensors that gradients train.

    read(raw) = value,   read(write(raw, value)) = value,   and `write` leaves everything else that `raw` says as it was

A module lists its views in the attribute `natural_parameters`, a mapping by name. Several views may share one tensor,
such as the means and the scales of a table of normal laws.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro.distributions.constraints import corr_matrix
from torch import Tensor
from torch.distributions import constraints

from pgm_rnn.kernels import positive


@dataclass(frozen=True)
class Limits:
    """The values of a parameter that `em.fit` searches, and what it means that a fit ends at the first or last.

    Attributes:
        least: the least value.
        most: the largest value.
        at_least: what the least value says of the observations of a state, and the way out.
        at_most: the same of the largest value.
        near_least: the factor of the least value up to which a fit may end because rounding hides the slope.
    """

    least: float
    most: float
    at_least: str
    at_most: str
    near_least: float = 1.001


@dataclass(frozen=True)
class Natural:
    """One natural parameter of a module.

    Attributes:
        raw: name of the module's parameter that holds it.
        read: its value, from that parameter.
        write: the parameter with another value of it, from the present parameter and the value; differentiable.
        support: the values that it may have, a constraint of `torch.distributions`.
        values: those values in words.
        shared: whether all states share it, so that it has no axis of states where others have one.
        limits: the values that fits search; None where there are no such limits.
    """

    raw: str
    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor, Tensor], Tensor]
    support: Any
    values: str
    shared: bool = False
    limits: Limits | None = None

    def within(self, path: str) -> "Natural":
        """The same, for a module that has this one at `path`."""
        return replace(self, raw=f"{path}.{self.raw}") if path else self


@dataclass(frozen=True)
class Map:
    """A map from the natural values to the raw ones, and back."""

    to_raw: Callable[[Tensor], Tensor]
    of_raw: Callable[[Tensor], Tensor]
    support: Any
    values: str
    limits: Limits | None = None


IDENTITY = Map(lambda value: value, lambda raw: raw, constraints.real, "real numbers")
LOGARITHM = Map(torch.log, torch.exp, constraints.positive, "positive numbers")
LOGIT = Map(torch.logit, torch.sigmoid, constraints.unit_interval, "numbers between 0 and 1")
SOFTMAX = Map(torch.log, lambda raw: raw.softmax(-1), constraints.simplex, "rows of probabilities that sum to one")
SOFTPLUS = Map(positive.inverse_softplus, positive.scale, constraints.positive, "positive numbers")
TANH = Map(torch.atanh, torch.tanh, constraints.interval(-1.0, 1.0), "numbers between -1 and 1")


def whole(raw: str, of: Map) -> Natural:
    """A natural parameter that is all of a raw one, entry by entry or row by row."""
    return Natural(raw, of.of_raw, lambda _, value: of.to_raw(value), of.support, of.values, limits=of.limits)


def columns(
    raw: str,
    start: int,
    stop: int,
    of: Map,
    unpack: Callable[[Tensor], Tensor],
    pack: Callable[[Tensor], Tensor],
) -> Natural:
    """A natural parameter in the columns start..stop - 1 of the rows of a raw one.

    Args:
        raw: name of the raw parameter, (..., width).
        start: its first column.
        stop: the column after its last one.
        of: the map of its entries.
        unpack: its own axes from columns, (..., stop - start) to (..., *event).
        pack: the inverse of `unpack`.
    """

    def write(rows: Tensor, value: Tensor) -> Tensor:
        own = pack(of.to_raw(value))
        before, after = rows[..., :start], rows[..., stop:]
        return torch.cat([before, own.to(rows.dtype), after], dim=-1)

    def read(rows: Tensor) -> Tensor:
        return unpack(of.of_raw(rows[..., start:stop]))

    return Natural(raw, read, write, of.support, of.values, limits=of.limits)


def by_entry(raw: str, start: int, event: torch.Size, of: Map) -> Natural:
    """A natural parameter with one value for each entry of an observation, in the columns of a raw one from `start`."""
    width = event.numel()

    def unpack(own: Tensor) -> Tensor:
        return own.reshape(*own.shape[:-1], *event)

    def pack(value: Tensor) -> Tensor:
        return value.reshape(*value.shape[: value.dim() - len(event)], width)

    return columns(raw, start, start + width, of, unpack, pack)


def in_columns(natural: Natural, start: int, stop: int) -> Natural:
    """A natural parameter of a row that stands in the columns start..stop - 1 of a longer one.

    Args:
        natural: the natural parameter of the rows by themselves, (..., stop - start).
        start: their first column.
        stop: the column after their last one.
    """

    def write(rows: Tensor, value: Tensor) -> Tensor:
        own = natural.write(rows[..., start:stop], value)
        return torch.cat([rows[..., :start], own.to(rows.dtype), rows[..., stop:]], dim=-1)

    return replace(natural, read=lambda rows: natural.read(rows[..., start:stop]), write=write)


def of_covariance(
    raw: str, factor: Callable[[Tensor], Tensor], write: Callable[[Tensor, Tensor], Tensor]
) -> Mapping[str, Natural]:
    """Views of a covariance S = L L' = diag(s) C diag(s), whose raw parameter holds L.

    cov                     S
    scale                   s, the standard deviations
    correlation             C
    correlation_cholesky    the lower triangular K with K K' = C, as `pyro.distributions.LKJCholesky` draws it

    Args:
        raw: name of the raw parameter.
        factor: L (..., D, D), from the raw parameter.
        write: the raw parameter with another L.
    """

    def scale(rows: Tensor) -> Tensor:
        return factor(rows).square().sum(-1).sqrt()

    def correlation_cholesky(rows: Tensor) -> Tensor:
        return factor(rows) / scale(rows)[..., None]

    def write_scale(rows: Tensor, value: Tensor) -> Tensor:
        return write(rows, value[..., None] * correlation_cholesky(rows))

    def write_correlation(rows: Tensor, value: Tensor) -> Tensor:
        return write(rows, scale(rows)[..., None] * value)

    def squared(root: Tensor) -> Tensor:
        return root @ root.mT

    def write_matrix(rows: Tensor, value: Tensor) -> Tensor:
        return write_correlation(rows, cholesky(value))

    cholesky, definite = torch.linalg.cholesky, constraints.positive_definite
    matrices, triangles = "positive definite matrices", "Cholesky factors of correlation matrices"
    read_cov, read_matrix = (lambda rows: squared(factor(rows))), (lambda rows: squared(correlation_cholesky(rows)))
    return {
        "cov": Natural(raw, read_cov, lambda rows, value: write(rows, cholesky(value)), definite, matrices),
        "scale": Natural(raw, scale, write_scale, constraints.positive, "positive numbers"),
        "correlation": Natural(raw, read_matrix, write_matrix, corr_matrix, "correlation matrices"),
        "correlation_cholesky": Natural(
            raw, correlation_cholesky, write_correlation, constraints.corr_cholesky, triangles
        ),
    }
