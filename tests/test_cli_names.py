"""What the command line answers by itself: wrong names, the version, completion, and the help."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pgm_rnn.checks import LONG, check_choice
from pgm_rnn.claims import CLAIMS
from pgm_rnn.cli import early, names
from pgm_rnn.cli.fit import fit_app
from pgm_rnn.cli.main import app
from pgm_rnn.data.catalogue import DATASETS
from pgm_rnn.experiments.registry import EXPERIMENTS
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.registry import MODELS
from pgm_rnn.registries import OWN
from pgm_rnn.version import __version__
from pgm_rnn.zoo import list_pretrained

ROOT = Path(__file__).parents[1]
RUN = """
import contextlib, io, json, os, sys
from pgm_rnn.cli import run
for line in sys.stdin:
    asked = json.loads(line)
    os.environ.update(asked["environment"])
    sys.argv = ["pgm-rnn", *asked["arguments"]]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run()
        except SystemExit as stopped:
            code = stopped.code or 0
    for name in asked["environment"]:
        del os.environ[name]
    found = [code, out.getvalue(), err.getvalue(), "torch" in sys.modules]
    print(json.dumps(found), flush=True)
"""


class Answer(NamedTuple):
    """What a command ended with and said, and whether it imported torch."""

    code: int
    out: str
    err: str
    torch: bool


class Shell:
    """One process that runs commands of the command line, each as if it were alone."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "COLUMNS": "120"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )

    def __call__(self, *arguments: str, **environment: str) -> Answer:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"arguments": arguments, "environment": environment}) + "\n")
        self.process.stdin.flush()
        return Answer(*json.loads(self.process.stdout.readline()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of numbers and one of fits, which is the home of the person at the shell, too."""
    made = tmp_path_factory.mktemp("home")
    (made / "river.csv").touch()
    (made / "fits" / "mine").mkdir(parents=True)
    return made


@pytest.fixture(scope="module")
def shell(folder: Path) -> Iterator[Shell]:
    """A process in which torch has not been imported."""
    opened = Shell(folder)
    yield opened
    opened.process.communicate()


@pytest.fixture(scope="module")
def another(folder: Path) -> Iterator[Shell]:
    """A process for commands that import torch."""
    opened = Shell(folder)
    yield opened
    opened.process.communicate()


@pytest.mark.parametrize(
    ("listed", "registry"),
    [
        (names.DATASETS, DATASETS),
        (names.MODELS, MODELS),
        (names.CLAIMS, CLAIMS),
        (names.EXPERIMENTS, EXPERIMENTS),
        (names.CELLS, CELLS),
        (names.FITS, {command.name: None for command in fit_app(OWN).registered_commands}),
    ],
    ids=["DATASETS", "MODELS", "CLAIMS", "EXPERIMENTS", "CELLS", "FITS"],
)
def test_the_names_known_before_torch_are_those_of_the_registries(
    listed: tuple[str, ...], registry: dict[str, object]
) -> None:
    assert list(listed) == list(registry), "correct pgm_rnn/cli/names.py"


def test_the_trained_models_known_before_torch_are_those_of_the_zoo() -> None:
    assert early.trained_models() == list_pretrained()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("graph hm", "got 'hm'; did you mean 'hmm'?"),
        ("explain theorem5", "got 'theorem5'; did you mean 'theorem-5'? pgm-rnn explain --list shows all"),
        ("verify --claim elbo", "got 'elbo'; did you mean 'elbo-equivalence'? pgm-rnn explain --list shows all"),
        ("explain xyzzy", "got 'xyzzy'; pgm-rnn explain --list shows all"),
        ("verify --claim remark1", "got 'remark1'; did you mean 'remark-1' or 'remark-7'?"),
        ("verify --data jbs", "got 'jbs'; did you mean 'jsb'?"),
        ("fit lgssm --data nope.csv", "or an existing file, got 'nope.csv'"),
        ("fit lgssm --latent-dim 1 --data=jbs", "got 'jbs'; did you mean 'jsb'?"),
        ("fit hm", "No such command 'hm'; did you mean 'hmm'?"),
        ("reproduce figure5", "got 'figure5'; did you mean 'figure-5'?"),
        ("reproduce figure-5 --backend dusk", "got 'dusk'; did you mean 'dask'?"),
        ("show jb", "got 'jb'; did you mean 'jsb'?"),
        ("evaluate nowhere --data jsb", "expected a saved model in a folder, got no file nowhere/model.json; check"),
        ("evaluate hmm-jsb-16 --data jbs", "got 'jbs'; did you mean 'jsb'?"),
        ("sample hmm-jsb-17", "got hmm-jsb-17; did you mean the trained hmm-jsb-16?"),
        ("forecast nowhere --data jsb", "expected a saved model in a folder"),
        ("compare hmm-jsb-16 hmm-jsb-17 --data jsb", "got hmm-jsb-17; did you mean the trained hmm-jsb-16?"),
        ("compare hmm-jsb-16 hmm-jsb-64 --data jbs", "got 'jbs'; did you mean 'jsb'?"),
        ("compare hmm-jsb-16 --data jsb", "expected at least two models to compare, got hmm-jsb-16 alone"),
        ("compare hmm-jsb-16 hmm-jsb-16 --data jsb", "expected each model once, got hmm-jsb-16 twice"),
        ("compare hmm-jsb-16 hmm-jsb-64 --data jsb --bound fiov", "got 'fiov'; did you mean 'fivo'?"),
        ("compare hmm-jsb-16 hmm-jsb-64 --data jsb --folds 0", "expected --folds to be an integer of at least 1"),
        ("publish nowhere mine --failure-modes none", "expected a saved model in a folder"),
    ],
)
def test_a_wrong_name_is_answered_in_one_sentence_before_torch_is_imported(
    command: str, message: str, shell: Shell
) -> None:
    done = shell(*command.split())
    assert message in done.err
    assert (done.code, done.out, done.err.count("\n"), done.torch) == (2, "", 1, False)


def test_a_right_name_imports_torch_so_that_the_test_above_can_fail(another: Shell) -> None:
    assert another("fit", "hmm", "--help").torch


def test_the_version_and_the_help_need_no_torch(shell: Shell) -> None:
    assert shell("--version") == (0, f"pgm-rnn {__version__}\n", "", False)
    assert not shell("--help").torch


# Completion.


def completed(shell: Shell, line: str) -> list[str]:
    """What bash offers at the end of a line."""
    number = str(len(line.split(" ")) - 1)
    done = shell(_PGM_RNN_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=number)
    assert (done.err, done.torch) == ("", False)
    return done.out.splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pgm-rnn ver", ["verify"]),
        ("pgm-rnn fit l", ["lgssm"]),
        ("pgm-rnn fit hmm --data synth", ["synthetic-hmm"]),
        ("pgm-rnn fit hmm --data riv", ["river.csv"]),
        ("pgm-rnn explain theorem", ["theorem-5"]),
        ("pgm-rnn verify --claim proposition-6", ["proposition-6", "proposition-6-slope"]),
        ("pgm-rnn verify --cell ls", ["lstm"]),
        ("pgm-rnn graph noisy", ["noisy-rnn"]),
        ("pgm-rnn show nott", ["nottingham"]),
        ("pgm-rnn reproduce figure", ["figure-5", "figure-6", "figure-7"]),
        ("pgm-rnn evaluate fi", ["fits/"]),
        ("pgm-rnn evaluate fits/", ["fits/mine/"]),
        ("pgm-rnn evaluate hmm-jsb-1", [name for name in list_pretrained() if name.startswith("hmm-jsb-1")]),
        ("pgm-rnn evaluate mine --bound iw", ["iwae"]),
        ("pgm-rnn evaluate mine --spl", ["--split"]),
        ("pgm-rnn explain nothing-of-this-name", [""]),
    ],
)
def test_a_shell_completes_commands_names_and_files_without_torch(line: str, offered: list[str], shell: Shell) -> None:
    assert completed(shell, line) == offered


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_and_installed(name: str, shell: Shell, folder: Path) -> None:
    """The shell's name is given, because a test may run under none."""
    untold = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = shell("--show-completion", name, **untold)
    assert (shown.code, shown.err) == (0, "")
    assert "_PGM_RNN_COMPLETE=complete_" in shown.out
    before = {path for path in folder.rglob("*") if path.is_file()}
    installed = shell("--install-completion", name, **untold)
    assert f"{name} completion installed in {folder}" in installed.out
    assert {path for path in folder.rglob("*") if path.is_file()} - before


# The help.


def test_the_help_lists_fit_first_and_the_papers_and_teaching_last(shell: Shell) -> None:
    found = re.findall(r"^│ ([a-z]+) ", shell("--help").out, re.MULTILINE)
    assert found[:2] == ["fit", "evaluate"]
    assert found[-5:] == ["verify", "explain", "reproduce", "course", "grade"]
    assert len(found) == len(set(found)) == len(app.registered_commands) + 1


@pytest.mark.parametrize("command", ["", "evaluate", "reproduce", "verify", "fit", "fit hmm", "fit vrnn"])
def test_flags_show_no_type(command: str, another: Shell) -> None:
    found = another(*command.split(), "--help").out
    assert "--help" in found
    assert "<bool>" not in found


@pytest.mark.parametrize(
    ("command", "choices"),
    [
        ("evaluate", "exact|elbo|iwae|fivo|importance"),
        ("evaluate", "sum|sequence|skip-first"),
        ("evaluate", "train|valid|test"),
        ("reproduce", "local|dask"),
        ("verify", f"One of {', '.join(names.CELLS)}."),
        ("fit rnn", f"One of {', '.join(names.CELLS)}."),
        ("fit rnn", "constant|cosine"),
        ("fit vrnn", "elbo|iwae|fivo"),
        ("fit own", "mle|elbo|iwae|fivo"),
    ],
)
def test_the_help_lists_choices(command: str, choices: str, another: Shell) -> None:
    assert choices in re.sub(r"[\s│]+", " ", another(*command.split(), "--help").out)


# Errors.


def test_many_choices_come_after_what_was_meant() -> None:
    many = [f"name-{number}" for number in range(LONG + 1)]
    with pytest.raises(ValueError, match=rf"^expected x to be one of {len(many)} names, got 'name-1x'; did you mean"):
        check_choice("x", "name-1x", many)
    with pytest.raises(ValueError, match="got 'zzz'; choose among name-0, name-1"):
        check_choice("x", "zzz", many)
    with pytest.raises(ValueError, match=r"one of name-0, .*, got 'name-1x'; did you mean"):
        check_choice("x", "name-1x", many[:LONG])


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_an_error_wraps_at_the_width_of_a_terminal() -> None:
    main, end = os.openpty()
    environment = os.environ | {"COLUMNS": "60", "TERM": "xterm"}
    done = subprocess.Popen(
        [sys.executable, "-m", "pgm_rnn", "explain", "theorem5"], stderr=end, stdout=end, env=environment
    )
    os.close(end)
    found = b""
    try:
        while part := os.read(main, 4096):
            found += part
    except OSError:  # Linux's way of saying that the other end is closed
        pass
    os.close(main)
    assert done.wait() == 2
    lines = re.sub(r"\x1b\[[0-9;]*m", "", found.decode()).splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 60
    words = [word.strip("';?") for line in lines for word in line.split()]
    assert {"theorem5", "theorem-5", "--list", str(len(names.CLAIMS))} <= {*words}  # none is broken in two
