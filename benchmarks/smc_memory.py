"""Peak memory of our filter with the particles of the last step only: it must not grow with the number of steps.

On the CPU the resident peak of a fresh interpreter is measured, and compared with that of two steps. glibc's allocator
fragments the heap between blocks that it does not return at once; MALLOC_MMAP_THRESHOLD_ makes it return every block of
a particle's size, so that the rest is the filter's own. On CUDA the memory that torch has allocated is measured.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.smc_models import AUTOREGRESSION, made
from pgm_rnn.inference import smc

NUM_PARTICLES, NUM_PARTICLES_CUDA = 100_000, 1_000_000
STEPS = (2, 200, 2000)

MEASURE = """
from benchmarks import smc_memory
smc_memory.filtered({steps}, {num_particles}, "cpu")
print(smc_memory.resident_peak())
"""


class Peak(NamedTuple):
    """One line of a table.

    Attributes:
        num_steps: T.
        megabytes: peak memory in use.
        seconds: time of the filter, None if a whole process was measured.
    """

    num_steps: int
    megabytes: float
    seconds: float | None = None


def run() -> list[tuple[str, list[Peak]]]:
    """Tables (title, peaks): for the CPU, and for CUDA where there is one."""
    name = f"{NUM_PARTICLES} particles, a process's resident memory"
    tables = [
        (name, [_on_the_cpu(steps) for steps in STEPS]),
        (f"{name}, blocks given back", [_on_the_cpu(steps, MALLOC_MMAP_THRESHOLD_="65536") for steps in STEPS]),
    ]
    if torch.cuda.is_available():
        filtered(STEPS[0], NUM_PARTICLES_CUDA, "cuda")
        name = f"{NUM_PARTICLES_CUDA} particles on {torch.cuda.get_device_name()}, allocated"
        tables.append((name, [_on_cuda(steps) for steps in STEPS]))
    return tables


def filtered(num_steps: int, num_particles: int, device: str) -> smc.Filtered:
    """The filter of one sequence of AR(1) plus noise."""
    model = made(AUTOREGRESSION, torch.float32).to(device)
    x = model.sample(1, num_steps, seed=0).x
    return smc.filter(model, x, num_particles=num_particles, proposal="bootstrap", seed=0)


def resident_peak() -> int:
    """Peak resident memory of this process in bytes, from /proc if it exists: getrusage inherits the parent's peak."""
    if Path("/proc/self/status").exists():
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _on_the_cpu(num_steps: int, **environment: str) -> Peak:
    command = [sys.executable, "-c", MEASURE.format(steps=num_steps, num_particles=NUM_PARTICLES)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment)
    return Peak(num_steps, int(result.stdout) / 1e6)


def _on_cuda(num_steps: int) -> Peak:
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    float(filtered(num_steps, NUM_PARTICLES_CUDA, "cuda").log_marginal_likelihood)  # waits for the device
    return Peak(num_steps, torch.cuda.max_memory_allocated() / 1e6, time.perf_counter() - start)
