"""Piano rolls as a picture: time to the right, pitch upwards, one bar per held note."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from pgm_rnn.report.figures import INK, stacked
from pgm_rnn.report.midi import notes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EMPTY_RANGE = (48, 72)
"""Range of pitches shown if nothing sounds."""
BEATS_PER_LINE, MAX_LINES = 4, 60


def piano_rolls(rolls: Sequence[Tensor], *, steps_per_beat: int = 1) -> "Figure":
    """One panel per roll (T_i, 88), all on one scale, with a line at every C and at every fourth beat."""
    from matplotlib.ticker import MultipleLocator

    pieces = [notes_of(roll) for roll in rolls]
    pitches = [note.pitch for notes in pieces for note in notes] or EMPTY_RANGE
    beats = max(len(roll) for roll in rolls) / steps_per_beat
    width = min(16.0, max(7.0, 0.1 * beats * steps_per_beat))
    figure, panels = stacked(len(rolls), width=width, height=0.4 + 0.028 * (max(pitches) - min(pitches) + 4))
    for number, (panel, notes, roll) in enumerate(zip(panels, pieces, rolls, strict=True), 1):
        starts, ends = ([getattr(note, side) / steps_per_beat for note in notes] for side in ("start", "end"))
        lengths = [end - start for start, end in zip(starts, ends, strict=True)]
        bars = panel.barh([note.pitch for note in notes], lengths, left=starts, height=0.9, color=INK, linewidth=0)
        for bar in bars:
            bar.set_snap(False)  # all equally high, whichever pixels they fall on
        panel.axvspan(len(roll) / steps_per_beat, max(beats, 1), color="0.94", linewidth=0)
        panel.set_ylabel(str(number), rotation=0, ha="right", va="center")
    octaves = range(12 * (min(pitches) // 12), max(pitches) + 12, 12)
    panels[0].set_yticks(list(octaves), [f"C{pitch // 12 - 1}" for pitch in octaves])
    panels[0].set_ylim(min(pitches) - 2, max(pitches) + 2)
    panels[0].set_xlim(0, beats)
    for panel in panels:
        panel.set_axisbelow(True)
        panel.grid(axis="both", color="0.88", linewidth=0.6)
        panel.tick_params(labelsize=8, length=2)
        panel.xaxis.set_major_locator(MultipleLocator(BEATS_PER_LINE * math.ceil(beats / MAX_LINES / BEATS_PER_LINE)))
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[-1].set_xlabel("beats")
    return figure
