"""Filters trained end to end: what training changes, and that a replicate's numbers are its own."""

import dataclasses

import pytest

from pgm_rnn.experiments.experiment import Cell, Row
from pgm_rnn.experiments.learned_filters import METHODS
from pgm_rnn.experiments.learned_particles import GRADIENT, RNN, LearnedParticles
from pgm_rnn.experiments.settings import Settings
from pgm_rnn.experiments.summary import values_of, where
from pgm_rnn.experiments.sweep import run_cell

pytestmark = pytest.mark.slow

EXPERIMENT = LearnedParticles()
SMALL = dataclasses.replace(EXPERIMENT.quick, num_sequences=(500,), num_updates=120, batch_size=40)


def rows_of(settings: Settings, kind: str, size: int, replicates: tuple[int, ...] = (0, 1)) -> list[Row]:
    return run_cell(EXPERIMENT, settings, Cell(kind, 3, size, replicates))[1]


def gaps(kind: str, size: int) -> list[float]:
    return [float(row["log_z_gap"]) for row in rows_of(SMALL, kind, size)]


@pytest.fixture(scope="module")
def quick() -> list[Row]:
    cells = EXPERIMENT.cells(EXPERIMENT.quick)
    return EXPERIMENT.order(row for cell in cells for row in run_cell(EXPERIMENT, EXPERIMENT.quick, cell)[1])


def test_every_method_has_its_rows(quick: list[Row]) -> None:
    assert {row["method"] for row in quick} == {*METHODS, GRADIENT, RNN}
    for kind in (*METHODS, GRADIENT, RNN):
        assert len(where(quick, method=kind)) == 4  # two sizes, two replicates
    assert all("ahead_kl" in row for kind in METHODS for row in where(quick, method=kind))
    assert not any("kl" in row for row in where(quick, method="bootstrap", size=1))  # a particle excludes states
    assert values_of(quick, "size") == [1, 3]


def test_every_question_has_a_verdict_and_the_picture_three_panels(quick: list[Row]) -> None:
    for sentence in EXPERIMENT.sentences:
        found = sentence.find(quick)
        assert len(found.draws) == 2
        assert "M = 1" in found.reason
    assert [len(axis.get_lines()) for axis in EXPERIMENT.draw(quick).axes] == [4, 4, 5]


def test_training_brings_log_z_closer_and_the_weights_alone_lead_away() -> None:
    untrained, trained, misled = (gaps(kind, 3) for kind in ("untrained", "likelihood", "weights-only"))
    for before, after, wrong in zip(untrained, trained, misled, strict=True):
        assert after < 0.7 * before < before < wrong


def test_a_learned_filter_reads_states_that_an_untrained_one_does_not() -> None:
    for kind, measured in (("all-ahead", "ahead_kl"), ("all-particles", "kl")):
        learned = rows_of(SMALL, kind, 1)
        start = rows_of(dataclasses.replace(SMALL, num_updates=1), kind, 1)
        for after, before in zip(learned, start, strict=True):
            assert float(after[measured]) < 0.7 * float(before[measured])


def test_the_gradient_of_the_weights_alone_points_away_and_that_without_ancestors_does_not() -> None:
    for row in rows_of(dataclasses.replace(SMALL, num_updates=40), GRADIENT, 3):
        assert row["likelihood_full_projection"] == pytest.approx(1.0)
        assert 0.5 < float(row["likelihood_states_projection"]) < 1.5
        assert float(row["likelihood_weights_projection"]) < 0


def test_a_replicates_numbers_do_not_depend_on_the_others() -> None:
    for kind, exact in (("bootstrap", True), ("all-particles", False)):
        together = where(rows_of(EXPERIMENT.quick, kind, 3), replicate=1)
        alone = rows_of(EXPERIMENT.quick, kind, 3, (1,))
        for one, other in zip(together, alone, strict=True):
            tolerance = 0.0 if exact else 1e-2  # float32 sums in another order
            numbers = {name: value for name, value in one.items() if isinstance(value, float)}
            assert numbers == pytest.approx({name: other[name] for name in numbers}, abs=tolerance, rel=0)
