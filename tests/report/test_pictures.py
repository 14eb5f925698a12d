"""Pictures: what is drawn, where it stands in the file, and that the same picture is the same file."""

import math
import re
import struct
from collections.abc import Callable, Sequence
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pgm_rnn.report.drawing import paths, pen_drawings, strokes_of
from pgm_rnn.report.figures import rendered
from pgm_rnn.report.midi import Note
from pgm_rnn.report.piano_roll import piano_rolls
from pgm_rnn.report.series_picture import NUM_FREQUENCIES, envelope, lines, spectrograms
from tests.report.test_midi import roll_of

DRAWING = torch.tensor(
    [[5.0, 5.0, 0.0], [2.0, 0.0, 0.0], [0.0, 3.0, 1.0], [-4.0, 1.0, 1.0], [1.0, 1.0, 0.0], [2.0, -1.0, 0.0]]
)
"""A corner of three points, a dot, and a line of two points after which the pen was not lifted."""
STROKES = [[[5, 5], [7, 5], [7, 8]], [[3, 9]], [[4, 10], [6, 9]]]


def drawn(svg: bytes, number: int) -> list[np.ndarray]:
    """Points (n, 2) of each line of a drawing in a file, y downwards as in every SVG."""
    space = "{http://www.w3.org/2000/svg}"
    group = next(g for g in ElementTree.fromstring(svg).iter(f"{space}g") if g.get("id") == f"drawing-{number}")
    texts = [path.get("d", "") for path in group.iter(f"{space}path")]
    return [np.array([[float(v) for v in pair] for pair in re.findall(r"[ML] (\S+) (\S+)", t)]) for t in texts]


def assert_similar(points: np.ndarray, originals: np.ndarray, y_sign: float) -> float:
    """`points` are `originals` moved and enlarged, by the same factor in both directions: that factor."""
    originals = originals * [1, y_sign]
    centred, given = points - points.mean(0), originals - originals.mean(0)
    factor = float((centred * given).sum() / (given * given).sum())
    np.testing.assert_allclose(centred, factor * given, atol=1e-4 * abs(factor) + 1e-5)
    assert factor > 0
    return factor


def test_strokes_end_where_the_pen_is_lifted_and_the_first_offset_draws_nothing() -> None:
    assert [stroke.tolist() for stroke in strokes_of(DRAWING)] == STROKES
    assert [stroke.tolist() for stroke in strokes_of(DRAWING[:3])] == STROKES[:1]
    assert [len(stroke) for stroke in strokes_of(DRAWING.roll(1, 0))] == [4, 1, 1]


def test_a_drawing_keeps_its_strokes_and_its_shape_with_y_downwards() -> None:
    svg = rendered(pen_drawings([DRAWING, DRAWING[:3]]), ".svg")
    found = drawn(svg, 1)
    assert [len(line) for line in found] == [3, 2, 2]  # a dot is a line from a point to itself
    assert (found[1][0] == found[1][1]).all()
    together = np.concatenate([np.repeat(stroke, 2, axis=0) if len(stroke) == 1 else stroke for stroke in STROKES])
    assert_similar(np.concatenate(found), together, y_sign=1)
    assert [len(line) for line in drawn(svg, 2)] == [3]


def test_a_path_has_y_upwards() -> None:
    points = torch.tensor([[0.0, 1.0], [0.5, -1.0], [1.0, 0.5]])
    (found,) = drawn(rendered(paths([points, -points]), ".svg"), 1)
    assert_similar(found, points.numpy(), y_sign=-1)
    with pytest.raises(AssertionError):
        assert_similar(found, points.numpy(), y_sign=1)


@pytest.mark.parametrize("num", [1, 2, 5, 12])
def test_cells_do_not_overlap(num: int) -> None:
    svg = rendered(pen_drawings([DRAWING] * num), ".svg")
    boxes = [
        (np.concatenate(found).min(0), np.concatenate(found).max(0))
        for found in (drawn(svg, i + 1) for i in range(num))
    ]
    for i, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[:i]:
            assert (high < other_low).any() or (other_high < low).any()


def test_a_bar_is_a_held_note() -> None:
    notes = [Note(0, 3, 60), Note(1, 2, 64), Note(3, 4, 64)]
    figure = piano_rolls([roll_of(5, *notes), torch.zeros(2, 88)], steps_per_beat=2)
    first, second = (
        [(2 * bar.get_x(), 2 * bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in panel.containers[0]]
        for panel in figure.axes
    )
    np.testing.assert_allclose(first, [(note.start, note.end - note.start, note.pitch) for note in notes])
    assert second == []
    assert figure.axes[0].get_xlim() == (0, 2.5)
    labels = dict(zip(figure.axes[0].get_yticks(), figure.axes[0].get_yticklabels(), strict=True))
    assert labels[60].get_text() == "C4"


def test_an_envelope_is_the_spectrum_of_the_filter_that_has_the_cepstrum() -> None:
    """Poles r exp(+- i a): c_n = 2 r^n cos(n a) / n, and what is left out is below 2 r^(N+1) / (N + 1) / (1 - r)."""
    r, angle, num = 0.7, 0.9, 12
    n = torch.arange(1, num + 1).double()
    cepstrum = 2 * r**n * torch.cos(n * angle) / n
    w = math.pi * (np.arange(NUM_FREQUENCIES) + 0.5) / NUM_FREQUENCIES
    exact = -20 * np.log10(np.abs((1 - r * np.exp(1j * (angle - w))) * (1 - r * np.exp(-1j * (angle + w)))))
    left_out = 20 / math.log(10) * 2 * r ** (num + 1) / (num + 1) / (1 - r)
    assert np.abs(envelope(cepstrum[None])[0].numpy() - exact).max() < left_out
    assert np.abs(envelope(cepstrum.flip(0)[None])[0].numpy() - exact).max() > left_out


def a_walk(num_steps: int, width: int) -> Tensor:
    return torch.randn(num_steps, width, generator=torch.Generator().manual_seed(0)).cumsum(0)


@pytest.mark.parametrize(
    ("draw", "sequences"),
    [
        (piano_rolls, [roll_of(5, Note(0, 3, 60)), roll_of(3)]),
        (piano_rolls, [roll_of(1)]),
        (pen_drawings, [DRAWING, DRAWING[:1]]),
        (paths, [torch.zeros(1, 2)]),
        (lines, [a_walk(5, 3), a_walk(1, 3)]),
        (lines, [torch.arange(4.0)]),
        (spectrograms, [a_walk(4, 12), a_walk(1, 12)]),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_every_picture_is_a_file_and_the_same_one_again(
    draw: Callable[[Sequence[Tensor]], Figure], sequences: list[Tensor], suffix: str
) -> None:
    contents = rendered(draw(sequences), suffix)
    assert contents == rendered(draw(sequences), suffix)
    if suffix == ".svg":
        assert ElementTree.fromstring(contents).tag.endswith("svg")
    else:
        assert contents[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", contents[16:24])
        assert 100 < width < 5000
        assert 100 < height < 5000
