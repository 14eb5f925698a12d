import importlib
import sys

import pytest

import pgm_rnn.distributions
from pgm_rnn.moved import MODULES, NAMES
from pgm_rnn.sequence_model import StateLaw


@pytest.mark.parametrize("old", MODULES)
def test_a_module_of_the_first_release_is_found_at_its_new_place(old: str) -> None:
    new = importlib.import_module(MODULES[old])
    spec = new.__spec__
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {MODULES[old]}"):
        assert importlib.import_module(old) is new
    assert new.__spec__ is spec
    assert new.__name__ == MODULES[old]


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_a_name_that_moved_is_handed_on(module: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{name} is now"):
        assert getattr(importlib.import_module(module), name).__name__ == name


def test_names_that_never_were_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'StateLaws'"):
        _ = pgm_rnn.distributions.StateLaws
    with pytest.raises(ModuleNotFoundError, match=r"pgm_rnn\.memories"):
        importlib.import_module("pgm_rnn.memories")
    assert StateLaw.__module__ == "pgm_rnn.sequence_model.state_law"
