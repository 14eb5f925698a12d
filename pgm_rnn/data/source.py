"""The original file of a data set: from a folder of the user, the cache, or the repository that holds it.

    PGM_RNN_DATA/name  ->  PGM_RNN_DATA/*/name  ->  cache/name  ->  base_url/path, saved as cache/name

The first file that exists is used, and only if its SHA-256 is the pinned one. Existing files are never overwritten.
A file without a path is in no repository and is never downloaded.
"""

import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

FOLDER_VARIABLE = "PGM_RNN_DATA"
GITHUB = "https://raw.githubusercontent.com"


class DataError(ValueError):
    """The file of a data set is missing or unreadable, or has other contents than expected."""


class SourceFile(NamedTuple):
    """One file, pinned.

    Attributes:
        name: file name in the user's folder and in the cache.
        path: owner/repository/commit/path below the base URL; None for a file that was made from an original.
        sha256: hexadecimal digest of its contents.
        made_from: description of the original if there is no path.
    """

    name: str
    path: str | None
    sha256: str
    made_from: str = ""


def fetch(file: SourceFile, *, cache: Path | None = None, base_url: str = GITHUB) -> Path:
    """Path of a checked copy of `file`.

    Args:
        file: the file to look for.
        cache: folder for downloads; None means the operating system's cache folder for pgm_rnn.
        base_url: URL to which `file.path` is appended.

    Raises:
        DataError: PGM_RNN_DATA names no folder, an existing copy cannot be read or has other contents, or there is no
            copy and the download fails or is impossible.
    """
    cache = _default_cache() if cache is None else cache
    copy = find(file, cache=cache)
    if copy is not None:
        return copy
    if file.path is None:
        raise DataError(
            f"expected {file.name} in the folder that {FOLDER_VARIABLE} names or in {cache}, got no such file; it is "
            f"{file.made_from}, and it cannot be downloaded: put it there yourself"
        )
    return _download(file, cache, f"{base_url}/{file.path}")


def find(file: SourceFile, *, cache: Path | None = None) -> Path | None:
    """Path of an existing, checked copy of `file`, None if there is none.

    Raises:
        DataError: PGM_RNN_DATA names no folder, or an existing copy cannot be read or has other contents.
    """
    folder = _user_folder()
    places = [] if folder is None else [folder, *sorted(path.parent for path in folder.glob(f"*/{file.name}"))]
    copies = (_checked_copy(place, file) for place in [*places, _default_cache() if cache is None else cache])
    return next((copy for copy in copies if copy is not None), None)


def _user_folder() -> Path | None:
    value = os.environ.get(FOLDER_VARIABLE)
    if not value:
        return None
    folder = Path(os.path.expanduser(value))
    if not os.path.isdir(folder):
        raise DataError(f"expected {FOLDER_VARIABLE} to name a folder, got {value!r}; create it or unset the variable")
    return folder


def _default_cache() -> Path:
    import pooch

    return Path(pooch.os_cache("pgm_rnn"))


def _checked_copy(folder: Path, file: SourceFile) -> Path | None:
    """The copy of `file` in `folder` if it has the right contents, None if there is none."""
    path = folder / file.name
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"expected a readable file at {path}, got: {error.strerror}; move it away") from None
    if digest != file.sha256:
        remedy = "put the right one there" if file.path is None else "delete it to download it again"
        raise DataError(f"expected SHA-256 {file.sha256} of {path}, got {digest}; {remedy}")
    return path


def _download(file: SourceFile, cache: Path, url: str) -> Path:
    """Save `url` in `cache`, through a temporary file that is renamed if its SHA-256 is right and deleted if not."""
    import pooch

    downloader = pooch.HTTPDownloader(progressbar=sys.stderr is not None and sys.stderr.isatty())
    try:
        with _without_messages(pooch.get_logger()):
            return Path(pooch.retrieve(url, file.sha256, fname=file.name, path=cache, downloader=downloader))
    except (OSError, ValueError) as error:
        raise DataError(
            f"could not download {url} into {cache} ({_reason(error, file)}); "
            f"put {file.name} into a folder yourself and name that folder in {FOLDER_VARIABLE}"
        ) from None


def _reason(error: OSError | ValueError, file: SourceFile) -> str:
    """The reason of a failed download in a few words, because exceptions of requests have long texts."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    if not isinstance(error, OSError):
        return f"its contents do not have SHA-256 {file.sha256}"
    return error.strerror or type(error).__name__


@contextmanager
def _without_messages(logger: logging.Logger) -> Iterator[None]:
    """Silences messages below a warning, by a filter, because loggers cache whether a level is enabled."""

    def is_warning(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    logger.addFilter(is_warning)
    try:
        yield
    finally:
        logger.removeFilter(is_warning)
