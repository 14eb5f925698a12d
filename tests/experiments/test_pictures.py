"""The experiments' pictures, drawn from the stored numbers: legends cover no data, and looks keep their meaning."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pgm_rnn.experiments.experiment import Experiment
from pgm_rnn.experiments.figure_5 import Figure5
from pgm_rnn.experiments.learned_particles import LearnedParticles
from pgm_rnn.experiments.pictures import BLUE, draw_curve, label_axis, legend_above, panels
from pgm_rnn.experiments.record import read_record
from pgm_rnn.experiments.registry import EXPERIMENTS
from pgm_rnn.experiments.summary import Curve, where
from tests.plot.looking import covered, cut_off

FOLDER = Path(__file__).parents[2] / "docs" / "experiments"


def drawn(experiment: Experiment) -> Figure:
    record = read_record(experiment.id, FOLDER)
    assert record is not None
    return experiment.draw(record.rows)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_legend_covers_a_panel_or_leaves_the_picture(name: str) -> None:
    figure = drawn(EXPERIMENTS[name])
    assert covered(figure) == cut_off(figure) == []
    assert not [axis for axis in figure.axes if axis.get_title(loc="left") and axis.get_legend()]  # one of the two


def test_a_legend_inside_a_panel_would_be_found() -> None:
    figure, (axis,) = panels(1)
    draw_curve(axis, Curve([1.0, 2.0], [1.0, 2.0], [0.0, 1.0], [2.0, 3.0]), BLUE, "a curve")
    label_axis(axis, "x", "y", note="a note")
    axis.legend()
    assert len(covered(figure)) == 1
    legend_above(axis)
    assert covered(figure) == []
    legend = axis.get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "a note"


def test_intervals_are_bars_that_stand_side_by_side() -> None:
    figure, (axis,) = panels(1)
    draw_curve(axis, Curve([1.0, 10.0], [1.0, 2.0], [0.0, 1.0], [2.0, 3.0]), BLUE, "a", shift=1.1)
    (bars,) = axis.collections
    segments = np.array(bars.get_segments())  # type: ignore[attr-defined]
    np.testing.assert_allclose(segments, np.array([[[1.1, 0], [1.1, 2]], [[11, 1], [11, 3]]]))
    assert len(axis.get_lines()) == 1
    assert len(figure.axes) == 1


def test_figure_5_begins_at_chance_and_says_how_far_a_sample_is_from_its_mean() -> None:
    top = drawn(Figure5()).axes[0]
    assert top.get_ylim() == (0.5, 1.0)
    (first, *_), p = top.collections[0].get_segments(), np.asarray(top.get_lines()[0].get_ydata())[0]  # type: ignore[attr-defined]
    assert (first[1, 1] - first[0, 1]) / 4 == pytest.approx(np.sqrt(p * (1 - p) / 800))


def test_figure_6_shows_the_ratio_that_its_claim_is_about() -> None:
    experiment = EXPERIMENTS["figure-6"]
    record = read_record("figure-6", FOLDER)
    assert record is not None
    top, ratio, _ = experiment.draw(record.rows).axes
    assert top.get_yscale() == "log"
    last = [
        float(row["expected_accuracy"]) / float(row["forward_expected_accuracy"])
        for row in where(record.rows, num_states=512)
    ]
    assert np.asarray(ratio.get_lines()[0].get_ydata())[-1] == pytest.approx(np.median(last))


def test_a_method_of_the_learned_particles_looks_alike_on_every_panel() -> None:
    figure = drawn(LearnedParticles())
    lines = [line for axis in figure.axes for line in axis.get_lines()]
    looks = {(line.get_label(), to_hex(line.get_color()), line.get_marker(), line.get_linestyle()) for line in lines}
    assert len(looks) == len({line.get_label() for line in lines}) == len({look[1:] for look in looks})
    assert len(lines) <= 13
