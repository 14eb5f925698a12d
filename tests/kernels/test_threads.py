import subprocess
import sys

import pytest

SCRIPT = """
import torch
torch.set_num_threads({threads})
from pgm_rnn.kernels import hmm
import numba
for _ in range(2):
    hmm.forward(torch.ones(1), torch.ones(1, 1), torch.zeros(1, 3, 1), torch.tensor([3]))
    print(torch.get_num_threads(), numba.get_num_threads())
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_functions_use_torchs_number_of_threads_and_leave_it(threads: int) -> None:
    command = [sys.executable, "-c", SCRIPT.format(threads=threads)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    import numba

    expected = min(threads, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    assert printed == [str(threads), str(expected)] * 2
