"""Executes lessons in kernels of their own, and keeps notebooks with outputs and pictures in build/lessons.

    build/lessons/NN-name.ipynb        what the lesson shows, in full
    build/lessons/short/NN-name.ipynb  the same in the short form
    build/lessons/figures/NN-name-1.svg, ...

A notebook there is used again as long as its source is the present one: `make docs` shows the full form where
`make lessons` has run, and otherwise the short form.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tools.lessons import ROOT, Notebook, read, shortened, solutions

BUILD = ROOT / "build" / "lessons"
TIMEOUT = 600
"""Seconds that one cell may take."""
LONGEST = 120
"""Seconds that a lesson should take on two cores."""
MOST = 300_000
"""Bytes of a lesson with its outputs."""
MOST_WITH_SOUND = 1_000_000
SETUP = """
from matplotlib_inline.backend_inline import set_matplotlib_formats
set_matplotlib_formats("svg", metadata={"Date": None}, bbox_inches="tight")
"""
"""Runs before the first cell of a lesson and is no part of it: pictures are SVG."""


SOLUTION = "exec(compile({source!r}, 'solution', 'exec'), dict(globals()))"
"""Runs after the last cell and is no part of the lesson either: a solution, which sees the lesson's names."""


def run_all(paths: Sequence[Path], *, short: bool = False) -> int:
    """Execute lessons, print their times and sizes, and return 1 if one of them failed or is too large."""
    faults = 0
    for path in paths:
        start = time.perf_counter()
        try:
            notebook = executed(path, short=short, anew=True)
        except Exception as error:
            print(f"{path.stem}: failed\n{error}", flush=True)
            faults += 1
            continue
        seconds, size = time.perf_counter() - start, len(nbformat.writes(notebook))
        slow = "" if seconds <= LONGEST else f"  more than the {LONGEST} s of a lesson"
        large = f"  more than {largest(notebook) // 1000} kB" if size > largest(notebook) else ""
        print(f"{path.stem:40} {seconds:6.1f} s {size / 1000:6.0f} kB{slow}{large}", flush=True)
        faults += bool(large)
    return int(faults > 0)


def largest(notebook: Notebook) -> int:
    """The bytes that a notebook may have: more with sound."""
    return MOST_WITH_SOUND if "<audio" in nbformat.writes(notebook) else MOST


def ready(paths: Sequence[Path]) -> list[tuple[Notebook, bool]]:
    """A notebook with outputs for each source, and whether it is the short form, two lessons at a time."""
    in_full = {path: kept(path, short=False) for path in paths}
    missing = [path for path in paths if in_full[path] is None]
    with ThreadPoolExecutor(2) as pool:
        in_short = dict(zip(missing, pool.map(partial(executed, short=True, threads=1), missing), strict=True))
    return [(in_short[path], True) if path in in_short else (in_full[path], False) for path in paths]


def executed(path: Path, *, short: bool, anew: bool = False, threads: int | None = None) -> Notebook:
    """The notebook of a source with its outputs: what is kept, or that of a run in a new kernel.

    Args:
        path: the source.
        short: whether to run the short form.
        anew: whether to run it even if there is a kept one.
        threads: number of torch's threads in the kernel; None for torch's choice.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    found = None if anew else kept(path, short=short)
    if found is not None:
        return found
    notebook = shortened(read(path)) if short else read(path)
    count = len(notebook.cells)
    checks = [nbformat.v4.new_code_cell(SOLUTION.format(source=source)) for source in solutions(notebook)]
    notebook.cells = [nbformat.v4.new_code_cell(SETUP), *notebook.cells, *checks]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    client = NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3")
    variables = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    client.execute(cwd=str(path.parent), env={**os.environ, **variables, "PYTHONPATH": paths})
    del notebook.cells[0], notebook.cells[count:]
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
    notebook.metadata["source"] = digest(path)
    place = kept_in(path, short=short)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(nbformat.writes(notebook), encoding="utf-8")
    if not short:
        write_figures(notebook, path.stem)
    return notebook


def kept(path: Path, *, short: bool) -> Notebook | None:
    """The notebook of an earlier run of this very source."""
    place = kept_in(path, short=short)
    if not place.is_file():
        return None
    notebook = nbformat.read(place, as_version=4)
    return notebook if notebook.metadata.get("source") == digest(path) else None


def kept_in(path: Path, *, short: bool) -> Path:
    """Where the notebook of a run is."""
    return (BUILD / "short" if short else BUILD) / f"{path.stem}.ipynb"


def digest(path: Path) -> str:
    """SHA-256 of a source."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_figures(notebook: Notebook, name: str) -> None:
    """Write every picture of a lesson as an SVG file."""
    folder = BUILD / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}-*.svg"):
        old.unlink()
    for number, svg in enumerate(figures(notebook), start=1):
        (folder / f"{name}-{number}.svg").write_text(svg, encoding="utf-8")


def figures(notebook: Notebook) -> list[str]:
    """The pictures of a lesson, in their order."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return [output.data["image/svg+xml"] for output in outputs if "image/svg+xml" in output.get("data", {})]
