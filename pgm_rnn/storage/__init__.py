"""A model in a folder: its tensors in model.safetensors, its description in model.json; never a pickle.

    model.safetensors    the state dict, bit for bit, or rounded to half precision on request
    model.json           format, version, the registry's name and the class, arguments, dtype, the package that wrote
                         it, notes ("info"), and digests of the numbers and of what the law depends on

`model_json` reads and writes model.json; `version_1` and `version_2` hold the differences between its versions.
`description` has its contents as data; `arguments` and `making` turn a model into a description and back; `tensors`
packs the tensors. `folder` changes both files together, and `models` saves and loads a model.
"""

from pgm_rnn.storage.description import DESCRIPTION, TENSORS, Description, StorageError
from pgm_rnn.storage.folder import check_replaceable, holds_model
from pgm_rnn.storage.making import Model
from pgm_rnn.storage.model_json import read_description
from pgm_rnn.storage.models import (
    describe,
    load_model,
    load_with_description,
    read_model,
    rounded_to_half,
    save_model,
)

__all__ = [
    "DESCRIPTION",
    "TENSORS",
    "Description",
    "Model",
    "StorageError",
    "check_replaceable",
    "describe",
    "holds_model",
    "load_model",
    "load_with_description",
    "read_description",
    "read_model",
    "rounded_to_half",
    "save_model",
]
