"""The numbers that describe a model, each a function of its present parameters with names for rows and columns.

finite states     initial, stationary, duration and share of each state; transitions; the emission by state
structural        standard deviations by component, the period and damping of the cycle, coefficients
linear Gaussian   the matrices by the constructor's names, the eigenvalues of A
other models      natural parameters, if they have any; the sizes of all parameters
"""

import torch
from torch import Tensor

from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.structural import StructuralSSM
from pgm_rnn.report.natural_quantities import naturals_of, of_natural, own_parameters, sizes_of
from pgm_rnn.report.quantity import TITLES, Quantities, Quantity, Words
from pgm_rnn.report.state_quantities import of_finite_states
from pgm_rnn.report.structural_quantities import of_components
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.tables import has_tables
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import FiniteStates


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
        return of_finite_states(model, model.states.num_states, words, data, order)
    if order is not None:
        raise ValueError(
            f"expected order only for a model with finite states, got {type(model).__name__}; leave it out"
        )
    if isinstance(model, LinearGaussianSSM):
        return Quantities(tuple(_of_matrices(model, words)))
    if isinstance(model, StructuralSSM):
        return Quantities(tuple(of_components(model, words)))
    naturals = tuple(of_natural(name, model, n, words) for name, n in naturals_of(model))
    return Quantities((*naturals, *own_parameters(model), sizes_of(model)))


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
