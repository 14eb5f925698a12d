"""What a script of tutorials/models is, that every model has one, and that what it prints is true."""

import ast
import inspect
import math
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import pgm_rnn.models
from pgm_rnn.models.registry import list_models, model_info
from tests.tutorials.pairs import FOLDER, PAIRS, load

SCRIPTS = sorted(FOLDER.glob("*.py"))
EQUIVALENCES = {"theorem_5", "elbo_equivalence"}
"""Named for the claims that they write out."""
OTHERWISE = {
    *("factorial_hmm", "hsmm", "input_hmm", "stochastic_volatility", "structural", "switching_linear"),
    "switching_mean_ar",
}
"""Compared in `test_likelihoods`: their arguments or their states are not those of the zoo's model."""

every_script = pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)


@every_script
def test_it_is_short_and_imports_pyro_and_torch_alone(path: Path) -> None:
    source = path.read_text()
    assert 30 <= len(source.splitlines()) <= 80
    roots = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add("." * node.level + str(node.module).partition(".")[0])
    assert {"pyro", "torch"} <= roots <= {"pyro", "torch", *sys.stdlib_module_names}


@every_script
def test_it_says_its_law_and_where_that_comes_from_and_has_a_model_and_a_guide(path: Path) -> None:
    script = load(path.stem)
    text = str(script.__doc__)
    assert 1 <= sum(line.startswith("    ") for line in text.splitlines()) <= 6
    assert "(20" in text or "(19" in text  # a paper's year
    assert [*inspect.signature(script.model).parameters][:2] == ["x", "lengths"]
    assert callable(script.guide)


@pytest.mark.parametrize("name", list_models())
def test_every_registered_model_has_its_script(name: str) -> None:
    info = model_info(name)
    module = type(info.make(**info.smallest)).__module__
    assert (FOLDER / f"{module.rpartition('.')[2]}.py").exists(), "write the model as a script of plain Pyro"


def test_every_model_that_the_package_hands_out_has_its_script_and_none_is_left_over() -> None:
    classes = [getattr(pgm_rnn.models, name) for name in pgm_rnn.models.__all__]
    models = {found.__module__.rpartition(".")[2] for found in classes if issubclass(found, nn.Module)}
    assert {path.stem for path in SCRIPTS} == models | EQUIVALENCES


def test_every_script_is_compared_with_the_zoo() -> None:
    assert {path.stem for path in SCRIPTS} == {name.partition("-")[0] for name in PAIRS} | {
        "bidirectional_rnn",
        "tagger",
        *OTHERWISE,
    }


CLAIMS: dict[str, Callable[..., bool]] = {
    "rnn": lambda least, before, after: least <= after < least + 0.02 < before,
    "markov_chain": lambda uniform, trained, counted, p, count: (
        uniform < trained <= counted < trained + 0.01 and abs(p - count) < 0.01
    ),
    "hmm": lambda before, after, truth, right: after < truth < before and right > 0.9,
    "hsmm": lambda before, after, truth, right, short, long: (
        after < truth < before and right > 0.9 and abs(short - 2.0) < 0.2 and abs(long - 3.7) < 0.2
    ),
    "factorial_hmm": lambda before, after, truth, right, large, small: (
        after < truth < before and right > 0.9 and abs(large - 3) < 0.1 and abs(small - 1) < 0.1
    ),
    "linear_gaussian": lambda elbo, weighted, exact, true, observed, mean, deviation: (
        elbo < weighted < exact and abs(mean - true) < min(abs(observed - true), 3 * deviation)
    ),
    "stochastic_volatility": lambda before, after, exact: before < after - 1 < exact - 1 < after + 1,
    "structural": lambda before, after, truth, noise, level, slope, season: (
        truth - 0.02 < after < before and abs(noise - 1) < 0.3 and level < 0.4 and slope < 0.05 and season < 0.1
    ),
    "noisy_rnn": lambda read_off, first, guessed, second: first < 0.8 * read_off and second < 0.8 * guessed,
    "deep_markov": lambda coins, before, after: after < coins / 3 and after < before / 3,
    "vrnn": lambda lamps, before, after: after < lamps / 2 and after < before / 2,
    "multi_particle_rnn": lambda before, after, per_step, bound: (
        math.log(9) <= after + 1e-3 and after < math.log(9) + 0.05 < before and after < per_step < bound
    ),
    "belief_rnn": lambda network, hmm, hidden, posterior: abs(network - hmm) + abs(hidden - posterior) < 1e-10,
    "particle_filter_rnn": lambda exact, ten, hundred, thousand, ratio, error: (
        abs(thousand - exact) < 0.05 < abs(ten - exact) and abs(ratio - 1) < 4 * error < 0.5
    ),
    "autoregressive_hmm": lambda before, after, truth, right: after < truth + 0.01 < before and right > 0.85,
    "switching_linear": lambda before, after, right, guessed, observed: (
        after < before / 4 and right > 0.9 and guessed < 0.8 * observed
    ),
    "switching_mean_ar": lambda before, after: after < before - 0.2,
    "recurrent_hmm": lambda before, after, coins: coins < after + 0.01 < before - 0.1,
    "input_hmm": lambda before, after, coin: after < before - 0.05 < coin,
    "bidirectional_rnn": lambda before, after, right: after < 0.05 < before and right > 0.98,
    "tagger": lambda before, after, best: best < after < best + 0.02 < before - 0.1,
    "theorem_5": lambda network, exact, all_draws, none, noisy, some, distance: (
        abs(network - exact) < 1e-10
        and all_draws == 50
        and none == 0
        and abs(network - noisy) > 1e-3
        and some < 45
        and distance > 0.1
    ),
    "elbo_equivalence": lambda loss, draw, another, gradients, mean, log_mean: (
        abs(loss - draw) + abs(loss - another) < 1e-10 and gradients < 1e-10 and mean < log_mean - 0.1
    ),
}
"""Of the numbers that end a script's indented lines, in their order."""


@pytest.mark.slow
@every_script
def test_it_runs_and_what_it_prints_is_true(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_default_dtype(torch.float32)  # as its reader's
    runpy.run_path(str(path), run_name="__main__")
    numbers = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert CLAIMS[path.stem](*numbers), numbers
