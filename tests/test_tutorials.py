"""Every tutorial runs; by day, networks are fitted for a few steps."""

import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pgm_rnn.experiments import histories

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def _briefly(fit: Callable[..., Any], most: int, *arguments: Any, num_iterations: int) -> Any:
    return fit(*arguments, num_iterations=min(most, num_iterations))


SCRIPTS = sorted((ROOT / "tutorials").glob("*.py"))


@pytest.mark.parametrize("num_iterations", [20, pytest.param(None, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_tutorial_runs(
    path: Path, num_iterations: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if num_iterations is not None:
        monkeypatch.setattr(histories, "fit", partial(_briefly, histories.fit, num_iterations))
    runpy.run_path(str(path), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) > 5
