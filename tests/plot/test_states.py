"""Pictures of states: beliefs, and series with bands."""

from itertools import pairwise

import matplotlib.dates
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import pgm_rnn as pr
from pgm_rnn.legend import Column, Legend
from pgm_rnn.report.canvas import MAX_PANELS
from pgm_rnn.report.looks import FEW, looks
from pgm_rnn.report.states_of_data import States
from pgm_rnn.report.time_axis import edges_of
from pgm_rnn.sequences import Sequences
from tests.plot.looking import DATES, covered, cut_off, figure_of, line, machines, names, outlines

LENGTHS = torch.tensor([4, 3])
PROBS = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]]] * 2).double()
FINITE = States("forward", "", LENGTHS, machines("real"), smoothed_probs=PROBS, filtered_probs=PROBS.flip(-1))
PATH = PROBS.argmax(-1)
MEANS = torch.arange(16.0).reshape(2, 4, 2)
GAUSSIAN = States("kalman", "", LENGTHS, machines("real"), smoothed_means=MEANS, smoothed_sds=torch.ones(2, 4, 2))
DATA = Sequences(torch.arange(8.0).reshape(2, 4, 1), LENGTHS, legend=machines("real"))


def heights(panel: Axes, place: int, at: float) -> tuple[float, float]:
    """The lower and the upper end of an area at a point of the axis."""
    points = outlines(panel.collections[place])[0]
    inside = points[np.isclose(points[:, 0], at)]
    return float(inside[:, 1].min()), float(inside[:, 1].max())


def test_beliefs_are_areas_as_high_as_the_probabilities() -> None:
    first, second = pr.plot.beliefs(FINITE)
    assert [panel.get_title(loc="left") for panel in (first, second)] == ["machine A", "machine B"]
    assert second.get_xlabel() == "day"
    begin = float(matplotlib.dates.date2num(edges_of(DATES))[0])
    assert heights(first, 0, begin) == pytest.approx((0.0, 0.9))
    assert heights(first, 1, begin) == pytest.approx((0.9, 1.0))
    assert names(first) == ["state 0", "state 1"]
    assert figure_of(first)._supylabel.get_text() == "smoothed probability"  # type: ignore[attr-defined]
    areas = pr.plot.beliefs(FINITE, which="filtered")
    assert heights(areas[0], 0, begin) == pytest.approx((0.0, 0.1))


def test_hatches_tell_areas_apart_too() -> None:
    (panel, _) = pr.plot.beliefs(FINITE)
    hatches = [area.get_hatch() for area in panel.collections]
    assert len(set(hatches)) == len(hatches) == 2


def test_a_law_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected which to be smoothed, which engine 'kalman' gives, got filtered"):
        pr.plot.beliefs(GAUSSIAN, which="filtered")


def test_areas_of_many_steps_have_no_hatches() -> None:
    probs = torch.full((1, 300, 2), 0.5)
    (panel,) = pr.plot.beliefs(States("forward", "", torch.tensor([300]), None, smoothed_probs=probs))
    assert [area.get_hatch() for area in panel.collections] == [None, None]


def of_one_sequence(level: float) -> States:
    """Two components that go up and down by one, the second one at a level."""
    waves = torch.arange(40.0).sin()
    means = torch.stack([waves, waves + level], -1)[None]
    return States("kalman", "", torch.tensor([40]), None, smoothed_means=means, smoothed_sds=0.1 * torch.ones(1, 40, 2))


def test_components_that_would_look_flat_have_a_panel_each() -> None:
    panels = pr.plot.beliefs(of_one_sequence(100))
    assert [panel.get_title(loc="left") for panel in panels] == ["component 0", "component 1"]
    for panel, level in zip(panels, (0, 100), strict=True):
        low, high = panel.get_ylim()
        assert level - 2 < low < high < level + 2
    assert len(pr.plot.beliefs(of_one_sequence(3))) == 1  # the control: both are seen on one axis
    panels = pr.plot.states(of_one_sequence(100), torch.arange(40.0)[None, :, None])
    titles = [panel.get_title(loc="left") for panel in panels]
    assert titles[1:] == ["component 0, smoothed mean ± 2 sd", "component 1, smoothed mean ± 2 sd"]


def test_means_have_bands_of_two_standard_deviations() -> None:
    first, _ = pr.plot.beliefs(GAUSSIAN)
    np.testing.assert_array_equal(line(first, "component 1").get_ydata(), [1, 3, 5, 7])
    begin = float(matplotlib.dates.date2num(DATES)[0])
    assert heights(first, 1, begin) == pytest.approx((-1.0, 3.0))
    styles = {str(found.get_linestyle()) for found in first.get_lines()}
    assert len(styles) == 2


def test_many_states_have_a_colour_bar_and_no_names() -> None:
    probs = torch.full((1, 3, FEW + 1), 1 / (FEW + 1))
    (panel,) = pr.plot.beliefs(States("forward", "", torch.tensor([3]), smoothed_probs=probs))
    assert names(panel) == []
    assert len(figure_of(panel).axes) == 2


def test_a_series_stands_before_bands_of_its_states() -> None:
    first, second = pr.plot.states(FINITE, DATA)
    np.testing.assert_array_equal(line(first, "observed").get_ydata(), [0, 1, 2, 3])
    np.testing.assert_array_equal(line(second, "observed").get_ydata(), [4, 5, 6])
    assert first.get_title(loc="left") == "machine A, flow real (m3/s)"
    edges = matplotlib.dates.date2num(edges_of(DATES))
    zero, one = map(outlines, first.collections)
    assert [(points[:, 0].min(), points[:, 0].max()) for points in zero] == [
        (edges[0], edges[1]),
        (edges[3], edges[4]),
    ]
    assert [(points[:, 0].min(), points[:, 0].max()) for points in one] == [(edges[1], edges[3])]


def test_gaussian_states_have_panels_below_the_series() -> None:
    panels = pr.plot.states(GAUSSIAN, DATA)
    assert [panel.get_title(loc="left") for panel in panels] == [
        "machine A, flow real (m3/s)",
        "machine A, state, smoothed mean ± 2 sd",
        "machine B, flow real (m3/s)",
        "machine B, state, smoothed mean ± 2 sd",
    ]


def test_a_missing_value_is_a_gap() -> None:
    x = DATA.x.clone()
    x[0, 1] = torch.nan
    mask = ~x.isnan()
    (panel, _) = pr.plot.states(FINITE, Sequences(x, LENGTHS, mask=mask, legend=DATA.legend))
    assert np.isnan(np.asarray(line(panel, "observed").get_ydata(), dtype=float)).tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_words_name_the_rows_of_symbols() -> None:
    legend = machines("symbol")
    legend = legend._replace(columns=(legend.columns[0]._replace(words=("rain", "sun", " ")),))
    data = Sequences(torch.tensor([[0, 1, 2, 0], [1, 1, 0, 0]]), LENGTHS, legend=legend)
    (panel, _) = pr.plot.states(FINITE, data)
    assert [text.get_text() for text in panel.get_yticklabels()] == ["rain", "sun", "space"]


def test_words_do_not_stand_on_each_other() -> None:
    words = tuple("abcdefghijklmnopqrstuvwxyz")
    data = Sequences(
        torch.arange(26).repeat(3, 1), torch.tensor([26] * 3), legend=Legend((Column("c", "symbol", words=words),))
    )
    probs = torch.full((3, 26, 2), 0.5)
    panels = pr.plot.states(States("forward", "", data.lengths, data.legend, smoothed_probs=probs), data)
    figure_of(panels[0]).canvas.draw()
    for panel in panels:
        boxes = [label.get_window_extent() for label in panel.get_yticklabels()]
        assert len(boxes) > 2
        assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))


def test_many_variables_are_one_image() -> None:
    bits = torch.zeros(1, 4, 9)
    bits[0, 1:3, 4] = 1
    states = States("forward", "", torch.tensor([4]), smoothed_probs=PROBS[:1])
    (panel,) = pr.plot.states(states, Sequences(bits, torch.tensor([4])))
    image = panel.collections[0].get_array()
    assert image is not None
    np.testing.assert_array_equal(np.ravel(image), [0, 1, 1, 0])  # the one row that has any


def test_more_sequences_than_there_is_room_for_are_said() -> None:
    many = States("forward", "", torch.full((9,), 4), smoothed_probs=PROBS[:1].expand(9, 4, 2))
    panels = pr.plot.beliefs(many)
    assert len(panels) == MAX_PANELS
    assert panels[-1].get_xlabel() == f"step (the first {MAX_PANELS} of 9 sequences)"


def test_the_callers_axes_are_used_and_nothing_else() -> None:
    figure, panels = pyplot.subplots(2, layout="constrained")
    assert pr.plot.beliefs(FINITE, axes=panels) == list(panels)
    assert len(pyplot.get_fignums()) == 1
    assert covered(figure) == []
    single = pyplot.figure(layout="constrained").subplots()
    assert pr.plot.beliefs(FINITE, axes=single) == [single]
    with pytest.raises(TypeError, match=r"expected matplotlib axes, as from pyplot.subplots, got str"):
        pr.plot.beliefs(FINITE, axes="first")


@pytest.mark.parametrize("draw", [lambda: pr.plot.beliefs(FINITE), lambda: pr.plot.states(GAUSSIAN, DATA)])
def test_legends_cover_nothing_and_are_whole(draw: object) -> None:
    assert callable(draw)
    figure = figure_of(draw())
    assert len(figure.legends) == 1
    assert covered(figure) == cut_off(figure) == []


def test_a_legend_on_the_data_is_found() -> None:
    figure = Figure()
    axis = figure.subplots()
    axis.plot([0, 1], label="a")
    axis.legend()
    assert len(covered(figure)) == 1
    axis.legend(loc="upper left", bbox_to_anchor=(1.02, 1))
    assert covered(figure) == []
    assert len(cut_off(figure)) == 1


def test_colours_are_those_that_everyone_tells_apart_and_none_is_there_twice() -> None:
    found = looks(FEW)
    assert {look.color for look in found} == {
        *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#F0E442")
    }
    for part in ("dashes", "marker", "hatch"):
        assert len({getattr(look, part) for look in found}) == FEW


def test_results_of_engines_and_models_give_the_same_picture() -> None:
    from pgm_rnn.inference import forward_backward

    hmm = pr.get_model("hmm", num_states=2, num_symbols=3, seed=0)
    data = hmm.sample(2, 5, seed=0)
    smoothed = forward_backward.smooth(hmm, data)
    for source in (hmm, pr.infer(hmm, data), smoothed):
        (panel, _) = pr.plot.beliefs(source, data)
        assert heights(panel, 0, 0.5) == pytest.approx((0.0, float(smoothed.smoothed_probs[0, 0, 0])), abs=1e-6)
    with pytest.raises(ValueError, match="expected data beside a model, whose states depend on them, got HMM alone"):
        pr.plot.beliefs(hmm)
    with pytest.raises(ValueError, match="expected the data of the result, 2 sequences of up to 5 steps, got 1"):
        pr.plot.beliefs(pr.infer(hmm, data), data.x[:1])
    with pytest.raises(TypeError, match=r"expected a result of pgm_rnn.infer, .*, got dict"):
        pr.plot.beliefs({})
