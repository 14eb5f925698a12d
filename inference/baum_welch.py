"""Baum-Welch: expectation-maximisation for models with finitely many states, any number of starts side by side.

    E: expected counts of first states, transitions and observations under p(z_{1:T} | x_{1:T})
    M: the parameters that make these counts most likely, with pseudo-counts and pseudo-observations if asked for

R starts on N sequences are one batch of N R sequences, start r on sequence n at n R + r.
Source: Vidal (2024), "Parameter learning via EM algorithm".
"""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import check_frozen
from pgm_rnn.emissions import EmissionTable
from pgm_rnn.inference.forward_backward import FiniteStateModel, check_possible, checked
from pgm_rnn.inference.random_starts import Start, random_starts
from pgm_rnn.inference.weighted_estimates import estimate
from pgm_rnn.kernels import hmm
from pgm_rnn.sequences import Sequences, length_mask

PARTS = ("initial", "transition", "emission")
"""What `frozen` may name."""


class _Parameters(NamedTuple):
    """Of R starts: p(z_1) (R, K), transitions (R, 1, K, K), and a table of R K laws."""

    initial: Tensor
    transition: Tensor
    emission: EmissionTable


class _Counts(NamedTuple):
    """Expected counts: of first states (R, K), transitions (R, 1, K, K), and p(z_t | x_{1:T}) a step (steps, R K)."""

    first: Tensor
    transitions: Tensor
    states: Tensor


class BaumWelch:
    """E and M steps on copies of a model's parameters; the model is left alone until `adopt`.

    Args:
        model: with finitely many states; start 0 is its parameters.
        data: training sequences.
        valid: others to compare the starts on, or None.
        frozen: names of `PARTS` that keep the model's values.
        pseudo_count: added to every expected count.
        pseudo_observations: added to those of every state, spread like the training data.
        num_restarts: R.
        seed: of starts 1..R - 1.

    Raises:
        TypeError, ValueError: as `em.fit`.
    """

    def __init__(
        self,
        model: FiniteStateModel,
        data: Sequences,
        valid: Sequences | None,
        *,
        frozen: Collection[str],
        pseudo_count: float,
        pseudo_observations: float,
        num_restarts: int,
        seed: int,
    ) -> None:
        self._model, self._frozen = model, check_frozen(frozen, PARTS)
        self._pseudo_count, self._pseudo_observations = pseudo_count, pseudo_observations
        self._x, self._lengths = checked(model, data.x, data.lengths)
        self._valid = valid and checked(model, valid.x, valid.lengths)
        self._mask = length_mask(self._lengths, self._x.shape[1])
        self._observed = self._x[self._mask]
        self._parameters = self._starts(num_restarts, seed)

    def _starts(self, num_restarts: int, seed: int) -> _Parameters:
        own = Start(self._model.initial_probs, self._model.transition_probs, self._model.emission_table)
        kept = {part: getattr(own, part) for part in self._frozen}
        drawn = random_starts(own, self._observed, num_restarts - 1, seed)
        initial, transition, emission = zip(own, *(start._replace(**kept) for start in drawn), strict=True)
        params = torch.cat([table.params for table in emission])
        table = EmissionTable(own.emission.family, params)
        return _Parameters(torch.stack(initial), torch.stack(transition)[:, None], table)

    def expect(self) -> Tensor:
        """Log likelihood of the training data under each start's present parameters, (R,), nats; keeps the counts.

        Raises:
            ImpossibleSequenceError: start 0 gives a sequence probability zero.
        """
        transition, lengths = self._parameters.transition, self._lengths.repeat_interleave(self._num_starts)
        forward = self._forward(self._x, self._lengths)
        check_possible(self._by_start(forward.log_normalizers)[:, 0], "start from parameters that allow it")
        table = transition[0, 0] if self._num_starts == 1 else transition  # one table is counted on the way
        _, counts, smoothed = hmm.expected_counts(table, lengths, forward, transition.new_ones(len(lengths)))
        smoothed = self._by_start(smoothed)  # (N, R, T, K)
        transitions = (counts * table).reshape(transition.shape)
        states = smoothed.transpose(1, 2)[self._mask].flatten(1)  # (steps, R K)
        self._counts = _Counts(smoothed[:, :, 0].sum(0), transitions, states)
        return self._by_start(forward.log_normalizers).double().sum((0, 2))

    def maximise(self) -> None:
        """Replace every parameter that is not frozen by the most likely one for the counts of `expect`."""
        initial, transition, emission = self._parameters
        counts, pseudo_count = self._counts, self._pseudo_count
        if "initial" not in self._frozen:
            initial = _normalised(counts.first + pseudo_count)
        if "transition" not in self._frozen:
            transition = _normalised(counts.transitions + pseudo_count)
        if "emission" not in self._frozen:
            weights = counts.states + self._pseudo_observations / len(counts.states)
            emission = estimate(emission.family, self._observed, weights, pseudo_count)
        self._parameters = _Parameters(initial, transition, emission)

    def validate(self) -> Tensor | None:
        """Log likelihood of the validation data under each start's present parameters, (R,), nats."""
        if self._valid is None:
            return None
        return self._by_start(self._forward(*self._valid).log_normalizers).double().sum((0, 2))

    def adopt(self, start: int) -> None:
        """Write one start's present parameters into the model, but for the frozen ones."""
        initial, transition, emission = self._parameters
        probs = {
            "initial": initial[start],
            "transition": transition[start, 0],
            "emission": emission.params.unflatten(0, (self._num_starts, -1))[start],
        }
        self._model.set_probs(*(None if part in self._frozen else probs[part] for part in PARTS))

    @property
    def _num_starts(self) -> int:
        return len(self._parameters.initial)

    def _forward(self, x: Tensor, lengths: Tensor) -> hmm.Forward:
        """The forward recursion of all starts on all sequences."""
        log_emission = self._parameters.emission.log_probs(x).unflatten(-1, (self._num_starts, -1))  # (N, T, R, K)
        log_emission = log_emission.transpose(1, 2).flatten(0, 1)  # (N R, T, K)
        lengths = lengths.repeat_interleave(self._num_starts)
        return hmm.forward(self._parameters.initial, self._parameters.transition, log_emission, lengths)

    def _by_start(self, values: Tensor) -> Tensor:
        """(N R, ...) as (N, R, ...)."""
        return values.unflatten(0, (-1, self._num_starts))


def _normalised(counts: Tensor) -> Tensor:
    """Rows divided by their sums; a row without any count becomes uniform, for no data speak of it."""
    totals = counts.sum(-1, keepdim=True)
    return (counts / totals).where(totals > 0, 1 / counts.shape[-1])
