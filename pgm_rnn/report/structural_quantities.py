"""The numbers of a structural model: how much each component moves per step, its cycle, and its coefficients."""

import math
from functools import partial

import torch
from torch import Tensor

from pgm_rnn.models.structural import StructuralSSM
from pgm_rnn.report.quantity import Quantity, Words
from pgm_rnn.sequence_model.parameters import current_parameters

_VARIANCE = "_variance"


def of_components(model: StructuralSSM, words: Words) -> list[Quantity]:
    """Standard deviations by component, period and damping of the cycle, and coefficients; what is fixed has none."""
    naturals = model.natural_parameters
    moving = [name for name in naturals if name.endswith(_VARIANCE) and "." not in name]
    found = []
    if moving:
        rows = tuple(name.removesuffix(_VARIANCE) for name in moving)
        title = "standard deviations of the components, per step"
        columns = words.titles[:1]
        found.append(Quantity("component_sd", title, "component", rows, columns, partial(_deviations, model, moving)))
    if "cycle_frequency" in naturals:
        columns = ("period in steps", *["damping per step"] * ("cycle_damping" in naturals))
        found.append(Quantity("cycle", "cycle", "", ("",), columns, partial(_cycle, model)))
    if "ar_coefficients" in naturals:
        value = partial(_read, model, "ar_coefficients")
        lags = tuple(f"lag {n + 1}" for n in range(len(value())))
        found.append(Quantity("ar_coefficients", "coefficients of the autoregression", "", ("",), lags, value))
    if "coefficients" in naturals:
        value = partial(_read, model, "coefficients")
        num = len(value())
        inputs = words.inputs if len(words.inputs) == num else tuple(f"u{n + 1}" for n in range(num))
        found.append(Quantity("coefficients", "coefficients of the inputs", "", ("",), inputs, value))
    return found


def _read(model: StructuralSSM, name: str) -> Tensor:
    """A natural parameter at the present raw ones."""
    natural = model.natural_parameters[name]
    value: Tensor = natural.read(current_parameters(model)[natural.raw])
    return value


def _deviations(model: StructuralSSM, names: list[str]) -> Tensor:
    return torch.stack([_read(model, name).sqrt() for name in names])


def _cycle(model: StructuralSSM) -> Tensor:
    """Period 2 pi / frequency, and the damping factor where there is one, (1,) or (2,)."""
    period = 2 * math.pi / _read(model, "cycle_frequency")
    damped = "cycle_damping" in model.natural_parameters
    return torch.stack([period, _read(model, "cycle_damping")] if damped else [period])
