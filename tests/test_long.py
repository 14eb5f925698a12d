"""The list of long cases says what exists, and is made from what was measured."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import long
from tests.long import BY_DAY, LIMIT, LIST, gone, listed, long_among, measured

ROOT = Path(__file__).parents[1]


def test_every_entry_names_a_test_function_and_the_list_is_in_order() -> None:
    names = LIST.read_text(encoding="utf-8").splitlines()
    assert names == sorted(set(names))
    for name in names:
        file, _, case = name.partition("::")
        assert f"def {case.partition('[')[0].rpartition('::')[2]}(" in (ROOT / file).read_text(encoding="utf-8"), name
    assert not any(name.startswith(BY_DAY) for name in names)


def test_what_took_long_is_listed_and_what_was_not_run_stays() -> None:
    lines = [
        f"{LIMIT + 1:.2f} a.py::f[x y]",
        "0.10 a.py::g",
        f"{LIMIT - 1} a.py::f[x y]",
        f"99 {BY_DAY[0]}::h",
        "1 a.py::old",
    ]
    assert measured(lines, {"a.py::old", "b.py::kept"}) == ["a.py::f[x y]", "b.py::kept"]


def test_an_entry_without_a_case_is_found_where_its_file_was_collected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(long, "LIST", tmp_path / "list.txt")
    long.LIST.write_text("a.py::f\na.py::g[1]\nb.py::h\n")
    items = [SimpleNamespace(nodeid=name) for name in ("a.py::f", "a.py::g[2]")]
    assert listed() == {"a.py::f", "a.py::g[1]", "b.py::h"}
    assert long_among(items) == items[:1]
    assert gone(items) == ["a.py::g[1]"]
