"""Rescue of a fit whose metrics or checkpoint could not be written: what was fitted until then is saved."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

Found = TypeVar("Found")


def fitted(
    model: nn.Module, options: Mapping[str, Any], fit: Callable[[], Found]
) -> tuple[Found | None, OSError | None]:
    """Run a fit that changes a model in place, and return its result or the error that ended it after some work.

    Args:
        model: the model that is fitted.
        options: options of the fit; "metrics" is the file that it appends to, or None.
        fit: the function that fits.

    Raises:
        OSError: a file could not be written before any of the work.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        return fit(), None
    except OSError as error:
        if all(bool((value == before[name]).all()) for name, value in model.state_dict().items()):
            raise _of_its_files(error, options) from error
        return None, _of_its_files(error, options)


def finish_or_fail(finish: Callable[[], None], folder: Path, failure: OSError | None, way_out: str) -> None:
    """Score and save the fitted model by `finish`, then raise the error that ended the fit, if there is one.

    Args:
        finish: the function that scores and saves.
        folder: the folder in which it saves the model.
        failure: the error, or None.
        way_out: how to continue, a clause for the message.

    Raises:
        OSError: the fit ended by an error; the message says which file could not be written, and where the model is.
    """
    if failure is None:
        finish()
        return
    why = f"could not write {failure.filename}: {failure.strerror}" if failure.filename else str(failure)
    try:
        finish()
    except OSError as error:
        raise OSError(f"the fit could not continue, {why}; {error}") from failure
    raise OSError(
        f"the fit could not continue, {why}; the parameters so far are saved in {folder}; make room or choose another "
        f"place, and {way_out}"
    ) from failure


def _of_its_files(error: OSError, options: Mapping[str, Any]) -> OSError:
    """The error with the file's name: an error of the checkpoint has it already, one of the metrics does not."""
    if error.filename is not None or error.errno is None or options["metrics"] is None:
        return error
    return OSError(error.errno, error.strerror or str(error), str(options["metrics"]))
