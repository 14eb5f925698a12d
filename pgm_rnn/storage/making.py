"""A model's description and back: which model of the zoo it is, with which options and families."""

from typing import Any

import torch
from torch import Tensor

import pgm_rnn
from pgm_rnn.checks import check_choice
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, FullGaussian, Gaussian, NadeBits, Pen, Poisson
from pgm_rnn.models.label_registry import LABEL_MODELS
from pgm_rnn.models.registry import get_model, list_models
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.label_model import LabelModel
from pgm_rnn.storage.description import Description
from pgm_rnn.storage.tensors import check_fit

_FAMILIES: tuple[type[Emission], ...] = (Categorical, Bernoulli, Gaussian, FullGaussian, Poisson, Pen, NadeBits)
FAMILIES = {family.__name__: family for family in _FAMILIES}
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float64, torch.float32, torch.bfloat16)}
Model = SequenceModel | LabelModel
"""What can be kept: a law of sequences, or one of their labels."""


def described_as(model: Model, tensors: dict[str, Tensor], info: dict[str, Any]) -> Description:
    """What goes into model.json, after a trial that the model can be made from it.

    Raises:
        TypeError: a model that is not in the zoo.
        ValueError: parameters of several dtypes.
    """
    name, options = model.recipe
    if isinstance(model, LabelModel):
        options = {"inputs": _family_as_json(model.inputs), "labels": _family_as_json(model.labels), **options}
    else:
        options = {"emission": _family_as_json(model.family), "first": model.first, **options}
    dtypes = {str(value.dtype).removeprefix("torch.") for value in tensors.values()}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        expected = ", ".join(DTYPES)
        raise ValueError(f"expected parameters of one dtype of {expected}, got {', '.join(sorted(dtypes))}; use .to")
    description = Description(name, options, dtypes.pop(), pgm_rnn.__version__, info)
    again = made(description)
    if type(again) is not type(model):
        raise TypeError(f"expected a model of the zoo, got {type(model).__name__}, which is not what {name} makes")
    check_fit(again.state_dict(), tensors, "the model")
    return description


def _family_as_json(family: Emission) -> dict[str, Any]:
    if type(family) not in _FAMILIES:
        raise TypeError(f"expected an emission of {', '.join(FAMILIES)}, got {type(family).__name__}")
    return {"family": type(family).__name__, **vars(family)}


def made(description: Description) -> Model:
    """A model of the described shape, with random parameters.

    Raises:
        ValueError, TypeError, KeyError: options that are none of the model's.
    """
    check_choice("dtype", description.dtype, DTYPES)
    check_choice("model", description.name, [*list_models(), *LABEL_MODELS])
    options = dict(description.options)
    keys = ("inputs", "labels") if description.name in LABEL_MODELS else ("emission",)
    families: dict[str, Any] = {key: _family_from_json(options.pop(key)) for key in keys}
    if description.name not in LABEL_MODELS:
        return get_model(description.name, seed=0, **families, **options).to(DTYPES[description.dtype])
    with seeded(0):
        return LABEL_MODELS[description.name](**families, **options).to(DTYPES[description.dtype])


def _family_from_json(described: Any) -> Emission:
    arguments = dict(described)
    name = arguments.pop("family")
    check_choice("family", name, FAMILIES)
    return FAMILIES[name](**arguments)


def check_sizes(options: dict[str, Any], num_numbers: int) -> None:
    """Raise a ValueError if an option is a larger size than the tensors have numbers, before memory is asked for."""
    for name, value in options.items():
        nested = value.items() if isinstance(value, dict) else [(name, value)]
        for key, size in nested:
            if key not in ("seed", "num_particles") and isinstance(size, int) and size > num_numbers:
                raise ValueError(f"expected {key} to fit the {num_numbers} numbers of the model, got {size}")
