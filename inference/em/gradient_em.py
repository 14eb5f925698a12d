"""EM for any model with finitely many states: the exact E-step, and an M-step by gradients or by the model itself.

    E: p(z_t | x) and p(z_{t-1}, z_t | x) by the forward-backward algorithm on the model's tables
    M: parameters that raise Q, the expected log density of x and z (`pgm_rnn.sequence_model.expected`)

A `ClosedMStep` first sets the parameters that it can. The others, and those of any other model, climb Q by a few
iterations of L-BFGS, a generalised EM step (Dempster, Laird & Rubin, 1977): it need not reach the maximum of Q, and the
likelihood still never falls. Where the laws are the same at every step and have sufficient statistics, Q is computed
from expected counts, in a time that does not grow with T (`pgm_rnn.sequence_model.counts`).
"""

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from pgm_rnn.checks import check_frozen
from pgm_rnn.inference import at_limits
from pgm_rnn.inference.em import remarks
from pgm_rnn.inference.em.ascent import ascend
from pgm_rnn.inference.em.climb import Score
from pgm_rnn.inference.em.twins import Twins, restore, values_of
from pgm_rnn.inference.forward_backward.problem import check_possible, checked_finite
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import ClosedMStep, products, tables
from pgm_rnn.sequence_model.conditionals import First
from pgm_rnn.sequence_model.counts import Counts, counts_of, expected_log_density_of_counts
from pgm_rnn.sequence_model.expected import AnyExpected, Expected, ExpectedProduct, expect, expected_log_density
from pgm_rnn.sequence_model.mixins import SMALLEST_SCALE
from pgm_rnn.sequence_model.products import Product, has_product
from pgm_rnn.sequence_model.tables import Tables
from pgm_rnn.sequences import Sequences

_OPERATIONS = 32
"""Rounding errors of a term of the log likelihood, not counting those of its sums over states and over entries of x."""


class GradientEm(Twins):
    """E and M steps on copies of a model; the model itself is left alone until `adopt`.

    Args:
        model: a model with finitely many states.
        data: training sequences.
        valid: validation sequences, on which the starts are compared, or None.
        inputs: (batch, T, input_dim) of the training sequences, for a model with inputs.
        frozen: names of parameters that keep the model's values, besides those that need no gradient.
        num_restarts: number of starts; all but the first begin at the model's parameters plus normal noise.
        seed: random seed of the noise.

    Raises:
        TypeError, ValueError: as `em.fit`.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Sequences,
        valid: Sequences | None,
        *,
        inputs: Tensor | None,
        frozen: Collection[str],
        num_restarts: int,
        seed: int,
    ) -> None:
        self._data = checked_finite(model, data, None, inputs=inputs)
        self._valid = None if valid is None else checked_finite(model, valid, None)
        self._model, self._first = model, _first_of(model)
        self._of: Any = products if has_product(model) else tables  # the tables of several chains, or of one
        self._trained = _trained(model, frozen)
        self._twins = [copy.deepcopy(model) for _ in range(num_restarts)]
        for number, twin in enumerate(self._twins[1:], start=1):
            _disturb(_parameters(twin, self._trained), seed, number)
        self._before = [values_of(twin) for twin in self._twins]
        self._expected: list[dict[int, AnyExpected]] = [{} for _ in self._twins]  # by the first sequence of a group
        self._counts: list[Counts | None] = [None] * num_restarts  # given x_1, Q needs the densities themselves
        self._resting = torch.zeros(num_restarts, dtype=torch.bool)

    def expect(self) -> Score:
        """E-step: the score of each start's present parameters; keeps the posterior probabilities.

        Raises:
            ImpossibleSequenceError: start 0 gives a sequence probability zero.
        """
        terms = [self._expect(start) for start in range(len(self._twins))]
        check_possible(terms[0], "start from parameters that allow it")
        counted = torch.stack([row if self._first == "model" else row[:, 1:] for row in terms]).double()
        value, size = counted.sum((1, 2)), counted.abs().sum((1, 2))
        width = self._data.x[0, 0].numel() + self._expected[0][0].states.shape[-1] + _OPERATIONS
        rounding = torch.finfo(terms[0].dtype).eps * (_OPERATIONS * size + self._data.num_steps * width)
        return Score(value, value, rounding.where(rounding.isfinite(), 0.0))

    @torch.no_grad()
    def _expect(self, start: int) -> Tensor:
        """log p(x_t | x_{1:t-1}), (batch, T), under the present parameters of a start."""
        self._expected[start] = {}

        def of_group(tables: Tables | Product, rows: slice) -> Tensor:
            terms, self._expected[start][rows.start] = expect(tables, self._data.lengths[rows])
            return terms

        terms = torch.cat(self._of.in_groups(self._twins[start], self._data, of_group))
        if self._first == "model":
            self._counts[start] = counts_of(self._twins[start], self._data, self._posterior(start))
        return terms

    def _posterior(self, start: int) -> AnyExpected:
        """The posterior probabilities of all sequences, of the last `expect`."""
        return _joined(list(self._expected[start].values()))

    def maximise(self) -> None:
        """M-step: raise Q, of the posterior of the last `expect`, in every start that has not stopped."""
        for start, twin in enumerate(self._twins):
            if self._resting[start]:
                continue
            self._before[start] = values_of(twin)
            found = self._in_closed_form(start) if isinstance(twin, ClosedMStep) else ()
            rest = _parameters(twin, [name for name in self._trained if name not in found])
            if rest:
                ascend(rest, lambda start=start: self._q(start), self._data.num_steps)  # type: ignore[misc]

    def _in_closed_form(self, start: int) -> Collection[str]:
        """The names of the parameters that the model has set; none if Q fell, as it may given x_1."""
        twin, before = self._twins[start], float(self._q(start).detach())
        assert isinstance(twin, ClosedMStep)
        found = twin.maximise(self._data, self._posterior(start))
        fixed = [name for name, _ in twin.named_parameters() if name not in self._trained]
        restore(twin, {name: self._before[start][name] for name in fixed})
        if float(self._q(start).detach()) >= before:
            return found
        restore(twin, self._before[start])
        return ()

    def _q(self, start: int) -> Tensor:
        """Q at the present parameters of a start, nats, ()."""
        expected, counts = self._expected[start], self._counts[start]
        if counts is not None:
            return expected_log_density_of_counts(self._twins[start], self._data, counts)

        def of_group(tables: Tables | Product, rows: slice) -> Tensor:
            return expected_log_density(tables, expected[rows.start], self._first)

        return torch.stack(self._of.in_groups(self._twins[start], self._data, of_group)).sum()

    @torch.no_grad()
    def validate(self) -> Tensor | None:
        """Log likelihood of the validation data under each start's present parameters, (R,), nats."""
        if self._valid is None:
            return None
        valid = self._valid
        return torch.stack([self._of.marginal(twin, valid, self._first).double().sum() for twin in self._twins])

    def remarks(self, start: int) -> list[str]:
        """Sentences on states without a share of the data, and on parameters at a limit."""
        shares = torch.stack([expected.states.sum((0, 1)) for expected in self._expected[start].values()]).sum(0)
        found = remarks.of_states(shares, torch.zeros(len(shares), 0) > 0, 0.0, from_data=True)
        found = found + at_limits.of_scales(self._twins[start], self._data.x, self._trained, self._floor())
        return found + at_limits.of_model(self._twins[start], self._trained)

    def _floor(self) -> Tensor | None:
        """The smallest scales that a closed M-step sets, (*event,); None without one, or where entries are missing."""
        if not isinstance(self._model, ClosedMStep) or self._data.observed is not None:
            return None
        spread = self._data.x[self._data.mask].double().std(0, correction=0)
        return SMALLEST_SCALE * spread.where(spread > 0, 1.0)


def _first_of(model: nn.Module) -> First:
    return getattr(model, "first", "model")


def _trained(model: nn.Module, frozen: Collection[str]) -> list[str]:
    """Names of the parameters that are fitted.

    Raises:
        ValueError: there are none.
    """
    free = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not free:
        raise ValueError(
            f"expected at least one parameter to fit, got a {type(model).__name__} in which every one has "
            "requires_grad=False; set it to True for some"
        )
    kept = check_frozen(frozen, free)
    return [name for name in free if name not in kept]


def _parameters(model: nn.Module, names: Collection[str]) -> list[nn.Parameter]:
    present = dict(model.named_parameters())
    return [present[name] for name in names]


@torch.no_grad()
def _disturb(parameters: Collection[nn.Parameter], seed: int, number: int) -> None:
    """Add normal noise of the size of each parameter's entries, or of size 1 where all of them are zero."""
    with seeded(seed, stream=18 + 1000 * number):
        for parameter in parameters:
            finite = parameter.isfinite()
            size = (parameter.where(finite, 0.0).square().sum() / finite.sum().clamp(min=1)).sqrt()
            noise = torch.randn(parameter.shape, dtype=parameter.dtype).to(parameter.device)
            parameter.add_(size.where(size > 0, 1.0) * noise)


def _joined(parts: list[AnyExpected]) -> AnyExpected:
    """The posterior of all sequences from that of groups; counts that are summed over sequences are added."""
    moves = [part.moves for part in parts]
    each = all(part.moves.dim() > 2 and len(part.moves) == len(part.states) for part in parts)
    together = torch.cat(moves) if each else torch.stack(moves).sum(0)
    states = torch.cat([part.states for part in parts])
    if isinstance(parts[0], ExpectedProduct):
        start = torch.cat([part.start for part in parts if isinstance(part, ExpectedProduct)])
        return ExpectedProduct(parts[0].sizes, start, together, states)
    return Expected(together, states)
