"""A run's latest checkpoint in a folder: tensors as safetensors, the rest as JSON, never a pickle.

    state-DIGEST.safetensors    tensors, by name
    checkpoint.json             format, version, which tensors with their SHA-256, the rest, and its own SHA-256
    lock                        held by the run that writes here

The tensors are written first, under a new name. Then checkpoint.json is replaced in one atomic step, which makes them
the checkpoint. So whenever a run is killed, either the old or the new checkpoint is there and complete.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load, save
from torch import Tensor

from pgm_rnn.files import held, write_whole
from pgm_rnn.version import __version__

CHECKPOINT = "checkpoint.json"
FORMAT, VERSION = "pgm_rnn checkpoint", 1
SHARE = 0.01
"""Largest fraction of the training time that is spent on checkpoints."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, belongs to another run, or is in the way of a new one."""


def holds_checkpoint(folder: str | os.PathLike[str]) -> bool:
    """Whether a run can go on from a folder."""
    return Path(folder, CHECKPOINT).is_file()


class State(NamedTuple):
    """The state from which a run can continue.

    Attributes:
        tensors: its tensors by name, on the CPU.
        content: the rest, as JSON values; floats may be infinite.
    """

    tensors: dict[str, Tensor]
    content: dict[str, Any]


class Checkpoints:
    """The checkpoint in a folder that only this run uses.

    Args:
        folder: the folder, or None for a run without checkpoints.
        seconds: least time between checkpoints, or 100 times the time that the last one took, whichever is longer;
            0 for a checkpoint after every step.
    """

    def __init__(self, folder: Path | None, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.next = -math.inf

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.folder is not None and time.perf_counter() >= self.next

    def save(self, state: State) -> None:
        """Replace the checkpoint.

        Raises:
            OSError: the new one cannot be written; the former one stays.
        """
        if self.folder is None:
            return
        began = time.perf_counter()
        packed = save(state.tensors)
        digest = hashlib.sha256(packed).hexdigest()
        path = self.folder / f"state-{digest[:16]}.safetensors"
        write_whole(path, packed)
        content = {**state.content, "tensors": path.name, "tensors_sha256": digest}
        try:
            write_whole(self.folder / CHECKPOINT, _packed(content))
        finally:
            self._remove_other_tensors()
        cost = time.perf_counter() - began
        self.next = began + cost + (max(self.seconds, cost / SHARE) if self.seconds else 0.0)

    def load(self) -> tuple[bytes, bytes] | None:
        """The contents of the two files, or None if there is no checkpoint.

        Raises:
            CheckpointError: checkpoint.json is damaged, or the file that it names is missing.
        """
        if self.folder is None or not holds_checkpoint(self.folder):
            return None
        described = (self.folder / CHECKPOINT).read_bytes()
        path = self.folder / _unpacked(described, self.folder)["tensors"]
        if not path.is_file():
            raise CheckpointError(
                f"expected {path.name} beside {CHECKPOINT} in {self.folder}, got no such file; start a new run"
            )
        return described, path.read_bytes()

    def _remove_other_tensors(self) -> None:
        """Remove all tensor files except the checkpoint's, including what a killed run left."""
        assert self.folder is not None
        described = self.folder / CHECKPOINT
        kept = _unpacked(described.read_bytes(), self.folder)["tensors"] if described.is_file() else None
        for path in self.folder.glob("state-*.safetensors"):
            if path.name != kept:
                path.unlink()


@contextmanager
def checkpoints_in(folder: str | os.PathLike[str] | None, seconds: float) -> Iterator[Checkpoints]:
    """Open the checkpoint in a folder, which is created if necessary and locked.

    Raises:
        ValueError: `seconds` is not a number of at least 0.
        BlockingIOError: another run uses the folder.
        OSError: the folder cannot be created or written to.
    """
    if not (isinstance(seconds, int | float) and 0 <= seconds < math.inf):
        raise ValueError(f"expected checkpoint_seconds to be a number of at least 0, got {seconds!r}")
    place = None if folder is None else Path(folder).resolve()
    with nullcontext() if place is None else held(place):
        yield Checkpoints(place, seconds)


def parsed(described: bytes, packed: bytes, where: object) -> State:
    """The state in a checkpoint's two files.

    Raises:
        CheckpointError: they are damaged, or not files of a checkpoint.
    """
    content = _unpacked(described, where)
    if hashlib.sha256(packed).hexdigest() != content["tensors_sha256"]:
        raise CheckpointError(
            f"expected {content['tensors']} in {where} as it was written, got one that was changed or cut short; copy "
            "it again, or start a new run in another folder"
        )
    try:
        return State(load(packed), content)
    except Exception as error:  # of a damaged header safetensors and torch raise nearly everything
        raise CheckpointError(f"expected a safetensors file in {where}, got one that cannot be read: {error}") from None


def check_run(there: Mapping[str, Any], here: Mapping[str, Any], where: object) -> None:
    """Check that a checkpoint belongs to this run, by the two runs' descriptions.

    Raises:
        CheckpointError: the runs differ; the message names the first difference.
    """
    for key, value in json.loads(json.dumps(here)).items():
        if there.get(key) != value:
            raise CheckpointError(
                f"expected a checkpoint of this run in {where}, got one with another {key}: {there.get(key)!r} there, "
                f"{value!r} here; resume with that run's settings, or start a new run in another folder"
            )


def _packed(content: Mapping[str, Any]) -> bytes:
    body = {"format": FORMAT, "version": VERSION, "sha256": _digest(content), "content": content}
    return (json.dumps(body, indent=1) + "\n").encode()


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _unpacked(described: bytes, where: object) -> dict[str, Any]:
    try:
        body = json.loads(described.decode())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise CheckpointError(f"expected a {CHECKPOINT} that a run wrote, got something else in {where}")
    if body.get("version") != VERSION:
        raise CheckpointError(
            f"expected version {VERSION} of checkpoints, which pgm_rnn {__version__} reads, got "
            f"{body.get('version')!r} in {where}; update pgm_rnn, or start a new run in another folder"
        )
    content = body.get("content")
    if (
        not isinstance(content, dict)
        or body.get("sha256") != _digest(content)
        or not all(isinstance(content.get(key), str) for key in ("tensors", "tensors_sha256"))
    ):
        raise CheckpointError(
            f"expected {CHECKPOINT} in {where} as it was written, got a changed one; start a new run elsewhere"
        )
    return content
