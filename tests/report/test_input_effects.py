"""The effects of inputs in a description: differences of logits, coefficients by state, in the names of the inputs."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from pgm_rnn.legend import Column, Legend
from pgm_rnn.models import InputHMM
from pgm_rnn.report.description import Description, describe
from pgm_rnn.report.number_tables import WIDTH
from pgm_rnn.sequences import Sequences

NAMES = ("dose", "light")
LEGEND = Legend((Column("weight"),), NAMES)


def made(drives: Any = "both", emission: Emission | None = None) -> InputHMM:
    return InputHMM.random(3, 2, emission=emission or Gaussian(), drives=drives, seed=0).double()


def table(found: Description, name: str) -> dict[str, tuple[float, ...]]:
    assert found.table(name).columns == NAMES
    return dict(zip(found.table(name).rows, found.table(name).values, strict=True))


def log_odds(law: Any, of: int, against: int) -> float:
    return float(law.logits[..., of] - law.logits[..., against])


@torch.no_grad()
def test_effects_are_the_change_of_a_law_per_unit_of_an_input() -> None:
    model, none, units = made(), torch.zeros(2).double(), torch.eye(2).double()
    found = describe(model, legend=LEGEND)
    starts, moves, laws = (table(found, f"{part}_effects") for part in ("initial", "transition", "emission"))
    assert (list(starts), list(laws)) == (["1", "2"], ["0", "1", "2"])
    assert list(moves) == ["0 to 1", "0 to 2", "1 to 0", "1 to 2", "2 to 0", "2 to 1"]
    for n, unit in enumerate(units):
        for k, effects in starts.items():
            change = log_odds(model.initial(unit), int(k), 0) - log_odds(model.initial(none), int(k), 0)
            assert effects[n] == pytest.approx(change)
        for move, effects in moves.items():
            i, j = int(move[0]), int(move[-1])
            after, before = (log_odds(model.transition(torch.tensor(i), u), j, i) for u in (unit, none))
            assert effects[n] == pytest.approx(after - before)
        for k, effects in laws.items():
            now, at_zero = (float(model.emission(torch.tensor(int(k)), u).mean) for u in (unit, none))
            assert effects[n] == pytest.approx(now - at_zero)


def test_a_number_added_to_all_logits_of_a_row_changes_nothing() -> None:
    model = made()
    before = str(describe(model, legend=LEGEND))
    with torch.no_grad():
        model.initial_weight += torch.tensor([1.0, -2.0])
        model.transition_weight += torch.randn(3, 1, 2)
    assert str(describe(model, legend=LEGEND)) == before
    with torch.no_grad():
        model.transition_weight[0, 1] += 0.1
    assert str(describe(model, legend=LEGEND)) != before  # a control


@pytest.mark.parametrize(
    ("emission", "title", "rows"),
    [
        (Bernoulli(), "the log odds of a 1", ["0", "1", "2"]),
        (Categorical(2), "the logits of the symbols", ["0 0", "0 1", "1 0", "1 1", "2 0", "2 1"]),
        (Gaussian(2), "the means", ["0 x1", "0 x2", "1 x1", "1 x2", "2 x1", "2 x2"]),
        (Poisson(), "the unconstrained parameters", ["0", "1", "2"]),
    ],
)
def test_effects_on_laws_say_on_what(emission: Emission, title: str, rows: list[str]) -> None:
    found = describe(made("both", emission))
    assert max(map(len, str(found).splitlines())) <= WIDTH
    effects = found.table("emission_effects")
    assert (effects.title, list(effects.rows)) == (f"effects of the inputs on {title}", rows)
    assert effects.columns == ("u1", "u2")  # without names


def test_what_the_inputs_do_not_drive_has_no_effects() -> None:
    names = {drives: [t.name for t in describe(made(drives)).tables] for drives in ("transition", "emission")}
    assert "transition_probs" in names["emission"]
    assert [name for name in names["emission"] if name.endswith("_effects")] == ["emission_effects"]
    assert [name for name in names["transition"] if name.endswith("_effects")] == [
        "initial_effects",
        "transition_effects",
    ]


def test_states_in_another_order_keep_their_effects() -> None:
    model = made("emission")
    data = drawn(model, torch.randn(2, 40, 2).double())
    found, sorted_by_size = (describe(model, data, order=order, standard_errors=False) for order in (None, "size"))
    assert sorted_by_size.order != (0, 1, 2)
    assert table(found, "emission_effects") == table(sorted_by_size, "emission_effects")
    assert list(table(sorted_by_size, "emission_effects")) == [str(k) for k in sorted_by_size.order]


def drawn(model: InputHMM, u: Tensor) -> Sequences:
    return model.sample(len(u), u.shape[1], inputs=u, seed=0)._replace(z=None, legend=LEGEND)
