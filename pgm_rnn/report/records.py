"""Results as JSON, in a file that is written whole or not at all."""

import json
import math
import os
import tempfile
from pathlib import Path

from pgm_rnn.files import naming


def check_output(path: Path, option: str = "--json") -> Path:
    """Return `path` if a file can be written there; this is checked before the work, not after it.

    Args:
        path: path of the file.
        option: the option that named it, for the error.

    Raises:
        ValueError: the path is a folder, or its folder is missing or cannot be written to.
    """
    if (path.exists() and not path.is_file()) or not is_writable(path.resolve().parent):
        raise ValueError(f"expected {option} to name a file in a folder that can be written to, got {path}")
    return path


def check_appendable(path: Path) -> Path:
    """Return `path` if lines can be appended to a file there.

    Raises:
        ValueError: the path is a folder, or its folder is missing or cannot be written to.
    """
    if (path.exists() and not path.is_file()) or not is_writable(path.resolve().parent):
        raise ValueError(f"expected --metrics to name a file in a folder that can be written to, got {path}")
    return path


def is_writable(folder: Path) -> bool:
    """Whether a file can be created in a folder, found out by trying: the folder's mode is not reliable."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pgm_rnn."):
            return True
    except OSError:
        return False


def write_json(content: object, path: Path) -> None:
    """Write lists, dictionaries, strings and numbers; a number that is not finite becomes null.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; the error names the file.
    """
    text = json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path = path.resolve()
    with naming(path):
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, mode)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise


def finite(content: object) -> object:
    """The same content with None in place of numbers that are not finite, which JSON cannot express."""
    if isinstance(content, dict):
        return {name: finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _umask() -> int:
    """The process's mask for new files, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
