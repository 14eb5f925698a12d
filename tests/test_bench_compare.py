"""Timing two commits side by side: the protocol between the processes, and what is said of a wrong revision."""

import pytest

from benchmarks import compare
from benchmarks.compare import SLOWER, Row, compared, line


class Fake:
    """A tree whose steps take what is said."""

    def __init__(self, **seconds: float) -> None:
        self.names, self.took, self.calls = list(seconds), seconds, 0

    def seconds(self, name: str) -> float:
        self.calls += 1
        return self.took[name]


def test_the_table_has_the_steps_of_both_and_marks_what_became_slower(capsys: pytest.CaptureFixture[str]) -> None:
    before, now = Fake(a=2.0, b=1.0, gone=1.0), Fake(a=1.0, b=1.2, new=1.0)
    rows = compared(before, now, rounds=3)  # type: ignore[arg-type]
    assert rows == [Row("a", 2000.0, 1000.0, 0.5), Row("b", 1000.0, 1200.0, 1.2)]
    assert before.calls == now.calls == 6
    printed = capsys.readouterr().out.splitlines()
    assert [text.endswith("slower") for text in printed] == [False, True]
    assert not line(Row("c", 1.0, SLOWER, SLOWER)).endswith("slower")


def test_a_revision_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(SystemExit, match="expected BASE as a revision of this repository, got 'no-such-revision'"):
        compare.main("no-such-revision")
