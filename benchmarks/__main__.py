"""Run the named benchmarks, or all of them, and print their tables."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import (
    arhmm_likelihood,
    deep_step,
    em_step,
    experiments_step,
    finite_memory,
    first_call,
    gpu,
    hmm_growth,
    hmm_likelihood,
    import_time,
    kalman_likelihood,
    linear_step,
    rnn_step,
    smc_likelihood,
    smc_memory,
    smc_problem,
)
from benchmarks.record import write
from benchmarks.tables import (
    print_comparison,
    print_filters,
    print_gpu,
    print_growth,
    print_peaks,
    print_steps,
    print_times,
)


def rnn() -> None:
    print("LSTM language model step (H 128, vocabulary 50, batch 64, T 100), median ms, ratio to bare torch")
    print_steps("LSTM language model", "", rnn_step.run())
    print()


def linear() -> None:
    print("training step of cells that are linear in their state (H 64, vocabulary 50, batch 8), ratio to torch.nn.GRU")
    for title, times in linear_step.run():
        print_steps("language models of 64 units", title, [(name, *pair) for name, pair in times.items()])
    print()


def hmm() -> None:
    print_times("first value and gradient of an HMM in a process, ms", first_call.run())
    for title, rows in hmm_likelihood.run():
        print_comparison(f"HMM, {title}", rows)


def arhmm() -> None:
    for title, rows in arhmm_likelihood.run():
        print_comparison(f"autoregressive HMM, {title}", rows)
    for title, peaks in finite_memory.run():
        print_peaks(f"transitions that read an input, peak memory of value and gradient, {title}", peaks)


def kalman() -> None:
    for title, rows in kalman_likelihood.run():
        print_comparison(f"Kalman filter, {title}", rows)


def deep() -> None:
    print("training step of deep models (all sizes 32, 88 keys, batch 20, T 60), median ms, ratio to plain torch")
    for title, rows in deep_step.run():
        print_steps("training step", title, rows)
    print()


def smc() -> None:
    for title, rows in smc_likelihood.run():
        print_filters(f"particle filter, {title}", rows, smc_problem.NUM_SEQUENCES)
    for title, peaks in smc_memory.run():
        print_peaks(f"particle filter, peak memory, {title}", peaks)


def em() -> None:
    title, rows = em_step.run()
    print_comparison(title, rows, timed="iteration")


def growth() -> None:
    print_growth(f"HMM of {hmm_growth.NUM_STATES} states: value and gradient as the problem grows", hmm_growth.run())


def experiments() -> None:
    print("value and gradient of many small networks, 100 sequences of 8 steps each, median ms, ratio to one by one")
    for title, times in experiments_step.run():
        print(f"  {title}")
        for name, (milliseconds, ratio) in times.items():
            print(f"    {name:34}{milliseconds:8.1f}{ratio:8.3f}")
    print()


def imports() -> None:
    print_times("import time beyond torch and pyro, median ms", import_time.run())


def on_gpu() -> None:
    if not torch.cuda.is_available():
        print("GPU: torch finds none here, so there are no figures.\n")
        return
    print(f"{torch.cuda.get_device_name()}, copies at {gpu.bandwidth() / 1e12:.2f} TB/s read and written\n")
    for title, lines in gpu.run():
        print_gpu(title, lines)


BENCHMARKS: dict[str, Callable[[], None]] = {
    "rnn": rnn,
    "linear": linear,
    "hmm": hmm,
    "arhmm": arhmm,
    "kalman": kalman,
    "smc": smc,
    "deep": deep,
    "em": em,
    "growth": growth,
    "experiments": experiments,
    "imports": imports,
    "gpu": on_gpu,
}


def main() -> None:
    """Print the tables, and keep their times in a file if asked to."""
    names, place = sys.argv[1:], None
    if names[:1] == ["--record"] and len(names) > 1:
        place, names = Path(names[1]), names[2:]
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"expected benchmarks among {', '.join(BENCHMARKS)}, got {', '.join(sorted(unknown))}")
    policy = os.environ.get("OMP_WAIT_POLICY", "unset")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), OMP_WAIT_POLICY={policy}\n")
    for name in names or BENCHMARKS:
        BENCHMARKS[name]()
        if place is not None:
            write(place)


if __name__ == "__main__":
    main()
