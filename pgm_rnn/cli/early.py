"""Wrong names are answered, and names completed, before torch is imported.

The names are those of `cli.names`, or of the registries that the command line was built for.
"""

import difflib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from pgm_rnn.checks import check_choice
from pgm_rnn.cli import names

MANIFEST = Path(__file__).parents[1] / "zoo" / "manifest.json"
"""The list of trained models, which is read without importing the zoo."""

NUM_CLOSE = 3
"""Largest number of names that are suggested in place of a wrong one."""
Complete = Callable[[typer.Context, str], list[str]]


def names_of(context: typer.Context, kind: str) -> Sequence[str]:
    """Names of the entries of one registry that the command line was built for.

    Args:
        context: context of the command.
        kind: "datasets", "models" or "claims".
    """
    imported = sys.modules.get("pgm_rnn.registries")  # then it knows what was added to it since
    registries = context.obj or getattr(imported, "OWN", None)
    if registries is not None:
        return list(getattr(registries, kind))
    return {"datasets": names.DATASETS, "models": names.MODELS, "claims": names.CLAIMS}[kind]


def trained_models() -> list[str]:
    """Names of the trained models that come with the package."""
    return sorted(json.loads(MANIFEST.read_text(encoding="utf-8")))


def check_name(context: typer.Context, name: str, value: str, kind: str) -> None:
    """Check that a registry has an entry of this name.

    Raises:
        ValueError: it has none; the closest name is suggested.
    """
    check_choice(name, value, names_of(context, kind))


def check_claim(context: typer.Context, value: str) -> None:
    """Check that there is a claim of this name.

    Raises:
        ValueError: there is none; up to three names that are close are suggested, and the command that lists all.
    """
    claims = names_of(context, "claims")
    if value in claims:
        return
    wanted = value.lower()
    close = [name for name in claims if wanted and wanted in name][:NUM_CLOSE]
    close += [name for name in difflib.get_close_matches(wanted, claims, n=NUM_CLOSE) if name not in close]
    hint = f"did you mean {' or '.join(map(repr, close[:NUM_CLOSE]))}? " if close else ""
    raise ValueError(
        f"expected the name of a claim, got {value!r}; {hint}pgm-rnn explain --list shows all {len(claims)} claims"
    )


def check_data(context: typer.Context, value: str) -> None:
    """Check that `--data` is the name of a data set or an existing file.

    Raises:
        ValueError: it is neither; the closest name is suggested.
    """
    datasets = sorted(names_of(context, "datasets"))
    if value not in datasets and not Path(value).exists():
        check_choice("--data", value, [*datasets, "or an existing file"])


def check_saved(folder: Path) -> None:
    """Check that something is at `folder`, or that it is the name of a trained model.

    Raises:
        ValueError: neither; the closest name of a trained model is suggested.
    """
    trained = trained_models()
    if folder.exists() or str(folder) in trained:
        return
    for close in difflib.get_close_matches(str(folder), trained, n=1, cutoff=0.8):
        raise ValueError(f"expected the folder of a saved model, got {folder}; did you mean the trained {close}?")
    raise ValueError(
        f"expected a saved model in a folder, got no file {folder / 'model.json'}; check the name, or use a trained "
        f"model, such as {trained[0]}"
    )


def complete(kind: str) -> Complete:
    """A function that completes names of a registry, for an option or argument's `autocompletion`."""

    def completed(context: typer.Context, incomplete: str) -> list[str]:
        return [name for name in sorted(names_of(context, kind)) if name.startswith(incomplete)]

    return completed


def complete_among(names: Sequence[str]) -> Complete:
    """A function that completes fixed names."""

    def completed(context: typer.Context, incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return completed


def complete_data(context: typer.Context, incomplete: str) -> list[str]:
    """Names of data sets, or files and folders, that begin so."""
    found = [name for name in sorted(names_of(context, "datasets")) if name.startswith(incomplete)]
    return found + complete_files(incomplete)


def complete_saved(context: typer.Context, incomplete: str) -> list[str]:
    """Folders, or names of trained models, that begin so."""
    folders = [path for path in complete_files(incomplete) if path.endswith("/")]
    return folders + [name for name in trained_models() if name.startswith(incomplete)]


def complete_files(incomplete: str) -> list[str]:
    """Files, and folders with a slash at their ends, that begin so; hidden ones are left out."""
    folder, _, start = incomplete.rpartition("/")
    place = Path(folder or ("/" if incomplete.startswith("/") else "."))
    if not place.is_dir():
        return []
    before = incomplete[: len(incomplete) - len(start)]
    found = [path for path in sorted(place.iterdir()) if path.name.startswith(start or "") and path.name[0] != "."]
    return [f"{before}{path.name}{'/' if path.is_dir() else ''}" for path in found]
