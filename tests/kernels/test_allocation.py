"""Freed memory stays with the process: pages mapped anew are counted, with glibc's own choice as the control."""

import os
import subprocess
import sys

import pytest

COUNT = """
import resource
import torch
from pgm_rnn.kernels import hmm
from pgm_rnn.kernels.allocation import keep_freed_memory

start, moves = torch.full((8,), 1 / 8), torch.eye(8) / 2 + 1 / 16
densities, lengths = torch.randn(16, 2000, 8, requires_grad=True), torch.full((16,), 2000)

def mapped(calls):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        value = hmm.log_marginal_likelihood(start, moves, densities, lengths)
        torch.autograd.grad(value.sum(), densities)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

mapped(5)
print(mapped(20) / 20, keep_freed_memory())
"""


def pages(**variables: str) -> tuple[float, bool]:
    run = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True, env=os.environ | variables
    )
    count, kept = run.stdout.split()
    return float(count), kept == "True"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_gradient_maps_no_memory_anew() -> None:
    kept, asked = pages()
    if not asked:
        pytest.skip("the C library is not glibc, or was told what to keep")
    returned, asked = pages(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
    assert not asked
    assert kept < 100 < 400 < returned
