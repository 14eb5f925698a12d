import os
import stat
import sys
from pathlib import Path

import pytest

from tools import matrix

PRESENT = "{}.{}".format(*sys.version_info[:2])


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_interpreter_that_runs_the_tests_is_found() -> None:
    assert matrix.interpreters([PRESENT]) == {PRESENT: Path(sys.executable)}


def test_a_shim_that_does_not_run_is_passed_over_for_the_next_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "shims" / "python3.99", "echo 'pyenv: python3.99: command not found' >&2; exit 127")
    program(tmp_path / "old" / "python3.99", "echo 3.98")
    real = program(tmp_path / "pyenv" / "versions" / "3.99.1" / "bin" / "python", "echo 3.99")
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in ("shims", "old", "nowhere")))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert matrix.interpreters(["3.99", "3.100"]) == {"3.99": real}


def test_torch_is_pinned_where_make_pins_it() -> None:
    assert matrix.pinned_torch().startswith("torch==")
    assert "TORCH ?= $(shell grep ^torch== constraints.txt)" in (matrix.ROOT / "Makefile").read_text(encoding="utf-8")


def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int) -> None:
    """An interpreter whose environment needs no network and whose tests end with `status`."""
    binaries = tmp_path / "bin"
    python = f'case "$2" in pytest) echo "3 passed in 1.00s"; exit {status};; *) echo "{{}}";; esac'
    program(binaries / "python", python)
    monkeypatch.setattr(matrix, "FOLDER", tmp_path / "out")
    monkeypatch.setattr(matrix, "environment", lambda *arguments: binaries)
    monkeypatch.setattr(matrix, "interpreters", lambda versions: {"3.12": Path(sys.executable)})


def test_the_table_has_a_line_for_every_version_and_tells_of_those_that_are_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, tmp_path, 0)
    assert matrix.main([]) == 0
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert [line.split()[0] for line in lines] == ["Python", "3.11", "3.12", "3.13"]
    assert lines[1].endswith("no such interpreter here")
    assert "3 passed in 1.00s" in lines[2]


def test_tests_that_fail_are_marked_and_give_the_exit_status_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, tmp_path, 1)
    assert matrix.main(["--python", "3.12"]) == 1
    assert "FAILED: 3 passed" in capsys.readouterr().out


def test_no_interpreter_at_all_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake(monkeypatch, tmp_path, 0)
    assert matrix.main(["--python", "3.13"]) == 1
