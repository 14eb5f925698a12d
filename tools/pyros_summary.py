"""A plugin of pytest for `tools.pyros_tests`: it leaves tests of other laws out and counts results by file."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import pyro
import pytest

from tools.pyros_tests import wanted

LAWS = Counter[str]()
"""How many laws of ours were made in this process, by the name of their class."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests out that cannot make one of our laws."""
    kept = [item for item in items if wanted(item.nodeid.partition("::")[0], item.name)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup() -> None:
    """The same seed before each test, in whatever order and process it runs."""
    pyro.set_rng_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note with each test how many laws of ours it made."""
    before = LAWS.total()
    try:
        return (yield)
    finally:
        item.user_properties.append(("laws", LAWS.total() - before))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line per file: passed, failed, others, and how many of the passed made a law of ours."""
    terminalreporter.section("Pyro's tests by file")
    for line in table(terminalreporter.stats):
        terminalreporter.line(line)


def made_ours(report: pytest.TestReport) -> bool:
    """Whether a test made a law of ours."""
    return bool(dict(report.user_properties).get("laws"))


def table(stats: dict[str, list[pytest.TestReport]]) -> list[str]:
    """The lines of the summary."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in stats.get(outcome, ()):
            file = counts[report.nodeid.partition("::")[0]]
            file[outcome] += 1
            file["with ours"] += outcome == "passed" and made_ours(report)
    columns = ("passed", "failed", "error", "skipped", "xfailed", "with ours")
    counts["all"] = sum(counts.values(), Counter())
    width = max(map(len, counts))
    head = " " * width + "".join(f"{column:>11}" for column in columns)
    return [head, *(file.ljust(width) + "".join(f"{c[name]:>11}" for name in columns) for file, c in counts.items())]
