import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

DATA = Path(os.environ.get("PGM_RNN_DATA") or Path(__file__).parents[3] / "shared" / "data")
ORIGINALS = ("JSB_Chorales.mat", "Nottingham.mat", "tinyshakespeare.txt")
PACKED = ("japanese_vowels.npz", "kanji_strokes.npz", "pen_digits.npz", "small_series.npz")
UTTERANCES = ("JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts")


def folder_with(*names: str) -> Path:
    """PGM_RNN_DATA, a folder in it or the one around it, whichever holds these files; the test is skipped if none."""
    around = [DATA, *sorted(DATA.glob("*/")), DATA.parent]
    found = next((folder for folder in around if all((folder / name).is_file() for name in names)), None)
    if found is None:
        pytest.skip(f"{', '.join(names)} are not in {DATA}; name their folder in PGM_RNN_DATA")
    return found


@pytest.fixture(autouse=True)
def no_user_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGM_RNN_DATA", raising=False)


@pytest.fixture
def originals() -> Path:
    return folder_with(*ORIGINALS)


@pytest.fixture
def packed() -> Path:
    return folder_with(*PACKED)


@pytest.fixture
def utterances() -> Path:
    return folder_with(*UTTERANCES)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The name of a folder that is not there yet."""
    return tmp_path / "cache"


@pytest.fixture
def closed_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a port that is taken and where nobody listens."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
