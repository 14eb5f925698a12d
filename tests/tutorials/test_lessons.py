"""The lessons: each has the form that tutorials/README.md describes; its short form runs, its solutions are right."""

import ast
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pages import run_page
from tests.test_site import described

pytest.importorskip("jupytext", reason="the extra `lessons` is not installed")
from tools import lessons

PATHS = lessons.sources()
FOLDER = lessons.FOLDER
REFERENCES = re.sub(r"\s+", " ", (lessons.ROOT / "docs" / "references.md").read_text(encoding="utf-8"))
HEADER = ("**The idea.**", "**Level:**", "**Minutes:**", "**You need:**", "**Afterwards you can:**")
SECTIONS = ("## Takeaways", "## Exercises", "## Further reading")
LARGEST = 100_000
"""Bytes of a notebook without outputs."""

every_lesson = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def bullets(text: str) -> list[str]:
    """The items of a list, each in one line."""
    return [re.sub(r"\s+", " ", item).strip() for item in re.split(r"^- ", text, flags=re.MULTILINE)[1:]]


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """matplotlib without a screen; its style, and torch's mode of gradients, are as before afterwards."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    monkeypatch.setenv("MPLBACKEND", "agg")
    with mpl.rc_context(), warnings.catch_warnings(), torch.enable_grad():
        plt.switch_backend("agg")
        warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
        yield plt
        plt.close("all")


def test_every_lesson_is_in_the_readme_by_its_number() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((\d\d-[\w-]+)\.ipynb\)", readme) == [path.stem for path in PATHS]


@pytest.mark.slow
def test_the_answers_to_the_exam_questions_are_what_the_package_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page((FOLDER / "INSTRUCTORS.md").read_text(encoding="utf-8"), monkeypatch) == []


@every_lesson
def test_its_notebook_is_its_source_without_outputs(path: Path) -> None:
    found = path.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert found == lessons.written(lessons.read(path)), "run python -m tools.lessons notebooks"
    assert all(not cell.get("outputs") for cell in json.loads(found)["cells"])
    assert len(found.encode()) < LARGEST


@every_lesson
def test_its_header_says_what_a_reader_needs_to_know(path: Path) -> None:
    header = lessons.read(path).cells[0].source
    assert header.startswith(f"# {int(path.stem[:2])}. ")
    assert [part for part in HEADER if part not in header] == []
    assert re.search(r"\*\*Level:\*\* (beginner|intermediate|advanced)", header)
    assert re.search(r"\*\*Minutes:\*\* \d+, with the exercises \d+", header)


@every_lesson
def test_it_ends_with_takeaways_exercises_and_works_of_the_references(path: Path) -> None:
    text = lessons.text(lessons.read(path))
    assert [text.count(f"\n{section}\n") for section in SECTIONS] == [1, 1, 1]
    _, takeaways, exercises, reading = re.split("|".join(f"{section}\n" for section in SECTIONS), text)
    assert 3 <= len(bullets(takeaways)) <= 5
    assert re.findall(r"^### Exercise (\d): \S", exercises, re.MULTILINE) == ["1", "2", "3"]
    works = [re.search(r"\(\d{4}\)\. \*(.+?)\*", item) for item in bullets(reading)]
    assert works
    assert [
        item for item, work in zip(bullets(reading), works, strict=True) if not work or work[0] not in REFERENCES
    ] == []


@every_lesson
def test_its_first_code_cell_sets_parameters_with_a_short_form(path: Path) -> None:
    notebook = lessons.read(path)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert cell.metadata["tags"] == ["parameters"]
    assert all(re.fullmatch(r"[A-Z_]+ = .+  # .+", line) for line in cell.source.splitlines())
    assert lessons.code(lessons.shortened(notebook))[1:] == lessons.code(notebook)[1:]


def test_a_short_form_of_an_unknown_parameter_is_an_error() -> None:
    notebook = lessons.read(PATHS[0])
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.metadata["short"] = {"NO_SUCH": 3}
    with pytest.raises(
        ValueError, match="expected the parameter NO_SUCH once in the first code cell, found it 0 times"
    ):
        lessons.shortened(notebook)


@every_lesson
def test_it_takes_public_names_only(path: Path) -> None:
    notebook = lessons.read(path)
    code = "\n".join([*lessons.code(notebook), *lessons.solutions(notebook)])
    private = [
        node.attr for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute) and node.attr[0] == "_"
    ]
    assert [name for name in private if not re.fullmatch(r"__\w+__", name)] == []
    public = set(described())
    modules = {name.rpartition(".")[0] for name in public} | {"pgm_rnn.inference"}
    unknown = {name for name in lessons.imported(code) if not any(name.startswith(f"{known}.") for known in public)}
    assert sorted(unknown - public - modules) == []


def test_a_name_that_is_not_public_is_seen() -> None:
    code = "import pgm_rnn as pr\nfrom pgm_rnn.kernels import hmm\npr.plot.graph(1)\nhmm.forward(2)"
    assert {"pgm_rnn.kernels.hmm", "pgm_rnn.kernels.hmm.forward", "pgm_rnn.plot.graph"} <= set(lessons.imported(code))
    assert "pgm_rnn.kernels.hmm.forward" not in described()


@every_lesson
def test_its_pictures_have_texts(path: Path) -> None:
    drawing = [cell for cell in lessons.read(path).cells if cell.cell_type == "code" and "plt.show()" in cell.source]
    assert drawing
    assert [cell.source for cell in drawing if len(cell.metadata.get("alt", "")) < 20] == []


@every_lesson
def test_it_makes_claims_that_can_fail_and_has_a_control(path: Path) -> None:
    notebook = lessons.read(path)
    assert sum(source.count("assert ") for source in lessons.code(notebook)) >= 5
    assert re.search(r"(?i)what breaks|a control", lessons.text(notebook))


@pytest.mark.slow
@every_lesson
def test_its_short_form_runs_and_its_solutions_are_right(
    path: Path, pictures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)  # as its reader's, before the lesson chooses
    notebook = lessons.shortened(lessons.read(path))
    scope: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(lessons.code(notebook), start=1):
        exec(compile(source, f"{path.stem}, code cell {number}", "exec"), scope)
        pictures.close("all")
    solutions = lessons.solutions(notebook)
    assert len(solutions) == 3
    for number, source in enumerate(solutions, start=1):
        assert "assert " in source
        exec(compile(source, f"{path.stem}, solution {number}", "exec"), dict(scope))
        pictures.close("all")
