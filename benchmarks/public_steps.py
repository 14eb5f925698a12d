"""One step of each thing that users wait for, by public functions alone, so that two commits can be timed side by side.

    python public_steps.py        lines of step names in, lines of seconds out; the first line out lists the steps

`benchmarks.compare` starts it twice, with one tree of the package each in front of Python's path. A step that a commit
does not have is not listed.
"""

import sys
import time
from collections.abc import Callable

import pyro
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from pgm_rnn.inference import em, forward_backward, kalman, smc
from pgm_rnn.models import HMM, RNN, VRNN, DeepMarkovModel, LinearGaussianSSM, NoisyRNN
from pgm_rnn.sequence_model import SequenceModel

Step = Callable[[], object]


def gradient(model: SequenceModel, x: Tensor) -> Step:
    """log p(x) and its gradients."""
    parameters = list(model.parameters())
    return lambda: torch.autograd.grad(model.log_prob(x).sum(), parameters, allow_unused=True)


def training(model: SequenceModel, x: Tensor) -> Step:
    """Loss and gradients under Pyro's ELBO."""
    elbo = Trace_ELBO()(model.model, model.guide)
    parameters = list(model.parameters())
    return lambda: torch.autograd.grad(elbo(x), parameters, allow_unused=True)


def filtering(model: SequenceModel, batch: int, num_particles: int, num_steps: int) -> Step:
    """A bootstrap filter in single precision."""
    x = model.sample(batch, num_steps, seed=0).x
    return lambda: smc.filter(model, x, num_particles=num_particles, proposal="bootstrap", seed=0)


def maximising(model: HMM, x: Tensor) -> Step:
    """Three iterations of EM from the same start."""
    start = {name: value.clone() for name, value in model.state_dict().items()}

    def step() -> None:
        model.load_state_dict(start)
        em.fit(model, x, num_iterations=3, progress=False)

    return step


def steps() -> dict[str, Step]:
    """All steps by name."""
    torch.manual_seed(0)
    small, wide = HMM.random(16, 20, seed=0), HMM.random(256, 20, seed=0)
    lgssm, noisy = LinearGaussianSSM.random(4, 3, seed=0), NoisyRNN.random(2, 2, seed=0)
    symbols, long = small.sample(64, 500, seed=0).x, small.sample(1, 50_000, seed=0).x
    real = lgssm.sample(32, 300, seed=0).x
    keys = (torch.rand(20, 60, 88) < 0.05).float()
    found: dict[str, Step] = {
        "HMM 16, 64 x 500, log p and gradient": gradient(small, symbols),
        "HMM 16, 1 x 50 000, log p and gradient": gradient(small, long),
        "HMM 256, 8 x 200, log p and gradient": gradient(wide, symbols[:8, :200]),
        "HMM 16, 64 x 500, smooth": lambda: forward_backward.smooth(small, symbols).smoothed_probs,
        "HMM 16, 64 x 500, most likely states": lambda: forward_backward.most_likely_states(small, symbols),
        "HMM 16, 64 x 500, EM": maximising(HMM.random(16, 20, seed=1), symbols),
        "LGSSM 4, 32 x 300, log p and gradient": gradient(lgssm, real),
        "LGSSM 4, 32 x 300, smooth": lambda: kalman.smooth(lgssm, real).smoothed_means,
        "HMM, particles 1000 x 200": filtering(small, 1, 1000, 200),
        "LGSSM, particles 1000 x 200": filtering(lgssm, 1, 1000, 200),
        "NoisyRNN, particles 1000 x 200": filtering(noisy, 1, 1000, 200),
        "NoisyRNN, 64 sequences, particles 100 x 100": filtering(noisy, 64, 100, 100),
        "VRNN, ELBO step": training(VRNN(88, 32, 32), keys),
        "DMM, ELBO step": training(DeepMarkovModel(88, 32, 32), keys),
    }
    for cell in ("elman", "gru", "lstm", "min-gru", "lru"):
        model = RNN(cell, num_symbols=20, hidden_dim=64)
        found[f"RNN {cell} 64, 20 x 100, log p and gradient"] = gradient(model, symbols[:20, :100])
    return found


def main() -> None:
    """Answer names until standard input ends."""
    pyro.settings.set(module_local_params=True)
    known = steps()
    for step in known.values():
        step()
    print("\t".join(known), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        known[line.strip()]()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
