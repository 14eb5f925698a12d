"""Pages of the site that are derived: `python -m tools.site_pages FOLDER` copies docs/ there and adds them.

zoo/NAME.md                  the card of each trained model, with its graph as a picture
zoo/index.md                 all cards, by data set
reference/command-line.md    every command with its options, read from the command line itself
lessons/                     the course, with what its lessons show: `tools.lesson_pages`
contributing.md, changelog.md    the files at the top of the repository
"""

import copy
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from pgm_rnn.cli import app
from pgm_rnn.data import DataError
from pgm_rnn.models.registry import get_model
from pgm_rnn.report.graphs import graphs_of, write_graphs
from pgm_rnn.report.media import medium_of
from pgm_rnn.report.saved import data_of_fit
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.conditionals import example_of
from pgm_rnn.zoo import list_pretrained, load_pretrained
from pgm_rnn.zoo.entries import describe_pretrained
from tools import series_pictures
from tools.formulas import typeset_page
from tools.label_graphs import label_graph

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "pgm_rnn" / "zoo"
TOP = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
NUM_STEPS = 48
"""Steps of the sequences that a card shows."""
BAR = r"\|"
NOT_PAGES = ("conf.py", "__pycache__")


def write(folder: Path) -> None:
    """Fill a folder with the sources of the site. What it held before is removed, drawn graphs of models aside."""
    pictures = folder / "zoo" / "pictures"
    drawn = {path.name: path.read_bytes() for path in pictures.glob("*")}
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns(*NOT_PAGES))
    from tools import lesson_pages  # needs the extra `lessons`, which no other page does

    lesson_pages.write(folder / "lessons")
    index = folder / "index.md"
    index.write_text(without_empty_globs(index.read_text(encoding="utf-8"), folder), encoding="utf-8")
    for name, page in TOP.items():
        if (ROOT / name).is_file():
            (folder / page).write_text(from_the_top((ROOT / name).read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "reference" / "command-line.md").write_text("\n".join(command_line()), encoding="utf-8")
    pictures.mkdir(parents=True)
    for file, content in drawn.items():
        (pictures / file).write_bytes(content)
    for name in list_pretrained():
        (folder / "zoo" / f"{name}.md").write_text(card(name, draw(name, pictures)), encoding="utf-8")
    (folder / "zoo" / "index.md").write_text("\n".join(cards(list_pretrained())), encoding="utf-8")
    for path in folder.rglob("*.md"):
        if path.parent.name == "lessons":  # whose formulas are LaTeX
            continue
        path.write_text(typeset_page(path.read_text(encoding="utf-8")), encoding="utf-8")


def without_empty_globs(text: str, folder: Path) -> str:
    """A page without the entries of its tables of contents that match no page."""
    lines = text.splitlines(keepends=True)
    globs = re.compile(r"[\w/-]*\*\n")
    return "".join(line for line in lines if not globs.fullmatch(line) or any(folder.glob(f"{line.strip()}.md")))


def from_the_top(text: str) -> str:
    """A file of the repository's top level with its links as seen from docs/."""
    return text.replace("](docs/", "](")


def card(name: str, pictures: Mapping[str, str]) -> str:
    """The card of a trained model, with its pictures, alternative texts by their files, below the heading."""
    heading, rest = (ZOO / name / "README.md").read_text(encoding="utf-8").split("\n", 1)
    shown = "\n\n".join(f"![{says}](pictures/{file})" for file, says in pictures.items())
    return f"{heading}\n\n{shown}\n{rest}"


def draw(name: str, folder: Path) -> dict[str, str]:
    """Draw the graph of a trained model and sequences drawn from it; alternative texts by the pictures' files."""
    model, graph = load_pretrained(name), folder / f"{name}-graph.svg"
    found = {graph.name: f"The directed graph of {name} over three steps"}
    if not isinstance(model, SequenceModel):
        write_graphs({name: label_graph(model, 3)}, graph)
        return found
    if not graph.exists():
        write_graphs(graphs_of({name: from_its_start(model)}, 3), graph)
    if fact_of(name, "train"):  # a score of the whole series that it was fitted to
        try:
            return found | series_picture(name, model, folder)
        except DataError as error:  # the site is built without a network, too
            print(f"{name} has no picture of its series: {error}", file=sys.stderr)
            return found
    medium = medium_of(model.family, data_of(name))
    if ".png" in medium.writers:
        found[f"{name}-draws.png"] = f"Two sequences of {NUM_STEPS} steps drawn from {name}: {medium.what}"
        if not (folder / f"{name}-draws.png").exists():
            medium.write(folder / f"{name}-draws.png", list(model.sample(2, NUM_STEPS, seed=0).x))
    return found


def from_its_start(model: SequenceModel) -> SequenceModel:
    """The same model with a proper law of its first observations, which its graph shows."""
    whole = copy.deepcopy(model)
    whole.first = "model"
    if getattr(whole, "diffuse", None) is not None:
        name, sizes = whole.recipe
        whole = get_model(name, **{**sizes, "start_scale": 1.0, "emission": model.family}).to(example_of(model).dtype)
    return whole


def series_picture(name: str, model: SequenceModel, folder: Path) -> dict[str, str]:
    """Draw a series above what its model infers from it; the alternative text by the picture's file."""
    file, data = folder / f"{name}-states.png", data_of_fit(describe_pretrained(name).info)
    if not file.exists():
        series_pictures.draw(model, data, file)
    return {file.name: f"The series {data.name}, and what {name} infers from it"}


def data_of(name: str) -> str:
    """The name of the data set that a trained model was fitted to."""
    found = fact_of(name, "data")
    return found[1] if found else "other data"


def fact_of(name: str, fact: str) -> re.Match[str] | None:
    """Where a trained model's card states one of `FACTS`."""
    return FACTS[fact].search((ZOO / name / "README.md").read_text(encoding="utf-8"))


FACTS = {
    "train": re.compile(r"^\| train, the whole series \| ([\d.-]+) \| ([\d.-]+) \| ([\w.]+)", re.MULTILINE),
    "data": re.compile(r"^- data: ([\w-]+)", re.MULTILINE),
    "parameters": re.compile(r"^- parameters: (\d[\d,]*), ", re.MULTILINE),
    "test": re.compile(r"^\| test \| ([\d.-]+) \| ([\d.-]+) \| ([\w.]+)", re.MULTILINE),
}
"""What the table of all cards takes from each."""


def cards(names: Iterable[str]) -> Iterator[str]:
    """The page that lists all cards, a table for each data set."""
    by_data: dict[str, list[str]] = defaultdict(list)
    for name in names:
        text = (ZOO / name / "README.md").read_text(encoding="utf-8")
        found = {fact: pattern.search(text) for fact, pattern in FACTS.items()}
        parameters = found["parameters"][1] if found["parameters"] else "-"
        test = found["test"] or found["train"]
        kind = "-" if test is None else "labels" if "." in test[3] else test[3]  # the accuracy follows
        kind += ", in sample" if found["train"] else ""
        score = f"{test[1]} ± {test[2]} | {kind}" if test else "- | -"
        by_data[data_of(name)].append(f"| [{name}]({name}.md) | {parameters} | {score} |")
    yield "# Trained models\n"
    yield "`pgm_rnn.load_pretrained(NAME)` loads one. Scores are nats per step on the test set, or per label where the"
    yield "kind is labels, with standard errors; less is better. The kind says whether a score is exact or a bound, and"
    yield "whether it is in sample: of the one series to which the model was fitted."
    yield "[The leaderboard](../leaderboard.md) adds published figures.\n"
    for data in sorted(by_data):
        yield f"## {data}\n\n| model | parameters | test score | kind |\n|---|---|---|---|"
        yield from by_data[data]
        yield ""
    yield "```{toctree}\n:hidden:\n"
    yield from sorted(name for rows in by_data.values() for name in re.findall(r"\]\((.*?)\.md\)", "".join(rows)))
    yield "```"


def command_line() -> Iterator[str]:
    """The page of every command, with its arguments and options."""
    yield "# The command line\n"
    yield "`pgm-rnn COMMAND --help` prints the same at a terminal. `pgm-rnn --version` prints the version, and"
    yield "`pgm-rnn --install-completion` lets the shell complete commands, options and names.\n"
    for path, command in commands():
        yield f"{'#' * (1 + len(path))} {' '.join(path)}\n"
        yield f"{_one_line(command.help)}\n"
        if not hasattr(command, "commands"):
            yield from _usage(path, command)


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command under its full name, groups before their commands."""
    root = typer.main.get_command(app)
    yield from _below(root, typer.Context(root, info_name="pgm-rnn"), ())


def _below(group: Any, context: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name), command
        if hasattr(command, "list_commands"):
            yield from _below(command, typer.Context(command, info_name=name, parent=context), (*path, name))


def _usage(path: tuple[str, ...], command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=f"pgm-rnn {' '.join(path)}")
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ').strip()}\n```\n"
    rows = [row for row in (p.get_help_record(context) for p in command.get_params(context)) if row]
    yield "| argument or option | meaning |\n|---|---|"
    for option, meaning in rows:
        yield f"| `{_one_line(option).replace('|', BAR)}` | {_cell(_one_line(meaning))} |"
    yield ""


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str) -> str:
    """Text in a cell of a table: Markdown's own characters stand for themselves, but backticks are code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(p if i % 2 else re.sub(r"([\\*_|<>\[\]])", r"\\\1", p) for i, p in enumerate(parts))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
