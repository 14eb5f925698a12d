"""Smoothed states by particles, with standard errors, from paths that several independent particle filters draw.

    backward simulation    where z is Markov given x: Godsill, Doucet & West (2004), alg. 1
    genealogies            where a memory reads z, or where no particle leads to the next state of a path

A mean over the paths of one filter has the error of these paths and that of the particles, which all of them share. So
there are `RUNS` filters, and the standard error is the spread of their means divided by the root of their number. The
genealogy of a filter goes back to few particles of early steps; a remark says how few.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.inference import mixture_kalman, smc
from pgm_rnn.particles import DegenerateWeightsError
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences, length_mask
from pgm_rnn.states import NO_STATE, NUMBERED, GaussianStates, SwitchingStates

RUNS = 10
"""Filters that draw the paths, at most."""
LARGEST = 2**27
"""Largest number of entries of a filter's history: a gigabyte in double precision."""


class Smoothing(NamedTuple):
    """Smoothed laws from paths; what a kind of state does not have is None.

    Attributes:
        laws: fields of `States`, by name.
        remarks: sentences on what to make of them.
    """

    laws: dict[str, Tensor]
    remarks: tuple[str, ...] = ()


def smoothed_by_particles(
    model: SequenceModel, data: Sequences, num_particles: int, num_paths: int, seed: int | None
) -> Smoothing:
    """Smoothed means or probabilities of a batch, their standard errors, and the best path of finitely many states.

    Args:
        model: with latent states.
        data: a batch.
        num_particles: particles of each filter.
        num_paths: paths for each sequence, at least 2; they are shared out among the filters.
        seed: makes the paths reproducible.
    """
    runs = min(RUNS, num_paths)
    width = model.states.dim if isinstance(model.states, GaussianStates | SwitchingStates) else 1
    size = data.x.shape[1] * num_particles * (2 + width)
    if size > LARGEST:
        remark = (
            f"no smoothed laws: the particles of all {data.x.shape[1]:,} steps would take {8 * size / 1e9:.3g} GB; "
            "use fewer particles"
        )
        return Smoothing({}, (remark,))
    per_group = max(1, LARGEST // size)
    copies = data._replace(legend=None).repeated(runs)  # (runs * batch)
    method = "ancestors" if model.memory_reads_state else "backward"
    paths, number = [], -(-num_paths // runs)
    for start in range(0, len(copies.lengths), per_group):
        rows = copies.mapped(lambda part, start=start: part[start : start + per_group])  # type: ignore[misc]
        drawn, method = _drawn(model, rows, num_particles, number, method, None if seed is None else seed + 1 + start)
        paths.append(drawn)
    z = torch.cat(paths, dim=1)  # (number, runs * batch, T, *latent)
    z = z.reshape(number, runs, len(data.lengths), *z.shape[2:])
    remarks: tuple[str, ...] = () if method == "backward" else (_of_genealogy(z, num_particles),)
    if isinstance(model.states, NUMBERED):
        laws = _of_finite(model, data, z, model.states.num_states)
        remarks += (f"the most likely path is the most probable one of {number * runs} that were drawn",)
    elif isinstance(model.states, SwitchingStates):
        laws = _of_vectors(data, z[..., 1:])
        laws |= _of_numbers(data, z[..., 0].long(), model.states.num_regimes)
    else:
        laws = _of_vectors(data, z)
    return Smoothing(laws, remarks)


def smoothed_by_mixtures(
    model: SequenceModel, data: Sequences, num_particles: int, num_paths: int, seed: int | None
) -> Smoothing:
    """Smoothed probabilities of the regimes and moments of the vectors of a switching model, with standard errors.

    Arguments are those of `smoothed_by_particles`. The standard errors are those of the probabilities.
    """
    runs = min(RUNS, num_paths)
    copies, number = data._replace(legend=None).repeated(runs), -(-num_paths // runs)
    found = mixture_kalman.smooth(model, copies, num_particles=num_particles, num_paths=number, seed=seed)
    probs, means, covs = (
        part.unflatten(0, (runs, len(data.lengths)))
        for part in (found.smoothed_probs, found.smoothed_means, found.smoothed_covs)
    )
    mean = means.mean(0)
    variances = (covs.diagonal(dim1=-2, dim2=-1) + (means - mean).square()).mean(0)
    laws = {"smoothed_probs": probs.mean(0), "smoothed_errors": _errors(probs)}
    return Smoothing(laws | {"smoothed_means": mean, "smoothed_sds": variances.clamp(min=0.0).sqrt()})


def _drawn(
    model: SequenceModel, rows: Sequences, num_particles: int, number: int, method: Any, seed: int | None
) -> tuple[Tensor, Any]:
    """Paths (number, rows, T, *latent), and the method that drew them."""
    options: dict[str, Any] = {"num_particles": num_particles, "num_paths": number, "seed": seed}
    try:
        return smc.smooth(model, rows, method=method, **options).paths, method
    except DegenerateWeightsError:
        if method == "ancestors":
            raise
        return smc.smooth(model, rows, method="ancestors", **options).paths, "ancestors"


def _of_genealogy(z: Tensor, num_particles: int) -> str:
    """The remark on the ancestors of paths (number, runs, B, T, *latent)."""
    first = z[:, :, :, 0].flatten(3) if z.dim() > 4 else z[:, :, :, 0, None]  # (number, runs, B, D)
    kinds = [len(first[:, r, b].unique(dim=0)) for r in range(first.shape[1]) for b in range(first.shape[2])]
    return (
        f"smoothed laws follow the ancestors of the last particles: the {first.shape[0]} paths of each of "
        f"{first.shape[1]} filters of {num_particles:,} particles come from {sum(kinds) / len(kinds):.3g} states of "
        "the first step on average, so early steps have larger errors; use more particles if they are too large"
    )


def _errors(of_runs: Tensor) -> Tensor:
    """Standard errors of the mean over runs (runs, ...) that are independent."""
    return of_runs.std(0) / len(of_runs) ** 0.5


def _of_vectors(data: Sequences, z: Tensor) -> dict[str, Tensor]:
    """Means, standard deviations and standard errors of paths (number, runs, B, T, *latent)."""
    inside = length_mask(data.lengths, z.shape[3])[..., None]
    z = z.reshape(*z.shape[:4], -1)
    centre = z.flatten(0, 1).mean(0)
    far = z - centre  # so that variances do not cancel
    sds = far.flatten(0, 1).square().mean(0).sqrt()
    errors = _errors(far.mean(0))
    laws = {"smoothed_means": centre, "smoothed_sds": sds, "smoothed_errors": errors}
    return {name: part.where(inside, 0.0) for name, part in laws.items()}


def _of_numbers(data: Sequences, z: Tensor, num_states: int) -> dict[str, Tensor]:
    """Probabilities of numbers 0..K - 1 and their standard errors, from paths (number, runs, B, T)."""
    dtype = data.x.dtype if data.x.is_floating_point() else torch.get_default_dtype()
    of_runs = torch.nn.functional.one_hot(z, num_states).to(dtype).mean(0)  # (runs, B, T, K)
    laws = {"smoothed_probs": of_runs.mean(0), "smoothed_errors": _errors(of_runs)}
    return {name: part.where(length_mask(data.lengths, z.shape[3])[..., None], 0.0) for name, part in laws.items()}


def _of_finite(model: SequenceModel, data: Sequences, z: Tensor, num_states: int) -> dict[str, Tensor]:
    """Probabilities, their standard errors and the most probable of paths (number, runs, B, T)."""
    laws, inside = _of_numbers(data, z, num_states), length_mask(data.lengths, z.shape[3])[..., None]
    flat = z.flatten(0, 1)  # (paths, B, T)
    scores = torch.stack([model.log_prob(data, path) for path in flat])  # (paths, B)
    best = flat[scores.argmax(0), torch.arange(flat.shape[1], device=flat.device)]
    entropy = torch.special.entr(laws["smoothed_probs"]).sum(-1)
    return laws | {"most_likely_states": best.where(inside[..., 0], NO_STATE), "entropy": entropy}
