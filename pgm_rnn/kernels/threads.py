"""Compiled functions on tensors' memory, with as many threads as torch has."""

from typing import Any

import torch
from torch import Tensor


def num_threads() -> int:
    """Threads that compiled functions use: torch's, and no more than numba was started with."""
    import numba

    return min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def run_compiled(function: Any, *arguments: Any) -> None:
    """Call a function compiled by numba with tensors as arrays; what it writes to must be contiguous.

    Where numba and torch share one OpenMP library, numba's first parallel function sets the number of threads of both:
    torch's is put back.
    """
    import numba

    torch_threads = torch.get_num_threads()
    numba.set_num_threads(num_threads())
    function(*(a.contiguous().numpy() if isinstance(a, Tensor) else a for a in arguments))
    if torch.get_num_threads() != torch_threads:
        torch.set_num_threads(torch_threads)
