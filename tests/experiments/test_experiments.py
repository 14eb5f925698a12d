"""Every experiment of the registry: a quick run, its picture, its verdicts and its files."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgm_rnn.experiments.experiment import KEYS, Cell, Experiment, Row
from pgm_rnn.experiments.record import read_record, write_record
from pgm_rnn.experiments.registry import EXPERIMENTS
from pgm_rnn.experiments.settings import Settings
from pgm_rnn.experiments.sweep import Done, run_cell, sweep
from pgm_rnn.experiments.tables import as_csv, from_csv
from tools.experiments_page import NAME, main, page

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "experiments"


def here(experiment: Experiment, settings: Settings, cells: list[Cell]) -> Iterator[Done]:
    return (run_cell(experiment, settings, cell) for cell in cells)


class QuickRows(dict[str, list[Row]]):
    """Rows of a quick run of each experiment, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> list[Row]:
        experiment = EXPERIMENTS[name]
        self[name] = sweep(experiment, experiment.quick, self.folder / name, here)
        return self[name]


@pytest.fixture(scope="module")
def quick_rows(tmp_path_factory: pytest.TempPathFactory) -> QuickRows:
    return QuickRows(tmp_path_factory.mktemp("cells"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_quick_run_has_a_row_for_each_draw_and_every_verdict(name: str, quick_rows: QuickRows) -> None:
    experiment, rows = EXPERIMENTS[name], quick_rows[name]
    assert {row["replicate"] for row in rows} == set(range(experiment.quick.replicates))
    keys = [tuple(row.get(key) for key in KEYS) for row in rows]
    assert len(set(keys)) == len(keys)
    for sentence in experiment.sentences:
        finding = sentence.find(rows)
        assert len(finding.draws) == experiment.quick.replicates
        assert finding.reason.endswith(".")
        assert "nan" not in finding.reason.lower().split()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_files_are_written_whole_and_a_csv_keeps_the_verdicts(name: str, quick_rows: QuickRows, tmp_path: Path) -> None:
    experiment = EXPERIMENTS[name]
    paths = write_record(experiment, experiment.quick, "a command", quick_rows[name], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    assert {path.suffix for path in paths} == {".csv", ".json", ".png", ".svg"}
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / f"{name}.svg").read_bytes()
    record = read_record(name, tmp_path)
    assert record is not None
    assert as_csv(record.rows) == (tmp_path / f"{name}.csv").read_text()
    text = page(tmp_path)
    assert f"## {name}\n" in text
    for sentence in experiment.sentences:
        assert sentence.quote in text
        assert f"**{sentence.judge(record.rows).words}**" in text


def test_the_divergence_is_what_starts_share_and_what_they_do_not(quick_rows: QuickRows) -> None:
    """mean_s KL(p || q_s) = KL(p || qbar) + mean_s KL(qbar || q_s), an identity for the geometric mean qbar."""
    for row in quick_rows["disagreement"]:
        parts = float(row["kl_shared"]) + float(row["kl_starts"])
        assert parts == pytest.approx(float(row["kl"]), rel=1e-10)
        assert float(row["kl_starts"]) > 0


def test_a_picture_depends_on_its_rows_alone(quick_rows: QuickRows, tmp_path: Path) -> None:
    experiment = EXPERIMENTS["figure-5"]
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        paths = write_record(experiment, experiment.quick, "a command", quick_rows["figure-5"], folder)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]


def test_the_page_and_its_pictures_are_made_from_the_csv(quick_rows: QuickRows, tmp_path: Path) -> None:
    experiment = EXPERIMENTS["figure-6"]
    paths = write_record(experiment, experiment.quick, "a command", quick_rows["figure-6"], tmp_path)
    expected = {path: path.read_bytes() for path in paths}
    for ending in ("png", "svg"):
        (tmp_path / f"figure-6.{ending}").unlink()
    main(str(tmp_path))
    assert {path: path.read_bytes() for path in paths} == expected
    assert (tmp_path / NAME).read_text(encoding="utf-8") == page(tmp_path)


def test_more_replicates_leave_those_that_were_there_as_they_are(tmp_path: Path) -> None:
    """Beyond rounding in float32, which a stack of another size may do in another order."""
    experiment = EXPERIMENTS["figure-7"]
    few = dataclasses.replace(experiment.quick, replicates=1, num_updates=3, hidden_dims=(1,), many_particles=())
    more = dataclasses.replace(few, replicates=2)
    small, large = (sweep(experiment, s, tmp_path / str(s.replicates), here) for s in (few, more))
    again = [row for row in large if row["replicate"] == 0]
    for row, other in zip(small, again, strict=True):
        for column, value in row.items():
            assert (
                other[column] == pytest.approx(value, rel=1e-4) if isinstance(value, float) else other[column] == value
            )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_two_cells_share_a_file(name: str) -> None:
    experiment = EXPERIMENTS[name]
    names = [cell.name for cell in experiment.cells(experiment.settings)]
    assert len(set(names)) == len(names)
    assert experiment.settings.replicates >= 20


def test_a_table_survives_being_written_and_read() -> None:
    rows: list[Row] = [{"a": 1, "b": 0.25, "c": "x"}, {"a": 2**62, "d": 1e-7}]
    assert from_csv(as_csv(rows)) == rows
    with pytest.raises(ValueError, match="expected a CSV file with a header and rows, got none"):
        from_csv("a,b\n")


def test_the_committed_page_is_what_the_committed_numbers_say() -> None:
    assert (DOCS / NAME).read_text(encoding="utf-8") == page(DOCS), "run python -m tools.experiments_page"
