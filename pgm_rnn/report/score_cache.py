"""Scores of trained models on test sets, kept in the user's cache folder so that a leaderboard is not computed twice.

A score's key is the digest of the model's files, of the test set, of the package's version, and of the bound with its
number of particles; whatever differs, the score is computed anew.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pooch

from pgm_rnn.files import write_whole
from pgm_rnn.sequences import Sequences
from pgm_rnn.version import __version__
from pgm_rnn.zoo.entries import CONFIG, TENSORS
from pgm_rnn.zoo.publication import read_published


class Score(NamedTuple):
    """What one evaluation gave.

    Attributes:
        nats_per_step: score on the test set.
        standard_error: standard error over sequences.
        bound: "exact", or the name of the bound or estimate, as `svi.evaluate` gives it.
        seconds: time of the evaluation.
    """

    nats_per_step: float
    standard_error: float
    bound: str
    seconds: float


def folder() -> Path:
    """The folder of the scores: `scores` in the user's cache folder."""
    return Path(pooch.os_cache("pgm_rnn")) / "scores"


def key_of(entry: str, home: Path, test: Sequences, bound: str, num_particles: int) -> str:
    """The digest of everything that a score depends on."""
    digest = hashlib.sha256(f"{__version__} {bound} {num_particles}".encode())
    for name, content in sorted(read_published(entry, (CONFIG, TENSORS), home).items()):
        digest.update(f"{name} {len(content)} ".encode() + content)
    for tensor in (test.x, test.lengths, *(part for part in (test.inputs, test.observed) if part is not None)):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def find(key: str) -> Score | None:
    """The score that was kept under a key; None if there is none or its file is damaged."""
    with suppress(OSError, ValueError, TypeError):
        found = Score(**json.loads((folder() / f"{key}.json").read_text(encoding="utf-8")))
        if isinstance(found.bound, str):
            return Score(float(found.nats_per_step), float(found.standard_error), found.bound, float(found.seconds))
    return None


def keep(key: str, score: Score) -> None:
    """Keep a score; a folder that cannot be written to keeps none."""
    with suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True)
        write_whole(folder() / f"{key}.json", json.dumps(score._asdict()).encode())
