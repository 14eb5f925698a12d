"""The picture and the first table of the benchmarks' page say what was recorded."""

from pathlib import Path

import pytest

from benchmarks.record import Entry, Kept, keep, read, write
from tools.benchmark_pictures import BEGIN, END, PAGE, PROBLEMS, TIMES, lines, page, says, table


def test_the_page_is_made_from_the_recorded_times() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert BEGIN in text
    assert page(text, lines(read(TIMES))) == text


def test_every_problem_is_a_table_that_was_recorded() -> None:
    found = lines(read(TIMES))
    assert [line.title for line in found] == [problem.title for problem in PROBLEMS]
    assert all(line.ratios for line in found)


def test_ratios_are_the_peers_times_over_ours() -> None:
    title, name, quantity, ours = PROBLEMS[0]
    entries = [
        Entry(name, quantity, ours, 2.0, 1.0, 2),
        Entry(name, quantity, "dynamax", 7.0, 3.5, 2),
        Entry(name, "value", "dynamax", 1.0, 0.5, 2),
        Entry(name, quantity, "nobody", 1.0, 0.5, 2),
    ]
    (line,) = lines(entries)
    assert line == (title, 2.0, 2, {"dynamax": 3.5})
    assert "| 3.5 |" in table([line])
    assert "from 3.5 to 4. In 1 of 1 comparisons" in says([line])
    assert lines(entries[1:]) == []  # without our time there is no ratio


def test_where_ours_is_not_the_first_line_of_its_table_ratios_are_still_to_ours() -> None:
    _, name, quantity, ours = next(problem for problem in PROBLEMS if problem.table == "training step, VRNN")
    entries = [Entry(name, quantity, "plain torch, fused", 20.0, 1.0, 1), Entry(name, quantity, ours, 10.0, 0.5, 1)]
    assert lines(entries)[0].ratios == {"plain torch": 2.0}


def test_what_stands_between_the_marks_is_replaced() -> None:
    text = f"# Title\n\n{BEGIN}old\n{END}rest\n"
    made = page(text, lines(read(TIMES)))
    assert made.startswith("# Title\n\n")
    assert made.endswith(f"{END}rest\n")
    assert "old" not in made


def test_a_run_adds_to_a_file_and_replaces_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kept, "entries", [])
    place = tmp_path / "times.json"
    keep("a", "value", "ours", (1.23456, 1.0))
    keep("a", "value", "failed", (float("inf"), float("nan")))
    keep("a", "gradient", "ours", None)
    write(place)
    assert [entry[:4] for entry in read(place)] == [("a", "value", "ours", 1.235)]
    monkeypatch.setattr(Kept, "entries", [])
    keep("a", "value", "ours", (2.0, 1.0))
    keep("b", "value", "ours", (3.0, 1.0))
    write(place)
    assert [entry[3] for entry in read(place)] == [2.0, 3.0]
