"""The laws of a model with finitely many states, evaluated at all K of them.

    initial[k] = p(z_1 = k | h_1)    transition[i, j] = p(z_t = j | z_{t-1} = i, h_t)    log p(x_t | z_t = k, h_t)

What is missing of x_t is integrated out.

Sequences and steps are the first two axes, the states the last. An axis has size 1 where a law does not differ along
it. Large tables are evaluated in blocks of steps, each of which is evaluated again in the backward pass, so that what
autograd keeps of a block never exists for all of them at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import TypeVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pgm_rnn.distributions.bits import logits_of
from pgm_rnn.distributions.normal import Entries, entries_of
from pgm_rnn.distributions.normal_moments import stored_once, unexpanded
from pgm_rnn.distributions.observed import observed_log_prob
from pgm_rnn.kernels import bits, normal_density
from pgm_rnn.kernels.not_numbers import has_nan
from pgm_rnn.sequence_model.conditionals import Conditionals, memory_of
from pgm_rnn.sequence_model.parameters import Snapshot
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import FiniteStates

LARGEST = 2**24
"""Entries of densities that are evaluated at once: 64 MB in single precision, of which autograd keeps a few copies."""
_WEIGHT = 4
"""Entries of densities for one of transitions: groups with tables of 16 MB were evaluated faster than larger ones."""
_LARGE = 2**15
"""Number of densities from which on those of normal laws and of bits are worth a pass of their own."""
_FEW = 33
"""Number of states below which a density is evaluated faster with the states as the first axis."""

Result = TypeVar("Result")


class StateLaws:
    """The laws of a model on some sequences, with the parameters that the model has now.

    Args:
        model: a model with `FiniteStates` whose memory does not read them.
        data: checked sequences.
    """

    def __init__(self, model: Conditionals, data: Sequences) -> None:
        assert isinstance(model.states, FiniteStates)  # `has_tables` has checked it
        self._model, self._x, self._observed = model, data.x, data.observed
        self._num_states = model.states.num_states
        self._of_observation = data.x[0, 0].numel()
        self._h = memory_of(model).unroll(data.x, None, data.inputs)  # (batch, T, dim) or None
        self._per_step = self._num_states * max(self._of_observation, self._num_states)
        self._snapshot = Snapshot(model)

    def groups(self) -> list[slice]:
        """Consecutive sequences, as many at a time as have at most `LARGEST` entries; at least one."""
        batch, size = len(self._x), max(1, LARGEST // self._entries)
        return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]

    def initial(self, rows: slice) -> Tensor:
        """p(z_1), (rows or 1, K)."""
        h = None if self._h is None else self._h[rows, 0]
        return self._table(self._snapshot.call(self._model.initial, h), num_axes=1)

    def transition(self, rows: slice) -> Tensor:
        """p(z_t | z_{t-1}), (rows or 1, T - 1 or 1, K, K); sizes of 1 where it does not differ by sequence or step."""
        if not any(self.varies):
            return self._moves(rows, slice(0, 1))
        moves = self._x.shape[1] - 1
        return self._in_blocks(self._moves, rows, moves)

    def log_emission(self, rows: slice) -> Tensor:
        """log p(x_t | z_t = k), nats, (rows, T, K)."""
        return self._in_blocks(self._densities, rows, self._x.shape[1])

    def emission_law(self) -> TorchDistribution | None:
        """The laws of an observation in all states, batch shape (K,); None if they differ by sequence or step."""
        if self._h is not None:
            return None
        return self._snapshot.call(self._model.emission, torch.arange(self._num_states, device=self._x.device), None)

    def _moves(self, rows: slice, steps: slice) -> Tensor:
        """The transitions into some steps after the first, steps counted from the second: axes as in `transition`."""
        later = slice(steps.start + 1, steps.stop + 1) if self._x.shape[1] > 1 else slice(0, 1)
        states = torch.arange(self._num_states, device=self._x.device)[None, None]  # (1, 1, K)
        h = None if self._h is None else stored_once(self._h[rows, later], 1)[:, :, None]  # (rows, steps, 1, dim)
        law = self._snapshot.call(self._model.transition, states, h)
        return self._table(law, num_axes=3).expand(-1, -1, self._num_states, -1)

    def _densities(self, rows: slice, steps: slice) -> Tensor:
        x, h = self._x[rows, steps], None if self._h is None else self._h[rows, steps]
        observed = None if self._observed is None else self._observed[rows, steps]
        law = partial(self._snapshot.call, self._model.emission)
        return densities_at_states(law, self._num_states, x, observed, h)

    def _table(self, law: TorchDistribution, num_axes: int) -> Tensor:
        """The probabilities of all states under a law of them: its batch, `num_axes` axes, and the states last.

        An axis along which the law only repeats itself has size 1.
        """
        categorical = isinstance(law, torch.distributions.Categorical)
        by_probs = categorical and "probs" in vars(law)  # their logits would be those of numbers that are nowhere zero
        if categorical:
            values = law.probs if by_probs else law.logits
        else:
            states = torch.arange(self._num_states, device=self._x.device)
            values = law.log_prob(states.view(-1, *[1] * num_axes)).movedim(0, -1)
        values = stored_once(values[(None,) * (num_axes + 1 - values.dim())], 1)
        return values if by_probs else values.exp()

    def _in_blocks(self, evaluated: Callable[[slice, slice], Tensor], rows: slice, num_steps: int) -> Tensor:
        """The table of all steps, evaluated in blocks of them if one sequence alone has more entries than `LARGEST`."""
        size = max(1, LARGEST // self._per_step)
        if size >= num_steps or rows.stop - rows.start > 1:
            return evaluated(rows, slice(0, num_steps))
        blocks = [slice(start, min(start + size, num_steps)) for start in range(0, num_steps, size)]
        return torch.cat([again_in_backward(evaluated, rows, block) for block in blocks], dim=1)

    @property
    def _entries(self) -> int:
        """Entries of the larger table of a sequence, counting those of an observation, and of a transition several."""
        of_moves = _WEIGHT * self._num_states if any(self.varies) else 0
        return self._x.shape[1] * self._num_states * max(self._of_observation, of_moves)

    @cached_property
    def varies(self) -> tuple[bool, bool]:
        """Whether the transitions differ by sequence and by step, seen at two of each; not asked of small tables."""
        batch, num_steps = self._x.shape[:2]
        if self._h is None or num_steps == 1:
            return False, False
        per_step = self._num_states * max(self._of_observation, _WEIGHT * self._num_states)
        if batch * num_steps * per_step <= LARGEST:
            return True, True
        with torch.no_grad():
            probe = self._moves(slice(0, 2), slice(0, min(2, num_steps - 1)))
        return probe.shape[0] > 1 or batch == 1, probe.shape[1] > 1


def densities_at_states(
    emission: Callable[..., TorchDistribution], num_states: int, x: Tensor, observed: Tensor | None, h: Tensor | None
) -> Tensor:
    """log p(x_t | z_t = k, h_t) of the entries that were observed, nats, (batch, T, K).

    Args:
        emission: the law of an observation given states and memory.
        num_states: K.
        x: observations (batch, T, *event).
        observed: True where x was observed, (batch, T) or the shape of x; None for everywhere.
        h: memory (batch, T, dim), or None.
    """
    if not torch.distributions.Normal._validate_args:
        return _densities(emission, num_states, x, observed, h)
    with _unchecked_normals():
        found = _densities(emission, num_states, x, observed, h)
    if not has_nan(found):
        return found
    return _densities(emission, num_states, x, observed, h)  # the law itself says which parameter is wrong


@contextmanager
def _unchecked_normals() -> Iterator[None]:
    """A block in which new normal laws do not read the values of their parameters, four passes over large tables.

    The log density is NaN where torch would refuse a mean or a scale.
    """
    torch.distributions.Normal._validate_args = False
    try:
        yield
    finally:
        with suppress(AttributeError):  # another thread has done it
            del torch.distributions.Normal._validate_args


def _densities(
    emission: Callable[..., TorchDistribution], num_states: int, x: Tensor, observed: Tensor | None, h: Tensor | None
) -> Tensor:
    """`densities_at_states`, with such checks of the law's parameters as the law makes now."""
    states, first = torch.arange(num_states, device=x.device), num_states < _FEW
    axis = 0 if first else 2  # of the states
    if first:  # the inner loops of torch run over the last axis, and short ones are slow
        law = emission(states[:, None, None], None if h is None else h[None])
    else:
        law = emission(states[None, None], None if h is None else h[:, :, None])
    large = num_states * x.numel() >= _LARGE
    if large and _is_one_table(law, x, axis):
        return _of_bits(law, x, observed, num_states)
    normal = entries_of(law) if large else None
    if (
        normal is not None
        and normal.event_dim == x.dim() - 2 <= 1
        and normal.loc.dtype == normal.scale.dtype == x.dtype
    ):
        return _of_normal_entries(normal, x, observed, num_states, axis)
    values = observed_log_prob(law, x.unsqueeze(axis), None if observed is None else observed.unsqueeze(axis))
    if first:
        return values.expand(num_states, *x.shape[:2]).permute(1, 2, 0)
    return values.expand(*x.shape[:2], num_states)


def _is_one_table(law: TorchDistribution, x: Tensor, states_axis: int) -> bool:
    """Whether these are laws of independent bits, of the dtype of x, that do not differ by sequence or step."""
    logits, batch = logits_of(law), (1,) * (3 - len(law.batch_shape)) + law.batch_shape
    others = [size for axis, size in enumerate(batch) if axis != states_axis]
    return logits is not None and logits.dtype == x.dtype and max(others) == 1


def _of_bits(law: TorchDistribution, x: Tensor, observed: Tensor | None, num_states: int) -> Tensor:
    """`densities_at_states` by a matrix product, for laws of bits that are the same at every step."""
    logits = logits_of(law)
    assert logits is not None  # the caller has asked
    size = law.event_shape.numel()
    table = logits.expand(law.batch_shape + law.event_shape).reshape(-1, size).expand(num_states, size)
    rows = x.reshape(*x.shape[:2], size)
    if observed is None or observed.dim() == x.dim():
        return bits.log_density(rows, table, None if observed is None else observed.reshape(rows.shape))
    return bits.log_density(rows, table).where(observed[..., None], 0.0)


def _of_normal_entries(
    normal: Entries, x: Tensor, observed: Tensor | None, num_states: int, states_axis: int
) -> Tensor:
    """`densities_at_states` in one pass, for parameters whose axes are states, sequences and steps, or states last."""

    def by_state(part: Tensor) -> Tensor:
        part = unexpanded(part)
        part = part if normal.event_dim else part[..., None]
        return part.reshape((1,) * (4 - part.dim()) + part.shape).movedim(states_axis, 0)  # (K, B, T, D)

    rows = x if normal.event_dim else x[..., None]
    if observed is not None:
        observed = (observed if observed.dim() == rows.dim() else observed[..., None]).expand(rows.shape)
    found = normal_density.log_density(rows, by_state(normal.loc), by_state(normal.scale), observed)
    return found.expand(-1, -1, num_states)


def again_in_backward(function: Callable[..., Result], *arguments: object) -> Result:
    """`function(...)`, of which autograd keeps nothing: it is called a second time in the backward pass."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
