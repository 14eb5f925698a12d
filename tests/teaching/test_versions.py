"""The course that is written: what is in it, and that each version does its work."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgm_rnn.teaching.versions import write_course
from pgm_rnn.teaching.versions.nbgrader import indented, nbgrader_notebook
from tests.teaching.submissions import NAMES, WRONG, assignment_of, read_wrong, solved


def cells_of(text: str) -> list[Any]:
    return list(json.loads(text)["cells"])


def test_a_course_has_all_versions_of_each_assignment(tmp_path: Path) -> None:
    write_course(tmp_path, map(assignment_of, NAMES))
    for name in NAMES:
        for path in (
            f"student/{name}/{name}.ipynb",
            f"student/{name}/{name}.py",
            f"plain/{name}/test_{name.replace('-', '_')}.py",
            f"nbgrader/source/{name}/{name}.ipynb",
            f"otter/{name}/{name}.ipynb",
            f"instructor/{name}/solution.ipynb",
            f"instructor/{name}/rubric.md",
        ):
            text = (tmp_path / path).read_text(encoding="utf-8")
            assert len(text) > 1000
            if path.endswith(".ipynb"):
                assert json.loads(text)["nbformat"] == 4
            elif path.endswith(".py"):
                ast.parse(text)
    assert f"| {NAMES[0]}: " in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_nbgraders_notebook_has_its_metadata_and_all_points(name: str) -> None:
    assignment = assignment_of(name)
    cells = cells_of(nbgrader_notebook(assignment))
    told = [cell["metadata"]["nbgrader"] for cell in cells if "nbgrader" in cell["metadata"]]
    assert len({one["grade_id"] for one in told}) == len(told)
    assert sum(one.get("points", 0) for one in told if one["grade"]) == assignment.points
    assert {one["schema_version"] for one in told} == {3}
    for cell in cells:
        source = "".join(cell["source"])
        one = cell["metadata"].get("nbgrader", {})
        assert ("BEGIN HIDDEN TESTS" in source) == (bool(one.get("grade")) and not one.get("solution"))
        assert ("BEGIN SOLUTION" in source) <= one.get("solution", False)


@pytest.mark.nightly
def test_pytest_grades_a_submission_of_the_plain_folder(tmp_path: Path) -> None:
    assignment = assignment_of("elbo-equivalence")
    write_course(tmp_path, [assignment])
    wrong = next(wrong for wrong in map(read_wrong, WRONG) if wrong.assignment == assignment.name)
    (tmp_path / "ada.py").write_text(solved(assignment, wrong.cells, "ada"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "plain/elbo-equivalence")]
    done = subprocess.run(
        [*command, "--submission", str(tmp_path / "ada.py")], cwd=tmp_path, capture_output=True, text=True
    )
    expected = {**assignment.parts, **wrong.points}
    for part, points in expected.items():
        assert f"{part}: {points:g} of {assignment.parts[part]:g} points" in done.stdout
    assert f"coded parts: {sum(expected.values()):g} of {sum(assignment.parts.values()):g} points" in done.stdout
    lacking = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (lacking.returncode, "expected --submission FILE, got None" in lacking.stdout) == (2, True)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_states_the_minutes_and_points_of_each_assignment(name: str) -> None:
    assignment = assignment_of(name)
    page = (Path(__file__).parents[2] / "docs" / "assignments.md").read_text(encoding="utf-8")
    assert f"| `{name}` | {assignment.minutes} | {assignment.points:g} |" in page


def test_a_hidden_test_of_nbgrader_leaves_the_students_names_alone() -> None:
    for name in NAMES:
        for cell in cells_of(nbgrader_notebook(assignment_of(name))):
            source = "".join(cell["source"])
            if "BEGIN HIDDEN TESTS" in source:
                assert [type(node).__name__ for node in ast.parse(source).body] == ["FunctionDef", "Expr"]


def test_lines_of_a_string_are_not_indented() -> None:
    source = 'a = """one\ntwo"""\nif a:\n\n    b = a'
    scope: dict[str, Any] = {}
    exec(f"def f():\n{indented(source)}\n    return b", scope)
    assert scope["f"]() == "one\ntwo"
