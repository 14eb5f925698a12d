"""Metrics of a fit, written per epoch: JSON lines in a file, and TensorBoard event files."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any


class Metrics:
    """Writes one line of JSON per epoch, and the same numbers for TensorBoard, if asked to.

    Args:
        path: file of JSON lines; new lines are appended to an existing file. None for no file.
        tensorboard: folder for TensorBoard. None for none.

    Raises:
        OSError: the file cannot be written.
        ModuleNotFoundError: TensorBoard is asked for but not installed.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, tensorboard: str | os.PathLike[str] | None = None
    ) -> None:
        self.tensorboard = tensorboard
        self.writer: Any = None if tensorboard is None else _summary_writer(os.fspath(tensorboard))
        self.file: IO[str] | None = None if path is None else Path(path).open("a", encoding="utf-8")  # noqa: SIM115

    def add(self, epoch: int, values: Mapping[str, float | None]) -> None:
        """Write the numbers of one epoch, by name; None and numbers that are not finite become null."""
        numbers = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        if self.file is not None:
            self.file.write(json.dumps({name: numbers.get(name) for name in values}) + "\n")
            self.file.flush()
        if self.writer is not None:
            for name, value in numbers.items():
                self.writer.add_scalar(name, value, epoch)

    def num_bytes(self) -> int | None:
        """Flush the file to disk and return its length in bytes; None without a file."""
        if self.file is None:
            return None
        os.fsync(self.file.fileno())
        return os.fstat(self.file.fileno()).st_size

    def go_back(self, num_bytes: int | None, epoch: int) -> None:
        """Discard what a run wrote after a checkpoint: the file beyond `num_bytes`, TensorBoard's from `epoch` on.

        Raises:
            ValueError: the earlier run had a file and this one has none, or vice versa, or the file is too short.
        """
        there = self.num_bytes()
        if (num_bytes is None) != (there is None) or (num_bytes or 0) > (there or 0):
            wanted = (
                "no metrics file" if num_bytes is None else f"the run's metrics file, of at least {num_bytes} bytes"
            )
            raise ValueError(f"expected {wanted}, got {'none' if there is None else f'one of {there} bytes'}")
        if self.file is not None:
            self.file.truncate(num_bytes)
        if self.tensorboard is not None:
            self.writer.close()
            self.writer = _summary_writer(os.fspath(self.tensorboard), purge_step=epoch)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all files."""
        for opened in (self.file, self.writer):
            if opened is not None:
                opened.close()


def _summary_writer(folder: str, **options: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ModuleNotFoundError(
            f"expected the package tensorboard for tensorboard={folder!r}, but it is not installed; "
            "pip install tensorboard, or use metrics=FILE, which needs nothing"
        ) from None
    return SummaryWriter(folder, **options)
