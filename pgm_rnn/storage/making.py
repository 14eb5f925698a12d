"""A model's description and back: which model of the zoo it is, with which options and families."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

import pgm_rnn
from pgm_rnn.checks import check_choice
from pgm_rnn.emissions import Emission
from pgm_rnn.emissions import registry as families
from pgm_rnn.emissions.info import FamilyInfo
from pgm_rnn.models.bidirectional_rnn import NAME as LABEL_LAW
from pgm_rnn.models.bidirectional_rnn import BidirectionalRNN
from pgm_rnn.models.info import ModelInfo
from pgm_rnn.models.registry import MODELS, made_by
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.storage.description import Description
from pgm_rnn.storage.tensors import check_fit

FAMILIES = {info.family.__name__: info.family for info in families.FAMILIES.values()}
"""The classes of the package's families, by the names that files have for them."""
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float64, torch.float32, torch.bfloat16)}
Model = SequenceModel | BidirectionalRNN
"""What can be kept: a law of sequences, or one of their labels."""


class Known(Protocol):
    """What models and families there are to be saved, such as `pgm_rnn.registries.Registries`."""

    @property
    def models(self) -> Mapping[str, ModelInfo]:
        """Models by their names."""

    @property
    def families(self) -> Mapping[str, FamilyInfo]:
        """Families by their names."""


class _Own(NamedTuple):
    """Those of the package."""

    models: Mapping[str, ModelInfo] = MODELS
    families: Mapping[str, FamilyInfo] = families.FAMILIES


OWN: Known = _Own()


def described_as(model: Model, tensors: dict[str, Tensor], info: dict[str, Any], known: Known = OWN) -> Description:
    """What goes into model.json, after a trial that the model can be made from it.

    Raises:
        TypeError: a model that is not in the zoo.
        ValueError: parameters of several dtypes.
    """
    name, options = model.recipe
    if isinstance(model, BidirectionalRNN):
        options = {
            "inputs": _family_as_json(model.inputs, known),
            "labels": _family_as_json(model.labels, known),
            **options,
        }
    else:
        options = {"emission": _family_as_json(model.family, known), "first": model.first, **options}
    dtypes = {str(value.dtype).removeprefix("torch.") for value in tensors.values()}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        expected = ", ".join(DTYPES)
        raise ValueError(f"expected parameters of one dtype of {expected}, got {', '.join(sorted(dtypes))}; use .to")
    description = Description(name, options, dtypes.pop(), pgm_rnn.__version__, info)
    again = made(description, known)
    if type(again) is not type(model):
        raise TypeError(f"expected a model of the zoo, got {type(model).__name__}, which is not what {name} makes")
    check_fit(again.state_dict(), tensors, "the model")
    return description


def _by_class(known: Known) -> dict[str, type[Emission]]:
    return {info.family.__name__: info.family for info in known.families.values()}


def _family_as_json(family: Emission, known: Known) -> dict[str, Any]:
    classes = _by_class(known)
    if type(family) not in classes.values():
        raise TypeError(f"expected an emission of {', '.join(classes)}, got {type(family).__name__}")
    return {"family": type(family).__name__, **vars(family)}


def made(description: Description, known: Known = OWN) -> Model:
    """A model of the described shape, with random parameters.

    Raises:
        ValueError, TypeError, KeyError: options that are none of the model's.
    """
    check_choice("dtype", description.dtype, DTYPES)
    check_choice("model", description.name, [*known.models, LABEL_LAW])
    options = dict(description.options)
    keys = ("inputs", "labels") if description.name == LABEL_LAW else ("emission",)
    families: dict[str, Any] = {key: _family_from_json(options.pop(key), known) for key in keys}
    if description.name != LABEL_LAW:
        return made_by(known.models[description.name], seed=0, **families, **options).to(DTYPES[description.dtype])
    with seeded(0):
        return BidirectionalRNN(**families, **options).to(DTYPES[description.dtype])


def _family_from_json(described: Any, known: Known) -> Emission:
    arguments = dict(described)
    name = arguments.pop("family")
    classes = _by_class(known)
    check_choice("family", name, classes)
    return classes[name](**arguments)


def check_sizes(options: dict[str, Any], num_numbers: int) -> None:
    """Raise a ValueError if an option is a larger size than the tensors have numbers, before memory is asked for."""
    for name, value in options.items():
        nested = value.items() if isinstance(value, dict) else [(name, value)]
        for key, size in nested:
            if key not in ("seed", "num_particles") and isinstance(size, int) and size > num_numbers:
                raise ValueError(f"expected {key} to fit the {num_numbers} numbers of the model, got {size}")
