"""Piano rolls as music: a Standard MIDI File of format 0, one track with every piece in turn.

A roll x (T, 88) says which keys sound at each step, but not when a key is struck: a key that sounds at successive steps
is taken as one held note. Entry j is MIDI pitch 21 + j. (With this reading the published chorales stand about an octave
above a choir: the median of their highest voice is pitch 84.)
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LOWEST_PITCH = 21
TICKS_PER_BEAT = 480
REST_BEATS = 4
"""Beats of silence between two pieces."""
VELOCITY = 80
TEMPO = 100.0
"""Default tempo in beats per minute."""
SLOWEST, FASTEST = 4.0, 1000.0
"""Range of tempos in beats per minute; below 3.6, the microseconds per beat exceed their field in the file."""


class Note(NamedTuple):
    """A held key.

    Attributes:
        start: the step at which it begins, from 0.
        end: the first step at which it is silent again.
        pitch: MIDI pitch, 60 for middle C.
    """

    start: int
    end: int
    pitch: int


def notes_of(roll: Tensor) -> list[Note]:
    """The notes of a roll (T, 88) of zeros and ones, sorted by start and then by pitch."""
    silence = torch.zeros(1, roll.shape[1], dtype=torch.int8)
    change = torch.cat([silence, roll.cpu().to(torch.int8), silence]).diff(dim=0).T  # (88, T + 1)
    starts, ends = (change == 1).nonzero(), (change == -1).nonzero()  # both by key, then by step
    notes = [
        Note(start, end, LOWEST_PITCH + key)
        for (key, start), (_, end) in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    return sorted(notes, key=lambda note: (note.start, note.pitch))


def midi(rolls: Sequence[Tensor], *, steps_per_beat: int = 1, tempo: float = TEMPO) -> bytes:
    """The contents of a MIDI file that plays every roll (T_i, 88), four beats of silence between two.

    A marker stands at the beginning of each roll.

    Args:
        rolls: zeros and ones.
        steps_per_beat: number of steps per quarter note, a divisor of 480.
        tempo: quarter notes per minute.

    Raises:
        ValueError: a tempo outside 4..1000.
    """
    import mido

    check_tempo(tempo)
    ticks = TICKS_PER_BEAT // steps_per_beat
    timed: list[tuple[int, mido.Message | mido.MetaMessage]] = []
    begin = 0
    for number, roll in enumerate(rolls, 1):
        timed.append((begin, mido.MetaMessage("marker", text=f"piece {number}")))
        timed += [(begin + ticks * step, message) for step, message in _messages(notes_of(roll))]
        begin += ticks * len(roll) + TICKS_PER_BEAT * REST_BEATS
    end = max(0, begin - TICKS_PER_BEAT * REST_BEATS)
    timed.append((end, mido.MetaMessage("end_of_track")))
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo)), mido.Message("program_change")])
    now = 0
    for tick, message in timed:
        track.append(message.copy(time=tick - now))
        now = tick
    contents = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_BEAT, tracks=[track]).save(file=contents)
    return contents.getvalue()


def check_tempo(tempo: float) -> None:
    """Check that a tempo is in range.

    Raises:
        ValueError: it is not in 4..1000 beats per minute.
    """
    if not SLOWEST <= tempo <= FASTEST:
        raise ValueError(f"expected --tempo in {SLOWEST:g}..{FASTEST:g} beats per minute, got {tempo:g}")


def _messages(notes: Sequence[Note]) -> list[tuple[int, object]]:
    """Events with their steps, in the order of time; at a common step, keys are released before others are struck."""
    import mido

    off = [(note.end, 0, mido.Message("note_off", note=note.pitch, velocity=0)) for note in notes]
    on = [(note.start, 1, mido.Message("note_on", note=note.pitch, velocity=VELOCITY)) for note in notes]
    return [(step, message) for step, _, message in sorted(off + on, key=lambda one: (one[0], one[1], one[2].note))]
