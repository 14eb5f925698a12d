"""From a model to its description and back: which model of the zoo it is, and with which arguments it is made."""

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
from pgm_rnn.sequence_model.label_model import LabelModel
from pgm_rnn.storage.arguments import as_json, from_json
from pgm_rnn.storage.description import Description
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


def described_as(model: Model, tensors: dict[str, Tensor], info: dict[str, Any], known: Known = OWN) -> Description:
    """The description of a model for model.json, after a check that the model can be made from it.

    Raises:
        TypeError: a model that is not in the zoo.
        ValueError: parameters of several dtypes.
    """
    name, options = model.recipe
    given: dict[str, Any]
    if isinstance(model, LabelModel):
        given = {"inputs": model.inputs, "labels": model.labels, **options}
    else:
        given = {"emission": model.family, "first": model.first, **options}
    arguments = {key: as_json(value, known.families) for key, value in given.items()}
    dtypes = {str(value.dtype).removeprefix("torch.") for value in tensors.values()}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        expected = ", ".join(DTYPES)
        raise ValueError(f"expected parameters of one dtype of {expected}, got {', '.join(sorted(dtypes))}; use .to")
    model_class = f"{type(model).__module__}:{type(model).__qualname__}"
    description = Description(name, model_class, arguments, dtypes.pop(), __version__, info)
    again = made(description, known)
    if type(again) is not type(model):
        raise TypeError(f"expected a model of the zoo, got {type(model).__name__}, which is not what {name} makes")
    check_fit(again.state_dict(), tensors, "the model")
    return description


def made(description: Description, known: Known = OWN) -> Model:
    """A model of the described shape, with random parameters.

    Raises:
        ValueError, TypeError, KeyError: a model that is not in the zoo, or arguments that it does not take.
    """
    name, model_class, written, dtype = description[:4]
    if name is None:
        raise ValueError(f"expected a model of the zoo, got one of the class {model_class}, which is in no registry")
    check_choice("dtype", dtype, DTYPES)
    check_choice("model", name, [*known.models, *known.label_models])
    arguments = {key: from_json(value, known.families) for key, value in written.items()}
    if name in known.models:
        return made_by(known.models[name], seed=0, **arguments).to(DTYPES[dtype])
    with seeded(0):
        return known.label_models[name].make(**arguments).to(DTYPES[dtype])
