"""A fit whose own files, metrics or a checkpoint, could not be written: what was fitted until then is not lost."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

Found = TypeVar("Found")


def fitted(
    model: nn.Module, options: Mapping[str, Any], fit: Callable[[], Found]
) -> tuple[Found | None, OSError | None]:
    """What a fit of a model in place came to, or why it could not go on after some of the work.

    Args:
        model: that is fitted.
        options: of the fit; under "metrics" is the file that it appends to, or None.
        fit: which is called.

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
    """Score and save what was fitted by `finish`, and raise the error that ended the fit, if one did.

    Args:
        finish: which is called.
        folder: where it saves the model.
        failure: the error.
        way_out: how to go on, a clause for the message.

    Raises:
        OSError: it says which file could not be written, and where the model is.
    """
    if failure is None:
        finish()
        return
    why = f"could not write {failure.filename}: {failure.strerror}" if failure.filename else str(failure)
    try:
        finish()
    except OSError as error:
        raise OSError(f"the fit could not go on, {why}; {error}") from failure
    raise OSError(
        f"the fit could not go on, {why}; the parameters so far are saved in {folder}; make room or choose another "
        f"place, and {way_out}"
    ) from failure


def _of_its_files(error: OSError, options: Mapping[str, Any]) -> OSError:
    """The error with the name of the file: the checkpoint's has it already, the metrics' has not."""
    if error.filename is not None or error.errno is None or options["metrics"] is None:
        return error
    return OSError(error.errno, error.strerror or str(error), str(options["metrics"]))
