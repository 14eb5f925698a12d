"""Every damage to the models is noticed by the claims that are said to notice it."""

from typing import Any

import pytest

from pgm_rnn.claims import CLAIMS
from tests.quick import covering, values_of
from tools.damages import DAMAGES, NOTICED_BY, Damage, measured, notices

pytestmark = pytest.mark.slow

BY_NAME = {damage.name: damage for damage in DAMAGES}
SLOW = ("particle-filter-rate", "particle-filter-unbiased")
PAIRS = [(name, claim_id) for name, ids in NOTICED_BY.items() for claim_id in ids if claim_id not in SLOW]


def pairs() -> list[Any]:
    """Every damage with every claim that notices it; by day, pairs that have every damage and every claim once."""
    by_day = covering((pair, values_of({"name": pair[0], "claim_id": pair[1]})) for pair in PAIRS)
    return [pytest.param(*pair, marks=[pytest.mark.nightly] * (pair not in by_day)) for pair in PAIRS]


def test_every_damage_of_every_kind_is_noticed_by_some_claim() -> None:
    assert set(NOTICED_BY) == set(BY_NAME)
    assert all(NOTICED_BY.values())
    for kind in ("transposed transition", "shifted time", "dropped mask", "wrong sign", "wrong normaliser"):
        assert any(name.startswith(kind) for name in BY_NAME)


@pytest.mark.parametrize(("name", "claim_id"), pairs())
def test_the_claim_notices_the_damage(name: str, claim_id: str) -> None:
    with BY_NAME[name].applied():
        assert notices(CLAIMS[claim_id])


def test_a_seed_that_does_not_advance_is_noticed() -> None:
    with BY_NAME["wrong seed: one step's uniforms for all"].applied():
        assert notices(CLAIMS["particle-filter-unbiased"])


@pytest.mark.parametrize("claim_id", sorted({claim_id for _, claim_id in PAIRS}))
def test_nothing_is_noticed_without_damage(claim_id: str) -> None:
    assert not notices(CLAIMS[claim_id])


def _check_and_stop(damaged: bool) -> None:
    assert damaged
    raise KeyError("within")


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_a_damage_ends_with_its_block(damage: Damage) -> None:
    sound, own = getattr(damage.owner, damage.attribute), set(vars(damage.owner))
    with pytest.raises(KeyError, match="within"), damage.applied():
        _check_and_stop(getattr(damage.owner, damage.attribute) is not sound)
    assert getattr(damage.owner, damage.attribute) is sound
    assert set(vars(damage.owner)) == own


def test_the_matrix_is_measured_damage_by_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.damages.DAMAGES", (BY_NAME["wrong graph: no arcs"],))
    claims = [CLAIMS["figure-4-is-figure-3"], CLAIMS["forward-start"]]
    assert measured(claims) == {"wrong graph: no arcs": ("figure-4-is-figure-3",)}
