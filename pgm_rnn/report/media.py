"""File formats of sequences, by their medium: music, handwriting, speech, text, numbers.

    music                    .mid, .png, .svg    bits of 88 keys
    handwriting              .svg, .png          offsets of a pen; the points of pen-digits
    speech                   .png, .svg          the cepstra of japanese-vowels
    vectors of numbers       .png, .svg
    text, symbols, numbers   .txt                one line per sequence, as on the terminal

All of them can also be written as .npz, the arrays themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from pgm_rnn.data.piano_rolls import NUM_KEYS
from pgm_rnn.emissions import Bernoulli, Emission, NadeBits, Pen
from pgm_rnn.files import write_whole
from pgm_rnn.report import figures, midi
from pgm_rnn.report.drawing import paths, pen_drawings
from pgm_rnn.report.piano_roll import piano_rolls
from pgm_rnn.report.records import is_writable
from pgm_rnn.report.series_picture import lines, spectrograms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARRAYS = ".npz"
STEPS_PER_BEAT = {"jsb": 1, "nottingham": 2}
"""Steps per beat (a quarter note) of each music data set; 1 for music whose steps per beat are unknown."""

Writer = Callable[[Sequence[Tensor]], bytes]
Vocabulary = str | tuple[str, ...]
"""The characters of a text, or words."""


@dataclass(frozen=True)
class Medium:
    """How sequences (T_i, *event) of one kind are written to files.

    Attributes:
        what: the kind, such as "music".
        writers: for each suffix, the function that makes a file's contents.
    """

    what: str
    writers: Mapping[str, Writer] = field(default_factory=dict)

    @property
    def suffixes(self) -> str:
        """Such as ".mid, .png, .svg or .npz"."""
        *most, last = [*self.writers, ARRAYS]
        return f"{', '.join(most)} or {last}" if most else last

    def check(self, output: Path) -> None:
        """Check that a file of that name can be written, before the work is done.

        Raises:
            ValueError: the suffix does not belong to this medium, or the folder cannot be written to.
        """
        if output.suffix.lower() not in (*self.writers, ARRAYS):
            raise ValueError(f"expected --out to end in {self.suffixes} for {self.what}, got {output}")
        if output.is_dir() or not is_writable(output.resolve().parent):
            raise ValueError(f"expected --out to name a file in a folder that can be written to, got {output}")

    def write(self, output: Path, sequences: Sequence[Tensor]) -> None:
        """Write a file of any suffix except .npz, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(output, self.writers[output.suffix.lower()](sequences))


def medium_of(
    family: Emission, data: str | None, vocabulary: Vocabulary | None = None, tempo: float = midi.TEMPO
) -> Medium:
    """The medium of observations.

    Args:
        family: emission family of an observation.
        data: name of the data set that they come from or resemble; None if unknown.
        vocabulary: the characters of a text, or the words of the symbols.
        tempo: tempo of music, in beats per minute.
    """
    if isinstance(family, Bernoulli | NadeBits) and family.event_shape == (NUM_KEYS,):
        steps_per_beat = STEPS_PER_BEAT.get(data or "", 1)
        play: Writer = partial(midi.midi, steps_per_beat=steps_per_beat, tempo=tempo)
        return Medium("music", {".mid": play, **_pictures(partial(piano_rolls, steps_per_beat=steps_per_beat))})
    if isinstance(family, Pen):
        return Medium("handwriting", _pictures(pen_drawings))
    if data == "pen-digits":
        return Medium("handwriting", _pictures(paths))
    if data == "japanese-vowels":
        return Medium("speech", _pictures(spectrograms))
    if family.event_shape:
        return Medium("vectors of numbers", _pictures(lines))
    print_all: Writer = partial(_text_file, vocabulary=vocabulary)
    if family.needs_integers:
        return Medium("text" if isinstance(vocabulary, str) else "symbols", {".txt": print_all})
    return Medium("numbers", {".txt": print_all, **_pictures(lines)})


def text_lines(sequences: Sequence[Tensor], vocabulary: Vocabulary | None) -> list[str]:
    """Sequences as lines: texts with empty lines between them if there are characters, else words or numbers."""
    if vocabulary is None:
        return [" ".join(f"{value:.6g}" for value in row.tolist()) for row in sequences]
    if not isinstance(vocabulary, str):
        return [" ".join(vocabulary[symbol] for symbol in row.tolist()) for row in sequences]
    texts = ["".join(vocabulary[symbol] for symbol in row.tolist()) for row in sequences]
    return [("\n" if number else "") + text for number, text in enumerate(texts)]


def _text_file(sequences: Sequence[Tensor], vocabulary: Vocabulary | None) -> bytes:
    return "".join(f"{line}\n" for line in text_lines(sequences, vocabulary)).encode()


def _pictures(draw: "Callable[[Sequence[Tensor]], Figure]") -> dict[str, Writer]:
    def picture(suffix: str, sequences: Sequence[Tensor]) -> bytes:
        if not all(bool(x.isfinite().all()) for x in sequences):
            raise ValueError(f"expected finite numbers to draw, got NaN or infinity; write them to a {ARRAYS}")
        return figures.rendered(draw(sequences), suffix)

    return {suffix: partial(picture, suffix) for suffix in figures.SUFFIXES}
