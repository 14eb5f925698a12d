"""The law of each observation given those before it: its distribution function at what was observed, and its mean.

    u_t = F(x_t | x_{1:t-1}),   r_t = x_t - E(x_t | x_{1:t-1})

    no latent state         the emission given the memory                                 exact
    finitely many states    sum_k p(z_t = k | x_{1:t-1}) F(x_t | z_t = k, h_t)             exact
    linear Gaussian states  N(C m_t + d, C P_t C' + R) of the Kalman filter                exact
    any others              sum_n W_{t-1}^n F(x_t | z_t^n, h_t^n),  z_t^n by the transition of the filter's particles,
                            which are regimes with a Kalman filter each where the vectors can be summed out

Each entry of x_t is taken by itself, given all entries of the steps before. Dawid (1984).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.distributions.entry_laws import EntryLaws, averaged, of_entries
from pgm_rnn.inference import forward_backward, kalman
from pgm_rnn.inference.kalman.kinds import is_linear
from pgm_rnn.inference.mixture_kalman import RegimeModel
from pgm_rnn.report.diagnostics.particle_laws import Filtering, of_particles
from pgm_rnn.report.fitted import counted
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequence_model.chains import as_vectors
from pgm_rnn.sequence_model.densities import without_given
from pgm_rnn.sequence_model.tables import has_tables
from pgm_rnn.sequences import Sequences, over_events

LARGEST = 2**22
"""Entries of distribution functions, those of all states, that are evaluated at once."""


class OneStep(NamedTuple):
    """The laws of M entries of T observations at what was observed; NaN where that is missing, given or padding.

    Attributes:
        how: what the laws come from.
        below: P(X_t < x_t | x_{1:t-1}), (B, T, M), float64.
        upto: P(X_t <= x_t | x_{1:t-1}), (B, T, M), float64; equal to `below` for real numbers.
        residuals: x_t - E(X_t | x_{1:t-1}), (B, T, M), float64; NaN for symbols.
        filtering: the record of the particle filter, or None.
    """

    how: str
    below: Tensor
    upto: Tensor
    residuals: Tensor
    filtering: Filtering | None = None


@torch.no_grad()
def one_step(model: Any, data: Sequences, num_particles: int = 1000, seed: int | None = 0) -> OneStep:
    """The one-step laws of checked data.

    Args:
        model: any model of sequences.
        data: checked data.
        num_particles: particles of the filter, for a model without exact laws.
        seed: makes that filter reproducible.

    Raises:
        TypeError: observations whose entries have no known distribution function.
        ValueError: observations that the engine refuses.
    """
    filtering = None
    if model.states is None:
        laws, how = _of_memory(model, data), "the exact laws given the memory"
    elif has_tables(model):
        laws, how = (
            _of_finite_states(model, data),
            f"the exact mixtures over {counted(model.states.num_states, 'state')}",
        )
    elif is_linear(model):
        laws, how = _of_kalman(model, data), "the exact normal laws of the Kalman filter"
    else:
        laws, filtering = of_particles(model, data, num_particles, seed)
        carried = ", each with a Kalman filter" if isinstance(filtering.model, RegimeModel) else ""
        how = f"{num_particles:,} particles{carried}"
    below, upto, mean = (as_vectors(part.double()) for part in laws)
    there = _scored(model, data, below.shape[-1]) & upto.isfinite()
    parts = (below, upto, as_vectors(data.x).double() - mean)
    below, upto, errors = (part.where(there, torch.nan) for part in parts)
    return OneStep(how, below, upto, errors, filtering)


def _scored(model: SequenceModel, data: Sequences, width: int) -> Tensor:
    """True for entries that were observed and are not given, (B, T, M)."""
    there = over_events(data.mask, data.x)
    return without_given(there.reshape(*there.shape[:2], -1).expand(-1, -1, width), model.num_given)


def _of_memory(model: SequenceModel, data: Sequences) -> EntryLaws:
    laws = model.emission(None, memory_of(model).unroll(data.x, None, data.inputs))
    return EntryLaws(*(part.expand(data.x.shape) for part in of_entries(laws, data.x)))


def _of_finite_states(model: Any, data: Sequences) -> EntryLaws:
    """The mixtures, for as many steps at a time as have at most `LARGEST` entries of all states."""
    weights = forward_backward.filter(model, data).predicted_probs  # (B, T, K)
    num_states, num_steps = weights.shape[-1], data.x.shape[1]
    states = torch.arange(num_states, device=data.x.device)
    h = memory_of(model).unroll(data.x, None, data.inputs)
    axis, size = 2, max(1, LARGEST // (num_states * data.x[:, 0].numel()))

    def of_steps(steps: slice) -> EntryLaws:
        laws = model.emission(
            states if h is None else states.expand(1, 1, -1), None if h is None else h[:, steps, None]
        )
        found = of_entries(laws, data.x[:, steps].unsqueeze(axis))
        return averaged(found, over_events(weights[:, steps], found.upto), axis)

    parts = [of_steps(slice(first, first + size)) for first in range(0, num_steps, size)]
    return EntryLaws(*(torch.cat(each, dim=1) for each in zip(*parts, strict=True)))


def _of_kalman(model: Any, data: Sequences) -> EntryLaws:
    found = kalman.predict(model, data)
    variance = found.covs.diagonal(dim1=-2, dim2=-1)
    proper = variance.isfinite() & (variance > 0)
    score = (as_vectors(data.x) - found.means) / variance.where(proper, 1.0).sqrt()
    upto = torch.special.ndtr(score.double()).where(proper, torch.nan)
    return EntryLaws(upto, upto, found.means)
