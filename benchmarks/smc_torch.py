"""The particle filter of this package, a whole batch at once, and Pyro's SMCFilter, one sequence after the other.

Pyro's filter also resamples systematically, when the effective sample size is below (ours: at most) half of the
particles; it does so after a step, ours before the next step. It does not estimate p(x_{1:T}): `_Estimating` computes
an estimate from two numbers per step, the weight of the first particle before and after normalisation. In float32 the
distribution function that Pyro's filter inverts can end below one; it then looks for a particle beyond the last one,
and the run fails.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyro as ppl
import torch
from pyro.infer import SMCFilter
from pyro.poutine import Trace
from torch import Tensor

from benchmarks.smc_models import CHAINS, OwnVolatility
from benchmarks.smc_peers import ESS_THRESHOLD, Filter, Run
from benchmarks.smc_problem import Problem
from pgm_rnn.inference import smc
from pgm_rnn.inference.smc.pyro_steps import PyroSteps
from pgm_rnn.sequence_model import SequenceModel


def ours(problem: Problem) -> Filter:
    """`smc.filter` in float32."""
    return _ours(problem, torch.float32)


def ours_in_float64(problem: Problem) -> Filter:
    """`smc.filter` in double precision."""
    return _ours(problem, torch.float64)


def own(problem: Problem) -> Filter:
    """`smc.filter` of stochastic volatility as a reader writes it, in float32."""
    return _ours(problem, torch.float32, OwnVolatility(CHAINS[problem.chain]))


def pyro(problem: Problem) -> Filter:
    """Pyro's filter in float32."""
    return _pyro(problem, torch.float32)


def pyro_in_float64(problem: Problem) -> Filter:
    """Pyro's filter in double precision, which is torch's default dtype meanwhile."""
    return _pyro(problem, torch.float64)


def _ours(problem: Problem, dtype: torch.dtype, model: SequenceModel | None = None) -> Filter:
    model, x = model or problem.model(dtype), problem.observations(dtype)
    options = {
        "num_particles": problem.num_particles,
        "proposal": "bootstrap",
        "resampling": "systematic",
        "ess_threshold": ESS_THRESHOLD,
    }

    def run(sequences: Sequence[int], seed: int) -> Run:
        rows, start = x[list(sequences)], time.perf_counter()
        estimates = smc.filter(model, rows, **options, seed=seed).log_marginal_likelihood.tolist()
        return Run(sequences, time.perf_counter() - start, estimates)

    return run


def _pyro(problem: Problem, dtype: torch.dtype) -> Filter:
    model, x = problem.model(dtype), problem.observations(dtype)

    def run(sequences: Sequence[int], seed: int) -> Run:
        ppl.set_rng_seed(seed)
        start = time.perf_counter()
        try:
            with _default_dtype(dtype):
                estimates = [_estimate(model, problem.num_particles, x[i]) for i in sequences]
        except IndexError:
            return Run(sequences, time.perf_counter() - start, None)
        return Run(sequences, time.perf_counter() - start, estimates)

    return run


@torch.no_grad()
def _estimate(model: torch.nn.Module, num_particles: int, x: Tensor) -> float:
    steps = PyroSteps(model, num_particles), PyroSteps(model, num_particles, guide=True)
    filtering = _Estimating(*steps, num_particles, max_plate_nesting=0, ess_threshold=ESS_THRESHOLD)
    first, *rest = x
    filtering.init(first)
    for x_t in rest:
        filtering.step(x_t)
    return filtering.log_marginal_likelihood


class _Estimating(SMCFilter):
    """Adds up log sum_n w_n alpha_n, by the first particle's log w alpha before and after it is normalised."""

    log_marginal_likelihood = 0.0
    _equal_weights = True

    def _update_weights(self, model_trace: Trace, guide_trace: Trace) -> None:
        log_w = float(self.state._log_weights[0])
        super()._update_weights(model_trace, guide_trace)
        (emission,) = (site for name, site in model_trace.nodes.items() if name.startswith("x_"))
        log_total = math.log(self.num_particles) if self._equal_weights else 0.0
        self._joint = log_w + float(emission["log_prob"][0]) - log_total

    def _maybe_importance_resample(self) -> None:
        self._equal_weights = False
        super()._maybe_importance_resample()
        if not self._equal_weights:
            self.log_marginal_likelihood += self._joint - float(self.state._log_weights[0])

    def _importance_resample(self, probs: Tensor) -> None:
        self._equal_weights = True
        self.log_marginal_likelihood += self._joint - float(self.state._log_weights[0])
        super()._importance_resample(probs)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
