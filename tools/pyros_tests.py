"""Runs Pyro's own tests of its Markov chains, with this package's `DiscreteHMM` and `GaussianHMM` in Pyro's place.

    python -m tools.pyros_tests [--checkout FOLDER] [--with-pyros] [pytest's arguments]

FOLDER is a checkout of github.com/pyro-ppl/pyro of the installed pyro-ppl's version; by default it is read from the
environment variable PYRO_CHECKOUT. Only its tests are used: `pyro` itself is the installed package. The summary says
for each file how many tests passed and how many of them made one of our laws. With --with-pyros Pyro's own classes stay
in place: what fails then too is not ours to mend.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "PYRO_CHECKOUT"
TESTS = {
    "tests/distributions/test_hmm.py": "discrete_hmm|test_gaussian_hmm|test_independent_hmm",
    "tests/infer/reparam/test_conjugate.py": "",
    "tests/infer/reparam/test_hmm.py": r"^(?!test_stable_hmm_distribution\[.*-1\.6-)",
    "tests/infer/test_smcfilter.py": "test_gaussian_filter",
    "tests/contrib/forecast/test_forecaster.py": r"Model[34]\b",
    "tests/contrib/forecast/test_util.py": "GaussianHMM|IndependentHMM",
    "tests/contrib/mue/test_missingdatahmm.py": "DiscreteHMM",
    "tests/contrib/timeseries": "",
}
"""Which tests of each file can make a chain of ours: a pattern that their names must have.

Draws of stable laws of exponent 1.6 are left out: their tails are so heavy that one in seven of these tests fails by
chance, with Pyro's own classes too.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests and return pytest's exit status, or 2 without a checkout that fits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=os.environ.get(VARIABLE), help=f"or {VARIABLE}")
    parser.add_argument("--with-pyros", action="store_true", help="leave Pyro's own classes in place")
    options, pytest_options = parser.parse_known_args(arguments)
    refusal = why_not(options.checkout)
    if refusal:
        print(refusal, file=sys.stderr)
        return 2
    plugin = "tools.pyros_summary" if options.with_pyros else "tools.pyros_place"
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider", *TESTS]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    variables = os.environ | {"PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run([*command, *pytest_options], cwd=options.checkout, env=variables).returncode


def why_not(checkout: Path | None) -> str | None:
    """Why a checkout cannot be used, in one sentence; None if it can."""
    if checkout is None:
        return f"expected the folder of a checkout of Pyro's repository, got none; name it, or set {VARIABLE}"
    missing = [name for name in ("pyro/__init__.py", *TESTS) if not (checkout / name).exists()]
    if missing:
        return f"expected a checkout of Pyro's repository in {checkout}, got no {missing[0]} there"
    found, installed = version_of(checkout), version("pyro-ppl")
    if found.split(".")[:2] != installed.split(".")[:2]:
        return f"expected a checkout of pyro-ppl {installed}, as is installed, got {found} in {checkout}"
    return None


def version_of(checkout: Path) -> str:
    """The version that a checkout's source gives itself."""
    text = (checkout / "pyro" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r"^version_prefix = [\"']([^\"']+)[\"']", text, re.MULTILINE)
    return found.group(1) if found else "no version"


def wanted(path: str, name: str) -> bool:
    """Whether to run the test `name` of a file, its path given from the checkout's root."""
    return any(path.startswith(file) and re.search(pattern, name) for file, pattern in TESTS.items())


if __name__ == "__main__":
    sys.exit(main())
