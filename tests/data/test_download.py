import gc
import hashlib
import io
import logging
import re
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import cast

import pooch
import pytest

from pgm_rnn.data import DataError
from pgm_rnn.data.source import SourceFile, fetch

CONTENTS = bytes(range(256)) * 64
TAMPERED = CONTENTS[:-1] + b"?"
FILE = SourceFile("numbers.bin", "owner/repository/commit/upstream.bin", hashlib.sha256(CONTENTS).hexdigest())


class Server(ThreadingHTTPServer):
    """Serves `body` where FILE is upstream, 404 if there is none; `cut_short` closes the connection half-way."""

    body: bytes | None = CONTENTS
    cut_short = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requested: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = cast(Server, self.server)
        server.requested.append(self.path)
        if server.body is None or self.path != f"/{FILE.path}":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body[: len(server.body) // 2] if server.cut_short else server.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What pooch's logger lets through."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    collector = Collector()
    pooch.get_logger().addHandler(collector)
    yield messages
    pooch.get_logger().removeHandler(collector)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def failure(url: str, cache: Path, reason: str) -> str:
    """The sentence that is expected, as a pattern in which only `reason` is one."""
    head = re.escape(f"could not download {url}/{FILE.path} into {cache} ")
    return rf"^{head}\({reason}\); put numbers\.bin into a folder yourself and name that folder in PGM_RNN_DATA$"


def test_a_file_is_downloaded_under_its_own_name_and_alone(cache: Path, server: Server) -> None:
    path = fetch(FILE, cache=cache, base_url=server.url)
    assert path == cache / "numbers.bin"
    assert path.read_bytes() == CONTENTS
    assert files_in(cache) == ["numbers.bin"]


def test_a_second_call_does_not_download_again(cache: Path, server: Server) -> None:
    first = fetch(FILE, cache=cache, base_url=server.url)
    assert fetch(FILE, cache=cache, base_url=server.url) == first
    assert server.requested == [f"/{FILE.path}"]


def test_a_missing_page_leaves_nothing(cache: Path, server: Server) -> None:
    server.body = None
    with pytest.raises(DataError, match=failure(server.url, cache, "HTTP status 404")):
        fetch(FILE, cache=cache, base_url=server.url)
    assert files_in(cache) == []


def test_a_tampered_download_leaves_nothing(cache: Path, server: Server) -> None:
    server.body = TAMPERED
    reason = f"its contents do not have SHA-256 {FILE.sha256}"
    with pytest.raises(DataError, match=failure(server.url, cache, reason)):
        fetch(FILE, cache=cache, base_url=server.url)
    assert files_in(cache) == []


def test_an_interrupted_download_leaves_nothing(cache: Path, server: Server) -> None:
    server.cut_short = True
    with pytest.raises(DataError, match=failure(server.url, cache, ".+")):
        fetch(FILE, cache=cache, base_url=server.url)
    assert files_in(cache) == []


def test_a_refused_connection_leaves_nothing(cache: Path, closed_url: str) -> None:
    with pytest.raises(DataError, match=failure(closed_url, cache, "ConnectionError")):
        fetch(FILE, cache=cache, base_url=closed_url)
    assert files_in(cache) == []


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file").touch()
    cache = tmp_path / "file" / "cache"
    with pytest.raises(DataError, match=failure(server.url, cache, ".+")):
        fetch(FILE, cache=cache, base_url=server.url)
    assert server.requested == []


def test_a_failed_download_keeps_no_connection_open(cache: Path, server: Server) -> None:
    server.body = None
    with pytest.raises(DataError, match="HTTP status 404"):
        fetch(FILE, cache=cache, base_url=server.url)
    gc.collect()  # an open socket would warn here, and warnings are errors


def test_a_download_says_nothing_and_leaves_pooch_as_talkative_as_before(
    cache: Path, server: Server, log: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    def retrieve(name: str) -> None:
        pooch.retrieve(f"{server.url}/{FILE.path}", FILE.sha256, fname=name, path=cache)

    retrieve("before.bin")
    assert len(log) == 1
    capfd.readouterr()
    fetch(FILE, cache=cache, base_url=server.url)
    assert len(log) == 1
    assert capfd.readouterr() == ("", "")
    retrieve("after.bin")
    assert len(log) == 2


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (io.StringIO(), False), (None, False)])
def test_a_progress_bar_is_for_terminals(
    cache: Path, server: Server, stream: io.StringIO | None, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    fetch(FILE, cache=cache, base_url=server.url)
    assert ("100%" in stream.getvalue() if stream else False) == shown
