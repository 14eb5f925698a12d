"""The tables of a model with finitely many states, which the exact recursions take.

    initial[k] = p(z_1 = k),   transition[i, j] = p(z_t = j | z_{t-1} = i),   log_emission[t, k] = log p(x_t | z_t = k)

A model may define them as `initial_probs`, `transition_probs` and `emission_log_probs(x)`; otherwise its laws are
evaluated at all K states (`state_laws`). Tables differ by sequence and step if the laws read a memory or inputs. Where
they are large, `in_groups` computes with a few sequences at a time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from pgm_rnn.kernels import hmm
from pgm_rnn.sequence_model.conditionals import First
from pgm_rnn.sequence_model.state_laws import StateLaws, again_in_backward, densities_at_states
from pgm_rnn.sequences import Sequences, last_of
from pgm_rnn.states import FiniteStates, ProductStates

Result = TypeVar("Result")

LARGEST_OF_CHAINS = 1024
"""Largest number of values of several chains for which there are tables of all moves; `products` needs none."""


class Tables(NamedTuple):
    """Probabilities of states and densities of checked observations.

    Attributes:
        initial: p(z_1), (K,) or (batch, K).
        transition: p(z_t | z_{t-1}), (K, K), or (batch or 1, T - 1 or 1, K, K) where it differs by sequence or step.
        log_emission: log p(x_t | z_t = k) of the entries of x_t that were observed, (batch, T, K), nats, 0 where x_t is
            missing.
    """

    initial: Tensor
    transition: Tensor
    log_emission: Tensor


def has_tables(model: object) -> bool:
    """Whether a model has finitely many states and no memory that reads them, so that tables exist."""
    states = getattr(model, "states", None)
    finite = isinstance(states, FiniteStates) and not getattr(model, "memory_reads_state", False)
    if isinstance(states, ProductStates) and states.num_states > LARGEST_OF_CHAINS:
        finite = False
    return finite or gives_tables(model)


def tables_of(model: Any, data: Sequences) -> Tables:
    """The tables of checked data, of all sequences at once."""
    if gives_tables(model):
        return _given_tables(model, data)
    laws = StateLaws(model, data)
    groups = laws.groups()
    parts = [_evaluated(laws, rows) for rows in groups]
    if len(parts) == 1:
        return parts[0]
    initial, transition, log_emission = zip(*parts, strict=True)
    sizes = [len(part) for part in log_emission]
    return Tables(
        torch.cat([part.expand(size, -1) for part, size in zip(initial, sizes, strict=True)]),
        torch.cat(transition) if laws.varies[0] else transition[0],
        torch.cat(log_emission),
    )


def in_groups(model: Any, data: Sequences, function: Callable[[Tables, slice], Result]) -> list[Result]:
    """function(tables, rows) for consecutive groups of sequences: a few at a time where their tables are large.

    A group's tables are gone when `function` has returned; the backward pass evaluates them again.

    Args:
        model: a model that `has_tables`.
        data: checked sequences.
        function: takes the tables of a group and its rows in the batch.
    """
    if gives_tables(model):
        return [function(_given_tables(model, data), slice(0, len(data.x)))]
    laws = StateLaws(model, data)

    def of_group(rows: slice) -> Result:
        return function(_evaluated(laws, rows), rows)

    groups = laws.groups()
    if len(groups) == 1:
        return [of_group(groups[0])]
    return [again_in_backward(of_group, rows) for rows in groups]


def gives_tables(model: object) -> bool:
    """Whether a model defines its tables itself."""
    return hasattr(model, "emission_log_probs")


def _given_tables(model: Any, data: Sequences) -> Tables:
    initial, transition, observed = model.initial_probs, model.transition_probs, data.observed
    if observed is not None and observed.dim() > 2:
        log_emission = densities_at_states(model.emission, initial.shape[-1], data.x, observed, None)
    else:
        log_emission = model.emission_log_probs(data.x)
        log_emission = log_emission if observed is None else hmm.without_missing(log_emission, observed)
    return Tables(initial, transition, log_emission)


def _evaluated(laws: StateLaws, rows: slice) -> Tables:
    """The tables of some sequences; axes of sequences and steps are left out where nothing differs."""
    initial, transition = laws.initial(rows), laws.transition(rows)
    shared = transition.shape[:2] == (1, 1)
    initial, transition = initial[0] if len(initial) == 1 else initial, transition[0, 0] if shared else transition
    return Tables(initial, transition, laws.log_emission(rows))


def summed_out(tables: Tables, lengths: Tensor, first: First) -> Tensor:
    """log p(x_{1:T}) or log p(x_{2:T} | x_1), nats, (batch,); -inf for an impossible sequence.

    Source: Rabiner (1989), eq. (103).
    """
    log_prob = hmm.log_marginal_likelihood(*tables, lengths)
    if first == "model":
        return log_prob
    return (log_prob - of_first_step(tables)).where(log_prob > -torch.inf, -torch.inf)


def of_first_step(tables: Tables) -> Tensor:
    """log p(x_1), nats, (batch,)."""
    initial, transition, log_emission = tables
    transition = transition if transition.dim() == 2 else transition[:, :0]  # one step has none
    one = torch.ones(len(log_emission), dtype=torch.int64, device=log_emission.device)
    return hmm.log_marginal_likelihood(initial, transition, log_emission[:, :1], one)


def marginal(model: Any, data: Sequences, first: First) -> Tensor:
    """`summed_out` of a model and checked data, (batch,)."""
    return torch.cat(in_groups(model, data, lambda tables, rows: summed_out(tables, data.lengths[rows], first)))


def last_states(model: Any, data: Sequences, index: Tensor) -> Tensor:
    """Draws of z_L given x_{1:L} for the sequences at `index` (k,) of checked data, with repetitions.

    Raises:
        ValueError: a sequence of probability zero.
    """
    last = torch.cat(in_groups(model, data, lambda tables, rows: _last_beliefs(tables, data.lengths[rows])))
    impossible = (last.sum(-1) == 0).nonzero()
    if len(impossible):
        raise ValueError(
            f"expected observations of positive probability, got probability 0 for sequence {int(impossible[0])}; "
            "leave it out"
        )
    return torch.distributions.Categorical(probs=last[index]).sample()


def _last_beliefs(tables: Tables, lengths: Tensor) -> Tensor:
    """p(z_L | x_{1:L}), (batch, K)."""
    return last_of(hmm.forward(*tables, lengths).filtered, lengths)
