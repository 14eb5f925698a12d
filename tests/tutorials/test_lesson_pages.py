"""What the site shows of a lesson: its cells, outputs and pictures, formulas as MathML, links as seen from the site."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbformat", reason="the extra `lessons` is not installed")
import nbformat

from tools import lesson_pages, lesson_runs, lessons
from tools.formulas import mathml

SVG = "<svg xmlns='http://www.w3.org/2000/svg'></svg>"
SOURCE = """# %% [markdown]
# # 9. A title

# %% tags=["parameters"] short={"N": 2}
N = 3  # number

# %%
print(N)
"""


def output(kind: str, **fields: Any) -> Any:
    return nbformat.v4.new_output(kind, **fields)


def stream(text: str, name: str = "stdout") -> Any:
    return output("stream", name=name, text=text)


def notebook(*outputs: Any, **metadata: Any) -> Any:
    code = nbformat.v4.new_code_cell("draw()", outputs=list(outputs), metadata=metadata)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 9. A title"), code])


def page(found: Any, folder: Path, *, short: bool = False) -> str:
    return "\n".join(lesson_pages.page(found, "09-name", folder, short=short))


def test_a_picture_is_a_file_with_its_text(tmp_path: Path) -> None:
    found = notebook(output("display_data", data={"image/svg+xml": SVG}), alt="A circle")
    assert "![A circle](09-name-1.svg)" in page(found, tmp_path)
    assert (tmp_path / "09-name-1.svg").read_text() == SVG
    assert lesson_runs.figures(found) == [SVG]


def test_printed_parts_are_one_block_and_warnings_are_left_out(tmp_path: Path) -> None:
    text = page(notebook(stream("a\n"), stream("\x1b[31mb\x1b[0m\n"), stream("no", "stderr")), tmp_path)
    assert ":class: output\n\na\nb\n```" in text
    assert "no\n" not in text


def test_sound_is_kept_and_allows_a_larger_lesson(tmp_path: Path) -> None:
    sound = '<audio controls><source src="data:audio/wav;base64,AAAA"></audio>'
    found = notebook(output("display_data", data={"text/html": sound, "text/plain": "<Audio>"}))
    assert f"```{{raw}} html\n{sound}\n```" in page(found, tmp_path)
    assert lesson_runs.largest(found) > lesson_runs.largest(notebook())


def test_a_short_form_says_so(tmp_path: Path) -> None:
    assert "smaller numbers" in page(notebook(), tmp_path, short=True)
    assert "smaller numbers" not in page(notebook(), tmp_path)


def test_links_are_as_seen_from_the_site() -> None:
    text = "[a](03-hmms-in-pyro.ipynb) and [b](../docs/claims.md)"
    assert lesson_pages.on_the_site(text) == "[a](03-hmms-in-pyro.md) and [b](../claims.md)"


def test_a_formula_is_mathml_with_its_functions_apart() -> None:
    found = mathml(r"\log p \sim \exp(x)", block=False)
    assert 'display="inline"' in found
    assert 'rspace="0.17em">log</mo>' in found
    assert 'rspace="0">exp</mo>' in found
    assert "&#x223C;" in found
    assert "<mtable" in mathml(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", block=True)


def test_a_formula_that_cannot_be_converted_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected a formula that latex2mathml knows, got 'a & b'"):
        mathml("a & b", block=False)
    with pytest.raises(ValueError, match="write it with other commands"):
        mathml(r"a \big\| b", block=False)


def test_a_kept_notebook_serves_as_long_as_its_source_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lesson_runs, "BUILD", tmp_path / "build")
    path = tmp_path / "09-name.py"
    path.write_text(SOURCE)
    assert lesson_runs.kept(path, short=True) is None
    place = lesson_runs.kept_in(path, short=True)
    place.parent.mkdir(parents=True)
    found = lessons.read(path)
    found.metadata["source"] = lesson_runs.digest(path)
    place.write_text(nbformat.writes(found))
    assert lesson_runs.kept(path, short=True) is not None
    assert lesson_runs.kept(path, short=False) is None
    path.write_text(SOURCE.replace("number", "count"))
    assert lesson_runs.kept(path, short=True) is None


@pytest.mark.slow
def test_a_lesson_is_executed_in_a_kernel_and_its_faults_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lesson_runs, "BUILD", tmp_path / "build")
    right, wrong = tmp_path / "08-right.py", tmp_path / "09-wrong.py"
    right.write_text(SOURCE)
    wrong.write_text(SOURCE.replace("print(N)", "assert N == 4"))
    assert lesson_runs.run_all([right], short=True) == 0
    assert "2" in lesson_runs.executed(right, short=True).cells[-1].outputs[0].text
    assert lesson_runs.run_all([right, wrong], short=False) == 1
    assert "09-wrong: failed" in capsys.readouterr().out
