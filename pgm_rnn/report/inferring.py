"""The latent states of data under a model, by the engine that suits the model.

forward    finitely many states: forward-backward and Viterbi, exact
kalman     linear Gaussian states: Kalman filter and smoother, exact; others by the extended Kalman filter
mixture    switching states: regimes by particles, vectors by a Kalman filter for each of them
smc        any states: weighted particles given x_{1:t}, and paths given x_{1:T}
svi        any states with a guide that reads observations: its draws
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_choice, check_counts
from pgm_rnn.inference import forward_backward, kalman, mixture_kalman, smc
from pgm_rnn.inference.forward_backward.problem import has_finite_states
from pgm_rnn.inference.kalman.components import components_of, has_components
from pgm_rnn.inference.kalman.kinds import has_gaussian_states, is_linear
from pgm_rnn.inference.mixture_kalman.problem import has_switching_states, sums_out_vectors
from pgm_rnn.randomness import seeded
from pgm_rnn.report.material import in_dtype_of
from pgm_rnn.report.particle_smoothing import Smoothing, smoothed_by_mixtures, smoothed_by_particles
from pgm_rnn.report.states_of_data import Chains, States
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequence_model.state_law import StateLaw
from pgm_rnn.sequences import Sequences, as_sequences, length_mask
from pgm_rnn.states import NUMBERED, ProductStates, SwitchingStates, described

ENGINES = ("auto", "forward", "kalman", "mixture", "smc", "svi")
"""Names of the engines; "auto" chooses one of the next four."""


@by_keyword
@torch.no_grad()
def infer(
    model: SequenceModel,
    data: Sequences | Tensor,
    *,
    engine: str = "auto",
    num_particles: int = 1000,
    num_paths: int = 100,
    seed: int | None = 0,
) -> States:
    """Filtered and smoothed laws of the latent states, the most likely path and the entropy, for each step.

    Args:
        model: with latent states.
        data: a batch, or observations (B, T, *event); NaN where one is missing.
        engine: "auto" takes "forward" for finitely many states, "kalman" for linear Gaussian ones, "mixture" for
            switching ones and "smc" for others; the result says which and why. "svi" takes the guide that was fitted.
            The last three are approximations.
        num_particles: particles of "mixture" and "smc", or draws of "svi", for each sequence.
        num_paths: paths of "mixture" and "smc" for the smoothed laws of each sequence, whose time is that of the
            filter times about this number; 0 leaves these laws out.
        seed: makes engines that draw reproducible; None uses torch's global generator.

    Returns:
        Its `to_frame()` is a table with the ids and times of the data, its `write(path)` a file.

    Raises:
        TypeError: a model without latent states, or with states that the engine does not take.
        ValueError: an unknown engine, `num_paths` below 2 and not 0, or observations that do not fit the model.

    Example:
        >>> from pgm_rnn.models import HMM
        >>> hmm = HMM.random(num_states=2, num_symbols=3, seed=0)
        >>> states = infer(hmm, hmm.sample(num_sequences=2, num_steps=4, seed=0))
        >>> states.engine, states.smoothed_probs.shape, states.to_frame().shape
        ('forward', torch.Size([2, 4, 2]), (8, 8))
    """
    check_choice("engine", engine, ENGINES)
    check_counts(num_particles=num_particles)
    if num_paths != 0 and not num_paths >= 2:
        raise ValueError(f"expected num_paths as 0 or at least 2, for standard errors, got {num_paths}")
    if getattr(model, "states", None) is None:
        raise TypeError(
            f"expected a model with latent states, got {type(model).__name__}, which has none; use forecast or "
            "svi.evaluate"
        )
    batch = in_dtype_of(model, as_sequences(data))
    best, reason = _chosen(model, num_particles, batch)
    if engine != "auto":
        _check_takes(engine, model, best)
    engine, reason = (best, reason) if engine == "auto" else (engine, "it was asked for")
    found = _RUNS[engine](model, batch, num_particles, seed)
    smoothing = Smoothing({})
    if engine == "smc" and num_paths:
        smoothing = smoothed_by_particles(model, batch, num_particles, num_paths, seed)
    if engine == "mixture" and num_paths:
        smoothing = smoothed_by_mixtures(model, batch, num_particles, num_paths, seed)
    found |= smoothing.laws
    probs, path = found.get("smoothed_probs"), found.get("most_likely_states")
    if isinstance(model.states, ProductStates) and probs is not None and path is not None:
        found["chains"] = Chains.of(model.states, probs, path)
    return States(engine, reason, batch.lengths, batch.legend, **found, remarks=smoothing.remarks)


def _chosen(model: Any, num_particles: int, data: Sequences) -> tuple[str, str]:
    """The engine for a model, and why."""
    name, states = type(model).__name__, described(model.states)
    if isinstance(model.states, NUMBERED):
        states = f"{model.states.num_states} {states}"
    if has_finite_states(model):
        return "forward", f"{name} has {states}, for which the forward-backward algorithm is exact"
    if is_linear(model):
        return "kalman", f"{name} has {states}, for which the Kalman filter and smoother are exact"
    if has_switching_states(model) and sums_out_vectors(model, checked(model, data)):
        return (
            "mixture",
            f"{name} has {states}, whose regimes {num_particles:,} particles follow, each with a Kalman filter",
        )
    reads = " and a memory that reads them" if model.memory_reads_state else ""
    return "smc", f"{name} has {states}{reads}, which {num_particles:,} particles approximate"


def _check_takes(engine: str, model: SequenceModel, best: str) -> None:
    takes: dict[str, Callable[[SequenceModel], bool]] = {
        "forward": has_finite_states,
        "kalman": has_gaussian_states,
        "mixture": has_switching_states,
    }
    if engine in takes and not takes[engine](model):
        raise TypeError(
            f"expected an engine for {described(model.states)}, which {type(model).__name__} has, got {engine!r}; use "
            f"{best!r}, which 'auto' chooses"
        )


Found = dict[str, Any]


def _forward(model: SequenceModel, data: Sequences, num_particles: int, seed: int | None) -> Found:
    smoothed, path = forward_backward.smooth_and_decode(model, data)
    return {
        "log_marginal_likelihood": smoothed.log_marginal_likelihood,
        "filtered_probs": smoothed.filtered_probs,
        "smoothed_probs": smoothed.smoothed_probs,
        "most_likely_states": path.states,
        "entropy": torch.special.entr(smoothed.smoothed_probs).sum(-1),
    }


def _kalman(model: Any, data: Sequences, num_particles: int, seed: int | None) -> Found:
    smoothed = kalman.smooth(model, data, method=None if is_linear(model) else "extended")
    covs, parts = smoothed.smoothed_covs, {}
    if has_components(model):
        parts = {"components": components_of(model, smoothed, checked(model, data))}  # type: ignore[arg-type]
    return {
        **parts,
        "log_marginal_likelihood": smoothed.log_marginal_likelihood,
        "filtered_means": smoothed.filtered_means,
        "filtered_sds": _sds(smoothed.filtered_covs),
        "smoothed_means": smoothed.smoothed_means,
        "smoothed_sds": _sds(covs),
        "entropy": _normal_entropy(covs).where(length_mask(data.lengths, covs.shape[1]), 0.0),
    }


def _sds(covs: Tensor) -> Tensor:
    """Standard deviations (..., D) of covariances (..., D, D); rounding may leave a variance just below zero."""
    return covs.diagonal(dim1=-2, dim2=-1).clamp(min=0.0).sqrt()


def _normal_entropy(covs: Tensor) -> Tensor:
    """(log det(2 pi e C)) / 2 in nats, (...); -inf for a singular C."""
    logs = torch.linalg.slogdet(covs).logabsdet
    return (covs.shape[-1] * (1 + math.log(2 * math.pi)) + logs) / 2


def _smc(model: SequenceModel, data: Sequences, num_particles: int, seed: int | None) -> Found:
    states: Any = model.states
    functions: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {}
    switching = isinstance(states, SwitchingStates)
    if switching or isinstance(states, NUMBERED):
        number = states.num_regimes if switching else states.num_states
        functions["probs"] = partial(_indicators, number, _dtype_of(data))
    if not isinstance(states, NUMBERED):
        vector = _vector_beside if switching else _flat
        functions |= {
            "centre": lambda z, h: vector(z).mean(0, keepdim=True).expand(vector(z).shape),
            "first": lambda z, h: _centred(vector(z)),
            "second": lambda z, h: _centred(vector(z)).square(),
        }
    found = smc.filter(model, data, num_particles=num_particles, functions=functions, seed=seed)
    laws: Found = {}
    if "probs" in functions:
        laws["filtered_probs"] = found.means["probs"]
    if "first" in functions:
        centre, first, second = (found.means[name] for name in ("centre", "first", "second"))
        laws |= {"filtered_means": centre + first, "filtered_sds": (second - first.square()).clamp(min=0.0).sqrt()}
    inside = length_mask(data.lengths, data.x.shape[1])
    laws = {name: None if part is None else part.where(inside[..., None], 0.0) for name, part in laws.items()}
    return laws | {"log_marginal_likelihood": found.log_marginal_likelihood, "ess": found.ess}


def _mixture(model: SequenceModel, data: Sequences, num_particles: int, seed: int | None) -> Found:
    found = mixture_kalman.filter(model, data, num_particles=num_particles, seed=seed)
    laws: Found = {"filtered_probs": found.filtered_probs, "filtered_means": found.filtered_means}
    laws |= {"filtered_sds": _sds(found.filtered_covs), "ess": found.ess}
    return laws | {"log_marginal_likelihood": found.log_marginal_likelihood}


def _dtype_of(data: Sequences) -> torch.dtype:
    """The dtype of probabilities that belong to the observations: theirs, or torch's default for whole numbers."""
    return data.x.dtype if data.x.is_floating_point() else torch.get_default_dtype()


def _indicators(num_states: int, dtype: torch.dtype, z: Tensor, h: Tensor | None) -> Tensor:
    """Indicators of states (N, B), or of the regimes of switching states (N, B, 1 + D): (N, B, K)."""
    numbers = z if z.dim() == 2 else z[..., 0].long()
    return torch.nn.functional.one_hot(numbers, num_states).to(dtype)


def _vector_beside(z: Tensor) -> Tensor:
    """The vectors (N, B, D) of switching states (N, B, 1 + D)."""
    return z[..., 1:]


def _flat(z: Tensor) -> Tensor:
    """States (N, B, *latent) as vectors, (N, B, D)."""
    return z.reshape(*z.shape[:2], -1)


def _centred(z: Tensor) -> Tensor:
    """Vectors minus the plain mean of their step's particles, so that variances do not cancel: (N, B, D)."""
    return z - z.mean(0)


def _svi(model: SequenceModel, data: Sequences, num_particles: int, seed: int | None) -> Found:
    batch = checked(model, data)
    if model.encode(batch.x, batch.lengths) is None or isinstance(model.states, NUMBERED):
        raise TypeError(
            f"expected a model with a guide that reads the observations, got {type(model).__name__}, which has none; "
            f"use engine={_chosen(model, num_particles, data)[0]!r}"
        )
    law = StateLaw(model, batch.x, batch.lengths, model.first, batch.inputs, guide=True)
    total = squares = centre = torch.zeros(())
    with seeded(seed, stream=8):
        for number in range(num_particles):
            z = law.sample()
            z = z.reshape(*z.shape[:2], -1)
            centre = z if number == 0 else centre
            total, squares = total + (z - centre), squares + (z - centre).square()
    mean = total / num_particles
    inside = length_mask(batch.lengths, batch.x.shape[1])[..., None]
    sds = (squares / num_particles - mean.square()).clamp(min=0.0).sqrt()
    return {"smoothed_means": (centre + mean).where(inside, 0.0), "smoothed_sds": sds.where(inside, 0.0)}


_RUNS: dict[str, Callable[[Any, Sequences, int, int | None], Found]] = {
    "forward": _forward,
    "kalman": _kalman,
    "mixture": _mixture,
    "smc": _smc,
    "svi": _svi,
}
