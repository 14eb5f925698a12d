"""Piano rolls as a picture: time to the right, pitch upwards, one bar per held note."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from pgm_rnn.report.canvas import SMALL, TEXT, Canvas
from pgm_rnn.report.figures import stacked
from pgm_rnn.report.looks import AHEAD, INK
from pgm_rnn.report.midi import LOWEST_PITCH, Note, notes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EMPTY_RANGE = (48, 72)
"""Range of pitches shown if nothing sounds."""
BEATS_PER_LINE, MAX_LINES = 4, 60
ROW = 0.028
"""Height of a row of a new figure, inches."""


def piano_rolls(rolls: Sequence[Tensor], *, steps_per_beat: int = 1) -> "Figure":
    """One panel per roll (T_i, 88), all on one scale, with a line at every C and at every fourth beat."""
    low, high = _range([notes_of(roll) for roll in rolls], 88, keys=True)
    width = min(16.0, max(7.0, 0.1 * max(len(roll) for roll in rolls)))
    figure, panels = stacked(len(rolls), width=width, height=0.4 + ROW * (high - low + 4))
    draw_rolls(rolls, [False] * len(rolls), steps_per_beat=steps_per_beat, canvas=Canvas(tuple(panels)))
    for number, panel in enumerate(panels, 1):
        panel.set_ylabel(str(number), rotation=0, ha="right", va="center")
    return figure


def draw_rolls(
    rolls: Sequence[Tensor], later: Sequence[bool], *, steps_per_beat: int = 1, keys: bool = True, canvas: Canvas
) -> "list[Axes]":
    """One panel per roll (T_i, D) of bits, all on one scale.

    Args:
        rolls: zeros and ones.
        later: whether each has the colour of what is forecast or drawn.
        steps_per_beat: steps of a beat.
        keys: whether the bits are keys of a piano, whose rows are named by octaves; else they are numbered from 1.
        canvas: what to draw on.
    """
    pieces = [notes_of(roll) for roll in rolls]
    low, high = _range(pieces, rolls[0].shape[1], keys)
    panels = canvas.panels(
        len(rolls),
        height=max(1.1, 0.5 + ROW * (high - low + 4)),
        alone=max(2.0, 0.5 + ROW * (high - low + 4)),
        same_steps=True,
        same_values=True,
    )
    beats = max(len(roll) for roll in rolls) / steps_per_beat
    for panel, notes, roll, ahead in zip(panels, pieces, rolls, later, strict=True):
        _draw(panel, notes, len(roll) / steps_per_beat, steps_per_beat, AHEAD if ahead else INK)
        panel.axvspan(len(roll) / steps_per_beat, max(beats, 1), color="0.94", linewidth=0)
        panel.set_ylim(low - 2, high + 2)
        panel.set_xlim(0, beats)
        _lines(panel, beats)
        _name_rows(panel, low, high, keys)
    panels[-1].set_xlabel("beats" if keys else "step", fontsize=TEXT)
    return panels


def _range(pieces: Sequence[Sequence[Note]], num_bits: int, keys: bool) -> tuple[int, int]:
    """The lowest and the highest pitch; of bits that are no keys, those of all bits."""
    if not keys:
        return LOWEST_PITCH, LOWEST_PITCH + num_bits - 1
    pitches = [note.pitch for notes in pieces for note in notes] or EMPTY_RANGE
    return min(pitches), max(pitches)


def _draw(panel: "Axes", notes: Sequence[Note], end: float, steps_per_beat: int, colour: str) -> None:
    starts, ends = ([getattr(note, side) / steps_per_beat for note in notes] for side in ("start", "end"))
    lengths = [end - start for start, end in zip(starts, ends, strict=True)]
    bars = panel.barh([note.pitch for note in notes], lengths, left=starts, height=0.9, color=colour, linewidth=0)
    for bar in bars:
        bar.set_snap(False)  # all equally high, whichever pixels they fall on


def _lines(panel: "Axes", beats: float) -> None:
    from matplotlib.ticker import MultipleLocator

    panel.set_axisbelow(True)
    panel.grid(axis="both", color="0.88", linewidth=0.6)
    panel.tick_params(labelsize=SMALL, length=2)
    panel.xaxis.set_major_locator(MultipleLocator(BEATS_PER_LINE * math.ceil(beats / MAX_LINES / BEATS_PER_LINE)))
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _name_rows(panel: "Axes", low: int, high: int, keys: bool) -> None:
    if keys:
        octaves = range(12 * (low // 12), high + 12, 12)
        panel.set_yticks(list(octaves), [f"C{pitch // 12 - 1}" for pitch in octaves])
        return
    rows = range(low, high + 1, -(-(high - low + 1) // 5))
    panel.set_yticks(list(rows), [str(row - LOWEST_PITCH + 1) for row in rows])
    panel.set_ylabel("bit", fontsize=SMALL)
