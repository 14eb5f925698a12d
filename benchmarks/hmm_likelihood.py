"""log p(x_{1:T}) of an HMM and its gradient in every parameter: our kernels beside Pyro's DiscreteHMM, float32.

Pyro's chain makes one transition before it first emits, so ours starts from initial @ transition. Values and gradients
must agree before they are timed. The first call's compilation is timed apart.
"""

import time
from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor

from benchmarks.timing import time_in_turn
from pgm_rnn.kernels import hmm

SIZES = ((16, 64, 1000), (5, 1, 100_000), (512, 4, 200))
"""States, sequences, steps."""


def run() -> list[tuple[str, float, float, float, float]]:
    """Rows (size, ms of our value, of our value and gradient, and how many times as long Pyro takes for each)."""
    rows = []
    for num_states, batch, num_steps in SIZES:
        ours, peer = _problems(num_states, batch, num_steps)
        _check_equal(ours, peer)
        times = time_in_turn({"ours": _value(ours), "pyro": _value(peer)}, repeats=3, warmup=0)
        slow = time_in_turn({"ours": _gradient(ours), "pyro": _gradient(peer)}, repeats=3, warmup=0)
        name = f"{num_states} states, {batch} x {num_steps}"
        rows.append((name, times["ours"][0], slow["ours"][0], times["pyro"][1], slow["pyro"][1]))
    return rows


def first_call() -> float:
    """Milliseconds of the first call in this process: loading compiled code, or compiling it."""
    ours, _ = _problems(3, 2, 4)
    start = time.perf_counter()
    _gradient(ours)()
    return 1e3 * (time.perf_counter() - start)


Problem = tuple[Callable[[], Tensor], tuple[Tensor, ...]]


def _problems(num_states: int, batch: int, num_steps: int) -> tuple[Problem, Problem]:
    generator = torch.Generator().manual_seed(0)
    parameters = tuple(
        torch.randn(*shape, generator=generator).requires_grad_()
        for shape in ((num_states,), (num_states, num_states), (num_states,))
    )
    start, moves, loc = parameters
    x, lengths = torch.randn(batch, num_steps, generator=generator), torch.full((batch,), num_steps)

    def ours() -> Tensor:
        transition = moves.softmax(-1)
        log_emission = dist.Normal(loc, 1.0).log_prob(x[..., None])
        return hmm.log_marginal_likelihood(start.softmax(-1) @ transition, transition, log_emission, lengths).sum()

    def peer() -> Tensor:
        return dist.DiscreteHMM(start, moves, dist.Normal(loc, 1.0), duration=num_steps).log_prob(x).sum()

    return (ours, parameters), (peer, parameters)


def _check_equal(ours: Problem, peer: Problem) -> None:
    (f, parameters), (g, _) = ours, peer
    values = f(), g()
    torch.testing.assert_close(*values, rtol=1e-4, atol=0)
    for a, b in zip(*(torch.autograd.grad(value, parameters) for value in values), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3 * float(b.abs().max()))


def _value(problem: Problem) -> Callable[[], Tensor]:
    return torch.no_grad()(problem[0])


def _gradient(problem: Problem) -> Callable[[], object]:
    return lambda: torch.autograd.grad(problem[0](), problem[1])
