"""One-step-ahead predictive terms log p(x_t | x_{1:t-1}) of any model: the chain rule cuts log p(x_{1:T}) into them."""

import torch
from torch import Tensor

from pgm_rnn.distributions.observed import observed_log_prob
from pgm_rnn.inference import forward_backward, kalman, smc
from pgm_rnn.sequence_model import SequenceModel, SumsOutStates, memory_of
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequence_model.tables import has_tables
from pgm_rnn.sequences import Sequences

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
    terms = (
        _of_prefixes(model, data) if isinstance(model, SumsOutStates) else _filtered(model, data, num_particles, seed)
    )
    return torch.cat([torch.zeros_like(terms[:, :1]), terms[:, 1:]], 1) if model.first == "condition" else terms


def _filtered(model: SequenceModel, data: Sequences, num_particles: int, seed: int | None) -> Tensor:
    """The terms of all steps, the first included, by the filter that suits the model."""
    if not model.exact:
        try:
            found = smc.filter(model, data, num_particles=num_particles, degenerate="-inf", seed=seed)
        except smc.DegenerateWeightsError:  # a NaN weight: there is no score
            return torch.full(data.x.shape[:2], torch.nan, dtype=torch.float64)
        return found.log_normalizers.double()
    if has_tables(model):
        return forward_backward.filter(model, data).log_normalizers.double()
    if model.states is None:
        return _without_states(model, checked(model, data))
    return kalman.filter(model, data).log_normalizers.double()


def _without_states(model: SequenceModel, data: Sequences) -> Tensor:
    """log p(x_t | h_t) of checked data, (batch, T), for a memory that is a function of x."""
    law = model.emission(None, memory_of(model).unroll(data.x, None, data.inputs))
    return observed_log_prob(law, data.x, data.observed).double()


def _of_prefixes(model: SequenceModel, data: Sequences) -> Tensor:
    """log p(x_{1:t}) - log p(x_{1:t-1}), (batch, T), for a model that gives only their logarithms."""
    shorter = [
        Sequences(data.x, data.lengths.clamp(max=steps), None, data.inputs, data.observed)
        for steps in range(1, data.x.shape[1] + 1)
    ]
    sums = torch.stack([model.log_marginal_likelihood(one).double() for one in shorter], dim=1)
    return torch.diff(sums, dim=1, prepend=torch.zeros_like(sums[:, :1]))
