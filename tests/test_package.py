import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import pgm_rnn

ROOT = Path(__file__).parents[1]
ABOVE_KERNELS = (
    "models",
    "inference",
    "claims",
    "experiments",
    "data",
    "graph",
    "programs",
    "sequence_model",
    "emissions",
)
PACKAGES = {"pgm_rnn": ROOT / "pgm_rnn", "pgm_rnn.models": ROOT / "models", "pgm_rnn.inference": ROOT / "inference"}


def modules_after(statement: str) -> set[str]:
    """Top-level names in sys.modules of a fresh interpreter after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {name.split(".")[0] for name in output.split()}


def imported_by(path: Path) -> set[str]:
    """Modules that a file imports when it is imported itself, imports for type checkers aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            found.add(str(statement.module))
    return found


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = {"torch", "pyro", "matplotlib", "numba", "arviz", "scipy", "pooch", "networkx", "numpy", "pandas", "tqdm"}
    assert not modules_after("import pgm_rnn") & heavy


def test_the_help_of_the_command_line_imports_nothing_heavy() -> None:
    found = modules_after("from pgm_rnn.cli import app; app(['--help'], standalone_mode=False)")
    assert "typer" in found
    assert not found & {
        "torch",
        "pyro",
        "numpy",
        "scipy",
        "numba",
        "matplotlib",
        "arviz",
        "pandas",
        "pooch",
        "networkx",
    }


@pytest.mark.slow
def test_models_and_engines_live_in_the_package_only() -> None:
    found = modules_after("import pgm_rnn.models, pgm_rnn.inference.svi, pgm_rnn.graph")
    assert not found & {"models", "inference", "matplotlib", "numba", "arviz", "pandas", "pooch"}
    assert "pgm_rnn" in found


def test_every_public_name_resolves() -> None:
    for name in pgm_rnn.__all__:
        assert getattr(pgm_rnn, name) is not None
    assert set(pgm_rnn.__all__) <= set(dir(pgm_rnn))
    assert pgm_rnn.__all__ == sorted(pgm_rnn.__all__)


def test_public_names_are_those_of_their_modules() -> None:
    from pgm_rnn.models import HMM, RNN
    from pgm_rnn.models.registry import get_model

    assert pgm_rnn.get_model is get_model
    assert (pgm_rnn.models.HMM, pgm_rnn.models.RNN) == (HMM, RNN)


def test_an_unknown_name_is_an_attribute_error_that_lists_the_names() -> None:
    with pytest.raises(AttributeError, match="module 'pgm_rnn' has no attribute 'get_modle'; it has ByGroup, "):
        _ = pgm_rnn.get_modle


def test_the_distribution_holds_every_package_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"pgm_rnn.teaching.assignments"}  # data of tutorials/assignments
    for package, folder in PACKAGES.items():
        for parent, _, files in os.walk(folder):  # follows no links
            if "__init__.py" in files:
                expected.add(".".join([package, *Path(parent).relative_to(folder).parts]))
    listed: dict[str, list[str]] = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("setuptools.setup", lambda packages, cmdclass: listed.update(packages=packages))
    runpy.run_path("setup.py")
    assert sorted(listed["packages"]) == sorted(expected)


@pytest.mark.parametrize(
    ("folder", "above"),
    [
        (ROOT / "pgm_rnn" / "kernels", ("pyro", *(f"pgm_rnn.{name}" for name in ABOVE_KERNELS))),
        (
            ROOT / "models",
            ("pgm_rnn.inference", "pgm_rnn.claims", "pgm_rnn.experiments", "pgm_rnn.data", "pgm_rnn.graph"),
        ),
        (ROOT / "inference", ("pgm_rnn.models", "pgm_rnn.claims", "pgm_rnn.experiments", "pgm_rnn.data")),
    ],
    ids=["kernels", "models", "inference"],
)
def test_imports_point_down(folder: Path, above: tuple[str, ...]) -> None:
    for path in folder.rglob("*.py"):
        upward = [name for name in imported_by(path) for top in above if f"{name}.".startswith(f"{top}.")]
        assert not upward, f"{path} imports {upward}"
