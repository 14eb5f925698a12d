"""Run every benchmark and print its table."""

import os

import torch

from benchmarks import import_time, rnn_step


def main() -> None:
    """Print the tables."""
    policy = os.environ.get("OMP_WAIT_POLICY", "unset")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, OMP_WAIT_POLICY={policy}\n")
    print("LSTM language model step (H 128, vocabulary 50, batch 64, T 100), median ms, ratio to bare torch")
    for name, milliseconds, ratio in rnn_step.run():
        print(f"  {name:36}{milliseconds:8.1f}{ratio:8.3f}")
    print("\nimport time beyond torch and pyro, median ms")
    for name, milliseconds in import_time.run():
        print(f"  {name:36}{milliseconds:8.1f}")


if __name__ == "__main__":
    main()
