"""Sequences to look at or to listen to: `pgm-rnn show` for real ones, and what `pgm-rnn sample` does alike."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from torch import Tensor

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.data import load
from pgm_rnn.data.catalogue import DATASETS, DatasetInfo
from pgm_rnn.emissions import Emission
from pgm_rnn.files import write_whole
from pgm_rnn.report.media import ARRAYS, Medium, medium_of, text_lines
from pgm_rnn.report.midi import TEMPO, check_tempo
from pgm_rnn.report.saved import split_of
from pgm_rnn.sequences import Sequences


def show_data(
    name: str,
    *,
    split: str,
    first: int,
    num_sequences: int,
    num_steps: int | None,
    tempo: float | None,
    output: Path | None,
    datasets: Mapping[str, DatasetInfo] = DATASETS,
) -> None:
    """Write sequences of a data set as `sample` writes draws, or print them.

    Args:
        name: of the data set.
        split: "train", "valid" or "test".
        first: place of the first sequence, from 0.
        num_sequences: how many, fewer where there are not so many.
        num_steps: how many steps of each at most, None for all.
        tempo: of music, beats a minute.
        output: the file, None for the terminal.
        datasets: where data sets are.

    Raises:
        ValueError: no such data set, split or sequence, or a file that cannot hold them.
        OSError: it cannot be written.
    """
    check_choice("the data set", name, sorted(datasets))
    check_counts(num_sequences=num_sequences, num_steps=1 if num_steps is None else num_steps)
    dataset = load(name, datasets=datasets)
    data = split_of(dataset, split)
    if not 0 <= first < len(data.lengths):
        raise ValueError(f"expected --first in 0..{len(data.lengths) - 1}, got {first}")
    medium = medium_of(dataset.emission, name, dataset.vocabulary, checked_tempo(tempo, output))
    check_out(medium, dataset.emission, output)
    chosen = slice(first, first + num_sequences)
    lengths = data.lengths[chosen].clamp(max=num_steps or data.x.shape[1])
    shown = Sequences(data.x[chosen, : int(lengths.max())], lengths)
    put_out(shown, medium, dataset.vocabulary, output, x=shown.x, lengths=shown.lengths)


def checked_tempo(tempo: float | None, output: Path | None) -> float:
    """The tempo of a .mid file, or the usual one.

    Raises:
        ValueError: another kind of file, or no tempo of music.
    """
    if tempo is None:
        return TEMPO
    if output is None or output.suffix.lower() != ".mid":
        raise ValueError(f"expected --tempo only with --out FILE.mid, got it with {output or 'no file'}")
    check_tempo(tempo)
    return tempo


def check_out(medium: Medium, family: Emission, output: Path | None) -> None:
    """Raise a ValueError unless a medium can be written to a file, or printed where there is none."""
    if output is not None:
        medium.check(output)
    elif family.event_shape:
        raise ValueError(f"expected --out FILE for {medium.what}, got none; it may end in {medium.suffixes}")


def put_out(
    data: Sequences, medium: Medium, vocabulary: str | None, output: Path | None, **arrays: Tensor | None
) -> None:
    """Print sequences, or write them as their medium has it; the arrays are what an .npz holds.

    Raises:
        OSError: the file cannot be written.
    """
    sequences = [x[:length] for x, length in zip(data.x, data.lengths.tolist(), strict=True)]
    out = Console(highlight=False, markup=False, soft_wrap=True)
    if output is None:
        for line in text_lines(sequences, vocabulary):
            out.print(line)
    elif output.suffix.lower() == ARRAYS:
        out.print(f"written to {output}: {write_arrays(output, **arrays)}")
    else:
        medium.write(output, sequences)
        count = f"{len(sequences)} sequence{'' if len(sequences) == 1 else 's'}"
        out.print(f"written to {output}: {count}, {int(data.lengths.sum())} steps of {medium.what}")


def write_arrays(output: Path, **arrays: Tensor | None) -> str:
    """Write an .npz, whole or not at all, and say what it holds.

    Raises:
        OSError: it cannot be written.
    """
    held = {name: value.numpy() for name, value in arrays.items() if value is not None}
    contents = io.BytesIO()
    np.savez_compressed(contents, allow_pickle=False, **held)
    write_whole(output, contents.getvalue())
    odd = sum(int((~np.isfinite(value)).sum()) for value in held.values() if value.dtype.kind == "f")
    return ", ".join(f"{name} {value.shape}" for name, value in held.items()) + (f"; {odd} not finite" if odd else "")
