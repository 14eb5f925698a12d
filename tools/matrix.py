"""Runs the tests on every supported Python that this machine has, each with the newest packages that resolve.

    python tools/matrix.py [--tree FOLDER] [--python VERSION] [pytest's arguments]

Every interpreter has its own environment in .matrix/, created on first use and upgraded at every run. Only torch is
pinned, because its newest release may be many gigabytes; the environment variable TORCH holds the requirement for pip,
such as "torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu".
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".matrix"
VERSIONS = ("3.11", "3.12", "3.13")
SHOWN = ("torch", "numpy", "scipy", "arviz", "numba")
"""Packages whose versions are in the table."""

_WHICH = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
_INSTALLED = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"


class Row(NamedTuple):
    """The table's row for one version of Python: the packages' versions, pytest's last line, whether all passed."""

    version: str
    packages: dict[str, str]
    result: str
    passed: bool | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Test on each interpreter, print the table, and return 0 if there is one and none failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=ROOT, help="the source tree to install and test")
    parser.add_argument("--python", action="append", choices=VERSIONS, help="only this version; may be repeated")
    options, pytest_options = parser.parse_known_args(arguments)
    versions = options.python or VERSIONS
    found = interpreters(versions)
    rows = []
    for version in versions:
        python = found.get(version)
        rows.append(
            Row(version, {}, "no such interpreter here", None)
            if python is None
            else tested(version, python, options.tree.resolve(), pytest_options)
        )
    print("\n" + table(rows))
    return int(not any(row.passed for row in rows) or any(row.passed is False for row in rows))


def interpreters(versions: Sequence[str] = VERSIONS) -> dict[str, Path]:
    """The first interpreter of each version that runs and can make environments."""
    found = {}
    for version in versions:
        for path in candidates(version):
            if path.is_file() and answer(path) == version:
                found[version] = path
                break
    return found


def candidates(version: str) -> Iterator[Path]:
    """Candidate interpreters: the running one, those on the search path, then pyenv's."""
    yield Path(sys.executable)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield Path(folder) / f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)


def answer(python: Path) -> str | None:
    """The version that an interpreter reports, None if it does not run, such as a shim without a version."""
    try:
        done = subprocess.run([python, "-c", _WHICH], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def tested(version: str, python: Path, tree: Path, pytest_options: Sequence[str]) -> Row:
    """Install a tree and its newest dependencies, and run its tests; the output goes to .matrix/VERSION.log."""
    log = FOLDER / f"{version}.log"
    FOLDER.mkdir(exist_ok=True)
    print(f"Python {version}: {python}, log in {log}", flush=True)
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as out:
        try:
            binaries = environment(version, python, tree, out)
        except subprocess.CalledProcessError as error:
            return Row(version, {}, f"not installed: {shlex.join(map(str, error.cmd))} failed, see {log}", False)
        packages = json.loads(
            subprocess.run(
                [str(binaries / "python"), "-c", _INSTALLED, *SHOWN], check=True, capture_output=True, text=True
            ).stdout
        )
        variables = os.environ | {"PYTHONPATH": str(tree), "OMP_WAIT_POLICY": "PASSIVE"}
        command = [str(binaries / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *pytest_options]
        status = subprocess.run(command, cwd=tree, env=variables, stdout=out, stderr=subprocess.STDOUT).returncode
    minutes = (time.monotonic() - start) / 60
    return Row(version, packages, f"{last_line(log)}; {minutes:.0f} minutes in all", status == 0)


def environment(version: str, python: Path, tree: Path, out: TextIO) -> Path:
    """Create or upgrade the environment with the tree and the newest packages; returns its folder of programs."""
    folder = FOLDER / version
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    torch = os.environ.get("TORCH") or pinned_torch()
    pin = FOLDER / "torch.txt"
    pin.write_text(next(w for w in shlex.split(torch) if w.startswith("torch")) + "\n", encoding="utf-8")
    pip: list[str | Path] = [binaries / "python", "-m", "pip", "install", "--disable-pip-version-check"]
    commands: list[list[str | Path]] = [
        [*pip, "--upgrade", "pip"],
        [*pip, *shlex.split(torch)],
        [*pip, "--upgrade", "--upgrade-strategy", "eager", "-c", pin, "-e", f"{tree}[dev]"],
    ]
    if not (binaries / "python").exists():
        commands.insert(0, [python, "-m", "venv", folder])
    for command in commands:
        subprocess.run([str(part) for part in command], check=True, stdout=out, stderr=subprocess.STDOUT)
    return binaries


def pinned_torch() -> str:
    """The requirement of torch in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def last_line(log: Path) -> str:
    """Pytest's summary, such as "2890 passed, 36 skipped in 660.12s"."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip("= ") for line in reversed(lines) if line.strip()), "no output")


def table(rows: Sequence[Row]) -> str:
    """One line for each version, in columns."""
    cells = [["Python", *SHOWN, "tests"]]
    for row in rows:
        mark = {True: "", False: "FAILED: ", None: ""}[row.passed]
        cells.append([row.version, *(row.packages.get(name, "-") for name in SHOWN), mark + row.result])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]) - 1)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[-1]]) for line in cells]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
