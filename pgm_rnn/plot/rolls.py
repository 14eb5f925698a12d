"""Piano rolls and other sequences of bits: observed ones beside drawn ones."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pgm_rnn.data.piano_rolls import NUM_KEYS
from pgm_rnn.report.canvas import TEXT, canvas_on
from pgm_rnn.report.piano_roll import draw_rolls
from pgm_rnn.report.time_axis import panel_title
from pgm_rnn.sequences import Data, Sequences, as_sequences

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def rolls(
    observed: Data, drawn: Data | None = None, *, num_sequences: int = 2, steps_per_beat: int = 1, axes: Any = None
) -> "list[Axes]":
    """Draw sequences of bits, one bar for each run of ones: observed ones, then drawn ones, on one scale.

    Args:
        observed: sequences x (B, T, D) of zeros and ones; with D = 88 the rows are the keys of a piano.
        drawn: sequences of the same D, such as `model.sample(...)`, or None.
        num_sequences: how many of each to show, the first ones.
        steps_per_beat: steps of a beat (a quarter note), for music.
        axes: matplotlib axes, one for each sequence that is shown; None for a new figure.

    Returns:
        The axes, observed sequences first.

    Raises:
        TypeError: observations that are not bits.
        ValueError: drawn sequences of another number of bits, or fewer axes than sequences.
    """
    groups = {"observed": as_sequences(observed)}
    if drawn is not None:
        groups["drawn"] = as_sequences(drawn)
    for name, group in groups.items():
        _check(name, group)
    widths = [group.x.shape[2] for group in groups.values()]
    if len(set(widths)) > 1:
        raise ValueError(f"expected sequences of one number of bits, got {widths[0]} observed and {widths[1]} drawn")
    found = [
        (name, number, _bits(group, number))
        for name, group in groups.items()
        for number in range(min(num_sequences, len(group.x)))
    ]
    panels = draw_rolls(
        [bits for _, _, bits in found],
        [name == "drawn" for name, _, _ in found],
        steps_per_beat=steps_per_beat,
        keys=widths[0] == NUM_KEYS,
        canvas=canvas_on(axes),
    )
    for panel, (name, number, _) in zip(panels, found, strict=True):
        group = groups[name]
        title = panel_title(group.legend, number, len(group.x))
        panel.set_title(f"{name}, {title}" if title else name, loc="left", fontsize=TEXT)
    return panels


def _check(name: str, group: Sequences) -> None:
    inside = group.x[group.mask.reshape(*group.mask.shape[:2], -1).any(-1)]
    if group.x.dim() != 3 or not bool(((inside == 0) | (inside == 1)).all()):
        raise TypeError(
            f"expected {name} sequences of bits (B, T, D), zeros and ones, got {tuple(group.x.shape)} with values from "
            f"{float(inside.min()):g} to {float(inside.max()):g}; use pgm_rnn.plot.states for other data"
        )


def _bits(group: Sequences, number: int) -> Tensor:
    """The bits of one sequence, (T_i, D), zero where one is missing."""
    return torch.nan_to_num(group.x[number, : int(group.lengths[number])].double()).cpu()
