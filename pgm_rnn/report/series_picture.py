"""Series of real numbers as a picture: lines over the steps, or spectrograms from the cepstrum of speech."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pgm_rnn.report.figures import stacked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUM_FREQUENCIES = 128
DECIBELS = 20 / math.log(10)
LOUDEST = 25.0
"""Decibels at the ends of the colour scale, the same in every picture, so that pictures can be compared."""


def lines(series: Sequence[Tensor]) -> "Figure":
    """One panel per series (T_i,) or (T_i, M), with one line per variable."""
    figure, panels = stacked(len(series), width=8, height=1.5)
    for number, (panel, x) in enumerate(zip(panels, series, strict=True), 1):
        panel.plot(range(1, len(x) + 1), x.detach().cpu().double().reshape(len(x), -1).numpy(), linewidth=1)
        panel.set_ylabel(str(number), rotation=0, ha="right", va="center")
        panel.tick_params(labelsize=8, length=2)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    _whole_steps(panels[-1], "steps")
    return figure


def envelope(cepstrum: Tensor) -> Tensor:
    """Decibels of a spectral envelope, log |H(w)| = sum_n c_n cos(n w), at frequencies 0 < w < pi: (T, 128).

    Args:
        cepstrum: c_1, ..., c_N of each frame, (T, N); the gain c_0 is unknown and set to 0.
    """
    frequencies = math.pi * (torch.arange(NUM_FREQUENCIES).double() + 0.5) / NUM_FREQUENCIES
    orders = torch.arange(1, cepstrum.shape[1] + 1).double()
    return DECIBELS * cepstrum.detach().cpu().double() @ torch.cos(orders[:, None] * frequencies)


def spectrograms(frames: Sequence[Tensor]) -> "Figure":
    """One panel per utterance (T_i, N) of cepstra: frequency upwards, as a fraction of the highest; light is loud."""
    figure, panels = stacked(len(frames), width=7, height=1.5)
    pictures = [envelope(cepstrum).T.numpy() for cepstrum in frames]
    longest = max(picture.shape[1] for picture in pictures)
    how: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "cmap": "magma"}
    for number, (panel, picture) in enumerate(zip(panels, pictures, strict=True), 1):
        extent = (0.5, picture.shape[1] + 0.5, 0.0, 1.0)
        image = panel.imshow(picture, extent=extent, vmin=-LOUDEST, vmax=LOUDEST, **how)
        panel.set_xlim(0.5, longest + 0.5)
        panel.set_facecolor("0.94")
        panel.set_ylabel(str(number), rotation=0, ha="right", va="center")
        panel.tick_params(labelsize=8, length=2)
    _whole_steps(panels[-1], "frames")
    figure.supylabel("frequency, in parts of the highest", fontsize=10)
    figure.colorbar(image, ax=panels, label="decibels", aspect=40, extend="both")
    return figure


def _whole_steps(panel: "Axes", label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.set_xlabel(label)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
