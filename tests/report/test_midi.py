"""MIDI files, read back by a small reader written after the Standard MIDI File specification 1.0."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pgm_rnn.report.midi import Note, midi, notes_of

DIVISION = 480
REST = 4 * DIVISION


class Event(NamedTuple):
    """One of a track: ticks from its start, the status byte, and for a meta event its type before the data."""

    tick: int
    status: int
    data: bytes


class File(NamedTuple):
    format: int
    num_tracks: int
    division: int
    events: list[Event]


def read(contents: bytes) -> File:
    """Header chunk and the one track chunk, variable-length deltas, running status, meta events."""
    assert contents[:8] == b"MThd\x00\x00\x00\x06"
    format_, tracks, division = (int.from_bytes(contents[i : i + 2]) for i in (8, 10, 12))
    assert contents[14:18] == b"MTrk"
    track = contents[22:]
    assert len(track) == int.from_bytes(contents[18:22])
    events, tick, place, status = [], 0, 0, 0
    while place < len(track):
        delta, place = variable_length(track, place)
        tick += delta
        if track[place] & 0x80:
            status, place = track[place], place + 1
        if status == 0xFF:
            kind, (size, start) = track[place], variable_length(track, place + 1)
            events.append(Event(tick, status, bytes([kind]) + track[start : start + size]))
            place = start + size
        else:
            size = 1 if status >> 4 in (0xC, 0xD) else 2
            events.append(Event(tick, status, track[place : place + size]))
            place += size
    return File(format_, tracks, division, events)


def variable_length(track: bytes, place: int) -> tuple[int, int]:
    """Seven bits a byte, the most significant first; the last byte has no eighth bit."""
    value = 0
    while True:
        value, place = value << 7 | track[place] & 0x7F, place + 1
        if not track[place - 1] & 0x80:
            return value, place


def held(events: Sequence[Event]) -> list[tuple[int, int, int]]:
    """Start, end and pitch of each note; a key is never struck while it sounds, nor let go of while it does not."""
    sounding: dict[int, int] = {}
    notes = []
    for tick, status, data in events:
        if status == 0x90 and data[1] > 0:
            assert data[0] not in sounding
            sounding[data[0]] = tick
        elif status in (0x80, 0x90):
            notes.append((sounding.pop(data[0]), tick, data[0]))
    assert not sounding
    return sorted(notes)


def roll_of(num_steps: int, *notes: Note) -> Tensor:
    roll = torch.zeros(num_steps, 88)
    for note in notes:
        roll[note.start : note.end, note.pitch - 21] = 1
    return roll


def test_a_key_that_sounds_at_successive_steps_is_one_note() -> None:
    notes = [Note(0, 3, 60), Note(1, 2, 64), Note(3, 4, 64), Note(5, 6, 21), Note(5, 6, 108)]
    assert notes_of(roll_of(6, *notes)) == notes
    assert notes_of(torch.zeros(3, 88)) == []
    assert notes_of(torch.ones(1, 88)) == [Note(0, 1, pitch) for pitch in range(21, 109)]


@given(st.integers(0, 10_000), st.lists(st.integers(1, 12), min_size=1, max_size=3), st.sampled_from([1, 2, 4]))
def test_the_rolls_are_read_back(seed: int, lengths: list[int], steps_per_beat: int) -> None:
    numbers = torch.Generator().manual_seed(seed)
    rolls = [(torch.rand(length, 88, generator=numbers) < 0.3).to(torch.uint8) for length in lengths]
    ticks, begin, found = DIVISION // steps_per_beat, 0, held(read(midi(rolls, steps_per_beat=steps_per_beat)).events)
    for roll in rolls:
        end = begin + ticks * len(roll)
        inside = [((on - begin) // ticks, (off - begin) // ticks, key) for on, off, key in found if begin <= on < end]
        again = roll_of(len(roll), *(Note(*note) for note in inside))
        assert torch.equal(again, roll.float())
        runs = torch.cat([roll[:1], roll[1:] & (1 - roll[:-1])]).sum()
        assert len(inside) == int(runs)  # no more notes than there are runs
        begin = end + REST
    assert found == sorted(found)
    assert all((on % ticks, off % ticks) == (0, 0) for on, off, _ in found)


def test_the_file_is_of_format_0_with_its_tempo_its_markers_and_its_end() -> None:
    rolls = [roll_of(4, Note(0, 2, 60)), roll_of(3, Note(2, 3, 62))]
    file = read(midi(rolls, steps_per_beat=2, tempo=90.0))
    assert (file.format, file.num_tracks, file.division) == (0, 1, DIVISION)
    metas = [(event.tick, event.data[0], event.data[1:]) for event in file.events if event.status == 0xFF]
    second = 4 * DIVISION // 2 + REST
    assert metas == [
        (0, 0x51, round(60e6 / 90).to_bytes(3)),
        (0, 0x06, b"piece 1"),
        (second, 0x06, b"piece 2"),
        (second + 3 * DIVISION // 2, 0x2F, b""),
    ]
    assert held(file.events) == [(0, DIVISION, 60), (second + DIVISION, second + 3 * DIVISION // 2, 62)]
    assert midi(rolls, steps_per_beat=2, tempo=90.0) == midi(rolls, steps_per_beat=2, tempo=90.0)


def test_silence_is_a_file_that_lasts() -> None:
    file = read(midi([torch.zeros(5, 88)]))
    assert held(file.events) == []
    assert file.events[-1].tick == 5 * DIVISION


@pytest.mark.parametrize("tempo", [0.0, -1.0, 3.9, 1001.0, float("nan"), float("inf")])
def test_a_tempo_that_is_none_is_an_error(tempo: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"expected --tempo in 4..1000 beats per minute, got {tempo:g}")):
        midi([torch.zeros(1, 88)], tempo=tempo)


@pytest.mark.parametrize("tempo", [4.0, 1000.0])
def test_the_slowest_and_the_fastest_tempo_have_room_in_the_file(tempo: float) -> None:
    assert read(midi([torch.zeros(1, 88)], tempo=tempo)).events[0].data == b"\x51" + round(60e6 / tempo).to_bytes(3)
