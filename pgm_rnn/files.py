"""Files that appear whole or not at all, and a folder that one process at a time has to itself."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at any moment, a loss of power included, its old or its new content is there.

    Raises:
        OSError: it cannot be written, or the disk is full; what was there before stays.
    """
    draft = path.with_name(f".{path.name}.new")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder and have it to oneself; the system lets go of it when the process ends, however it does.

    Raises:
        BlockingIOError: another process has it.
        OSError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / "lock").open("a")
    except OSError as error:
        message = "expected a folder that can be made and written to, choose another one"
        raise OSError(error.errno, message, str(folder)) from None
    with opened:
        _lock(opened, folder)
        yield


def _lock(file: IO[str], folder: Path) -> None:
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise BlockingIOError(
            f"expected a folder that no other run is using, got {folder}; wait for that run, end it, or choose another"
        ) from None


def _sync_folder(folder: Path) -> None:
    """Have the system write down which files a folder holds, where it can."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
