"""Import time of `pgm_rnn` and its models beyond that of torch and Pyro: medians over fresh interpreters."""

import subprocess
import sys
from statistics import median

MEASURE = """
import time
import torch, pyro
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""

STATEMENTS = {
    "import pgm_rnn": "import pgm_rnn",
    "pgm_rnn.models": "import pgm_rnn.models",
    "pgm_rnn.models, inference.svi": "import pgm_rnn.models, pgm_rnn.inference.svi",
}


def run(repeats: int = 5) -> list[tuple[str, float]]:
    """Rows (statement, milliseconds)."""
    return [(name, 1e3 * median(_seconds(statement) for _ in range(repeats))) for name, statement in STATEMENTS.items()]


def _seconds(statement: str) -> float:
    script = MEASURE.format(statement=statement)
    return float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)
