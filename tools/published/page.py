"""The page: one row for each number, from what was measured, the zoo's published estimates and the leaderboard."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pgm_rnn.report.leaderboard_tables import PUBLISHED
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.zoo import load_pretrained
from pgm_rnn.zoo.comparisons import ESTIMATES, estimated
from pgm_rnn.zoo.entries import describe_pretrained
from tools.published import measured
from tools.published.problem import ESTIMATE, FIT, KINDS, ROUGH, SAME, Number, Problem

DOCS = Path(__file__).parents[2] / "docs"
PAGE, LEADERBOARD = DOCS / "published.md", DOCS / "leaderboard.md"
ENTRIES = {
    ("jsb", "RNN"): "rnn-elman-jsb",
    ("jsb", "LSTM"): "rnn-lstm-jsb",
    ("jsb", "GRU"): "rnn-gru-jsb",
    ("jsb", "RNN-NADE"): "rnn-lstm-nade-jsb",
    ("jsb", "VRNN"): "vrnn-jsb",
    ("jsb", "deep Markov model"): "dmm-jsb",
    ("nottingham", "RNN"): "rnn-lstm-nottingham",
    ("nottingham", "RNN-NADE"): "rnn-lstm-nade-nottingham",
}
"""The entry of the zoo beside each published figure of the leaderboard, by data set and published model."""


class Row(NamedTuple):
    """One line of the page; `within` is the largest difference that counts as agreement."""

    model: str
    data: str
    quantity: str
    kind: str
    source: str
    number: Number
    ours: Number
    within: float
    test: str


def rows_of_problems(problems: Iterable[Problem]) -> Iterator[Row]:
    """The comparisons at given parameters and of fits to a series, as they were measured."""
    records = measured.read()
    for each in problems:
        record = records[each.name]
        number, source = measured.other(each, record)
        ours = measured.ours(record)
        yield Row(each.model, each.data, each.quantity, each.kind, source, number, ours, each.within, each.test)


def rows_of_estimates() -> Iterator[Row]:
    """Published estimates beside those of trained entries of the zoo."""
    for entry, estimates in ESTIMATES.items():
        model, info = load_pretrained(entry), describe_pretrained(entry).info
        assert isinstance(model, SequenceModel)
        test = "tests/zoo/test_zoo.py::test_estimates_are_the_published_ones"
        for each in estimates:
            ours = Number(estimated(model, info, each))
            data, other = f"`{entry}`", Number(each.published)
            yield Row(info["model"], data, each.quantity, ESTIMATE, each.source, other, ours, each.within, test)


def rows_of_figures() -> Iterator[Row]:
    """Published test scores beside those of the leaderboard."""
    scores = scores_of(LEADERBOARD.read_text(encoding="utf-8"))
    exact = "tests/zoo/test_zoo.py::test_an_entry_has_its_cards_score_on_its_test_split"
    kept = "tests/zoo/test_zoo.py::test_an_entry_is_small_whole_and_documented"  # which evaluates no bound again
    for data, figures in PUBLISHED.items():
        for each in figures:
            entry = ENTRIES[data, each.model]
            model = describe_pretrained(entry).info["model"]
            (ours,) = (value for bound, value in scores[entry].items() if bound.startswith(each.bound))
            source, test = f"{each.model}, {each.source}", exact if each.bound == "exact" else kept
            number, quantity = Number(each.nats_per_step), f"{each.bound}, `{entry}`"
            yield Row(model, f"{data}, nats per step", quantity, ROUGH, source, number, Number(ours), 0.0, test)


def scores_of(leaderboard: str) -> dict[str, dict[str, float]]:
    """Nats per step on the leaderboard by entry and bound."""
    found: dict[str, dict[str, float]] = {}
    for entry, value, bound in re.findall(
        r"^\| (\S+) \| (-?[\d.]+) \| [^|]+ \| ([^|]+) \| [\d,]+ \|", leaderboard, re.M
    ):
        found.setdefault(entry, {})[bound] = float(value)
    return found


def page(rows: Iterable[Row], models: Iterable[str]) -> str:
    """The page in Markdown; models without a number are listed at its end."""
    rows, models = list(rows), list(models)
    order = {name: i for i, name in enumerate(models)}
    lines = [
        "# Published numbers and other packages",
        "",
        "Written by `python -m tools.published`; do not edit. Each row holds a number of a model against one that was",
        "published or that another package computes. `python -m tools.published measure` computes ours, and theirs",
        "where the package is installed; `tests/test_published.py` computes both again. The difference is ours less",
        "the number. The list at the end names a test of each agreement, often on other parameters or data.",
        "",
        *(f"- **{kind[0].upper()}{kind[1:]}**: {words}." for kind, words in KINDS.items()),
        "",
    ]
    for kind in (SAME, FIT, ESTIMATE, ROUGH):
        found = sorted((row for row in rows if row.kind == kind), key=lambda row: order[row.model])
        lines += [f"## {kind[0].upper()}{kind[1:]}", ""]
        for data in dict.fromkeys(row.data for row in found):
            lines += _table(data, [row for row in found if row.data == data])
    without = [name for name in models if name not in {row.model for row in rows}]
    lines += [
        "## None",
        "",
        "No published number, and no number of another package, is known here for these models; their tests compare",
        "them with definitions such as sums over paths and joint normal laws.",
        "",
        "| model | number |",
        "|---|---|",
        *(f"| `{name}` | none |" for name in without),
        "",
        "## Tests",
        "",
        *_tests(rows, models),
        "",
    ]
    return "\n".join(lines)


def all_rows(problems: Mapping[str, Problem]) -> list[Row]:
    """The rows of all three sources."""
    return [*rows_of_problems(problems.values()), *rows_of_estimates(), *rows_of_figures()]


def _table(data: str, rows: list[Row]) -> Iterator[str]:
    """The rows of one data set; a model or a quantity that all of them have stands in the heading."""
    shared = {name: len({getattr(row, name) for row in rows}) == 1 for name in ("model", "quantity")}
    heading = ", ".join(_cell(rows[0], name) for name, is_one in shared.items() if is_one)
    yield f"### {data}: {heading}" if heading else f"### {data}"
    columns = [*(name for name, is_one in shared.items() if not is_one), "number", "ours", "difference", "source"]
    yield from ("", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|")
    for row in rows:
        yield f"| {' | '.join(_cell(row, column) for column in columns)} |"
    yield ""


def _cell(row: Row, column: str) -> str:
    if column == "model":
        return f"`{row.model}`"
    if column in ("number", "ours"):
        return _shown(getattr(row, column))
    if column == "difference":
        return f"{row.ours.value - row.number.value:{'+.2f' if row.kind == ROUGH else '.1g'}}"
    return str(getattr(row, column))


def _tests(rows: list[Row], models: list[str]) -> Iterator[str]:
    """The tests of each model, once for each file."""
    for name in models:
        places: dict[str, list[str]] = {}
        for test in dict.fromkeys(row.test for row in rows if row.model == name):
            file, _, function = test.partition("::")
            places.setdefault(file, []).append(f"`{function}`")
        files = [f"`{file}`: {', '.join(functions)}" for file, functions in places.items()]
        if files:
            yield f"- `{name}`: {'; '.join(files)}"


def _shown(number: Number) -> str:
    return f"{number.value:.8g}" if not number.error else f"{number.value:.2f} ± {number.error:.2f}"
