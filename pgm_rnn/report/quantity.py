"""A table of numbers that describe a model, and the words for observations."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.legend import Legend

TITLES = {
    "initial_probs": "initial probabilities",
    "transition_probs": "transition probabilities",
    "emission_probs": "emission probabilities",
    "probs": "probabilities",
    "loc": "means",
    "scale": "standard deviations",
    "rate": "rates",
    "df": "degrees of freedom",
    "mean": "means",
    "dispersion": "dispersions",
    "concentration": "concentrations",
    "gate": "probabilities of further zeros",
    "weights": "weights of the components",
    "correlation": "correlations",
    "initial_mean": "mean of the first state, m",
    "initial_cov": "covariance of the first state, P",
    "transition_matrix": "transition matrix, A",
    "transition_cov": "covariance of the transition, Q",
    "emission_matrix": "emission matrix, C",
    "emission_cov": "covariance of the emission, R",
    "input_matrix": "effect of the inputs on the state, B",
    "feedthrough_matrix": "effect of the inputs on the output, D",
}
BESIDE_DF = {"loc": "locations", "scale": "scales"}
"""Titles for a law that has degrees of freedom, whose scale is no standard deviation."""
BESIDE_CONCENTRATION = {"loc": "directions"}
"""Titles for a law of angles."""


class Quantity(NamedTuple):
    """A table of numbers.

    Attributes:
        name: its name.
        title: the same in words.
        corner: what the rows are.
        rows: names of the rows.
        columns: names of the columns.
        value: its numbers at the model's present parameters, in the order of rows and columns; any shape.
        estimated: whether it is a function of the parameters, so that it has standard errors.
        of_data: columns that are not, but depend on the data.
    """

    name: str
    title: str
    corner: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    value: Callable[[], Tensor]
    estimated: bool = True
    of_data: tuple[str, ...] = ()


class Quantities(NamedTuple):
    """The numbers of a model, sentences about them, and its finite states in the order of the rows."""

    quantities: tuple[Quantity, ...]
    remarks: tuple[str, ...] = ()
    order: tuple[int, ...] = ()


class Words(NamedTuple):
    """The words for observations.

    Attributes:
        titles: names of the entries with their units.
        names: plain names of the entries.
        symbols: words of the symbols of a single column.
        inputs: names of the inputs.
        words: words of the symbols of each column.
    """

    titles: tuple[str, ...]
    names: tuple[str, ...]
    symbols: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    words: tuple[tuple[str, ...], ...] = ()

    @staticmethod
    def of(event_shape: torch.Size, legend: Legend | None) -> "Words":
        """Those of a legend with as many columns as an observation has entries; numbers from 1 otherwise."""
        width, inputs = event_shape.numel(), () if legend is None else legend.inputs
        if legend is not None and len(legend.columns) == width:
            columns = legend.columns
            symbols = columns[0].words if width == 1 else ()
            of_columns = tuple(c.words for c in columns)
            return Words(tuple(c.title for c in columns), tuple(c.name for c in columns), symbols, inputs, of_columns)
        numbered = tuple(f"x{i + 1}" for i in range(width)) if event_shape else ("x",)
        return Words(numbered, numbered, (), inputs)

    def column(self, place: int) -> "Words":
        """The words for one entry."""
        symbols = self.words[place] if self.words else ()
        return Words(self.titles[place : place + 1], self.names[place : place + 1], symbols)

    def of_axis(self, size: int, *, symbols: bool) -> tuple[str, ...]:
        """Names of the entries of an axis: of the symbols, of the variables, or numbers from 0."""
        given = self.symbols if symbols else self.titles
        return given if len(given) == size else tuple(map(str, range(size)))
