"""Looks that tell the members of a group apart: a colour, a line style, a marker and a hatch for each.

Up to eight members have the colours of Okabe & Ito (2008), which people with any kind of colour vision tell apart. More
are in order on one colour scale.
"""

from typing import Any, NamedTuple

from pgm_rnn.experiments.pictures import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

FEW = 8
"""Largest number of members that are told apart by more than their place on a colour scale."""
INK = "#1f3b63"
"""Colour of what was observed."""
AHEAD = VERMILION.color
"""Colour of what is forecast or drawn."""
GREY = "#777777"
"""Colour of lines of reference."""


class Look(NamedTuple):
    """The look of one member of a group.

    Attributes:
        color: any colour of matplotlib's.
        dashes: matplotlib's style of a line.
        marker: matplotlib's name of a marker.
        hatch: matplotlib's pattern of an area.
    """

    color: Any
    dashes: Any = "-"
    marker: str = "o"
    hatch: str = ""


_COLOURS = [look.color for look in (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, BLACK)] + ["#F0E442"]
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 3)))
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
_HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "|||", "+++")


def looks(num: int) -> list[Look]:
    """The looks of `num` members, in their order."""
    import matplotlib

    if num <= FEW:
        parts = zip(_COLOURS, _DASHES, _MARKERS, _HATCHES, strict=True)
        return [Look(*part) for part in parts][:num]
    scale = matplotlib.colormaps["viridis"]
    return [Look(scale(number / (num - 1))) for number in range(num)]
