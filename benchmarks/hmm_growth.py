"""Growth of the time of our HMM's gradient with the steps and with the batch: slopes of log time against log size."""

from typing import NamedTuple

from benchmarks import hmm_torch
from benchmarks.hmm_problem import random_problem, recursion
from benchmarks.timing import slope, time_in_turn

NUM_STATES = 16
STEPS, BATCH_OF_STEPS = [1_000, 2_000, 5_000, 10_000], 32
BATCHES, STEPS_OF_BATCHES = [32, 64, 160, 320], 1_000


class Growth(NamedTuple):
    """Times of a series of sizes.

    Attributes:
        name: the size that grows.
        sizes: its values, over a decade.
        milliseconds: median of value and gradient at each size.
        slope: slope of log time against log size; 1 is linear growth.
    """

    name: str
    sizes: list[int]
    milliseconds: list[float]
    slope: float


def run(repeats: int = 15) -> list[Growth]:
    """One series in T and one in the batch."""
    return [
        _growth(f"steps, {BATCH_OF_STEPS} sequences", STEPS, [(BATCH_OF_STEPS, steps) for steps in STEPS], repeats),
        _growth(f"sequences, {STEPS_OF_BATCHES} steps", BATCHES, [(b, STEPS_OF_BATCHES) for b in BATCHES], repeats),
    ]


def _growth(name: str, sizes: list[int], shapes: list[tuple[int, int]], repeats: int) -> Growth:
    peers = [hmm_torch.ours_given_densities(recursion(random_problem(NUM_STATES, *shape))) for shape in shapes]
    times = time_in_turn({str(size): peer.gradient for size, peer in zip(sizes, peers, strict=True)}, repeats)
    milliseconds = [times[str(size)][0] for size in sizes]
    return Growth(name, sizes, milliseconds, slope(sizes, milliseconds))
