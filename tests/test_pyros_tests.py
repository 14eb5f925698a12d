import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tools import pyros_summary, pyros_tests

INSTALLED = version("pyro-ppl")


def checkout(folder: Path, *, release: str = INSTALLED, test: str = "") -> Path:
    """What looks like a checkout of Pyro's repository with one test."""
    for name in pyros_tests.TESTS:
        package = folder / name if not Path(name).suffix else (folder / name).parent
        package.mkdir(parents=True, exist_ok=True)
        (folder / name if Path(name).suffix else package / "__init__.py").write_text("", encoding="utf-8")
        while package != folder:
            (package / "__init__.py").write_text("", encoding="utf-8")
            package = package.parent
    (folder / "tests" / "distributions" / "test_hmm.py").write_text(test, encoding="utf-8")
    (folder / "pyro").mkdir()
    (folder / "pyro" / "__init__.py").write_text(f'version_prefix = "{release}"\nassert False\n', encoding="utf-8")
    return folder


def test_a_checkout_that_fits_is_taken(tmp_path: Path) -> None:
    assert pyros_tests.why_not(checkout(tmp_path)) is None
    assert pyros_tests.version_of(tmp_path) == INSTALLED


def test_what_is_no_checkout_of_the_installed_version_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(pyros_tests.VARIABLE, raising=False)
    assert pyros_tests.main([]) == 2
    assert capsys.readouterr().err == (
        "expected the folder of a checkout of Pyro's repository, got none; name it, or set PYRO_CHECKOUT\n"
    )
    assert pyros_tests.main(["--checkout", str(tmp_path)]) == 2
    assert f"repository in {tmp_path}, got no pyro/__init__.py there" in capsys.readouterr().err
    old = checkout(tmp_path / "old", release="0.4.1")
    monkeypatch.setenv(pyros_tests.VARIABLE, str(old))
    assert pyros_tests.main([]) == 2
    assert f"expected a checkout of pyro-ppl {INSTALLED}, as is installed, got 0.4.1 in" in capsys.readouterr().err
    (old / "pyro" / "__init__.py").write_text("", encoding="utf-8")
    assert "got no version in" in str(pyros_tests.why_not(old))


def test_tests_of_other_laws_are_left_out() -> None:
    file = "tests/distributions/test_hmm.py"
    for name in ("test_gaussian_hmm_shape[full-()-1-1]", "test_discrete_hmm_categorical[3]"):
        assert pyros_tests.wanted(file, name)
    for name in ("test_gamma_gaussian_hmm_shape[1]", "test_stable_hmm_shape[1]", "test_gaussian_mrf_shape[1]"):
        assert not pyros_tests.wanted(file, name)
    assert pyros_tests.wanted("tests/contrib/timeseries/test_gp.py", "test_timeseries_models")
    assert not pyros_tests.wanted("tests/contrib/forecast/test_forecaster.py", "test_smoke[svi-Model0-None]")
    assert not pyros_tests.wanted("tests/distributions/test_gamma.py", "test_gaussian_hmm_shape")


MAKES_ONE = """
import pyro.distributions as dist, torch
from pyro.distributions import DiscreteHMM

def test_discrete_hmm_made():
    law = DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), dist.Normal(torch.zeros(2), 1.0), duration=3)
    assert type(law.expand((2,))) is dist.DiscreteHMM
    assert "pgm_rnn" in str(type(law).__mro__)
"""
MAKES_NONE = """
def test_discrete_hmm_not_made():
    pass
"""


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("test", "status", "counts"), [(MAKES_ONE, 0, "1 0 1"), (MAKES_NONE, 1, "1 0 0")], ids=["ours", "none"]
)
def test_pyros_tests_run_on_our_laws_and_tests_that_make_none_count_for_nothing(
    tmp_path: Path, test: str, status: int, counts: str
) -> None:
    """As `make nightly` calls them, with values of pytest's options that are no folder."""
    command = [sys.executable, "-m", "tools.pyros_tests", *["-n", "1", "--dist", "worksteal"]]
    place = os.environ | {pyros_tests.VARIABLE: str(checkout(tmp_path, test=test))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=pyros_tests.ROOT, env=place, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("tests/distributions/test_hmm.py "))
    numbers = row.split()[1:]
    assert " ".join((numbers[0], numbers[1], numbers[-1])) == counts


def test_the_table_counts_by_file_and_in_all() -> None:
    def report(path: str, outcome: Any, laws: int) -> pytest.TestReport:
        made = [("laws", laws)]
        return pytest.TestReport(f"{path}::test", (path, 1, "test"), {}, outcome, None, "call", user_properties=made)

    stats = {
        "passed": [report("a.py", "passed", 2), report("a.py", "passed", 0), report("b.py", "passed", 1)],
        "failed": [report("b.py", "failed", 5)],
    }
    rows = {line.split()[0]: line.split()[1:] for line in pyros_summary.table(stats)[1:]}
    assert rows == {
        "a.py": ["2", "0", "0", "0", "0", "1"],
        "b.py": ["1", "1", "0", "0", "0", "1"],
        "all": ["3", "1", "0", "0", "0", "2"],
    }
