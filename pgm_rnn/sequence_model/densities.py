"""Log densities of given observations and states, computed for all steps at once.

log p(x, z) = sum_t log p(z_t | z_{t-1}, h_t) + log p(x_t | z_t, h_t),   log q(z | x) = sum_t log q(z_t | z_{t-1}, h_t)

Where x_t is partly missing, p(x_t | z_t, h_t) is the marginal density of the entries that were observed.
"""

from typing import Any

import torch
from torch import Tensor

from pgm_rnn.distributions.observed import observed_log_prob
from pgm_rnn.sequence_model import chains, products, segments
from pgm_rnn.sequence_model.chains import has_chain
from pgm_rnn.sequence_model.conditionals import Conditionals, First, memory_of
from pgm_rnn.sequence_model.drawn import Drawn
from pgm_rnn.sequence_model.mixins import DensityAtOnce, SumsOutStates
from pgm_rnn.sequence_model.observations import check_given
from pgm_rnn.sequence_model.tables import has_tables, marginal
from pgm_rnn.sequences import Sequences, length_mask


def memory_given(model: Conditionals, data: Sequences, drawn: Drawn | None = None) -> Any:
    """h_1, ..., h_T of checked data, (batch, T, dim), or None; reused from the draw of the states if it has them."""
    if drawn is not None and drawn.h is not None:
        return drawn.h
    return memory_of(model).unroll(data.x, data.z, data.inputs)


def joint_log_prob(model: Conditionals, data: Sequences, first: First) -> Tensor:
    """log p(x_{1:T}, z_{1:T}) of checked data, or log p(x_{1:T}) without a latent state: nats, (batch,).

    Raises:
        ValueError: an observation is partly missing, and the emission cannot integrate out single entries, or x_1 is
            missing although it is given.
    """
    return step_log_probs(model, data, first).sum(-1)


def step_log_probs(model: Conditionals, data: Sequences, first: First) -> Tensor:
    """The terms of `joint_log_prob`, one per step, 0 in the padding: nats, (batch, T). Errors are those of the sum."""
    if data.z is not None:
        check_given(data, first)
    h = memory_given(model, data)
    log_probs = observed_log_prob(model.emission(data.z, h), data.x, data.observed)  # (batch, T)
    log_probs = without_given(log_probs, int(first == "condition"))
    if data.z is not None:
        log_probs = log_probs + state_log_probs(model, data, h, first)
    return log_probs.where(length_mask(data.lengths, data.x.shape[1]), 0.0)


def without_given(terms: Tensor, num_given: int) -> Tensor:
    """Terms of steps, (batch, T, *), with 0 (False) in the place of the first observations that are given."""
    if num_given == 0:
        return terms
    return torch.cat([torch.zeros_like(terms[:, :num_given]), terms[:, num_given:]], dim=1)


def marginal_log_prob(model: Conditionals, data: Sequences, first: First) -> Tensor:
    """Exact log p(x_{1:T}) of checked data, nats, (batch,), latent states and missing observations summed out.

    Raises:
        ValueError: the model has no exact likelihood, or an emission that cannot integrate out single entries.
    """
    if isinstance(model, SumsOutStates):
        return model.sum_out_states(data, first)
    if products.has_product(model):
        return products.marginal(model, data, first)
    if has_tables(model):
        return marginal(model, data, first)
    if segments.has_segments(model):
        return segments.summed_out(segments.segments_of(model, data), data.lengths, first)
    if has_chain(model):
        return chains.summed_out(chains.chain_of(model, data), first)
    if model.states is not None:
        raise ValueError(
            f"{type(model).__name__} has no exact likelihood; estimate it by smc.filter or bound it by svi.evaluate"
        )
    return joint_log_prob(model, data._replace(z=None), first)


def state_log_probs(model: Conditionals, data: Sequences, h: Any, first: First) -> Tensor:
    """log p(z_t | z_{t-1}, h_t) of every step, nats, (batch, T), for memory h (batch, T, dim) or None."""
    z = data.z
    assert z is not None  # who asks has them
    if first == "model" and isinstance(model, DensityAtOnce):
        return model.state_log_probs(z, h)
    if first == "model" and not model.transition_reads_state:
        return model.initial(h).log_prob(z)
    h_1, later = _parted(h)
    start = model.initial(h_1) if first == "model" else model.initial_given(h_1, data.x[:, 0])
    steps = [start.log_prob(z[:, 0])[:, None]]
    if z.shape[1] > 1:
        steps.append(model.transition(z[:, :-1], later).log_prob(z[:, 1:]))
    return torch.cat(steps, dim=1)


def guide_log_probs(model: Conditionals, data: Sequences, h: Any, features: Tensor | None) -> Tensor:
    """log q(z_t | z_{t-1}, h_t, features_t) of every step, nats, (batch, T)."""
    z = data.z
    assert z is not None  # who asks has them
    if not model.transition_reads_state:
        return model.proposal(None, h, features).log_prob(z)
    h_1, later = _parted(h)
    features_1, features_later = _parted(features)
    steps = [model.proposal(None, h_1, features_1).log_prob(z[:, 0])[:, None]]
    if z.shape[1] > 1:
        steps.append(model.proposal(z[:, :-1], later, features_later).log_prob(z[:, 1:]))
    return torch.cat(steps, dim=1)


def _parted(values: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Values (batch, T, ...) of the first step, (batch, ...), and of the steps after it."""
    return (None, None) if values is None else (values[:, 0], values[:, 1:])
