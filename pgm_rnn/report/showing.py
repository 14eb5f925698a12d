"""Output of sequences to look at or listen to: `pgm-rnn show` for real ones, and the output of `pgm-rnn sample`."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.data import load
from pgm_rnn.data.catalogue import DATASETS, DatasetInfo
from pgm_rnn.emissions import Emission
from pgm_rnn.files import write_whole
from pgm_rnn.report.media import ARRAYS, Medium, Vocabulary, medium_of, text_lines
from pgm_rnn.report.midi import TEMPO, check_tempo
from pgm_rnn.report.saved import split_of
from pgm_rnn.report.terminal import console
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
    """Write sequences of a data set in the formats of `sample`, or print them.

    Args:
        name: name of the data set.
        split: "train", "valid" or "test".
        first: index of the first sequence, counted from 0.
        num_sequences: number of sequences; fewer if the split has fewer.
        num_steps: largest number of steps of each sequence, None for all.
        tempo: tempo of music, in beats per minute.
        output: the file, None for the terminal.
        datasets: the available data sets.

    Raises:
        ValueError: there is no such data set, split or sequence, or the file's format cannot hold the sequences.
        OSError: the file cannot be written.
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
    """The tempo for a .mid file, the default one if None.

    Raises:
        ValueError: a tempo is given for another kind of file, or is out of range.
    """
    if tempo is None:
        return TEMPO
    if output is None or output.suffix.lower() != ".mid":
        raise ValueError(f"expected --tempo only with --out FILE.mid, got it with {output or 'no file'}")
    check_tempo(tempo)
    return tempo


def check_out(medium: Medium, family: Emission, output: Path | None) -> None:
    """Check that a medium can be written to a file, or printed if there is no file.

    Raises:
        ValueError: it cannot; the message says which files it takes.
    """
    if output is not None:
        medium.check(output)
    elif family.event_shape:
        raise ValueError(f"expected --out FILE for {medium.what}, got none; it may end in {medium.suffixes}")


def put_out(
    data: Sequences, medium: Medium, vocabulary: Vocabulary | None, output: Path | None, **arrays: Tensor | None
) -> None:
    """Print sequences, or write them to a file in a format of their medium; the arrays are the contents of an .npz.

    Raises:
        OSError: the file cannot be written.
    """
    sequences = [x[:length] for x, length in zip(data.x, data.lengths.tolist(), strict=True)]
    out = console()
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
    """Write an .npz, whole or not at all, and return a description of its contents.

    Raises:
        OSError: the file cannot be written.
    """
    held = {name: value.numpy() for name, value in arrays.items() if value is not None}
    contents = io.BytesIO()
    np.savez_compressed(contents, allow_pickle=False, **held)
    write_whole(output, contents.getvalue())
    odd = sum(int((~np.isfinite(value)).sum()) for value in held.values() if value.dtype.kind == "f")
    return ", ".join(f"{name} {value.shape}" for name, value in held.items()) + (f"; {odd} not finite" if odd else "")
