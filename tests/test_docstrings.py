"""The examples in docstrings run and print what they say, and public functions that raise an error say so."""

import ast
import doctest
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import pgm_rnn

MODULES = sorted(module.name for module in pkgutil.walk_packages(pgm_rnn.__path__, "pgm_rnn."))


def source(name: str) -> str:
    spec = find_spec(name)
    assert spec is not None
    return Path(str(spec.origin)).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in MODULES if ">>>" in source(name)])
def test_the_examples_of_a_module_run(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples() -> None:
    found = [doctest.DocTestFinder().find(import_module(name)) for name in ("pgm_rnn.models.rnn", "pgm_rnn.models.hmm")]
    assert all(any(test.examples for test in tests) for tests in found)


def silent(body: list[ast.stmt], owner: str = "", owner_doc: str = "") -> Iterator[str]:
    """Public functions and methods that raise an error without saying so.

    A docstring says so by `Raises:`, or by a first line "Raise ... unless ..." or "Turn errors ... into ...". A
    constructor may say it in the docstring of its class, and an override without a docstring has that of its base. A
    bare `raise` passes on another function's error.
    """
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from silent(node.body, f"{owner}{node.name}.", ast.get_docstring(node) or "")
        elif isinstance(node, ast.FunctionDef):
            constructs = node.name in ("__init__", "__new__", "__post_init__")
            raises = any(isinstance(part, ast.Raise) and part.exc is not None for part in ast.walk(node))
            doc = (ast.get_docstring(node) or "") + (owner_doc if constructs else "")
            inherits = not doc and any(ast.unparse(decorator) == "override" for decorator in node.decorator_list)
            said = "Raises:" in doc or doc.startswith(("Raise", "Turn errors")) or inherits
            if raises and (constructs or not node.name.startswith("_")) and not said:
                yield f"{owner}{node.name}"


def test_public_functions_that_raise_say_so() -> None:
    modules = [name for name in MODULES if not name.startswith("pgm_rnn.cli.")]  # those are helps
    assert len(modules) > 400
    found = {name: list(silent(ast.parse(source(name)).body)) for name in modules}
    assert {name: functions for name, functions in found.items() if functions} == {}


def test_every_module_can_be_imported() -> None:
    for name in MODULES:
        if not name.endswith("__main__"):
            import_module(name)


def test_a_function_that_hides_its_error_is_found() -> None:
    hides = 'class Cell:\n    """A cell."""\n    def __init__(self):\n        raise ValueError\n'
    says = hides.replace("A cell.", "A cell.\n\n    Raises:\n        ValueError: always.")
    assert list(silent(ast.parse(hides).body)) == ["Cell.__init__"]
    assert list(silent(ast.parse(says).body)) == []
