"""nbgrader and Otter grade every assignment: full marks for the solution, none for a blank one. Both are run as a
lecturer runs them, where they are installed.
"""

import csv
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from pgm_rnn.teaching.versions import write_course
from tests.teaching.submissions import NAMES, assignment_of

pytestmark = pytest.mark.nightly
ROOT = Path(__file__).parents[2]


def run(folder: Path, *command: str) -> str:
    """What a module's command says, in a folder, with this package and interpreter."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=variables, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def write_signed(path: Path, to: Path) -> None:
    """A copy of a notebook with a name in it, as a student writes it; Otter's solution has one."""
    text, count = re.subn(r'NAME = (\\"\\"|\.\.\.)', r'NAME = \\"ada\\"', path.read_text(encoding="utf-8"))
    assert count == 1 or "# SOLUTION" in text
    to.write_text(text, encoding="utf-8")


@pytest.mark.skipif(find_spec("nbgrader") is None, reason="nbgrader is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_nbgrader_gives_the_solution_full_marks_and_a_blank_none(name: str, tmp_path: Path) -> None:
    assignment = assignment_of(name)
    write_course(tmp_path, [assignment])
    folder = tmp_path / "nbgrader"
    run(folder, "nbgrader", "generate_assignment", name)
    sources = {"ada": folder / "source", "blank": folder / "release"}
    for student, source in sources.items():
        place = folder / "submitted" / student / name
        place.mkdir(parents=True)
        write_signed(source / name / f"{name}.ipynb", place / f"{name}.ipynb")
    run(folder, "nbgrader", "autograde", name)
    run(folder, "nbgrader", "export", "--to", "grades.csv")
    with (folder / "grades.csv").open(encoding="utf-8") as file:
        scores = {row["student_id"]: float(row["raw_score"]) for row in csv.DictReader(file)}
    coded = sum(assignment.parts.values())
    assert scores == {"ada": coded, "blank": 0.0}  # a person reads the written answers


@pytest.mark.skipif(find_spec("otter") is None, reason="otter-grader is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_otter_gives_the_solution_full_marks_and_a_blank_none(name: str, tmp_path: Path) -> None:
    assignment = assignment_of(name)
    write_course(tmp_path, [assignment])
    folder = tmp_path / "otter" / name
    run(folder, "otter", "assign", "--no-run-tests", f"{name}.ipynb", "made")
    (autograder,) = (folder / "made" / "autograder").glob("*.zip")
    points = []
    for version in ("autograder", "student"):
        signed = folder / f"{version}.ipynb"
        write_signed(folder / "made" / version / f"{name}.ipynb", signed)
        points.append(_otters_points(folder, autograder, signed))
    assert points == [sum(assignment.parts.values()), 0.0]


def _otters_points(folder: Path, autograder: Path, submission: Path) -> float:
    out = folder / "results"
    out.mkdir(exist_ok=True)
    run(folder, "otter", "run", "-a", str(autograder), "-o", str(out), "--no-logo", str(submission))
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return float(sum(test.get("score", 0.0) for test in results["tests"]))
