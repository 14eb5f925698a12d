"""The place of a saved fit: checked before the fit, and replaced by another one if saving fails afterwards."""

import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from pgm_rnn.files import in_turn
from pgm_rnn.inference.svi.checkpoints import CHECKPOINT
from pgm_rnn.registries import OWN, Registries
from pgm_rnn.report.records import is_writable
from pgm_rnn.storage import Model, StorageError, check_replaceable, describe, holds_model, rounded_to_half, save_model


def check_place(folder: Path, *, overwrite: bool, resumed: Path | None = None) -> None:
    """Check that a fit can be saved in a folder without the loss of an earlier one.

    Args:
        folder: the folder.
        overwrite: whether an earlier fit may be replaced.
        resumed: checkpoint folder from which the fit is resumed; the fit may replace what that same run saved.

    Raises:
        ValueError: the folder holds an earlier fit, something else, or cannot be created or written to.
    """
    place = folder.resolve()
    check_replaceable(place)
    if holds_model(place) and not (overwrite or _is_of_run(place, resumed)):
        raise ValueError(
            f"expected a new folder for the fit, got {folder}, which holds an earlier one; choose another with "
            "--output, or replace it with --overwrite"
        )
    there = next(path for path in (place, *place.parents) if path.exists())
    if not (_can_be_changed(place) if there == place else is_writable(there)):
        raise ValueError(f"expected --output to name a folder that can be made, got {folder}: cannot write to {there}")


def halved(model: Model) -> tuple[bool, str]:
    """Round a fitted model to half precision; if its numbers are too large for that, leave it unchanged and say so.

    Returns:
        Whether it was rounded, and a sentence if it was not.
    """
    try:
        rounded_to_half(model)
        return True, ""
    except ValueError as error:
        return False, f"stored in full precision: {error}"


def saved_somewhere(
    model: Model, folder: Path, record: dict[str, Any], *, half: bool, overwrite: bool, registries: Registries = OWN
) -> Path:
    """Save a fitted model in a folder and return the folder; if that fails, save it elsewhere and say where.

    Raises:
        OSError: the model could not be saved in the folder; the error says where it is instead.
        StorageError: the model's parameters are NaN.
    """
    try:
        save_model(model, folder, record, half=half, overwrite=overwrite, registries=registries)
        return folder
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        reason, elsewhere = str(error).split("\n")[0], _saved_elsewhere(model, folder, record, half, registries)
        if elsewhere is None:
            remedy = "could not be saved elsewhere either; make room and fit again (--checkpoint would keep the work)"
        else:
            remedy = f"is saved in {elsewhere}; move it from there"
        raise OSError(f"could not save in {folder}: {reason}; the fitted model {remedy}") from error


def _saved_elsewhere(
    model: Model, folder: Path, record: dict[str, Any], half: bool, registries: Registries
) -> Path | None:
    """Save the model beside the folder or in the folder for temporary files; None if neither works."""
    beside = folder.with_name(f"{folder.name}-{secrets.token_hex(3)}")
    with suppress(OSError, ValueError):
        save_model(model, beside, record, half=half, overwrite=False, registries=registries)
        return beside
    with suppress(OSError, ValueError):
        scratch = Path(tempfile.mkdtemp(prefix="pgm_rnn-"))
        try:
            save_model(model, scratch / folder.name, record, half=half, overwrite=False, registries=registries)
            return scratch / folder.name
        except BaseException:
            scratch.rmdir()
            raise
    return None


def _is_of_run(place: Path, resumed: Path | None) -> bool:
    """Whether a saved model comes from the run whose checkpoints are in a folder."""
    if resumed is None or not (resumed / CHECKPOINT).is_file():
        return False
    with suppress(StorageError):
        fit = describe(place).info.get("fit")
        noted = fit.get("checkpoint") if isinstance(fit, dict) else None
        return isinstance(noted, str) and Path(noted).resolve() == resumed.resolve()
    return False


def _can_be_changed(place: Path) -> bool:
    """Whether a file can be created in an existing folder, found out by trying."""
    try:
        with in_turn(place):
            return True
    except OSError:
        return False
