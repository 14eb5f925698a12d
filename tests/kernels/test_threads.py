import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fresh import with_torch

pytestmark = pytest.mark.slow

SCRIPT = """
import torch
torch.set_num_threads({threads})
from pgm_rnn.kernels import hmm
import numba
for _ in range(2):
    hmm.forward(torch.ones(1), torch.ones(1, 1), torch.zeros(1, 3, 1), torch.tensor([3]))
    print(torch.get_num_threads(), numba.get_num_threads())
"""

FORKS = """
import multiprocessing, os, sys
import torch
from torch.utils.data import DataLoader
from pgm_rnn.kernels import hmm, kalman, resampling

torch.manual_seed(0)
K, B, T = 3, 8, 50
initial, table, log_emission = torch.rand(K).softmax(-1), torch.rand(K, K).softmax(-1), 3 * torch.randn(B, T, K)
lengths, weights, one = torch.arange(T - B, T) + 1, torch.rand(5000, 2), torch.eye(2)
chain = kalman.GaussianChain(torch.zeros(2), one, 0.9 * one, one, one, one)
large = torch.rand(2**20)  # torch takes all its threads

def work(number):
    parameter = table.clone().requires_grad_()
    hmm.log_marginal_likelihood(initial, parameter, log_emission, lengths).sum().backward()
    value = hmm.log_marginal_likelihood(initial, table, log_emission + number, lengths)
    means = kalman.filter(chain, log_emission[..., :2], lengths).filtered_means
    uniforms = torch.full((1, 2), 0.5, dtype=torch.float64)
    ancestors = [resampling.draw_ancestors(weights[:size], "systematic", uniforms) for size in (10, 5000)]
    return [value, parameter.grad, means, *ancestors, large.exp().mean()[None]]

class Numbers(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, number): return work(number)

def send(queue): queue.put([part.tolist() for part in work(0)])

def same(found, number):
    *bits, mean = zip(found, here[number])
    return all(torch.equal(a, b) for a, b in bits) and abs(float(mean[0]) - float(mean[1])) < 1e-4

if __name__ == "__main__":
    if "{before}" == "kernels":
        here = [work(number) for number in range(4)]
    else:
        large.exp()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=send, args=(queue,), daemon=True)
    child.start()
    found = [queue.get(timeout=120)]
    child.join(120)
    with context.Pool(2) as pool:
        pooled = pool.map_async(work, range(4)).get(timeout=120)
    loaded = [[part[0] for part in parts] for parts in DataLoader(Numbers(), num_workers=2, timeout=120)]
    if "{before}" == "torch":
        here = [work(number) for number in range(4)]
    print(child.exitcode, same([torch.tensor(part) for part in found[0]], 0), torch.get_num_threads(),
          all(same(parts, n) for n, parts in enumerate(pooled)), all(same(parts, n) for n, parts in enumerate(loaded)))
"""

PYTHON_THREADS = """
import threading, torch
from pgm_rnn.kernels import hmm
torch.manual_seed(0)
arguments = torch.rand(4).softmax(-1), torch.rand(4, 4).softmax(-1), torch.randn(16, 500, 4), torch.full((16,), 500)
expected, right = hmm.log_marginal_likelihood(*arguments), []

def work():
    for _ in range(100):
        right.append(torch.equal(hmm.log_marginal_likelihood(*arguments), expected))

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(right), all(right))
"""


FIRST_CALL = """
import os, threading, time, torch
from pgm_rnn.kernels import hmm

chain = torch.ones(3) / 3, torch.ones(3, 3) / 3, torch.randn(2, 5, 3), torch.tensor([5, 3])

def value(): return hmm.log_marginal_likelihood(*chain).sum()

forked = threading.Event()
thread = threading.Thread(target=lambda: (value(), forked.wait()))
thread.start()
time.sleep({delay})
child = os.fork()
if child == 0:
    os._exit(0 if value().isfinite() else 1)
forked.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""Forks while another thread imports a kernel, or compiles or loads it, and holds the locks of that.

The thread does not end meanwhile: it would hold a lock of libgcc's unwinder then, for which no fork can wait.
"""


def printed_by_a_fork(script: str) -> list[str]:
    """As `printed_by`, without an interpreter and an import of torch of its own."""
    done = with_torch().code(script)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def printed_by(script: str, **environment: str) -> list[str]:
    command, variables = [sys.executable, "-c", script], os.environ | environment
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_compiled_functions_use_torchs_number_of_threads_and_leave_it(threads: int) -> None:
    printed = printed_by(SCRIPT.format(threads=threads))
    import numba

    expected = min(threads, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    assert printed == [str(threads), str(expected)] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("threads", "before"),
    [
        (2, "kernels"),
        pytest.param(1, "torch", marks=pytest.mark.nightly),
        pytest.param(1, "kernels", marks=pytest.mark.nightly),
        pytest.param(2, "torch", marks=pytest.mark.nightly),
    ],
)
def test_forked_processes_give_the_bits_of_their_parent_whatever_ran_before(threads: int, before: str) -> None:
    printed = printed_by(FORKS.replace("{before}", before), OMP_NUM_THREADS=str(threads))
    assert printed == ["0", "True", str(threads), "True", "True"]


@pytest.mark.parametrize("layer", ["omp", pytest.param("workqueue", marks=pytest.mark.nightly)])
def test_python_threads_may_call_at_the_same_time(layer: str) -> None:
    assert printed_by(PYTHON_THREADS, NUMBA_THREADING_LAYER=layer, OMP_NUM_THREADS="2") == ["400", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    "delay", [0.02, 0.17, *(pytest.param(delay, marks=pytest.mark.nightly) for delay in (0.07, 0.22, 0.3))]
)
def test_a_fork_waits_for_another_threads_first_call(delay: float) -> None:
    assert printed_by_a_fork(FIRST_CALL.replace("{delay}", str(delay))) == ["0"]


IMPORTING = """
import os, sys, threading, time
sys.path.insert(0, {folder!r})
import pgm_rnn.kernels.threads
thread = threading.Thread(target=lambda: __import__("slow_to_import"))
thread.start()
while "slow_to_import" not in sys.modules:
    time.sleep(0.01)
child = os.fork()
if child == 0:
    import slow_to_import
    os._exit(0 if slow_to_import.value == 1 else 1)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_another_threads_import_of_anything(tmp_path: Path) -> None:
    """The child would wait forever for the lock of a module that a thread of its parent was importing."""
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.5)\nvalue = 1\n")
    assert printed_by_a_fork(IMPORTING.format(folder=str(tmp_path))) == ["0"]
