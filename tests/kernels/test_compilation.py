"""Compilation is said once, is no part of a fit's time, and needs no place to write to."""

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgm_rnn.cli.notices import LOGGER, notices
from pgm_rnn.inference import em
from pgm_rnn.inference.em import engine
from pgm_rnn.inference.em.climb import climb
from pgm_rnn.kernels import compilation
from pgm_rnn.models import HMM
from tests.fresh import with_torch

ROOT = Path(__file__).parents[2]
FOLDERS = {"pgm_rnn": ROOT / "pgm_rnn", "pgm_rnn/models": ROOT / "models", "pgm_rnn/inference": ROOT / "inference"}
SHORT = """
import json, time
import torch
from pgm_rnn.cli.notices import notices
from pgm_rnn.kernels import compilation
from pgm_rnn.kernels import inverse_cdf
from pgm_rnn.kernels.threads import run_compiled
with notices():
    clock, worked = time.perf_counter(), compilation.working_seconds()
    arguments = torch.ones(1, 2), torch.full((1, 1), 0.5, dtype=torch.float64), torch.tensor([True])
    run_compiled(inverse_cdf.invert_even, *arguments, torch.empty(1, 2, dtype=torch.int64))
    found = [time.perf_counter() - clock, compilation.working_seconds() - worked]
cache = inverse_cdf.invert_even._cache
print(json.dumps([*found, type(cache).__name__, getattr(cache, "_cache_path", "")]))
"""


def ran(place: Path, **environment: str) -> tuple[float, float, str, str, str]:
    """Seconds of a compiled call and those without compilation, the cache's kind and folder, and standard error."""
    done = with_torch().code(SHORT, place, os.environ | {"PYTHONPATH": str(place)} | environment)
    assert done.returncode == 0, done.stderr
    seconds, working, cache, folder = json.loads(done.stdout)
    return seconds, working, cache, folder, done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package without compiled code, as a wheel unpacks it."""
    for name, folder in FOLDERS.items():
        left_out = shutil.ignore_patterns("__pycache__", "models", "inference", "*.safetensors")
        kept = left_out if name == "pgm_rnn" else shutil.ignore_patterns("__pycache__")
        shutil.copytree(folder, tmp_path / "place" / name, ignore=kept)
    return tmp_path / "place"


@pytest.mark.slow
def test_kernels_compile_once_beside_the_package_and_say_so(copy: Path) -> None:
    seconds, working, cache, folder, said = ran(copy)
    assert said == f"{compilation.MESSAGE}\n"
    assert working < seconds / 2
    assert (cache, Path(folder).parent) == ("FunctionCache", copy / "pgm_rnn" / "kernels")
    again, working_again, *_, said_again = ran(copy)
    assert said_again == ""
    assert working_again == pytest.approx(again, abs=1e-3)


@pytest.mark.slow
def test_a_package_that_cannot_be_written_to_keeps_its_code_in_the_users_cache(copy: Path, tmp_path: Path) -> None:
    """A file stands where the folder of compiled code would be made: that stops a superuser, too."""
    (copy / "pgm_rnn" / "kernels" / "__pycache__").touch()
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home" / "cache")}
    *_, cache, folder, said = ran(copy, **home)
    assert said == f"{compilation.MESSAGE}\n"
    assert (cache, Path(folder).is_relative_to(tmp_path / "home")) == ("FunctionCache", True)
    assert ran(copy, **home)[-1] == ""


@pytest.mark.slow
def test_kernels_run_where_nothing_can_be_written_to(copy: Path, tmp_path: Path) -> None:
    (copy / "pgm_rnn" / "kernels" / "__pycache__").touch()
    (tmp_path / "file").touch()
    nowhere = {"HOME": str(tmp_path / "file"), "XDG_CACHE_HOME": str(tmp_path / "file")}
    *_, cache, folder, said = ran(copy, **nowhere)
    assert said == f"{compilation.MESSAGE}\n"
    assert (cache, folder) == ("NullCache", "")


def event(module: str) -> SimpleNamespace:
    return SimpleNamespace(py_func=SimpleNamespace(__module__=module))


def test_the_clock_stands_still_in_nested_compilations_of_the_package_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"depth": 0, "seconds": 0.0, "said": False}.items():
        monkeypatch.setattr(compilation._State, name, value)
    caplog.set_level("INFO", LOGGER)
    times = iter([1.0, 4.0, 5.0, 7.0])
    with monkeypatch.context() as patched:
        patched.setattr(time, "perf_counter", lambda: next(times))
        compilation._started("someone.elses")
        compilation._ended()
        for _ in range(2):
            compilation._started("pgm_rnn.kernels.hmm_compiled")
            compilation._started("pgm_rnn.kernels.hmm_compiled")
            compilation._ended()
            compilation._ended()
    assert compilation._State.seconds == (4.0 - 1.0) + (7.0 - 5.0)
    assert [record.message for record in caplog.records] == [compilation.MESSAGE]


def test_a_notice_is_for_the_block_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with notices():
        compilation._LOG.info("inside")
    compilation._LOG.info("outside")
    assert capsys.readouterr().err == "inside\n"


@pytest.mark.parametrize("compiled", [0.0, 100.0])
def test_the_seconds_of_a_fit_leave_compilation_out(compiled: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compilation of that length is made up; without one, the seconds are those of a watch."""

    def climbing(*arguments: Any) -> Any:
        compilation._State.seconds += compiled
        return climb(*arguments)

    monkeypatch.setattr(compilation._State, "seconds", 0.0)
    monkeypatch.setattr(engine, "climb", climbing)
    model = HMM.random(2, 3, seed=0)
    x = model.sample(5, 6, seed=1).x
    em.fit(model, x, num_iterations=1, progress=False)
    before, start = compilation._State.seconds, time.perf_counter()
    found = em.fit(model, x, num_iterations=1, progress=False)
    elapsed = time.perf_counter() - start
    assert compilation._State.seconds - before >= compiled
    assert found.seconds == pytest.approx(elapsed - compiled, abs=0.05 + elapsed)


CALLED = """
from {how}

@jit(nopython=True)
def number():
    return {number}
"""
CALLING = """
from {how}
from stale.called import number

@jit(nopython=True)
def twice():
    return 2 * number()

print(twice(), sum(twice.stats.cache_hits.values()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "numba's"])
def test_a_function_is_compiled_again_when_one_that_it_calls_has_changed(tmp_path: Path, ours: bool) -> None:
    """numba alone gives the old number, because the file of the function that was called last is as it was."""
    how = "pgm_rnn.kernels.compilation import jitted as jit" if ours else "functools import partial; import numba"
    how += "" if ours else "; jit = partial(numba.jit, cache=True)"
    folder = tmp_path / "stale"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "calling.py").write_text(CALLING.format(how=how))
    found = []
    for number in (1, 1, 1234):
        (folder / "called.py").write_text(CALLED.format(how=how, number=number))
        if number == 1:
            os.utime(folder / "called.py", (1e9, 1e9))
        path = f"{tmp_path}{os.pathsep}{ROOT}"
        done = with_torch().code("import stale.calling", tmp_path, os.environ | {"PYTHONPATH": path})
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    assert found == [["2", "0"], ["2", "1"], ["2468", "0"] if ours else ["2", "1"]]


def test_the_stamps_of_a_kernel_are_of_all_that_is_compiled_into_it() -> None:
    from pgm_rnn.kernels import particle_steps_compiled

    names = [name for name, _, _ in compilation.stamps(particle_steps_compiled.__name__)]
    assert {"pgm_rnn.kernels.particle_runs_compiled", "pgm_rnn.kernels.lanes_compiled"} < set(names)
    assert "pgm_rnn.kernels.kalman_compiled" not in names
    assert compilation.stamps("no.such.module") == []
