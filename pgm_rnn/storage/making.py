"""From a model to its description and back: which model of the zoo or class it is, and with which arguments made."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.emissions import registry as families
from pgm_rnn.emissions.info import FamilyInfo
from pgm_rnn.models.info import LabelInfo, ModelInfo
from pgm_rnn.models.label_registry import LABEL_MODELS
from pgm_rnn.models.registry import MODELS, made_by
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.conditionals import example_of
from pgm_rnn.sequence_model.label_model import LabelModel
from pgm_rnn.storage.arguments import as_json, from_json
from pgm_rnn.storage.description import Description
from pgm_rnn.storage.own_class import arguments_of, check_same, made_by_class, path_of
from pgm_rnn.storage.tensors import check_fit
from pgm_rnn.version import __version__

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float64, torch.float32, torch.bfloat16)}
Model = SequenceModel | LabelModel
"""Models that can be saved: laws of sequences and laws of their labels."""


class Known(Protocol):
    """Registries of models and families that can be saved, such as `pgm_rnn.registries.Registries`."""

    @property
    def models(self) -> Mapping[str, ModelInfo]:
        """Models of sequences by their names."""

    @property
    def label_models(self) -> Mapping[str, LabelInfo]:
        """Laws of labels by their names."""

    @property
    def families(self) -> Mapping[str, FamilyInfo]:
        """Families by their names."""


class _Own(NamedTuple):
    """The package's own registries."""

    models: Mapping[str, ModelInfo] = MODELS
    label_models: Mapping[str, LabelInfo] = LABEL_MODELS
    families: Mapping[str, FamilyInfo] = families.FAMILIES


OWN: Known = _Own()


class Described(NamedTuple):
    """A model as its description and tensors.

    Attributes:
        description: the description for model.json.
        arguments: tensors among the constructor's arguments, by their names in model.safetensors.
    """

    description: Description
    arguments: dict[str, Tensor]


def described_as(model: Model, tensors: dict[str, Tensor], info: dict[str, Any], known: Known = OWN) -> Described:
    """The description of a model for model.json, after a check that the model can be made from it.

    Raises:
        TypeError: a model that neither a registry nor its own class can make again.
        ValueError: parameters of several dtypes, or attributes that were set after the model was made.
    """
    if isinstance(model, SequenceModel) and not model.has_recipe:
        return _of_own_class(model, tensors, info, known)
    name, options = model.recipe
    given: dict[str, Any]
    if isinstance(model, LabelModel):
        given = {"inputs": model.inputs, "labels": model.labels, **options}
    else:
        given = {"emission": model.family, "first": model.first, **options}
    arguments = {key: as_json(value, known.families) for key, value in given.items()}
    description = Description(name, path_of(type(model)), arguments, _dtype(model, tensors), __version__, info)
    again = made(description, known)
    if type(again) is not type(model):
        raise TypeError(f"expected a model of the zoo, got {type(model).__name__}, which is not what {name} makes")
    check_fit(again.state_dict(), tensors, "the model")
    return Described(description, {})


def _of_own_class(model: SequenceModel, tensors: dict[str, Tensor], info: dict[str, Any], known: Known) -> Described:
    """The description of a model that its class makes again, with the arguments that made it."""
    found: dict[str, Tensor] = {}
    arguments = arguments_of(model, known.families, found)
    description = Description(None, path_of(type(model)), arguments, _dtype(model, tensors), __version__, info)
    again = made(description, known, type(model), found)
    assert isinstance(again, SequenceModel)  # its class is one
    check_same(model, again)
    check_fit(again.state_dict(), tensors, f"the {type(model).__name__} that its arguments make")
    packed = torch.contiguous_format
    return Described(description, {name: value.cpu().clone(memory_format=packed) for name, value in found.items()})


def _dtype(model: Model, tensors: dict[str, Tensor]) -> str:
    """The one dtype of a model's parameters and buffers, those of whole numbers aside, such as "float32"."""
    floating = [value for value in tensors.values() if value.is_floating_point()] or [example_of(model)]
    dtypes = {str(value.dtype).removeprefix("torch.") for value in floating}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        expected = ", ".join(DTYPES)
        raise ValueError(
            f"expected parameters of one dtype, one of {expected}, got {', '.join(sorted(dtypes))}; use .to"
        )
    return dtypes.pop()


def made(
    description: Description,
    known: Known = OWN,
    model_class: type[SequenceModel] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> Model:
    """A model of the described shape, with random parameters.

    Args:
        description: its description.
        known: registries of models and families.
        model_class: the class that makes it; None for the registry.
        tensors: tensors among its arguments, by their names in model.safetensors.

    Raises:
        ValueError, TypeError, KeyError: a model that is not in the zoo, or arguments that it does not take.
    """
    name, _, written, dtype = description[:4]
    check_choice("dtype", dtype, DTYPES)
    if model_class is not None:
        return made_by_class(model_class, written, DTYPES[dtype], known.families, tensors or {})
    name = str(name)
    check_choice("model", name, [*known.models, *known.label_models])
    arguments = {key: from_json(value, known.families) for key, value in written.items()}
    if name in known.models:
        return made_by(known.models[name], seed=0, **arguments).to(DTYPES[dtype])
    with seeded(0):
        return known.label_models[name].make(**arguments).to(DTYPES[dtype])
