"""What a GPU does: recursions and scans of exact engines, particle filters, training steps and memory bandwidth.

Times are medians of synchronised calls after a warm-up; what takes longer than `PATIENCE` is timed once. The same work
on the CPU of the same machine stands beside it. All of it fits in ten minutes. `python -m benchmarks gpu`, by itself:
the other benchmarks need no GPU.
"""

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, NamedTuple

import pyro
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from benchmarks.timing import seconds_of
from pgm_rnn.inference import smc
from pgm_rnn.kernels import hmm, hmm_scan, kalman, kalman_scan
from pgm_rnn.kernels.gaussian_chain import GaussianChain
from pgm_rnn.models import RNN, VRNN, DeepMarkovModel, LinearGaussianSSM, NoisyRNN
from pgm_rnn.sequence_model import SequenceModel

PATIENCE = 1.0
"""Seconds."""
Work = Callable[[], object]


class Line(NamedTuple):
    """One line of a table: milliseconds on the CPU, on the GPU, and there by a scan, with its peak memory.

    Attributes:
        name: what is computed.
        cpu: on the CPU, by the compiled recursion where there is one.
        gpu: on the GPU, step by step where there is a recursion.
        scan: on the GPU by a scan over time; None where there is none, NaN where it needs more memory than there is.
        megabytes: the peak memory of the last of them beyond what was there before.
    """

    name: str
    cpu: float
    gpu: float
    scan: float | None
    megabytes: float


def run() -> Iterator[tuple[str, list[Line]]]:
    """Tables (title, lines).

    Raises:
        RuntimeError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("expected a GPU that torch can use, got none")
    torch.manual_seed(0)
    yield "hidden Markov model, float32, value and gradient in p(x_t | z_t)", list(_chains())
    yield "Kalman filter, float32, value", list(_systems())
    with pyro.settings.context(module_local_params=True):
        yield "training step, value and gradient", list(_training())
    yield "particle filter", list(_particles())


def bandwidth(num_bytes: int = 1 << 31) -> float:
    """Bytes read and written per second by a copy on the GPU."""
    source = torch.zeros(num_bytes, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * num_bytes / (_milliseconds(lambda: target.copy_(source), on_gpu=True) / 1e3)


def _chains() -> Iterator[Line]:
    for num_states, batch, num_steps in (
        (5, 32, 1000), (5, 1, 10_000), (5, 1, 1_000_000), (64, 32, 1000), (64, 1, 10_000), (512, 1, 1000),
    ):  # fmt: skip
        tables = torch.full((num_states,), 1 / num_states), torch.rand(num_states, num_states).softmax(-1)
        densities, lengths = torch.randn(batch, num_steps, num_states), torch.full((batch,), num_steps)

        def work(function: Any, device: str, *arrays: Tensor) -> Work:
            start, moves, seen, ends = (array.to(device) for array in arrays)
            seen.requires_grad_()
            return lambda: torch.autograd.grad(function(start, moves, seen, ends).sum(), seen)

        arrays = *tables, densities, lengths
        works = work(hmm.log_marginal_likelihood, "cpu", *arrays), work(hmm.log_marginal_likelihood, "cuda", *arrays)
        scan = work(hmm_scan.log_marginal_likelihood, "cuda", *arrays)
        yield _line(f"{num_states} states, {batch} x {num_steps}", *works, scan, slow_gpu=num_steps > 100_000)


def _systems() -> Iterator[Line]:
    for dim, batch, num_steps in ((4, 32, 1000), (4, 1, 10_000), (4, 1, 100_000), (32, 32, 1000), (32, 1, 10_000)):
        unit, rotation = torch.eye(dim), torch.linalg.qr(torch.randn(dim, dim)).Q
        chain = GaussianChain(
            torch.zeros(dim), unit, 0.9 * rotation, 0.5 * unit, torch.randn(dim, dim) / dim**0.5, unit
        )
        x, lengths = torch.randn(batch, num_steps, dim), torch.full((batch,), num_steps)

        def work(function: Any, device: str, chain: GaussianChain, x: Tensor, lengths: Tensor) -> Work:
            there = GaussianChain(*(None if part is None else part.to(device) for part in chain))  # type: ignore[arg-type]
            seen, ends = x.to(device), lengths.to(device)
            return lambda: function(there, seen, ends)

        arrays = chain, x, lengths
        works = (
            work(kalman.log_marginal_likelihood, "cpu", *arrays),
            work(kalman.log_marginal_likelihood, "cuda", *arrays),
        )
        scan = work(kalman_scan.filtered, "cuda", *arrays)
        yield _line(f"{dim} dimensions, {batch} x {num_steps}", *works, scan, slow_gpu=num_steps > 10_000)


def _training() -> Iterator[Line]:
    for batch, num_steps in ((20, 60), (64, 200)):
        for name, make in {"VRNN": VRNN, "deep Markov model": DeepMarkovModel}.items():
            x = (torch.rand(batch, num_steps, 88) < 0.05).float()
            yield _of_model(f"{name}, {batch} x {num_steps}", _elbo_step, make(88, 32, 32), x)
    for cell in ("gru", "lstm", "min-gru", "lru"):
        x = torch.randint(50, (8, 4096))
        yield _of_model(f"RNN, {cell}, 8 x 4096", _gradient, RNN(cell=cell, num_symbols=50, hidden_dim=128), x)


def _particles() -> Iterator[Line]:
    for name, model in {
        "linear Gaussian": LinearGaussianSSM.random(1, 1, seed=0).float(),
        "noisy RNN": NoisyRNN.random(4, 1, seed=0).float(),
    }.items():
        for num_particles, num_steps in ((1000, 1000), (1_000_000, 100)):

            def filtered(model: SequenceModel, x: Tensor, num_particles: int = num_particles) -> Tensor:
                return smc.filter(model, x, num_particles=num_particles, seed=0).log_marginal_likelihood

            yield _of_model(f"{name}, {num_particles} x {num_steps}", filtered, model, torch.randn(1, num_steps, 1))


def _gradient(model: SequenceModel, x: Tensor) -> object:
    return torch.autograd.grad(model.log_prob(x).sum(), [p for p in model.parameters() if p.requires_grad])


def _elbo_step(model: SequenceModel, x: Tensor) -> object:
    loss = Trace_ELBO().differentiable_loss(model.model, model.guide, x)
    return torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)


def _of_model(name: str, work: Callable[[SequenceModel, Tensor], object], model: SequenceModel, x: Tensor) -> Line:
    """The same work here and there, with equal parameters and data."""
    cpu = _milliseconds(lambda: work(model, x), on_gpu=False)
    moved, there = model.to("cuda"), x.to("cuda")
    before = _emptied()
    gpu = _milliseconds(lambda: work(moved, there), on_gpu=True)
    return Line(name, cpu, gpu, None, (torch.cuda.max_memory_allocated() - before) / 2**20)


def _line(name: str, cpu: Work, gpu: Work, scan: Work, *, slow_gpu: bool) -> Line:
    """The three works in turn; a recursion of very many steps on the GPU is left out."""
    here = _milliseconds(cpu, on_gpu=False)
    there = float("nan") if slow_gpu else _milliseconds(gpu, on_gpu=True)
    before = _emptied()
    try:
        scanned = _milliseconds(scan, on_gpu=True)
    except torch.cuda.OutOfMemoryError:
        scanned = float("nan")
    return Line(name, here, there, scanned, (torch.cuda.max_memory_allocated() - before) / 2**20)


def _emptied() -> int:
    """Bytes in use after the peak is forgotten."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _milliseconds(work: Work, *, on_gpu: bool, repeats: int = 5) -> float:
    step = (lambda: (work(), torch.cuda.synchronize())) if on_gpu else work
    if seconds_of(step) > PATIENCE:  # the first call compiles, and fills caches
        return 1e3 * seconds_of(step)
    return 1e3 * median(seconds_of(step) for _ in range(repeats))
