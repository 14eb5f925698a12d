"""Baum-Welch: expectation-maximisation for models with finitely many states, any number of starts side by side.

    E: expected counts of first states, transitions and observations under p(z_{1:T} | x_{1:T})
    M: the parameters that make these counts most likely, with pseudo-counts and pseudo-observations if asked for

Missing observations, by step or by entry, are integrated out of the densities of the E-step, and have their expected
moments in the M-step (`weighted_estimates`).

R starts on N sequences are one batch of N R sequences, with start r on sequence n at n R + r. Real observations are
rescaled to `units` of their own, unless the emission is frozen. Full covariances are estimated and evaluated in float64
whatever the model's dtype, because their densities lose digits when columns nearly determine each other.

Sources: Rabiner (1989), eq. (40a)-(40c), for several sequences eq. (109)-(110); Vidal (2024), "Parameter learning via
EM algorithm".
"""

from collections.abc import Collection
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from typing_extensions import TypeIs

from pgm_rnn.checks import check_frozen
from pgm_rnn.emissions import EmissionTable
from pgm_rnn.inference import at_limits
from pgm_rnn.inference.em import remarks
from pgm_rnn.inference.em.climb import Score
from pgm_rnn.inference.em.data_starts import data_starts
from pgm_rnn.inference.em.random_starts import Start, random_starts
from pgm_rnn.inference.em.units import MIN_SCALE, Units, in_units, table_in_units, table_out_of_units, units_of
from pgm_rnn.inference.em.weighted_estimates import (
    at_smallest_scale,
    condition,
    estimate,
    in_working_dtype,
    not_worse,
    pseudo_log_prob,
    working_dtype,
)
from pgm_rnn.inference.forward_backward.problem import FiniteStateModel, check_possible, checked_finite
from pgm_rnn.kernels import hmm
from pgm_rnn.sequences import Sequences, length_mask, over_events, some_observed

PARTS = ("initial", "transition", "emission")
"""The names that `frozen` may have."""
NUM_TRIED = 10
"""Number of iterations of each random start from the data before the best start is chosen."""
_OPERATIONS = 32
"""Rounding errors of a term of the log likelihood, not counting those of its sums over states and over entries of x.

They come from the laws, their densities, and the recursion's exponentials, products and logarithms.
"""


class TrainableFiniteModel(FiniteStateModel, Protocol):
    """A model with finitely many states, one law of observations each, whose parameters can be replaced."""

    emission_table: EmissionTable

    def set_probs(
        self, initial_probs: Tensor | None, transition_probs: Tensor | None, emission_params: Tensor | None
    ) -> None:
        """Replace the parameters that are not None."""


def has_parts(model: object) -> TypeIs[TrainableFiniteModel]:
    """Whether a model has the parts that the M-step replaces, `emission_table` and `set_probs`."""
    return hasattr(model, "emission_table") and hasattr(model, "set_probs")


class _Parameters(NamedTuple):
    """Parameters of R starts: p(z_1) (R, K), transitions (R, 1, K, K), and a table of R K laws."""

    initial: Tensor
    transition: Tensor
    emission: EmissionTable

    def where(self, chosen: Tensor, other: "_Parameters") -> "_Parameters":
        """These for the starts where `chosen` (R,) is true, `other`'s for the rest."""
        rows = chosen.repeat_interleave(self.initial.shape[1])[:, None]
        params = self.emission.params.where(rows, other.emission.params)
        return _Parameters(
            self.initial.where(chosen[:, None], other.initial),
            self.transition.where(chosen[:, None, None, None], other.transition),
            EmissionTable(self.emission.family, params),
        )


def _side_by_side(starts: list[Start]) -> _Parameters:
    initial, transition, emission = zip(*starts, strict=True)
    table = EmissionTable(emission[0].family, torch.cat([table.params for table in emission]))
    return _Parameters(torch.stack(initial), torch.stack(transition)[:, None], table)


class _Counts(NamedTuple):
    """Expected counts of first states (R, K) and transitions (R, 1, K, K), and p(z_t | x_{1:T}), (steps, R K)."""

    first: Tensor
    transitions: Tensor
    states: Tensor


class BaumWelch:
    """E and M steps on copies of a model's parameters; the model is left alone until `adopt`.

    Args:
        model: a model with finitely many states.
        data: training sequences.
        valid: validation sequences, on which the starts are compared, or None.
        frozen: names of `PARTS` that keep the model's values.
        pseudo_count: added to every expected count.
        pseudo_observations: number of observations added to each state, distributed like the training data without
            its outliers.
        num_restarts: R.
        seed: random seed of the starts.
        from_data: whether start 0 is estimated from the data; if not, it is the model's own parameters.
        min_scale: the smallest standard deviation, as a fraction of its column's spread.

    Raises:
        TypeError, ValueError: as `em.fit`.
    """

    def __init__(
        self,
        model: TrainableFiniteModel,
        data: Sequences,
        valid: Sequences | None,
        *,
        frozen: Collection[str],
        pseudo_count: float,
        pseudo_observations: float,
        num_restarts: int,
        seed: int,
        from_data: bool = False,
        min_scale: float = MIN_SCALE,
    ) -> None:
        self._model, self._frozen = model, check_frozen({*check_frozen(frozen, PARTS), *_fixed(model)}, PARTS)
        self._pseudo_count, self._pseudo_observations = pseudo_count, pseudo_observations
        data = checked_finite(model, data, None)
        self._lengths, self._mask = data.lengths, length_mask(data.lengths, data.x.shape[1])
        self._seen = None if data.observed is None else data.observed[self._mask]
        _check_any(self._seen)
        self._units = None if "emission" in self._frozen else self._units_of(data.x[self._mask], min_scale)
        self._data = self._in_units(data)
        self._rows = self._data.x[self._mask]
        self._common = _common(self._rows, self._units, self._seen)
        self._valid = valid and self._in_units(checked_finite(model, valid, None))
        self._interrupted, self._from_data = False, from_data
        self._parameters = self._starts(num_restarts, seed, from_data)
        self._before, self._resting = self._parameters, torch.zeros_like(self._parameters.initial[:, 0]) > 0

    def _units_of(self, x: Tensor, min_scale: float) -> Units | None:
        """The units of the rows of the training data, (N, *event)."""
        if self._seen is not None and x.is_floating_point():
            x = x.where(over_events(self._seen, x), torch.nan)
        return units_of(self._model.emission_table.family, x, min_scale)

    def _in_units(self, data: Sequences) -> Sequences:
        """The data in the units, with zeros where an entry is missing."""
        family = self._model.emission_table.family
        x = in_units(family, data.x.to(working_dtype(family, data.x.dtype)), self._units)
        if data.observed is not None:
            x = x.where(over_events(data.observed, x), 0)
        return Sequences(x, data.lengths, mask=data.observed)

    def _starts(self, num_restarts: int, seed: int, from_data: bool) -> _Parameters:
        emission = table_in_units(in_working_dtype(self._model.emission_table), self._units)
        own = Start(self._model.initial_probs, self._model.transition_probs, emission)
        kept = {part: getattr(own, part) for part in self._frozen}
        drawn = random_starts(own, self._rows, num_restarts - 1, seed, self._units, self._seen)
        first = self._start_from_data(own, seed) if from_data else own
        return _side_by_side([first, *(start._replace(**kept) for start in drawn)])

    def _start_from_data(self, own: Start, seed: int) -> Start:
        """The start estimated from the data; of several, the best one after `NUM_TRIED` iterations."""
        given = {"frozen": self._frozen, "seed": seed, "units": self._units, "observed": self._seen}
        found = data_starts(own, self._rows, self._lengths, **given)  # type: ignore[arg-type]
        if len(found) == 1:
            return found[0]
        best, value = found[0], -torch.inf
        try:
            for start in found:
                objective, moved = self._tried(start)
                if objective > value:
                    best, value = moved, objective
        except KeyboardInterrupt:
            self._interrupted = True
        return best

    def _tried(self, start: Start) -> tuple[float, Start]:
        """The objective of a start after some iterations, and its parameters then."""
        self._parameters = _side_by_side([start])
        for _ in range(NUM_TRIED):
            objective = float(self.expect().objective[0])
            self._parameters = self._maximised()
        initial, transition, emission = self._parameters
        return objective, Start(initial[0], transition[0, 0], emission)

    def expect(self) -> Score:
        """E-step: the score of each start's present parameters; keeps the counts.

        The counts are the sums of Rabiner's (1989) gamma and xi, eq. (27) and (37).

        Raises:
            ImpossibleSequenceError: start 0 gives a sequence probability zero.
        """
        if self._interrupted:  # the user interrupted the search for a start
            self._interrupted = False
            raise KeyboardInterrupt
        transition, lengths = self._parameters.transition, self._lengths.repeat_interleave(self._num_starts)
        log_emission = self._log_emission(self._data)
        added = self._log_prior() + self._log_pseudo_observations(log_emission)
        forward = self._forward(log_emission, self._lengths)
        del log_emission  # as large as the results of the recursions
        check_possible(self._by_start(forward.log_normalizers)[:, 0], "start from parameters that allow it")
        table = transition[0, 0] if self._num_starts == 1 else transition  # one table: the recursion counts
        _, pairs, smoothed = hmm.expected_pairs(table, lengths, forward, transition.new_ones(len(lengths)))
        smoothed = self._by_start(smoothed)  # (N, R, T, K)
        transitions = pairs.reshape(transition.shape)
        states = smoothed.transpose(1, 2)[self._mask].flatten(1)  # (steps, R K)
        self._counts = _Counts(smoothed[:, :, 0].sum(0), transitions, states)
        return self._score(self._by_start(forward.log_normalizers), added)

    def _score(self, terms: Tensor, added: Tensor) -> Score:
        """The score from log p(x_t | x_{1:t-1}) in the units, (N, R, T), and the prior terms `added`, (R,)."""
        num_steps, num_states = len(self._counts.states), self._parameters.initial.shape[1]
        size = terms.double().abs().sum((0, 2)) + added.abs()
        sums = num_steps * (self._rows[0].numel() + num_states + _OPERATIONS)
        rounding = torch.finfo(terms.dtype).eps * (_OPERATIONS * size + sums)
        rounding = rounding + self._rounding_of_densities(size + num_steps * self._rows[0].numel())
        value = terms.double().sum((0, 2)) - self._log_volume(self._data)
        return Score(value, value + added, rounding.where(rounding.isfinite(), 0.0))

    def _rounding_of_densities(self, size: Tensor) -> Tensor:
        """How far nearly singular covariances may move log densities of total size `size`, (R,), in nats."""
        emission = self._parameters.emission
        lost = condition(emission.family, emission.params.detach()).unflatten(0, (self._num_starts, -1)).amax(-1)
        return torch.finfo(emission.params.dtype).eps * _OPERATIONS * lost * size

    def _log_prior(self) -> Tensor:
        """Pseudo-count times the sum of the log probabilities that are not frozen, (R,)."""
        initial, transition, emission = self._parameters
        zero = torch.zeros_like(initial[:, 0], dtype=torch.float64)
        if self._pseudo_count == 0:
            return zero
        of_laws = pseudo_log_prob(emission.family, emission.params.detach())
        sums = {
            "initial": _log_of_positive(initial).sum(-1),
            "transition": _log_of_positive(transition).sum((1, 2, 3)),
            "emission": of_laws.unflatten(0, (self._num_starts, -1)).sum(-1),
        }
        return zero + self._pseudo_count * sum(sums[part].double() for part in PARTS if part not in self._frozen)

    def _log_pseudo_observations(self, log_emission: Tensor) -> Tensor:
        """Pseudo-observations times the sum over states of the mean of log p(x | z), (R,)."""
        if self._pseudo_observations == 0 or "emission" in self._frozen:
            return torch.zeros_like(self._parameters.initial[:, 0], dtype=torch.float64)
        return self._pseudo_observations * torch.einsum("n,nrk->r", self._common, log_emission[self._mask].double())

    def maximise(self) -> None:
        """M-step: replace every parameter that is not frozen by its maximum for the counts of `expect`.

        Rabiner (1989), eq. (40a) for p(z_1), (40b) for transitions and, for symbols, (40c) for emissions.
        """
        self._before, self._parameters = self._parameters, self._maximised()
        self._put_back()

    def _maximised(self) -> _Parameters:
        initial, transition, emission = self._parameters
        counts, pseudo_count = self._counts, self._pseudo_count
        if "initial" not in self._frozen:
            initial = _normalised(counts.first, initial, pseudo_count)
        if "transition" not in self._frozen:
            transition = _normalised(counts.transitions, transition, pseudo_count)
        if "emission" not in self._frozen:
            weights = counts.states + self._pseudo_observations * self._common.to(counts.states.dtype)[:, None]
            given = {"observed": self._seen, "before": emission, "num_groups": self._num_starts}
            new = estimate(emission.family, self._rows, weights, pseudo_count, self._units, **given)  # type: ignore[arg-type]
            emission = not_worse(new, emission, self._rows, weights, self._units, self._seen)
        return _Parameters(initial, transition, emission)

    def put_back(self, fallen: Tensor) -> None:
        """Restore the parameters before the last `maximise` in starts where `fallen` (R,) is true, and stop these."""
        self._resting = self._resting | fallen
        self._put_back()

    def _put_back(self) -> None:
        if bool(self._resting.any()):
            self._parameters = self._before.where(self._resting, self._parameters)

    def validate(self) -> Tensor | None:
        """Log likelihood of the validation data under each start's present parameters, (R,), nats."""
        if self._valid is None:
            return None
        forward = self._forward(self._log_emission(self._valid), self._valid.lengths)
        return self._by_start(forward.log_normalizers).double().sum((0, 2)) - self._log_volume(self._valid)

    def adopt(self, start: int) -> None:
        """Write one start's present parameters into the model, except the frozen ones.

        Raises:
            ValueError: a parameter is NaN.
        """
        initial, transition, emission = self._parameters
        emission = table_out_of_units(emission, self._units)
        probs = {
            "initial": initial[start],
            "transition": transition[start, 0],
            "emission": emission.params.unflatten(0, (self._num_starts, -1))[start],
        }
        if any(bool(probs[part].isnan().any()) for part in PARTS if part not in self._frozen):
            raise ValueError("expected parameters that are numbers at the end of the fit, got NaN; use float64")
        self._model.set_probs(*(None if part in self._frozen else probs[part] for part in PARTS))

    def remarks(self, start: int) -> list[str]:
        """Sentences on states and components without a share of the data, and on states held at the smallest scale."""
        shares = self._counts.states.sum(0).unflatten(0, (self._num_starts, -1))[start]
        params = self._parameters.emission.params.detach().unflatten(0, (self._num_starts, -1))[start]
        family, units = self._parameters.emission.family, self._units
        held = torch.zeros_like(params) > 0 if units is None else at_smallest_scale(family, params, units)
        min_scale = 0.0 if units is None else units.min_scale
        found = remarks.of_states(shares, held, min_scale, from_data=self._from_data)
        found += remarks.of_components(shares, remarks.component_probs(family, params))
        if "emission" in self._frozen:
            return found
        return found + at_limits.of_parameters(
            family.natural_parameters, {"params": params}, remarks.have_share(shares)
        )

    @property
    def _num_starts(self) -> int:
        return len(self._parameters.initial)

    def _log_volume(self, data: Sequences) -> float:
        """log p(y) - log p(x) of what was observed, nats: the change of units from x to y."""
        if self._units is None:
            return 0.0
        if data.observed is None or data.observed.dim() == 2:
            return int(data.mask.sum()) * self._units.log_volume
        return self._units.log_volume_of(data.observed.flatten(2).sum((0, 1))[: len(self._units.unit)])

    def _log_emission(self, data: Sequences) -> Tensor:
        """log p(x_t | z_t) of all starts, (N, T, R, K)."""
        log_probs = self._parameters.emission.log_probs(data.x, data.observed).to(self._parameters.initial.dtype)
        return log_probs.unflatten(-1, (self._num_starts, -1))

    def _forward(self, log_emission: Tensor, lengths: Tensor) -> hmm.Forward:
        """The forward recursion of all starts on all sequences."""
        log_emission = log_emission.transpose(1, 2).flatten(0, 1)  # (N R, T, K)
        lengths = lengths.repeat_interleave(self._num_starts)
        return hmm.forward(self._parameters.initial, self._parameters.transition, log_emission, lengths, in_whole=True)

    def _by_start(self, values: Tensor) -> Tensor:
        """(N R, ...) as (N, R, ...)."""
        return values.unflatten(0, (-1, self._num_starts))


def _fixed(model: TrainableFiniteModel) -> list[str]:
    """The parts whose parameters have requires_grad=False, if others have not."""
    with torch.enable_grad():
        values = (model.initial_probs, model.transition_probs, model.emission_table.params)
    fixed = [part for part, value in zip(PARTS, values, strict=True) if not value.requires_grad]
    return fixed if len(fixed) < len(PARTS) else []


def _check_any(seen: Tensor | None) -> None:
    """Raise if nothing was observed at any step.

    Raises:
        ValueError: all entries of all steps are missing.
    """
    if seen is not None and not bool(seen.any()):
        raise ValueError(
            "expected at least one observation for em.fit, got a mask that is False everywhere; correct the mask"
        )


def _common(x: Tensor, units: Units | None, seen: Tensor | None) -> Tensor:
    """Weights of the pseudo-observations, (N,), float64: equal, but zero for outliers and steps without observation."""
    flat = x.reshape(len(x), -1)
    there = torch.ones(len(x), device=x.device) > 0 if seen is None else some_observed(seen, 1)
    kept = there if units is None else there & units.ordinary(flat)
    weights = (kept if bool(kept.any()) else there).double()
    return weights / weights.sum()


def _log_of_positive(probs: Tensor) -> Tensor:
    """log probs, and zero where a probability is zero, because zeros are fixed and no parameters."""
    return probs.where(probs > 0, 1.0).log()


def _normalised(counts: Tensor, before: Tensor, pseudo_count: float) -> Tensor:
    """Rows of probabilities from counts; zeros stay zero, and a row without any count stays as it was."""
    counts = (counts + pseudo_count).where(before > 0, 0.0)
    totals = counts.sum(-1, keepdim=True)
    return (counts / totals).where(totals > 0, before)
