"""A model in a folder: its numbers in model.safetensors, how to make it again in model.json; never a pickle.

    model.safetensors    the state dict, bit for bit, or rounded to half precision where that was asked for
    model.json           format, version, the registry's name and the class, arguments, dtype, the package that wrote
                         it, notes ("info"), and digests of the numbers and of what the law depends on

`model_json` reads and writes model.json, `version_1` and `version_2` what differs between its versions. `description`
is what it says; `arguments` and `making` make a model of that and back; `tensors` has the numbers. `folder` changes the
two files together, `models` puts a model in and takes it out.
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
