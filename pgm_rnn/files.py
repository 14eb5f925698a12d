"""Files that are written completely or not at all, and folders that only one process at a time may change."""

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
"""Name of the lock file that a short-lived writer creates, and removes again, in the folder that it changes."""
PATIENCE = 60.0
"""Seconds to wait for another writer before giving up."""
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Error numbers of file systems without locks; there, writers are not kept apart."""


def sha256(content: bytes) -> str:
    """The SHA-256 digest of some content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add a file's name to errors of the system that lack it, such as the error for a full disk.

    Raises:
        OSError: the error of the block, with the name.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.strerror is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at any moment, even after a loss of power, it has its old or its new content.

    Raises:
        OSError: it cannot be written, or the disk is full; the old content stays. The error names the file.
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
    """Replace a file by another one in one step, and flush the change to disk.

    Raises:
        OSError: it cannot be moved.
    """
    with naming(target):
        os.replace(source, target)
        sync_folder(target.parent)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Create a folder and lock it; the system releases the lock when the process ends for any reason.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the folder cannot be created or written to.
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
    """Create a folder and lock it for a moment, while other writers wait; no lock file stays behind.

    A folder that was created here and is still empty at the end is removed again.

    Raises:
        BlockingIOError: another writer held the lock for longer than `seconds`.
        OSError: the folder cannot be created or written to.
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
            with suppress(OSError):  # normally it is not empty, and stays
                folder.rmdir()


def _turn(folder: Path) -> IO[str] | None:
    """The lock file, open and locked, or None if another writer holds it or has just removed it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        opened = (folder / TURN).open("a")
    except FileNotFoundError:  # a writer that failed has removed the folder
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
    """Remove the lock file and release the lock; on Windows an open file cannot be removed."""
    with suppress(OSError):
        if sys.platform == "win32":
            opened.close()
        path.unlink()
    opened.close()


def _locked(file: IO[str]) -> bool:
    """Lock a file without waiting; returns whether that succeeded."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _WITHOUT_LOCKS
    return True


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of files to disk, on systems that can do so."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
