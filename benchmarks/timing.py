"""Peers timed in turn, so that whatever else the machine does meets all of them alike."""

import time
from collections.abc import Callable
from statistics import median


def time_in_turn(
    steps: dict[str, Callable[[], object]], repeats: int, warmup: int = 3
) -> dict[str, tuple[float, float]]:
    """Median milliseconds of each step, and the median over rounds of its ratio to the first step's time.

    The steps are called one after the other `repeats` times: a round's times share the machine's mood. Each round
    begins with another of them, for a step is slower after one that works on other memory.
    """
    for step in steps.values():
        for _ in range(warmup):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    rounds = list(steps.items())
    for _ in range(repeats):
        rounds.append(rounds.pop(0))
        for name, step in rounds:
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    reference = next(iter(seconds.values()))
    return {
        name: (1e3 * median(values), median(value / base for value, base in zip(values, reference, strict=True)))
        for name, values in seconds.items()
    }
