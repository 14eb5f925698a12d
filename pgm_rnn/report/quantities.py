"""The numbers that describe a model, each a function of its present parameters with names for rows and columns.

finite states     initial, stationary, duration and share of each state; transitions; the emission by state
linear Gaussian   the matrices by the constructor's names, the eigenvalues of A
other models      natural parameters, if they have any; the sizes of all parameters
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints

from pgm_rnn.checks import check_choice
from pgm_rnn.emissions.natural import Natural
from pgm_rnn.inference import forward_backward
from pgm_rnn.legend import Legend
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.report.finite_chain import Chain, chain_of, durations, stationary_law
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.naturals import natural_parameters
from pgm_rnn.sequence_model.parameters import current_parameters
from pgm_rnn.sequence_model.tables import has_tables
from pgm_rnn.sequences import Sequences, length_mask
from pgm_rnn.states import FiniteStates

MAX_NUMBERS = 20_000
"""Largest number of entries of a natural parameter that becomes a table."""
MAX_OWN = 300
"""Largest number of entries of a parameter of one's own class that becomes a table."""
TITLES = {
    "initial_probs": "initial probabilities",
    "transition_probs": "transition probabilities",
    "emission_probs": "emission probabilities",
    "probs": "probabilities",
    "loc": "means",
    "scale": "standard deviations",
    "rate": "rates",
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
    """The words for observations: titles and plain names of the entries, words of the symbols, names of the inputs."""

    titles: tuple[str, ...]
    names: tuple[str, ...]
    symbols: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    @staticmethod
    def of(event_shape: torch.Size, legend: Legend | None) -> "Words":
        """Those of a legend with as many columns as an observation has entries; numbers from 1 otherwise."""
        width, inputs = event_shape.numel(), () if legend is None else legend.inputs
        if legend is not None and len(legend.columns) == width:
            columns = legend.columns
            symbols = columns[0].words if width == 1 else ()
            return Words(tuple(c.title for c in columns), tuple(c.name for c in columns), symbols, inputs)
        numbered = tuple(f"x{i + 1}" for i in range(width)) if event_shape else ("x",)
        return Words(numbered, numbered, (), inputs)

    def of_axis(self, size: int, *, symbols: bool) -> tuple[str, ...]:
        """Names of the entries of an axis: of the symbols, of the variables, or numbers from 0."""
        given = self.symbols if symbols else self.titles
        return given if len(given) == size else tuple(map(str, range(size)))


def quantities_of(
    model: SequenceModel, words: Words, data: Sequences | None = None, order: str | int | None = None
) -> Quantities:
    """The numbers that describe a model.

    Args:
        model: any model.
        words: names for observations.
        data: data of the model, for the shares of its states.
        order: order of the states, as for `pgm_rnn.describe`.

    Raises:
        ValueError: an order that the model does not have.
    """
    if isinstance(model.states, FiniteStates) and has_tables(model):
        return _of_finite_states(model, model.states.num_states, words, data, order)
    if order is not None:
        raise ValueError(
            f"expected order only for a model with finite states, got {type(model).__name__}; leave it out"
        )
    if isinstance(model, LinearGaussianSSM):
        return Quantities(tuple(_of_matrices(model, words)))
    naturals = tuple(_of_natural(name, model, n, words) for name, n in _naturals(model))
    return Quantities((*naturals, *_own_parameters(model), _sizes(model)))


def _of_finite_states(
    model: SequenceModel, num_states: int, words: Words, data: Sequences | None, order: str | int | None
) -> Quantities:
    chain, remarks = chain_of(model), []
    shares = None if data is None else _shares(model, data)
    law = None if chain is None else stationary_law(chain.transition())
    if chain is None:
        remarks.append("transitions depend on the memory or on inputs: there is no stationary law")
    elif law is None:
        remarks.append("no stationary law: the chain has parts that it cannot leave, and may end in either of them")
    places = _ordered(model, num_states, words, order, law if shares is None else shares)
    labels, index = tuple(str(int(k)) for k in places), places.clone()
    found = [_summary(chain, law is not None, shares, labels, index)]
    if chain is not None:
        columns = tuple(f"to {label}" for label in labels)
        moves = chain.transition
        found.append(
            Quantity(
                "transition_probs",
                TITLES["transition_probs"],
                "from state",
                labels,
                columns,
                lambda: moves()[index][:, index],
            )
        )
    raw = {q: n for q, n in _naturals(model) if q not in ("initial_probs", "transition_probs")}
    for name, natural in raw.items():
        found.append(_of_natural(name, model, natural, words, index))
    if not raw and chain is not None and chain.memoryless:
        found += _moments(model, words, labels, index)
    found += _own_parameters(model)
    return Quantities(tuple(found), tuple(remarks), tuple(map(int, places)))


def _summary(
    chain: Chain | None, has_law: bool, shares: Tensor | None, labels: tuple[str, ...], index: Tensor
) -> Quantity:
    """One row per state: initial and stationary probability, expected duration in steps, share of the data."""
    of_chain = () if chain is None else ("initial", "stationary", "duration")
    columns = of_chain if shares is None else (*of_chain, "share")

    def value() -> Tensor:
        parts = [] if shares is None else [shares]
        if chain is not None:
            moves = chain.transition()
            law = stationary_law(moves) if has_law else None
            stationary = torch.full_like(moves[0], torch.nan) if law is None else law
            parts = [chain.initial(), stationary, durations(moves), *parts]
        return torch.stack(parts, dim=-1)[index] if parts else index.new_zeros(len(index), 0)

    title = "states: probabilities, expected duration in steps" + ("" if shares is None else ", share of the data")
    return Quantity("states", title, "state", labels, columns, value, of_data=() if shares is None else ("share",))


def _shares(model: SequenceModel, data: Sequences) -> Tensor:
    """Mean smoothed probability of each state, (K,)."""
    found = forward_backward.smooth(model, data)
    inside = length_mask(data.lengths, data.x.shape[1])
    return found.smoothed_probs[inside].mean(0)


def _ordered(
    model: SequenceModel, num_states: int, words: Words, order: str | int | None, sizes: Tensor | None
) -> Tensor:
    """The states in the order asked for, (K,)."""
    if order is None:
        return torch.arange(num_states)
    if order == "size":
        if sizes is None:
            raise ValueError("expected data for order='size', for there is no stationary law, got none; give data")
        return sizes.argsort(descending=True, stable=True)
    names = words.names
    if isinstance(order, int):
        if not 0 <= order < len(names):
            raise ValueError(f"expected order as a column in 0..{len(names) - 1}, got {order}")
        place = order
    else:
        check_choice("order", order, ["size", *names])
        place = names.index(order)
    return _means(model, num_states)[:, place].argsort(stable=True)


def _means(model: SequenceModel, num_states: int) -> Tensor:
    """E(x_t | z_t = k) of each entry, (K, entries).

    Raises:
        ValueError: a family without means, or emissions that depend on a memory.
    """
    no_mean = "expected order='size', for the states have no means of a column, got the name of one"
    if model.family.needs_integers or model.initial_memory is not None or model.input_dim is not None:
        raise ValueError(no_mean)
    try:
        return model.emission(torch.arange(num_states), None).mean.reshape(num_states, -1)
    except (AttributeError, NotImplementedError, TypeError) as error:
        raise ValueError(no_mean) from error


def _moments(model: SequenceModel, words: Words, labels: tuple[str, ...], index: Tensor) -> list[Quantity]:
    """Means and standard deviations by state, of a family without natural parameters."""
    found = []
    for name, title, moment in (("emission_mean", "means", "mean"), ("emission_sd", "standard deviations", "stddev")):

        def value(moment: str = moment) -> Tensor:
            wanted: Tensor = getattr(model.emission(index, None), moment)
            return wanted.reshape(len(index), -1)

        try:
            value()
        except (AttributeError, NotImplementedError, TypeError):
            continue
        found.append(Quantity(name, title, "state", labels, words.of_axis(len(words.titles), symbols=False), value))
    return found


def _naturals(model: SequenceModel) -> list[tuple[str, Natural]]:
    """Natural parameters, each under its shortest name and in one form only; large ones are left out."""
    present, kept, seen = current_parameters(model), [], set[tuple[str, bytes]]()
    naturals = natural_parameters(model)
    for name, natural in naturals.items():
        end = name.rpartition(".")[2]
        whole = end.endswith("cov") and f"{name.removesuffix('cov')}correlation" in naturals
        if end.endswith("correlation_cholesky") or (whole and not isinstance(model, LinearGaussianSSM)):
            continue
        value = natural.read(present[natural.raw].detach())
        key = (natural.raw, value.cpu().numpy().tobytes())
        if key in seen or value.numel() > MAX_NUMBERS or value.numel() == 0:
            continue
        seen.add(key)
        kept.append((name, natural))
    return kept


def _own_parameters(model: SequenceModel) -> list[Quantity]:
    """Small parameters of a class of one's own that have no natural form, by the names that the class gives them."""
    if model.has_recipe:
        return []
    held = {natural.raw for natural in natural_parameters(model).values()}
    found = []
    for name, value in current_parameters(model).items():
        if name in held or not 0 < value.numel() <= MAX_OWN or value.dim() > 2:
            continue
        shape = torch.atleast_2d(value).shape
        rows, columns = (tuple(map(str, range(n))) for n in shape)
        rows, columns = rows if value.dim() == 2 else ("",), columns if value.dim() else (name,)
        value_of = partial(_present, model, name)
        found.append(Quantity(name, "a parameter of the class", "", rows, columns, value_of))
    return found


def _present(model: SequenceModel, name: str) -> Tensor:
    return current_parameters(model)[name]


def _of_natural(
    name: str, model: SequenceModel, natural: Natural, words: Words, states: Tensor | None = None
) -> Quantity:
    """A natural parameter, whose first axis is that of the states if they are given."""

    def read() -> Tensor:
        return natural.read(current_parameters(model)[natural.raw])

    shape, title = read().shape, TITLES.get(name.rpartition(".")[2], name.replace("_", " "))
    by_state = states is not None and len(shape) > 0 and shape[0] == len(states)
    symbols = natural.support is constraints.simplex
    lead = shape[:1] if len(shape) == 1 and by_state else shape[:-1]
    columns = words.titles[:1] if lead == shape else words.of_axis(shape[-1], symbols=symbols)
    if by_state and len(shape) == 1 and len(words.titles) > 1:
        columns = (name,)
    axes = [
        tuple(str(int(k)) for k in states) if i == 0 and by_state and states is not None else _axis(words, n, symbols)
        for i, n in enumerate(lead)
    ]
    rows = _product(axes)
    corner = "state" if by_state else "after" if symbols and len(shape) > 1 else ""
    if not (by_state and states is not None):
        return Quantity(name, title, corner, rows, columns, read)
    return Quantity(name, title, corner, rows, columns, lambda: read()[states])


def _axis(words: Words, size: int, symbols: bool) -> tuple[str, ...]:
    return words.of_axis(size, symbols=symbols)


def _product(axes: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Names of the rows that several axes make, the last one fastest."""
    rows = [""]
    for axis in axes:
        rows = [f"{row} {name}".strip() for row in rows for name in axis]
    return tuple(rows)


def _of_matrices(model: LinearGaussianSSM, words: Words) -> list[Quantity]:
    """The matrices of a linear Gaussian model, and the eigenvalues of A."""
    states = tuple(f"z{i + 1}" for i in range(model.latent_dim))
    outputs, num = words.of_axis(model.obs_dim, symbols=False), model.input_dim or 0
    inputs = words.inputs if len(words.inputs) == num else tuple(f"u{i + 1}" for i in range(num))
    axes = {
        "initial_mean": (("",), states),
        "initial_cov": (states, states),
        "transition_matrix": (states, states),
        "transition_cov": (states, states),
        "emission_matrix": (outputs, states),
        "emission_cov": (outputs, outputs),
        "input_matrix": (states, inputs),
        "feedthrough_matrix": (outputs, inputs),
    }
    found = []
    for name in model.moments():
        rows, columns = axes[name]
        found.append(Quantity(name, TITLES[name], "", rows, columns, lambda name=name: model.moments()[name]))  # type: ignore[misc]
    numbers, columns = tuple(str(i + 1) for i in range(model.latent_dim)), ("real", "imaginary", "modulus")
    return [
        *found,
        Quantity("eigenvalues", "eigenvalues of A", "", numbers, columns, lambda: _spectrum(model.transition_matrix)),
    ]


def _spectrum(matrix: Tensor) -> Tensor:
    """Real part, imaginary part and modulus of each eigenvalue, the largest first, (D, 3)."""
    values = torch.linalg.eigvals(matrix)
    parts = torch.stack([values.real, values.imag, values.abs()], dim=-1)
    return parts[parts[:, 2].argsort(descending=True, stable=True)]


def _sizes(model: SequenceModel) -> Quantity:
    """Shapes of all parameters: rows, columns and number of entries."""
    shapes = {name: tuple(value.shape) for name, value in current_parameters(model).items()}
    width = max((len(shape) for shape in shapes.values()), default=0)
    rows = [[*shape, *[torch.nan] * (width - len(shape)), torch.Size(shape).numel()] for shape in shapes.values()]
    columns = (*(f"axis {i + 1}" for i in range(width)), "numbers")
    values = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), width + 1)
    return Quantity(
        "parameters", "sizes of the parameters", "parameter", tuple(shapes), columns, lambda: values, estimated=False
    )
