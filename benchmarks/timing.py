"""Peers timed in turn, so that other work on the machine affects all of them alike."""

import math
import time
from collections.abc import Callable
from statistics import median

Steps = dict[str, Callable[[], object]]
SETTLED = 0.03
"""Seconds of untimed calls before a timed one."""

Times = dict[str, tuple[float, float]]
"""Median milliseconds of each step, and the median over rounds of its ratio to the first step's time."""


def time_in_turn(steps: Steps, repeats: int) -> Times:
    """Median milliseconds of each step, and the median over rounds of its ratio to the first step's time.

    The steps are called one after the other in each of `repeats` rounds, so that the times of a round share the state
    of the machine. Each is called untimed first, as in a loop of its own: it finds its memory in the cache, and the
    threads of the step before it, which go on looking for work for a while, are asleep.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            settle(step)
            seconds[name].append(seconds_of(step))
    reference = next(iter(seconds.values()))
    return {
        name: (1e3 * median(values), median(value / base for value, base in zip(values, reference, strict=True)))
        for name, values in seconds.items()
    }


def time_peers(steps: Steps, repeats: int = 25, slow: float = 0.25) -> Times:
    """`time_in_turn`, but peers that take more than `slow` seconds are timed in three separate rounds."""
    reference = next(iter(steps))
    slow_steps = {name: step for name, step in steps.items() if name != reference and seconds_of(step) > slow}
    times = time_in_turn({name: step for name, step in steps.items() if name not in slow_steps}, repeats)
    if slow_steps:
        again = time_in_turn({reference: steps[reference]} | slow_steps, repeats=3)
        times |= {name: again[name] for name in slow_steps}
    return {name: times[name] for name in steps}


def settle(step: Callable[[], object]) -> None:
    """Call a step once, and again until `SETTLED` seconds have passed."""
    start = time.perf_counter()
    step()
    while time.perf_counter() - start < SETTLED:
        step()


def seconds_of(step: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def slope(sizes: list[int], milliseconds: list[float]) -> float:
    """Least-squares slope of log time against log size: 1 where time is proportional to size."""
    x, y = ([math.log(value) for value in values] for values in (sizes, milliseconds))
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    products = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return products / sum((a - x_mean) ** 2 for a in x)
