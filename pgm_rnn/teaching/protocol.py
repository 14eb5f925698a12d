"""Values between the grader and a submission's process, as JSON: nothing that comes from there is ever unpickled.

A message is a length, 8 bytes with the most significant first, and a JSON text. Arrays of numbers are written as their
dtype, shape and bytes in base64; tuples become lists.
"""

import base64
import json
import math
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

LARGEST = 32_000_000
"""Bytes of the longest message."""
DTYPES = ("bool", *(f"{kind}{size}" for kind in ("int", "uint") for size in (8, 16, 32, 64)), "float32", "float64")
"""Types of arrays; half precision is sent as float32."""
DEEPEST = 8
"""Levels of nested lists and dictionaries."""


class ProtocolError(ValueError):
    """A message that is none."""


def encode(value: Any, depth: int = 0) -> Any:
    """A value as what JSON has.

    Raises:
        TypeError: it is no number, text, array, or list, tuple or dictionary of these.
    """
    if depth > DEEPEST:
        raise TypeError(f"expected at most {DEEPEST} levels of lists, got more")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return _encoded_array(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, list | tuple):
        return [encode(part, depth + 1) for part in value]
    if isinstance(value, Mapping):
        return {"dict": {str(key): encode(part, depth + 1) for key, part in value.items()}}
    if hasattr(value, "detach"):  # a torch tensor
        return _encoded_array(value.detach().cpu().numpy())
    raise TypeError(f"expected a number, an array, a text or a list of these, got {type(value).__name__}")


def _encoded_array(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype.name not in DTYPES:
        raise TypeError(f"expected an array of numbers, got dtype {array.dtype.name}")
    if isinstance(value, np.generic):
        return value.item()
    content = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"array": [array.dtype.name, list(array.shape), content]}


def decode(value: Any) -> Any:
    """The value that was encoded.

    Raises:
        ProtocolError: nothing that `encode` makes.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [decode(part) for part in value]
    if isinstance(value, dict) and value.keys() == {"dict"} and isinstance(value["dict"], dict):
        return {key: decode(part) for key, part in value["dict"].items()}
    if isinstance(value, dict) and value.keys() == {"array"}:
        return _decoded_array(value["array"])
    raise ProtocolError(f"expected a value, got {type(value).__name__}")


def _decoded_array(parts: Any) -> Any:
    try:
        name, shape, content = parts
        raw = base64.b64decode(content, validate=True)
        if name not in DTYPES or not all(type(size) is int and size >= 0 for size in shape):
            raise ProtocolError("expected an array of numbers")
        if len(shape) > 32 or math.prod(shape) * np.dtype(name).itemsize != len(raw):
            raise ProtocolError("expected as many bytes as the shape of an array says")
        return np.frombuffer(raw, dtype=name).reshape(shape).copy()
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"expected an array, got {error}") from None


def send(stream: IO[bytes], message: Mapping[str, Any]) -> None:
    """Write a message, whose values are encoded already.

    Raises:
        ProtocolError: it is too long.
        OSError: the other side is gone.
    """
    content = json.dumps(message).encode()
    if len(content) > LARGEST:
        raise ProtocolError(f"expected at most {LARGEST:,} bytes, got {len(content):,}")
    stream.write(len(content).to_bytes(8, "big") + content)
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, Any] | None:
    """Read a message; None at the end of the stream.

    Raises:
        ProtocolError: what comes is no message.
    """
    head = stream.read(8)
    if not head:
        return None
    size = int.from_bytes(head, "big")
    if len(head) < 8 or size > LARGEST:
        raise ProtocolError(f"expected a message of at most {LARGEST:,} bytes")
    content = stream.read(size)
    if len(content) < size:
        return None
    try:
        message = json.loads(content)
    except (ValueError, RecursionError):
        raise ProtocolError("expected a JSON text") from None
    if not isinstance(message, dict):
        raise ProtocolError("expected a JSON object")
    return message
