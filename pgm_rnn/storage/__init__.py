"""A model in a folder: its numbers in model.safetensors, how to make it again in model.json; never a pickle.

    model.safetensors    the state dict, bit for bit, or rounded to half precision where that was asked for
    model.json           format, version, the zoo's name, options, dtype, the package that wrote it, notes ("info"),
                         and digests of the numbers and of what the law depends on

`making` and `description` say what a model is, `tensors` its numbers; `folder` changes the two files together, `models`
puts a model in and takes it out.
"""

from pgm_rnn.storage.description import DESCRIPTION, TENSORS, Description, StorageError, read_description
from pgm_rnn.storage.folder import check_replaceable, holds_model
from pgm_rnn.storage.making import FAMILIES, Model
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
    "FAMILIES",
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
