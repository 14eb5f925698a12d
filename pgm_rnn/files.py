"""Files that appear whole or not at all, and folders that one process at a time has to itself."""

import errno
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

TURN = ".lock"
"""Name of the file that a short-lived writer holds, and takes away again, in the folder that it changes."""
PATIENCE = 60.0
"""Seconds to wait for another writer before giving up."""
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What a file system says that has no locks; there, writers are not kept apart."""


def sha256(content: bytes) -> str:
    """The digest of a content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of the system name a file: that a disk is full, for one, it says without."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.strerror is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at any moment, a loss of power included, its old or its new content is there.

    Raises:
        OSError: it cannot be written, or the disk is full; what was there before stays. The error names it.
    """
    draft = path.with_name(f".{path.name}.new")
    with naming(path):
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise
        sync_folder(path.parent)


def move(source: Path, target: Path) -> None:
    """Let a file take another one's place in one step, and have the system write that down.

    Raises:
        OSError: it cannot be moved.
    """
    with naming(target):
        os.replace(source, target)
        sync_folder(target.parent)


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
        if not _locked(opened):
            raise BlockingIOError(
                f"expected a folder that no other run is using, got {folder}; wait for that run, end it, or choose "
                "another"
            )
        yield


@contextmanager
def in_turn(folder: Path, seconds: float = PATIENCE) -> Iterator[None]:
    """Make a folder and have it to oneself for a moment; other writers wait. No lock stays behind.

    A folder that was made for this and is still empty at the end is taken away again.

    Raises:
        BlockingIOError: another writer kept it for longer than `seconds`.
        OSError: it cannot be made or written to.
    """
    is_new, until = not folder.exists(), time.monotonic() + seconds
    while (opened := _turn(folder)) is None:
        if time.monotonic() >= until:
            raise BlockingIOError(
                f"expected a folder that no other process keeps writing to, got {folder}; wait for that process, end "
                "it, or choose another folder"
            )
        time.sleep(0.01)
    try:
        yield
    finally:
        _end_turn(opened, folder / TURN)
        if is_new:
            with suppress(OSError):  # it holds something, as it should
                folder.rmdir()


def _turn(folder: Path) -> IO[str] | None:
    """The lock file, open and locked, or None where another writer has it or has just taken it away."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        opened = (folder / TURN).open("a")
    except FileNotFoundError:  # the folder was taken away again by a writer that failed
        return None
    try:
        if _locked(opened) and os.path.samestat(os.fstat(opened.fileno()), (folder / TURN).stat()):
            return opened
    except FileNotFoundError:
        pass
    except BaseException:
        opened.close()
        raise
    opened.close()
    return None


def _end_turn(opened: IO[str], path: Path) -> None:
    """Take the lock file away and let go of it; on Windows an open file cannot be taken away."""
    with suppress(OSError):
        if sys.platform == "win32":
            opened.close()
        path.unlink()
    opened.close()


def _locked(file: IO[str]) -> bool:
    """Whether the lock of a file could be had at once."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _WITHOUT_LOCKS
    return True


def sync_folder(folder: Path) -> None:
    """Have the system write down which files a folder holds, where it can."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
