"""A plugin of pytest for `tools.pyros_tests` that puts this package's laws into `pyro.distributions`.

The laws take Pyro's time convention (`initial_step=0`), and are counted where they are made.
"""

from typing import Any

import pyro.distributions.hmm
import pytest

from pgm_rnn import distributions
from tools.pyros_summary import (  # noqa: F401  (hooks of this plugin too)
    LAWS,
    made_ours,
    pytest_collection_modifyitems,
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_terminal_summary,
)


class DiscreteHMM(distributions.DiscreteHMM):
    """Ours, as Pyro's is called."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        LAWS["DiscreteHMM"] += 1
        super().__init__(*arguments, **options, initial_step=0)


class GaussianHMM(distributions.GaussianHMM):
    """Ours, as Pyro's is called."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        LAWS["GaussianHMM"] += 1
        super().__init__(*arguments, **options, initial_step=0)


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Put them there before any test is imported."""
    for name, ours in (("DiscreteHMM", DiscreteHMM), ("GaussianHMM", GaussianHMM)):
        setattr(pyro.distributions, name, ours)
        setattr(pyro.distributions.hmm, name, ours)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where all passed but none made a law of ours: then Pyro's were tested."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    passed = [] if reporter is None else reporter.stats.get("passed", [])
    if passed and not any(made_ours(report) for report in passed):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
