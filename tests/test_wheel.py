"""What an installed package holds: all modules but the tools of development, and nothing that imports those."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fresh import with_all

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FOLDERS = {"pgm_rnn": ROOT / "pgm_rnn", "pgm_rnn/models": ROOT / "models", "pgm_rnn/inference": ROOT / "inference"}
DEVELOPMENT = {"pgm_rnn/zoo/make.py", "pgm_rnn/zoo/recipes.py"}
ASSIGNMENTS = ROOT / "tutorials" / "assignments"
TOOLS = {"pgm_rnn.zoo.make", "pgm_rnn.zoo.recipes", "tools"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that setuptools fills for a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def modules(folder: Path) -> set[str]:
    """Modules, without the sources of assignments, which are data."""
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    return {path for path in paths if not path.startswith("pgm_rnn/teaching/assignments/")}


def test_the_wheel_holds_every_module_but_the_tools_of_development(built: Path) -> None:
    there = set()
    for package, folder in FOLDERS.items():
        for parent, _, files in os.walk(folder):  # follows no links
            there |= {f"{package}/{(Path(parent) / name).relative_to(folder)}" for name in files if name[-3:] == ".py"}
    assert there >= DEVELOPMENT
    assert modules(built) == there - DEVELOPMENT
    assert {path.name for path in built.iterdir()} == {"pgm_rnn"}
    assert (built / "pgm_rnn" / "py.typed").is_file()
    assert (built / "pgm_rnn" / "zoo" / "manifest.json").is_file()


def test_the_wheel_holds_the_assignments_and_no_wrong_answers(built: Path) -> None:
    installed = built / "pgm_rnn" / "teaching" / "assignments"
    there = {path.relative_to(installed).as_posix(): path for path in installed.rglob("*") if path.is_file()}
    assert set(there) == {path.relative_to(ASSIGNMENTS).as_posix() for path in ASSIGNMENTS.glob("*/assignment.py")}
    assert all(path.read_bytes() == (ASSIGNMENTS / name).read_bytes() for name, path in there.items())


@pytest.mark.nightly
def test_a_course_is_made_from_the_wheel_solved_and_graded(built: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(built), "COLUMNS": "100"}

    def run(arguments: str) -> str:
        command = [sys.executable, "-W", "ignore", "-m", "pgm_rnn", *arguments.split()]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "elbo-equivalence: 88 points, 120 minutes" in run("course --out course")
    (tmp_path / "handed-in").mkdir()
    shutil.copy(
        tmp_path / "course/instructor/elbo-equivalence/solution.ipynb", tmp_path / "handed-in/Ada Lovelace.ipynb"
    )
    shutil.copy(tmp_path / "course/student/elbo-equivalence/elbo-equivalence.py", tmp_path / "handed-in/bob.py")
    assert "2 graded" in run("grade elbo-equivalence handed-in --out grades.csv")
    rows = (tmp_path / "grades.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [
        ["Ada Lovelace", "Ada Lovelace.ipynb", "74"],
        ["bob", "bob.py", "0"],
    ]


def imported_anywhere(path: Path) -> set[str]:
    """Modules that a file imports at any place in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_nothing_in_the_wheel_imports_what_is_not_in_it(built: Path) -> None:
    for name in modules(built):
        tools = {module for module in imported_anywhere(built / name) if module.split(".")[0] == "tools"}
        assert not tools | (imported_anywhere(built / name) & TOOLS), name
    makers = imported_anywhere(ROOT / "pgm_rnn" / "zoo" / "make.py")
    assert "pgm_rnn.zoo.recipes" in makers  # what is looked for would be found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("verify --quick --claim remark-1", "remark-1"),
        ("explain figure-4-is-figure-3", "figure-4-is-figure-3"),
        ("fit tagger --help", "embedding-dim"),
        ("leaderboard --help", "leaderboard"),
        ("grade --help", "SUBMISSIONS"),
        ("--version", "pgm-rnn"),
        ("--show-completion bash", "complete_bash"),
    ],
)
def test_commands_run_without_the_tools(arguments: str, said: str, built: Path, tmp_path: Path) -> None:
    untold = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # a test may run under no shell
    environment = os.environ | {"PYTHONPATH": str(built), "COLUMNS": "100"} | untold
    done = with_all().module("pgm_rnn", *arguments.split(), folder=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_a_wrong_name_is_answered_from_the_lists_in_the_wheel(built: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(built)}
    done = with_all().module("pgm_rnn", "sample", "hmm-jsb-17", folder=tmp_path, environment=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean the trained hmm-jsb-16?" in done.stderr


def test_an_entry_is_made_again_from_a_checkout_alone(built: Path, tmp_path: Path) -> None:
    code = "from pgm_rnn.zoo.make import make; print(make.__module__)"
    found = {}
    for tree in (ROOT, built):
        environment = os.environ | {"PYTHONPATH": str(tree)}
        done = with_all().code(code, tmp_path, environment)
        found[tree] = (done.returncode, done.stdout.strip(), done.stderr.splitlines()[-1:])
    assert found[ROOT][:2] == (0, "pgm_rnn.zoo.make")
    assert found[built][0] == 1
    assert found[built][2] == ["ModuleNotFoundError: No module named 'pgm_rnn.zoo.make'"]
