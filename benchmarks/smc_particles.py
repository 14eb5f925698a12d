"""The package particles, in its own environment, because it needs numpy below 2.

PGM_RNN_PARTICLES_PYTHON names that environment's interpreter.
"""

import json
import os
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.smc_models import CHAINS
from benchmarks.smc_peers import Filter, Run
from benchmarks.smc_problem import Problem

VARIABLE = "PGM_RNN_PARTICLES_PYTHON"


def particles(problem: Problem) -> Filter | None:
    """A process that holds the problem and answers lines of JSON; None if no interpreter is named."""
    if not os.environ.get(VARIABLE):
        return None
    worker = _started(problem)

    def run(sequences: Sequence[int], seed: int) -> Run:
        answer = _answer(worker, sequences=list(sequences), seed=seed)
        return Run(sequences, answer["seconds"], answer["estimates"])

    weakref.finalize(run, worker.communicate)  # its questions end, and it with them
    return run


def _started(problem: Problem) -> "subprocess.Popen[str]":
    """The process, once it has read the problem and run one sequence."""
    numbers = {name: value for name, value in CHAINS[problem.chain]._asdict().items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "problem.npz"
        np.savez(file, x=problem.x, chain=problem.chain, num_particles=problem.num_particles, **numbers)
        worker = subprocess.Popen(
            [os.environ[VARIABLE], "-m", "benchmarks.smc_worker", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        _answer(worker, sequences=[0], seed=0)
    return worker


def _answer(worker: "subprocess.Popen[str]", **question: object) -> dict[str, Any]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        print(json.dumps(question), file=worker.stdin, flush=True)
        return json.loads(worker.stdout.readline())
    except (OSError, json.JSONDecodeError) as error:
        raise RuntimeError(
            f"expected {os.environ[VARIABLE]} ({VARIABLE}) to run particles; its error is above"
        ) from error
