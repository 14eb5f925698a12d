"""One-step terms log p(x_t | x_{1:t-1}) of any model: exact ones, or estimates by a particle filter."""

import torch
from torch import Tensor

from pgm_rnn.inference import smc
from pgm_rnn.inference.pointwise import one_step_log_likelihoods
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.densities import without_given
from pgm_rnn.sequences import Sequences, some_observed

PARTICLES = 128
"""Default number of particles of the filter that scores a model without a likelihood in closed form."""


@torch.no_grad()
def one_step_terms(
    model: SequenceModel, data: Sequences, *, num_particles: int = PARTICLES, seed: int | None = 0
) -> Tensor:
    """log p(x_t | x_{1:t-1}) in nats, (batch, T), by a particle filter if there is no closed form.

    The term of a missing step is 0, and so is that of x_1 where the model is given it. Terms in the padding have no
    meaning.

    Args:
        model: any model.
        data: sequences that the model takes.
        num_particles: particles of the filter, for a model that is not `exact`.
        seed: random seed of the filter.
    """
    if model.exact:
        return one_step_log_likelihoods(model, data).double()
    try:
        terms = smc.filter(model, data, num_particles=num_particles, degenerate="-inf", seed=seed).log_normalizers
    except smc.DegenerateWeightsError:  # a NaN weight: there is no score
        return torch.full(data.x.shape[:2], torch.nan, dtype=torch.float64)
    return without_given(terms.double(), model.num_given)


def seen_steps(model: SequenceModel, data: Sequences) -> Tensor:
    """1 for each step of a single series that is scored, else 0: (T,)."""
    seen = torch.ones(data.x.shape[1]) if data.observed is None else some_observed(data.observed)[0].double()
    seen[: model.num_given] = 0
    return seen
