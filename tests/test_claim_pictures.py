"""The pictures of claims show what the claims measure now, and what their texts say."""

import json
import math
from pathlib import Path

import pytest
import torch

from pgm_rnn.claims import CLAIMS
from tools.claim_curves import CURVES, Curves, measure, steady_gain
from tools.claim_pictures import FOLDER, NUMBERS, PICTURES, draw, main


def written() -> dict[str, Curves]:
    """The numbers in the committed pictures."""
    return json.loads((FOLDER / NUMBERS).read_text(encoding="utf-8"))


LONG = ("elbo-equivalence",)
"""Pictures whose measurement takes half a minute."""


def slope(curve: list[tuple[float, float]]) -> float:
    """Slope of the logarithms between the first and the last point."""
    (a, b), (c, d) = curve[0], curve[-1]
    return math.log(d / b) / math.log(c / a)


def test_every_picture_is_of_a_claim_and_has_a_text_and_a_file() -> None:
    assert set(PICTURES) == set(CURVES) == set(written())
    assert set(PICTURES) < set(CLAIMS)
    for name, picture in PICTURES.items():
        assert len(picture.says) > 100
        assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly) if name in LONG else name for name in CURVES]
)
def test_a_picture_is_up_to_date(name: str) -> None:
    measured, kept = measure(name), written()[name]
    assert {label: [x for x, _ in curve] for label, curve in measured.items()} == {
        label: [x for x, _ in curve] for label, curve in kept.items()
    }
    for label, curve in measured.items():
        for (_, now), (_, then) in zip(curve, kept[label], strict=True):
            assert now == pytest.approx(then, rel=2e-3), f"{label}: run python -m tools.claim_pictures"


def test_the_curves_do_not_depend_on_the_default_precision() -> None:
    torch.set_default_dtype(torch.float32)
    single = measure("vanishing-gradient")
    assert torch.get_default_dtype() == torch.float32
    torch.set_default_dtype(torch.float64)
    assert single == measure("vanishing-gradient")


def test_what_the_texts_say_of_slopes_is_so() -> None:
    curves = written()
    assert all(abs(slope(curve[:3]) - 1) < 0.05 for curve in curves["theorem-5"].values())
    assert all(abs(slope(curve[:2]) - 2) < 0.05 for curve in curves["elbo-equivalence"].values())
    assert all(abs(slope(curve[:6]) - 1) < 0.02 for curve in curves["proposition-6-slope"].values())
    assert slope(curves["particle-filter-rate"]["right weight"][2:]) == pytest.approx(-0.5, abs=0.1)
    assert slope(curves["particle-filter-rate"]["printed weight"][2:]) == pytest.approx(0, abs=0.1)


def test_what_the_texts_say_of_gradients_is_so() -> None:
    curves = written()["vanishing-gradient"]
    for radius in (1.2, 0.95, 0.7):
        (a, b), (c, d) = curves[f"linear, |λ₁| = {radius}"][-2:]
        assert math.exp(math.log(d / b) / (c - a)) == pytest.approx(radius, rel=0.02)
    assert [y for _, y in curves["linear, orthogonal"]] == [1.0] * 7
    assert curves["tanh, orthogonal"][-1][1] < 0.001


def test_what_the_text_says_of_the_variances_of_weights_is_so() -> None:
    curves = written()["rao-blackwell"]
    drawn, summed = ([y for _, y in curves[f"vectors {name}"]] for name in ("drawn", "summed out"))
    assert drawn[0] == pytest.approx(35_000, rel=0.02)
    assert drawn[-1] == pytest.approx(0.3, abs=0.05)
    assert drawn == sorted(drawn, reverse=True)
    assert max(summed) < 0.75
    assert all(v < w for v, w in zip(summed, drawn, strict=True))


def test_the_gains_are_those_of_the_joint_law_and_near_their_limits() -> None:
    curves = written()["kalman-is-exact"]
    for ratio in (1.0, 0.1):
        gains = curves[f"filter, Q/R = {ratio:g}"]
        assert gains == curves[f"joint law, Q/R = {ratio:g}"]
        assert gains[0][1] == 0.8  # 4 / (4 + 1)
        assert gains[-1][1] == pytest.approx(steady_gain(ratio), abs=0.001)
    assert steady_gain(1.0) == pytest.approx((math.sqrt(5) - 1) / 2)


def test_a_picture_depends_on_its_numbers_alone() -> None:
    curves = CURVES["extended-kalman-offset"]()
    first = draw(PICTURES["extended-kalman-offset"], curves)
    assert first == draw(PICTURES["extended-kalman-offset"], curves)
    moved = {label: [(x, y + 0.1) for x, y in curve] for label, curve in curves.items()}
    assert first != draw(PICTURES["extended-kalman-offset"], moved)


def test_the_pictures_are_written_into_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.claim_pictures.CURVES", ["extended-kalman-offset"])
    main(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [NUMBERS, "extended-kalman-offset.svg"]
