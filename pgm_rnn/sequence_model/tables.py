"""The tables of a model with finitely many states, which the exact recursions take.

    initial[k] = p(z_1 = k),   transition[i, j] = p(z_t = j | z_{t-1} = i),   log_emission[t, k] = log p(x_t | z_t = k)

A model may define them as `initial_probs`, `transition_probs` and `emission_log_probs(x)`; otherwise its laws are
evaluated at all K states. Tables differ by sequence and step if the laws read a memory or inputs.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.distributions.observed import observed_log_prob
from pgm_rnn.kernels import hmm
from pgm_rnn.sequence_model.conditionals import Conditionals, First, memory_of
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import FiniteStates


class Tables(NamedTuple):
    """Probabilities of states and densities of checked observations.

    Attributes:
        initial: p(z_1), (K,) or (batch, K).
        transition: p(z_t | z_{t-1}), (K, K), or (batch or 1, T - 1, K, K) where it differs by step.
        log_emission: log p(x_t | z_t = k) of the entries of x_t that were observed, (batch, T, K), nats, 0 where x_t is
            missing.
    """

    initial: Tensor
    transition: Tensor
    log_emission: Tensor


def has_tables(model: object) -> bool:
    """Whether a model has finitely many states and no memory that reads them, so that tables exist."""
    finite = isinstance(getattr(model, "states", None), FiniteStates) and not getattr(
        model, "memory_reads_state", False
    )
    return finite or hasattr(model, "emission_log_probs")


def tables_of(model: Any, data: Sequences) -> Tables:
    """The tables of checked data."""
    if not hasattr(model, "emission_log_probs"):
        return _evaluated(model, data)
    initial, transition = model.initial_probs, model.transition_probs
    if data.observed is not None and data.observed.dim() > 2:
        return Tables(initial, transition, _log_emission(model, data, None, initial.shape[-1]))
    log_emission = model.emission_log_probs(data.x)
    if data.observed is not None:
        log_emission = hmm.without_missing(log_emission, data.observed)
    return Tables(initial, transition, log_emission)


def summed_out(tables: Tables, lengths: Tensor, first: First) -> Tensor:
    """log p(x_{1:T}) or log p(x_{2:T} | x_1), nats, (batch,); -inf for an impossible sequence.

    Source: Rabiner (1989), eq. (103).
    """
    log_prob = hmm.log_marginal_likelihood(*tables, lengths)
    if first == "model":
        return log_prob
    initial, transition, log_emission = tables
    transition = transition if transition.dim() == 2 else transition[:, :0]  # one step has none
    start = hmm.log_marginal_likelihood(initial, transition, log_emission[:, :1], torch.ones_like(lengths))
    return (log_prob - start).where(log_prob > -torch.inf, -torch.inf)


def last_states(tables: Tables, lengths: Tensor, index: Tensor) -> Tensor:
    """Draws of z_L given x_{1:L} for the sequences at `index` (k,), with repetitions.

    Raises:
        ValueError: a sequence of probability zero.
    """
    filtered = hmm.forward(*tables, lengths).filtered
    last = filtered[torch.arange(len(lengths), device=filtered.device), lengths - 1]  # (batch, K)
    impossible = (last.sum(-1) == 0).nonzero()
    if len(impossible):
        raise ValueError(
            f"expected observations of positive probability, sequence {int(impossible[0])} has probability 0; "
            "leave it out"
        )
    return torch.distributions.Categorical(probs=last[index]).sample()


def _evaluated(model: Conditionals, data: Sequences) -> Tables:
    """The laws at all states: axes of states first, then sequences and steps, of size 1 where nothing differs."""
    assert isinstance(model.states, FiniteStates)  # `has_tables` has checked it
    K, batch = model.states.num_states, data.x.shape[:2]
    states = torch.arange(K, device=data.x.device)[:, None, None]  # (K, 1, 1)
    h = memory_of(model).unroll(data.x, None, data.inputs)
    h = None if h is None else h[None]
    later = h if h is None or batch[1] == 1 else h[:, :, 1:]  # a law is asked of some step, though one step has no move
    first = model.initial(None if h is None else h[:, :, 0])
    log_initial = first.log_prob(states[..., 0]).expand(K, -1)  # (K, batch or 1)
    log_transition = model.transition(states, later).log_prob(states[:, None])  # (new, old, batch or 1, T - 1 or 1)
    transition, steps = log_transition.exp().permute(2, 3, 1, 0), (-1, batch[1] - 1)
    return Tables(
        log_initial.exp().mT.squeeze(0),
        transition[0, 0] if transition.shape[:2] == (1, 1) else transition[:, : batch[1] - 1].expand(*steps, -1, -1),
        _log_emission(model, data, h, K),
    )


def _log_emission(model: Any, data: Sequences, h: Tensor | None, num_states: int) -> Tensor:
    """log p(x_t | z_t = k, h_t) of the observed entries, (batch, T, K), by the laws; h (1, batch, T, dim) or None."""
    states = torch.arange(num_states, device=data.x.device)[:, None, None]  # (K, 1, 1)
    x, observed = data.x[None], None if data.observed is None else data.observed[None]
    few = max(1, _MOST_NUMBERS // x.numel())
    parts = [
        observed_log_prob(model.emission(some, h), x, observed).expand(len(some), *x.shape[1:3])
        for some in states.split(few)
    ]
    return torch.cat(parts).movedim(0, -1)


_MOST_NUMBERS = 2**24
"""Entries of observations, over states, whose densities are computed at a time."""
