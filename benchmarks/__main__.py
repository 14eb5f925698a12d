"""Run every benchmark and print its table."""

import os

import torch

from benchmarks import hmm_likelihood, import_time, rnn_step


def main() -> None:
    """Print the tables."""
    policy = os.environ.get("OMP_WAIT_POLICY", "unset")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, OMP_WAIT_POLICY={policy}\n")
    print("LSTM language model step (H 128, vocabulary 50, batch 64, T 100), median ms, ratio to bare torch")
    for name, milliseconds, ratio in rnn_step.run():
        print(f"  {name:36}{milliseconds:8.1f}{ratio:8.3f}")
    print(f"\nfirst call of the HMM kernels: {hmm_likelihood.first_call():.0f} ms")
    print("HMM log likelihood, float32: ms of the value and of value and gradient, and how many times that Pyro takes")
    for name, value, gradient, pyro_value, pyro_gradient in hmm_likelihood.run():
        print(f"  {name:36}{value:8.1f}{gradient:8.1f}{pyro_value:8.0f}{pyro_gradient:8.0f}")
    print("\nimport time beyond torch and pyro, median ms")
    for name, milliseconds in import_time.run():
        print(f"  {name:36}{milliseconds:8.1f}")


if __name__ == "__main__":
    main()
