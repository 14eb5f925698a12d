"""The README's table of models is what the models say of themselves."""

import re

import pytest

from pgm_rnn.registries import OWN
from tests.toys import ECHO
from tools.readme import README, models_table, with_table


def test_the_table_of_models_is_that_of_the_registry() -> None:
    text = README.read_text(encoding="utf-8")
    assert models_table(OWN.models.values()) in text, "python -m tools.readme writes it"
    assert with_table(text, models_table(OWN.models.values())) == text


def test_every_data_set_and_every_engine_is_named() -> None:
    text = README.read_text(encoding="utf-8")
    call = re.search(r"`pgm_rnn\.data\.load\((.*?)\)`", text)
    assert call is not None
    assert set(re.findall(r'"([a-z-]+)"', call[1])) == set(OWN.datasets)
    rows = set(re.findall(r"^\| `([a-z_]+)\.", text, re.MULTILINE))
    assert rows == set(OWN.engines)


def test_a_new_model_gets_a_row_and_the_text_around_it_stays() -> None:
    text = README.read_text(encoding="utf-8")
    changed = with_table(text, models_table([*OWN.models.values(), ECHO]))
    new = set(changed.split("\n")) - set(text.split("\n"))
    assert new == {"| `Echo` | the observation before, squeezed | - | nobody |"}
    assert len(changed.split("\n")) == len(text.split("\n")) + 1
    with pytest.raises(ValueError, match="substring not found"):
        with_table("no table", "")
