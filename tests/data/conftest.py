import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

ORIGINALS = Path(os.environ.get("PGM_RNN_DATA") or Path(__file__).parents[3] / "shared" / "data" / "raw")


@pytest.fixture(autouse=True)
def no_user_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGM_RNN_DATA", raising=False)


@pytest.fixture
def originals() -> Path:
    names = ("JSB_Chorales.mat", "Nottingham.mat", "tinyshakespeare.txt")
    if not all((ORIGINALS / name).is_file() for name in names):
        pytest.skip(f"{', '.join(names)} are not in {ORIGINALS}; name their folder in PGM_RNN_DATA")
    return ORIGINALS


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
