"""The first value and gradient of an HMM in a fresh interpreter: compiled first, then loaded from numba's cache."""

import os
import subprocess
import sys
import tempfile

MEASURE = """
import time
import torch
from pgm_rnn.kernels import hmm
tables = torch.full((3, 3), 1 / 3, requires_grad=True)
start = time.perf_counter()
hmm.log_marginal_likelihood(tables[0], tables, torch.zeros(2, 4, 3), torch.tensor([4, 4])).sum().backward()
print(time.perf_counter() - start)
"""


def run() -> list[tuple[str, float]]:
    """Rows (name, milliseconds)."""
    with tempfile.TemporaryDirectory() as cache:
        return [(name, 1e3 * _seconds(cache)) for name in ("with an empty cache", "in the next process")]


def _seconds(cache: str) -> float:
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", MEASURE]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
