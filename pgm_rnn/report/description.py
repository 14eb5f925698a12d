"""What a model says: its parameters by natural names and in the words of the data, with standard errors.

pr.describe(model)                              tables of the parameters
pr.describe(model, data)                        with standard errors and shares of the data
pr.describe(model, data, order="size")          states from the largest to the smallest
"""

import io
from collections.abc import Callable, Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console, RenderableType
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.inference.information import Free, Information, observed_information, standard_errors
from pgm_rnn.legend import Legend
from pgm_rnn.report.number_tables import WIDTH, Table, blocks, wrapped
from pgm_rnn.report.quantities import quantities_of
from pgm_rnn.report.quantity import Quantity, Words
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.criteria import num_free_parameters
from pgm_rnn.sequences import Sequences, as_sequences

if TYPE_CHECKING:
    import pandas

_LARGE_GAIN = 1.0
"""Nats that one more step of Newton's method would add to log p(x), above which a description says so."""


@dataclass(frozen=True, repr=False)
class Description:
    """The parameters of a model in tables.

    Attributes:
        title: the model in one line.
        tables: the tables.
        num_free_parameters: number of parameters that can vary independently.
        log_likelihood: log p(x) of the data in nats; None without data or without an exact likelihood.
        num_steps: number of steps of the data, 0 without data.
        remarks: a sentence on each thing that limits the numbers.
        order: the states in the order of the rows; empty for a model without finite states.

    Example:
        >>> from pgm_rnn.models import HMM
        >>> hmm = HMM.random(num_states=2, num_symbols=3, seed=0)
        >>> describe(hmm)
        Description(states, transition_probs, emission_probs)
        >>> [len(table.rows) for table in describe(hmm).tables]
        [2, 2, 2]
    """

    title: str
    tables: tuple[Table, ...]
    num_free_parameters: int
    log_likelihood: float | None = None
    num_steps: int = 0
    remarks: tuple[str, ...] = ()
    order: tuple[int, ...] = ()

    def __repr__(self) -> str:
        """The names of the tables."""
        return f"Description({', '.join(table.name for table in self.tables)})"

    def __str__(self) -> str:
        """All tables as text of at most 80 columns."""
        text = io.StringIO()
        console = Console(file=text, width=WIDTH, highlight=False, markup=False, soft_wrap=True)
        for part in self.parts():
            console.print(part)
        return text.getvalue().rstrip("\n")

    def parts(self) -> Iterator[RenderableType]:
        """The parts of a description for a terminal."""
        yield wrapped(self.title)
        free = f"{self.num_free_parameters:,} free parameters"
        if self.log_likelihood is None:
            yield free
        else:
            nats, num = -self.log_likelihood, self.num_steps
            yield f"{free}; {nats:,.1f} nats on {num:,} steps, {nats / num:.3f} per step"
        for table in self.tables:
            yield ""
            yield f"{table.title} ({table.name})"
            yield from blocks(table)
        shown = any(error > 0 for table in self.tables for row in table.errors or () for error in row)
        notes = (*(["± standard error"] if shown else []), *self.remarks)
        if notes:
            yield ""
        yield from map(wrapped, notes)

    def table(self, name: str) -> Table:
        """The table of this name.

        Raises:
            ValueError: a name that the description does not have.
        """
        tables = {table.name: table for table in self.tables}
        check_choice("the table", name, tables)
        return tables[name]

    def to_frame(self, name: str | None = None) -> "pandas.DataFrame":
        """A table of values; without a name, all tables as one: table, row, column, value, standard_error.

        Raises:
            ValueError: a name that the description does not have.
        """
        import pandas

        if name is None:
            entries = [entry for table in self.tables for entry in table.entries()]
            return pandas.DataFrame(entries, columns=["table", "row", "column", "value", "standard_error"])
        table = self.table(name)
        index = pandas.Index(table.rows, name=table.corner)
        return pandas.DataFrame(list(table.values), index=index, columns=list(table.columns))


def describe(
    model: SequenceModel,
    data: Sequences | Tensor | None = None,
    *,
    order: str | int | None = None,
    standard_errors: bool = True,
    frozen: Collection[str] = (),
    legend: Legend | None = None,
) -> Description:
    """The parameters of a model by their natural names, with standard errors if there are data.

    Finite states have expected durations 1 / (1 - p_kk) in steps, a stationary law and, with data, their shares of it,
    the mean smoothed probabilities. Standard errors come from the observed information of the exact likelihood
    (`pgm_rnn.inference.information`); parameters with `requires_grad=False` count as known, unless all have it.

    Args:
        model: any model of sequences.
        data: the data that it was fitted to, a batch or observations (batch, T, *event).
        order: "size" puts the states with the largest share of the data (of time, without data) first; the name of a
            column, or its number from 0, puts those with the smallest mean of it first; None keeps the model's order.
            States keep their numbers.
        standard_errors: whether to compute them.
        frozen: what a fit kept as it was, by the names of its argument of this name, such as "transition" for an `HMM`
            or "emission_matrix": these parameters count as known, and the others have standard errors given them.
        legend: names, units and words; None takes those of the data.

    Raises:
        TypeError: no model of sequences, or data of another kind.
        ValueError: data that do not fit the model, an order that it does not have, or an unknown name in `frozen`.
    """
    if not isinstance(model, SequenceModel):
        raise TypeError(f"expected a SequenceModel to describe, got {type(model).__name__}")
    twin = deepcopy(model).double().eval()
    seen = None if data is None else _in_double(as_sequences(data))
    words = Words.of(model.family.event_shape, legend or (None if seen is None else seen.legend))
    with torch.no_grad():
        found = quantities_of(twin, words, seen, order)
    learned = _learned(twin, seen, found.quantities, frozen) if standard_errors else _Learned({}, ())
    with torch.no_grad():
        tables = tuple(_table(quantity, learned.errors.get(quantity.name)) for quantity in found.quantities)
        log_likelihood = learned.log_likelihood
        if log_likelihood is None and seen is not None and model.exact:
            log_likelihood = float(twin.log_marginal_likelihood(seen).sum())
    return Description(
        repr(model),
        tables,
        num_free_parameters(model),
        log_likelihood,
        0 if seen is None else seen.num_steps,
        (*found.remarks, *learned.remarks),
        found.order,
    )


@dataclass(frozen=True)
class _Learned:
    """Standard errors by the name of a quantity, with remarks and log p(x)."""

    errors: dict[str, Tensor]
    remarks: tuple[str, ...]
    log_likelihood: float | None = None


def _learned(
    model: SequenceModel, data: Sequences | None, quantities: tuple[Quantity, ...], frozen: Collection[str]
) -> _Learned:
    Free(model, frozen)  # for an unknown name, which is the caller's fault
    of_parameters: dict[str, Callable[[], Tensor]] = {q.name: q.value for q in quantities if q.estimated}
    if data is None or not of_parameters:
        return _Learned({}, ())
    try:
        free, information = observed_information(model, data, frozen)
    except (ValueError, RuntimeError) as error:
        return _Learned({}, (f"no standard errors: {str(error).splitlines()[0]}",))
    errors = standard_errors(free, information, of_parameters)
    lost = [name for name, error in errors.items() if bool(error.isnan().any())]
    return _Learned(errors, tuple(_remarks(information, lost)), information.log_likelihood)


def _remarks(information: Information, lost: list[str]) -> Iterator[str]:
    if information.start_is_known:
        yield "the law of the first state counts as known: so few sequences do not determine it"
    if not information.at_maximum:
        yield (
            "log p(x) curves upwards in some direction: the parameters are not at its maximum, so fit the model to "
            "these data first, or name what the fit kept by frozen=... of pgm_rnn.describe"
        )
    elif information.possible_gain > _LARGE_GAIN:
        yield (
            "standard errors are approximate: the parameters are not at the maximum of log p(x) of these data, as "
            "after a fit to a part of them, with pseudo-observations, or stopped early"
        )
    if lost:
        yield (
            f"no standard errors for some entries of {', '.join(lost)}: the data do not determine them, or only in "
            "combination with others"
        )


def _table(quantity: Quantity, errors: Tensor | None) -> Table:
    columns = quantity.columns
    values = _rows(quantity.value(), len(columns))
    if errors is not None and quantity.of_data:
        errors = errors.clone()
        errors[..., [columns.index(column) for column in quantity.of_data]] = torch.nan
    known = None if errors is None else _rows(errors, len(columns))
    return Table(quantity.name, quantity.title, quantity.corner, quantity.rows, columns, values, known)


def _rows(values: Tensor, width: int) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, values.reshape(-1, width).tolist()))


def _in_double(data: Sequences) -> Sequences:
    """The same sequences, with real numbers in float64."""

    def double(part: Any) -> Any:
        return part.double() if part.is_floating_point() else part

    return data.mapped(double)
