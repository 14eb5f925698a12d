"""Folders as version 0.1.0 wrote them, made of those that the present code writes."""

import json
from pathlib import Path
from typing import Any

from pgm_rnn.storage import DESCRIPTION


def without_digests(folder: Path) -> None:
    """Rewrite a saved model's model.json in version 1, without digests, as the earliest files are."""
    path = folder / DESCRIPTION
    path.write_text(json.dumps(in_version_1(json.loads(path.read_text()))))


def in_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a model.json of version 2 in version 1, without digests."""
    options = {name: _option(value) for name, value in content["arguments"].items()}
    kept = {key: content[key] for key in ("format", "name", "dtype", "pgm_rnn", "info")}
    return {**kept, "version": 1, "options": options}


def _option(argument: Any) -> Any:
    if not isinstance(argument, dict):
        return argument
    return {"family": argument["family"]["name"], **argument["family"]["arguments"]}
