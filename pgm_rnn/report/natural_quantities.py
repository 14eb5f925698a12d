"""Tables of natural parameters, of the parameters of a class of one's own, and of the sizes of all parameters."""

import re
from functools import partial

import torch
from torch import Tensor
from torch.distributions import constraints

from pgm_rnn.emissions import Mixture
from pgm_rnn.emissions.natural import Natural
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.report.quantity import BESIDE_CONCENTRATION, BESIDE_DF, TITLES, Quantity, Words
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.naturals import natural_parameters
from pgm_rnn.sequence_model.parameters import current_parameters

MAX_NUMBERS = 20_000
"""Largest number of entries of a natural parameter that becomes a table."""
_OF_COLUMN = re.compile(r"column_(\d+)_(\w+)")
"""Names of the natural parameters of a `Joint`: the first column of the family, and the family's own name."""
MAX_OWN = 300
"""Largest number of entries of a parameter of one's own class that becomes a table."""


def naturals_of(model: SequenceModel) -> list[tuple[str, Natural]]:
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


def own_parameters(model: SequenceModel) -> list[Quantity]:
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


def _title(name: str, end: str, model: SequenceModel) -> str:
    """A natural parameter in words; `end` is its name within its family."""
    if end in BESIDE_DF and f"{name.removesuffix(end)}df" in natural_parameters(model):
        return BESIDE_DF[end]
    if end in BESIDE_CONCENTRATION and f"{name.removesuffix(end)}concentration" in natural_parameters(model):
        return BESIDE_CONCENTRATION[end]
    return TITLES.get(end, name.replace("_", " "))


def _present(model: SequenceModel, name: str) -> Tensor:
    return current_parameters(model)[name]


def of_natural(
    name: str, model: SequenceModel, natural: Natural, words: Words, states: Tensor | None = None
) -> Quantity:
    """A natural parameter, whose first axis is that of the states if they are given."""

    def read() -> Tensor:
        return natural.read(current_parameters(model)[natural.raw])

    end, shape = name.rpartition(".")[2], read().shape
    of_column = _OF_COLUMN.fullmatch(end)
    if of_column is not None:  # of a `Joint`
        words, end = words.column(int(of_column[1])), of_column[2]
    title = _title(name, end, model) + (f" of {words.titles[0]}" if of_column is not None else "")
    by_state = states is not None and len(shape) > 0 and shape[0] == len(states) and not natural.shared
    symbols = natural.support is constraints.simplex
    lead = shape[:1] if len(shape) == 1 and by_state else shape[:-1]
    columns = words.titles[:1] if lead == shape else words.of_axis(shape[-1], symbols=symbols)
    mixed = isinstance(getattr(model, "family", None), Mixture) and by_state and len(shape) > 1
    if mixed and len(shape) == 2:
        columns = _components(shape[1])
    if by_state and len(shape) == 1 and len(words.titles) > 1:
        columns = (name,)
    axes = [_axis(words, n, symbols) for n in lead]
    if by_state and states is not None:
        axes[0] = tuple(str(int(k)) for k in states)
    if mixed and len(shape) > 2:
        axes[1] = _components(shape[1])
    rows = _product(axes)
    corner = "state" if by_state else "after" if symbols and len(shape) > 1 else ""
    if not (by_state and states is not None):
        return Quantity(name, title, corner, rows, columns, read)
    return Quantity(name, title, corner, rows, columns, lambda: read()[states])


def _components(number: int) -> tuple[str, ...]:
    return tuple(f"component {m}" for m in range(number))


def _axis(words: Words, size: int, symbols: bool) -> tuple[str, ...]:
    return words.of_axis(size, symbols=symbols)


def _product(axes: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Names of the rows that several axes make, the last one fastest."""
    rows = [""]
    for axis in axes:
        rows = [f"{row} {name}".strip() for row in rows for name in axis]
    return tuple(rows)


def sizes_of(model: SequenceModel) -> Quantity:
    """Shapes of all parameters: rows, columns and number of entries."""
    shapes = {name: tuple(value.shape) for name, value in current_parameters(model).items()}
    width = max((len(shape) for shape in shapes.values()), default=0)
    rows = [[*shape, *[torch.nan] * (width - len(shape)), torch.Size(shape).numel()] for shape in shapes.values()]
    columns = (*(f"axis {i + 1}" for i in range(width)), "numbers")
    values = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), width + 1)
    return Quantity(
        "parameters", "sizes of the parameters", "parameter", tuple(shapes), columns, lambda: values, estimated=False
    )
