"""The examples in docstrings run and print what they say."""

import doctest
import pkgutil
from importlib import import_module

import pytest
import torch

import pgm_rnn

MODULES = sorted(module.name for module in pkgutil.walk_packages(pgm_rnn.__path__, "pgm_rnn."))


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_the_examples_of_a_module_run(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples() -> None:
    found = [doctest.DocTestFinder().find(import_module(name)) for name in ("pgm_rnn.models.rnn", "pgm_rnn.models.hmm")]
    assert all(any(test.examples for test in tests) for tests in found)
