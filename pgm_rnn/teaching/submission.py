"""Submissions as the grader reads them: a notebook or a py:percent file as cells of code and written answers.

A student's cell begins with the comment `# part: NAME`, which survives notebooks, editors and copies. Cells that begin
with `# check: NAME` are checks for students, and are left out.
"""

import json
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pgm_rnn.teaching.instances import normalized
from pgm_rnn.teaching.percent import read_cells
from pgm_rnn.teaching.sandbox import printable

LARGEST = 5_000_000
"""Bytes of the largest submission."""
MOST_CELLS = 300
PART = re.compile(r"^\s*# (part|check): ([\w-]+)")
ANSWER = re.compile(r"\A\s*\*\*Answer ([\w-]+)\.\*\*\s*")
HEADING = re.compile(r"^#{1,6}[ \t]+(\S.*)$", re.MULTILINE)
LONGEST_HEADING = 60
MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)
SUFFIXES = (".ipynb", ".py")


class Code(NamedTuple):
    """A cell of code.

    Attributes:
        part: the part whose cell it is; "" for a cell of the student's own, or one that is given.
        code: its lines; IPython's magic lines are replaced by `pass`.
        label: where the student finds it, such as 'cell 2 under "3. The smoother"'. No two cells have the same.
    """

    part: str
    code: str
    label: str


class Submission(NamedTuple):
    """What a student handed in.

    Attributes:
        cells: the cells of code, in their order.
        answers: the written answers, by the names of the questions.
    """

    cells: list[Code]
    answers: dict[str, str]


class Found(NamedTuple):
    """A submission in a folder.

    Attributes:
        name: the student's name: that of the file, or of the folder in it.
        path: the file, or the folder if there is not one file in it.
    """

    name: str
    path: Path


def find_submissions(place: Path, assignment: str) -> list[Found]:
    """Submissions in a folder, sorted by name.

    `NAME.ipynb`, `NAME.py`, a folder `NAME` with one such file, or nbgrader's `NAME/ASSIGNMENT/FILE.ipynb`.

    Raises:
        ValueError: there is no folder, nothing in it, or two submissions of one student.
    """
    if not place.is_dir():
        raise ValueError(f"expected a folder of submissions, got {place}; check the name")
    found = [_found(path, assignment) for path in sorted(place.iterdir()) if path.name[0] not in "._"]
    if not found:
        raise ValueError(f"expected submissions such as NAME.ipynb or NAME/FILE.ipynb in {place}, got none")
    seen: dict[str, Found] = {}
    for one in found:
        other = seen.setdefault(normalized(one.name), one)
        if other is not one:
            raise ValueError(
                f"expected one submission of {one.name}, got {other.path.name} and {one.path.name}; keep one of them"
            )
    return found


def _found(path: Path, assignment: str) -> Found:
    if not path.is_dir():
        return Found(path.stem, path)
    folder = path / assignment if (path / assignment).is_dir() else path
    files = [file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES and file.name[0] != "."]
    named = [file for file in files if file.stem == assignment]
    return Found(path.name, (named or files)[0] if len(named or files) == 1 else folder)


def read_submission(path: Path) -> Submission:
    """Read a file that anybody may have written; nothing of it is run.

    Raises:
        ValueError: it is no notebook and no Python file, or too large.
    """
    return submission_of(content_of(path), path.suffix)


def content_of(path: Path) -> bytes:
    """The bytes of a submission.

    Raises:
        ValueError: it is no file, or too large.
    """
    if path.is_dir():
        raise ValueError(f"expected one .ipynb or .py file in the folder {path.name}")
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
        raise ValueError(f"expected a file of at most {LARGEST:,} bytes")
    return path.read_bytes()


def submission_of(content: bytes, suffix: str) -> Submission:
    """The submission with this content.

    Raises:
        ValueError: it is none.
    """
    if suffix not in SUFFIXES:
        raise ValueError(f"expected a .ipynb or .py file, got {suffix or 'no ending'}")
    try:
        text = content.decode("utf-8-sig")
        pairs = list(_of_notebook(text) if suffix == ".ipynb" else _of_python(text))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        kind = "a notebook" if suffix == ".ipynb" else "a Python file"
        raise ValueError(f"expected {kind}, got another kind of file, or a damaged one") from None
    if len(pairs) > MOST_CELLS:
        raise ValueError(f"expected at most {MOST_CELLS} cells, got {len(pairs)}")
    cells, answers = [], dict[str, str]()
    labels = _labels(pairs)
    for (is_text, content_of_cell), label in zip(pairs, labels, strict=True):
        answer, part = ANSWER.match(content_of_cell), PART.match(content_of_cell)
        if is_text and answer:
            answers[answer[1]] = content_of_cell[answer.end() :].strip()
        elif not is_text and not (part and part[1] == "check"):
            code = MAGIC.sub(r"\1pass", content_of_cell)
            cells.append(Code(part[2] if part else "", code, label))
    return Submission(cells, answers)


def _labels(pairs: Iterable[tuple[bool, str]]) -> list[str]:
    """Labels of cells by the last heading above and the number of the code cell below it, from 1.

    Cells below two headings alike are counted on, so that no two have the same label.
    """
    heading, counts, labels = "", Counter[str](), list[str]()
    for is_text, content in pairs:
        if is_text:
            heading = next(map(_shown, reversed(HEADING.findall(content))), heading)
        counts[heading] += not is_text
        labels.append(f'cell {counts[heading]} under "{heading}"' if heading else f"cell {counts[heading]} at the top")
    return labels


def _shown(heading: str) -> str:
    """A heading in letters that may stand in the name of a piece of code."""
    return printable(heading).replace("/", "-").strip()[:LONGEST_HEADING]


def _of_notebook(text: str) -> Iterator[tuple[bool, str]]:
    notebook: Any = json.loads(text)
    if not isinstance(notebook["cells"], list):
        raise ValueError("expected a list of cells")
    for cell in notebook["cells"]:
        source = cell["source"]
        lines = source if isinstance(source, str) else "".join(source)
        if cell["cell_type"] in ("code", "markdown"):
            yield cell["cell_type"] == "markdown", lines


def _of_python(text: str) -> Iterator[tuple[bool, str]]:
    return ((cell.is_text, cell.content) for cell in read_cells(text))
