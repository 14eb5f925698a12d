"""EM for hidden semi-Markov models: expected counts of segments, and the parameters that make them most likely.

    E: expected numbers of first states, of moves between segments, of durations, and p(z_t | x) (`kernels.hsmm`)
    M: shares of first states and of moves; the durations' own `fit`; weighted estimates of the emission

The last segment counts with the law of its whole duration, given that it lasts to the end of the data at least: EM for
right-censored durations. Where an emission has no weighted estimate, or log p(x_1) is not modelled, L-BFGS raises the
expected log density instead. No step lowers the likelihood. Source: Guédon (2003).
"""

import copy
from collections.abc import Collection
from typing import Any, Protocol

import torch
from torch import Tensor

from pgm_rnn.checks import check_frozen
from pgm_rnn.emissions import EmissionTable
from pgm_rnn.inference import at_limits
from pgm_rnn.inference.em import remarks
from pgm_rnn.inference.em.ascent import ascend
from pgm_rnn.inference.em.climb import Score
from pgm_rnn.inference.em.data_starts import data_starts
from pgm_rnn.inference.em.random_starts import Start, random_starts
from pgm_rnn.inference.em.twins import Twins, restore, values_of
from pgm_rnn.inference.em.weighted_estimates import estimate
from pgm_rnn.inference.forward_backward.problem import check_possible, checked_finite
from pgm_rnn.kernels import hsmm
from pgm_rnn.sequence_model import First, SemiMarkov
from pgm_rnn.sequence_model.segments import has_segments, of_first_step, segments_of, summed_out
from pgm_rnn.sequences import Sequences, length_mask

PARTS = {
    "initial": "initial_logits",
    "transition": "transition_logits",
    "durations": "durations.",
    "emission": "emission_table.",
}
"""The names that `frozen` may have, with the beginnings of the names of their parameters."""
NUM_TRIED = 5
"""Number of iterations of each random start from the data before the best one is chosen."""
_OPERATIONS = 32
"""Rounding errors of a term of the log likelihood, not counting those of its sums over states and over entries of x."""


class TrainableDurations(Protocol):
    """Laws of durations whose parameters can be estimated."""

    def fit(self, counts: Tensor) -> None:
        """Set the parameters to the most likely ones for counts of durations (K, D)."""


def is_semi_markov(model: object) -> bool:
    """Whether a model has the parts that the M-step replaces, besides the tables of `SemiMarkov`."""
    return has_segments(model) and all(
        hasattr(model, name) for name in ("emission_table", "set_probs", "durations", "initial_logits")
    )


class SemiMarkovEm(Twins):
    """E and M steps on copies of a model; the model itself is left alone until `adopt`.

    Args:
        model: an `HSMM`, or a model with its parts.
        data: training sequences.
        valid: validation sequences, on which the starts are compared, or None.
        frozen: names of `PARTS` that keep the model's values.
        num_restarts: number of starts; all but the first are random ones near the data.
        seed: random seed of the starts.
        from_data: whether the first start is estimated from the data.

    Raises:
        TypeError, ValueError: as `em.fit`.
    """

    _model: Any
    _twins: list[Any]

    def __init__(
        self,
        model: Any,
        data: Sequences,
        valid: Sequences | None,
        *,
        frozen: Collection[str],
        num_restarts: int,
        seed: int,
        from_data: bool = False,
    ) -> None:
        self._frozen = check_frozen(frozen, list(PARTS))
        self._model = model
        self._first: First = getattr(model, "first", "model")
        self._data = checked_finite(model, data, None)
        self._valid = None if valid is None else checked_finite(model, valid, None)
        self._inside = length_mask(self._data.lengths, self._data.x.shape[1])
        self._rows = self._data.x[self._inside]
        self._seen = None if self._data.observed is None else self._data.observed[self._inside]
        prefixes = tuple(PARTS[part] for part in self._frozen)
        self._trained = [
            name for name, value in model.named_parameters() if value.requires_grad and not name.startswith(prefixes)
        ]
        self._twins = [copy.deepcopy(model) for _ in range(num_restarts)]
        self._expected: list[hsmm.Posterior | None] = [None] * num_restarts
        self._resting = torch.zeros(num_restarts, dtype=torch.bool)
        self._from_data = from_data
        self._start(seed, from_data)
        self._before = [values_of(twin) for twin in self._twins]

    def _start(self, seed: int, from_data: bool) -> None:
        own = Start(self._model.initial_probs, self._model.transition_probs, self._model.emission_table)
        own = Start(own.initial.detach(), own.transition.detach(), copy.deepcopy(own.emission))
        if from_data:
            given: dict[str, Any] = {"frozen": self._frozen - {"durations"}, "seed": seed, "units": None}
            found = data_starts(own, self._rows, self._data.lengths, observed=self._seen, **given)
            values = [self._tried(start) if len(found) > 1 else 0.0 for start in found]
            self._set(self._twins[0], found[values.index(max(values))])
        if len(self._twins) > 1:
            drawn = random_starts(own, self._rows, len(self._twins) - 1, seed, None, self._seen)
            for twin, start in zip(self._twins[1:], drawn, strict=True):
                self._set(twin, start)

    def _set(self, twin: Any, start: Start) -> None:
        """Give a copy the parameters of a start that are trained."""
        before = values_of(twin)
        twin.set_probs(start.initial, start.transition, start.emission.params.detach())
        restore(twin, {name: value for name, value in before.items() if name not in self._trained})

    def _tried(self, start: Start) -> float:
        """The log likelihood of a start after some iterations."""
        twin = copy.deepcopy(self._model)
        self._set(twin, start)
        for _ in range(NUM_TRIED):
            self._improve(twin, self._posterior(twin))
        value = float(self._posterior(twin).log_prob.double().sum())
        return value if value == value else -torch.inf

    def expect(self) -> Score:
        """E-step: the score of each start's present parameters; keeps the expected counts.

        Raises:
            ImpossibleSequenceError: start 0 gives a sequence probability zero.
        """
        self._expected = [self._posterior(twin) for twin in self._twins]
        rows = torch.stack([found.log_prob for found in self._expected if found is not None]).double()  # (R, batch)
        check_possible(rows[0][:, None], "start from parameters that allow it")
        if self._first == "condition":
            rows = torch.stack([self._given(twin) for twin in self._twins])
        size, states = rows.abs().sum(1), self._model.states.num_states
        width = self._data.x[0, 0].numel() + states + _OPERATIONS
        eps = torch.finfo(self._model.initial_probs.dtype).eps
        rounding = eps * (_OPERATIONS * size + self._data.num_steps * width)
        value = rows.sum(1)
        return Score(value, value, rounding.where(rounding.isfinite(), 0.0))

    @torch.no_grad()
    def _posterior(self, twin: SemiMarkov) -> hsmm.Posterior:
        return hsmm.posterior(*segments_of(twin, self._data), self._data.lengths)

    @torch.no_grad()
    def _given(self, twin: SemiMarkov) -> Tensor:
        return summed_out(segments_of(twin, self._data), self._data.lengths, self._first).double()

    def maximise(self) -> None:
        """M-step: raise Q, of the counts of the last `expect`, in every start that has not stopped."""
        for start, twin in enumerate(self._twins):
            expected = self._expected[start]
            if not self._resting[start] and expected is not None:
                self._before[start] = values_of(twin)
                self._improve(twin, expected)

    def _improve(self, twin: Any, expected: hsmm.Posterior) -> None:
        done: Collection[str] = ()
        if self._first == "model":
            before = values_of(twin)
            done = self._in_closed_form(twin, expected)
            restore(twin, {name: value for name, value in before.items() if name not in self._trained})
        rest = [value for name, value in twin.named_parameters() if name in self._trained and name not in done]
        if rest:
            ascend(rest, lambda: self._q(twin, expected), self._data.num_steps)

    @torch.no_grad()
    def _in_closed_form(self, twin: Any, expected: hsmm.Posterior) -> list[str]:
        """Set the parts that have estimates; the names of the parameters of these parts."""
        first, moves = expected.first.sum(0), expected.moves.sum(0)
        totals = moves.sum(-1, keepdim=True)
        table = (moves / totals.where(totals > 0, 1.0)).where(totals > 0, twin.transition_probs)
        twin.set_probs(first / first.sum(), table)
        twin.durations.fit(expected.durations.sum(0))
        done = [PARTS[part] for part in ("initial", "transition", "durations")]
        try:
            twin.set_probs(emission_params=self._estimated(twin.emission_table, expected))
            done.append(PARTS["emission"])
        except TypeError:  # a family without an estimate in closed form
            pass
        return [name for name, _ in twin.named_parameters() if name.startswith(tuple(done))]

    def _estimated(self, old: EmissionTable, expected: hsmm.Posterior) -> Tensor:
        """Parameters of the emission (K, num_params): the estimate, except for states that the old law fits better."""
        weights = expected.states[self._inside]
        before = EmissionTable(old.family, old.params.detach())
        new = estimate(old.family, self._rows, weights, 0.0, observed=self._seen, before=before)
        gains = weights.double() * (self._densities(new) - self._densities(before))
        gained = gains.where(weights > 0, 0.0).sum(0)
        better = (gained if old.family.num_own == old.family.num_params else gained.sum().expand(len(gained))) > 0
        return new.params.detach().to(old.params).where(better[:, None], old.params)

    def _densities(self, table: EmissionTable) -> Tensor:
        return table.log_probs(self._rows, self._seen).double()

    def _q(self, twin: SemiMarkov, expected: hsmm.Posterior) -> Tensor:
        """Expected log density of x and z, nats, ()."""
        segments = segments_of(twin, self._data)
        counts = (expected.first.sum(0), expected.moves.sum(0), expected.durations.sum(0))
        total = _weighted(expected.states, segments.log_emission)
        for weights, probs in zip(counts, segments[:3], strict=True):
            total = total + _weighted(weights, probs.where(weights > 0, 1.0).log())
        return total if self._first == "model" else total - of_first_step(segments).sum(dtype=torch.float64)

    @torch.no_grad()
    def validate(self) -> Tensor | None:
        """Log likelihood of the validation data under each start's present parameters, (R,), nats."""
        if self._valid is None:
            return None
        tables = [segments_of(twin, self._valid) for twin in self._twins]
        return torch.stack([summed_out(part, self._valid.lengths, self._first).double().sum() for part in tables])

    def adopt(self, start: int) -> None:
        """Write one start's present parameters into the model, which is no longer as it was drawn."""
        super().adopt(start)
        self._model.set_probs()

    def remarks(self, start: int) -> list[str]:
        """Sentences on states and components without a share of the data."""
        expected = self._expected[start]
        assert expected is not None  # the climb ends with `expect`
        shares = expected.states.sum((0, 1))
        found = remarks.of_states(shares, torch.zeros(len(shares), 0) > 0, 0.0, from_data=self._from_data)
        table = self._twins[start].emission_table
        found += remarks.of_components(shares, remarks.component_probs(table.family, table.params.detach()))
        if "emission" in self._frozen:
            return found
        raw = {"params": table.params}
        return found + at_limits.of_parameters(table.natural_parameters, raw, remarks.have_share(shares))


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    return (weights * values.where(weights > 0, 0.0)).sum(dtype=torch.float64)
